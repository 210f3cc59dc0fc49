"""Uploads: models and datasets, from the first byte to the row that names them."""

import hashlib
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

from pydantic import JsonValue

from service.contract.errors import (
    FieldError,
    InvalidFields,
    Problem,
    TooLarge,
    Unavailable,
)
from service.contract.jobs import (
    DatasetBody,
    DatasetFormat,
    ModelBody,
    ModelFormat,
    Page,
)
from service.contract.request import DatasetSpec
from service.cursors import Slice
from service.ids import new_id
from service.keys import Caller
from service.settings import Settings
from service.shelf import Body, Row, Shelf
from service.store import dataset_store, model_store, rounds
from service.store.blobs import BlobStore, BlobWriter
from service.store.database import Database, lock_bytes
from service.store.tables import DatasetRow, ModelRow
from service.structure.dataset_file import dataset_format
from service.structure.model_file import model_format
from service.structure.zip_directory import ArchiveLimits
from service.upload_bodies import dataset_body, model_body

NAME_LIMIT = 200
MODELS = Shelf("model", "mdl", "inspect_model", model_store, model_body)
DATASETS = Shelf("dataset", "dst", "inspect_dataset", dataset_store, dataset_body)


class Upload:
    """A file on its way in, at most as large as the operator allows."""

    def __init__(self, writer: BlobWriter, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.writer = writer
        self.file_name = ""

    def write(self, chunk: bytes | memoryview) -> None:
        """Add bytes.

        Raises:
            TooLarge: more than allowed.
        """
        if self.writer.size_bytes + len(chunk) > self._limit_bytes:
            raise TooLarge(
                detail=f"Uploads may have {self._limit_bytes} bytes at most.",
                errors=[FieldError(pointer="file", detail="too large")],
            )
        self.writer.write(chunk)

    def abort(self) -> None:
        """Keep nothing; harmless after the upload was stored."""
        self.writer.abort()


class Uploads:
    """Takes in, finds, lists and removes models and datasets."""

    def __init__(
        self, database: Database, blobs: BlobStore, settings: Settings
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._settings = settings
        self._kept = timedelta(hours=settings.idempotency_hours)

    def begin(self) -> Upload:
        """Begin an upload."""
        return Upload(self._blobs.writer(), self._settings.upload_limit_bytes)

    def store_model(
        self,
        caller: Caller,
        upload: Upload,
        *,
        name: str | None,
        metadata: dict[str, JsonValue],
        idempotency_key: str | None,
    ) -> tuple[ModelBody, bool]:
        """Check and keep a model that has arrived in full.

        Returns:
            The model, and whether it is new; the same bytes are the same model.

        Raises:
            BadRequest, TooLarge, UnsupportedMediaType: it is refused, nothing is kept.
            IdempotencyMismatch: the key was used for another upload.
        """
        with upload.writer.reader() as file:
            form: ModelFormat = model_format(
                file,
                upload.writer.size_bytes,
                self._limits(self._settings.model_entries_limit),
                torch_export=self._settings.torch_export,
            )
        sha256, size_bytes = upload.writer.finish()
        row = ModelRow(
            id=new_id("mdl"),
            project=caller.project,
            name=_name(name, upload.file_name, sha256),
            format=form,
            sha256=sha256,
            size_bytes=size_bytes,
            details={"metadata": metadata},
            inspection={"status": "pending"},
            created_at=datetime.now(UTC),
        )
        described = json.dumps([sha256, row.name, metadata], sort_keys=True)
        return self._put(MODELS, row, upload.writer, described, idempotency_key)

    def store_dataset(
        self,
        caller: Caller,
        upload: Upload,
        *,
        name: str | None,
        spec: DatasetSpec,
        idempotency_key: str | None,
    ) -> tuple[DatasetBody, bool]:
        """Check and keep a dataset that has arrived in full.

        Returns:
            The dataset, and whether it is new; the same bytes under the same spec are
            the same dataset.

        Raises:
            BadRequest, TooLarge, UnsupportedMediaType: it is refused, nothing is kept.
            IdempotencyMismatch: the key was used for another upload.
        """
        with upload.writer.reader() as file:
            form: DatasetFormat = dataset_format(
                file,
                upload.writer.size_bytes,
                self._limits(self._settings.dataset_entries_limit),
            )
        sha256, size_bytes = upload.writer.finish()
        document = spec.model_dump(mode="json", exclude_none=True)
        spec_text = json.dumps(document, sort_keys=True)
        row = DatasetRow(
            id=new_id("dst"),
            project=caller.project,
            name=_name(name, upload.file_name, sha256),
            format=form,
            sha256=sha256,
            size_bytes=size_bytes,
            spec=document,
            spec_sha256=hashlib.sha256(spec_text.encode()).hexdigest(),
            inspection={"status": "pending"},
            created_at=datetime.now(UTC),
        )
        described = json.dumps([sha256, row.name, document], sort_keys=True)
        return self._put(DATASETS, row, upload.writer, described, idempotency_key)

    def model(self, caller: Caller, model_id: str) -> ModelBody:
        """Find a model.

        Raises:
            NotFound: not in the caller's project.
        """
        with self._database.reading() as session:
            return model_body(MODELS.find(session, caller.project, model_id))

    def dataset(self, caller: Caller, dataset_id: str) -> DatasetBody:
        """Find a dataset.

        Raises:
            NotFound: not in the caller's project.
        """
        with self._database.reading() as session:
            return dataset_body(DATASETS.find(session, caller.project, dataset_id))

    def models(
        self, caller: Caller, chosen: Slice, **filters: str | None
    ) -> Page[ModelBody]:
        """List a project's models."""
        with self._database.reading() as session:
            return MODELS.page(session, caller.project, chosen, filters)

    def datasets(
        self, caller: Caller, chosen: Slice, **filters: str | None
    ) -> Page[DatasetBody]:
        """List a project's datasets."""
        with self._database.reading() as session:
            return DATASETS.page(session, caller.project, chosen, filters)

    def delete_model(self, caller: Caller, model_id: str) -> None:
        """Remove a model that no audit and no schedule refers to.

        Raises:
            NotFound: not in the caller's project.
            Conflict: an audit or a schedule refers to it.
        """
        with self._database.transaction() as session:
            sha256 = MODELS.remove(session, caller.project, model_id)
        self.forget_bytes(sha256)

    def delete_dataset(self, caller: Caller, dataset_id: str) -> None:
        """Remove a dataset that no audit and no schedule refers to.

        Raises:
            NotFound: not in the caller's project.
            Conflict: an audit or a schedule refers to it.
        """
        with self._database.transaction() as session:
            sha256 = DATASETS.remove(session, caller.project, dataset_id)
        self.forget_bytes(sha256)

    def _put(
        self,
        shelf: Shelf[Row, Body],
        row: Row,
        writer: BlobWriter,
        described: str,
        idempotency_key: str | None,
    ) -> tuple[Body, bool]:
        """Keep a row and its file; if that fails, what is left of the file goes."""
        sha256 = row.sha256
        try:
            with self._database.transaction() as session:
                lock_bytes(session, sha256)
                answer = shelf.put(
                    session,
                    row,
                    described=described,
                    idempotency_key=idempotency_key,
                    kept=self._kept,
                )
                writer.keep()
                return answer
        except Problem:
            if writer.may_be_stored:
                with suppress(Unavailable):  # then that is what failed before
                    self.forget_bytes(sha256, hasty=True)
            raise

    def forget_bytes(self, sha256: str, *, hasty: bool = False) -> None:
        """Remove a file that nothing refers to any more; see `Database.transaction`."""
        with self._database.transaction(hasty=hasty) as session:
            lock_bytes(session, sha256)
            if not dataset_store.bytes_are_used(
                session, sha256
            ) and rounds.forget_outcomes_with(session, sha256):
                self._blobs.delete(sha256)

    def _limits(self, entries: int) -> ArchiveLimits:
        return ArchiveLimits(
            entries=entries,
            inflated_bytes=self._settings.inflated_limit_bytes,
            ratio=self._settings.inflation_ratio_limit,
            free_bytes=self._settings.inflation_free_bytes,
        )


def checked_name(name: str | None) -> str | None:
    """Check a name that a caller gave to an upload.

    Raises:
        InvalidFields: empty, too long, or with what a database cannot keep.
    """
    if name is None or (0 < len(name) <= NAME_LIMIT and "\0" not in name):
        return name
    raise InvalidFields(
        detail="The name is not valid.",
        errors=[
            FieldError(
                pointer="/name",
                detail=f"expected 1 to {NAME_LIMIT} characters, none of them zero",
            )
        ],
    )


def _name(given: str | None, file_name: str, sha256: str) -> str:
    stem = PurePosixPath(file_name.replace("\\", "/")).name
    return given or stem[:NAME_LIMIT] or sha256[:12]
