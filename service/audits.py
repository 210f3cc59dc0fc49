"""Audits: asked for, looked at, cancelled, compared, removed."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

from sqlalchemy.orm import Session

from service.contract.comparison import Comparison, compare_reports
from service.contract.errors import Conflict, FieldError, InvalidFields, NotFound
from service.contract.jobs import (
    TERMINAL,
    AuditBody,
    ExperimentBody,
    NewAuditBody,
    NewWebhook,
    Page,
    Progress,
)
from service.contract.report import Report
from service.contract.request import AuditRequest
from service.cursors import Slice, as_page
from service.fitting import check_fit
from service.ids import is_id, new_id
from service.keys import Caller
from service.promises import promise
from service.settings import Settings
from service.store import (
    audit_store,
    dataset_store,
    ending,
    idempotency,
    model_store,
    rounds,
)
from service.store.audit_store import Version
from service.store.blobs import (
    BlobDamagedError,
    BlobMissingError,
    BlobStore,
    chunks,
)
from service.store.database import Database
from service.store.tables import AuditRow, OutcomeRow, PieceRow, WebhookRow
from service.store.work import add_first_advance
from service.upload_bodies import inspection
from service.webhooks import add_webhook


@dataclass(frozen=True, slots=True)
class RepairedModel:
    """A file that is open for reading."""

    sha256: str
    size_bytes: int
    _file: BinaryIO

    def chunks(self, part: range) -> Iterator[bytes]:
        """Read some of its bytes, then close it."""
        return chunks(self._file, part)

    def close(self) -> None:
        """Close it unread."""
        self._file.close()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One state of an audit, ready to be sent."""

    project: str
    version: int
    status: str
    body: bytes

    @property
    def is_finished(self) -> bool:
        """Whether it will not change any more."""
        return self.status in TERMINAL


class Audits:
    """What can be done with audits."""

    def __init__(
        self, database: Database, blobs: BlobStore, settings: Settings
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._kept = timedelta(hours=settings.idempotency_hours)

    def submit(
        self, caller: Caller, request: AuditRequest, idempotency_key: str | None
    ) -> NewAuditBody:
        """Accept an audit; a secret made for its callback is shown this once.

        Raises:
            InvalidFields, UnusableModel, UnusableDataset, Mismatch: it cannot be done.
            Conflict: an upload could not be inspected.
            IdempotencyMismatch: the key was used for another request.
        """
        now = datetime.now(UTC)
        audit_id = new_id("aud")
        promised = promise(
            caller.project,
            "POST /v1/audits",
            idempotency_key,
            request.model_dump_json(exclude_unset=True),
        )
        with self._database.transaction() as session:
            if promised is not None:
                earlier = idempotency.redeem(
                    session, promised, audit_id, now=now, kept=self._kept
                )
                if earlier is not None:
                    return NewAuditBody.model_validate(earlier.answer)
            row = start_audit(
                session, caller.project, request, now=now, audit_id=audit_id
            )
            body = _new_audit_body(session, row, request)
            answer = body.model_dump(mode="json", exclude_unset=True)
            idempotency.keep_answer(session, promised, row.id, answer)
        return body

    def find(self, caller: Caller, audit_id: str) -> AuditBody:
        """Find an audit.

        Raises:
            NotFound: not in the caller's project.
        """
        with self._database.reading() as session:
            return audit_body(self._found(session, caller, audit_id))

    @property
    def are_local(self) -> bool:
        """Whether they are kept on this machine, where `versions` takes no time."""
        return self._database.dialect == "sqlite"

    def versions(self, audit_ids: Sequence[str]) -> dict[str, Version]:
        """Read the versions of many audits at once; missing ones are left out."""
        with self._database.glancing() as connection:
            return audit_store.versions(connection, audit_ids)

    def snapshots(self, audit_ids: Sequence[str]) -> dict[str, Snapshot]:
        """Read many audits at once; missing ones are left out."""
        with self._database.reading() as session:
            rows = audit_store.find_many(session, audit_ids)
        return {row.id: snapshot(row) for row in rows}

    def page(
        self,
        caller: Caller,
        chosen: Slice,
        *,
        tag: str | None = None,
        **filters: str | None,
    ) -> Page[AuditBody]:
        """List a project's audits."""
        with self._database.reading() as session:
            rows, more = audit_store.page(
                session,
                caller.project,
                filters,
                tag=tag,
                before=chosen.before,
                limit=chosen.limit,
            )
        return as_page([audit_body(row) for row in rows], more=more)

    def cancel(self, caller: Caller, audit_id: str) -> AuditBody:
        """Cancel an audit; one that is cancelled already stays so.

        Raises:
            NotFound: not in the caller's project.
            Conflict: it has ended in another way.
        """
        with self._database.transaction() as session:
            self._found(session, caller, audit_id)
            row = ending.cancel(session, audit_id, now=datetime.now(UTC))
            if row is None:
                raise _unknown(audit_id)
            if row.status != "cancelled":
                raise Conflict(detail=f"The audit has already {row.status}.")
            return audit_body(row)

    def report_text(self, caller: Caller, audit_id: str) -> str:
        """Read a report, as JSON text.

        Raises:
            NotFound: not in the caller's project.
            Conflict: there is none (yet).
        """
        with self._database.reading() as session:
            row = self._found(session, caller, audit_id)
            text = audit_store.report(session, row.id)
            lack = "" if text is not None else _lack_of_report(session, row)
        if text is None:
            raise Conflict(
                detail=f"{lack} Its experiments so far are listed under "
                f"/v1/audits/{row.id}/experiments."
            )
        return text

    def experiments(
        self, caller: Caller, audit_id: str, chosen: Slice
    ) -> Page[ExperimentBody]:
        """List the experiments of an audit that are done, however it ended.

        Raises:
            NotFound: not in the caller's project.
        """
        with self._database.reading() as session:
            self._found(session, caller, audit_id)
            rows, more = rounds.page_of_outcomes(
                session, audit_id, before=chosen.before, limit=chosen.limit
            )
        return as_page([_experiment_body(*pair) for pair in rows], more=more)

    def compare(self, caller: Caller, earlier: str, later: str) -> Comparison:
        """Say what changed from one audit to another.

        Raises:
            NotFound: one is not in the caller's project.
            Conflict: one has no report.
        """
        before = Report.model_validate_json(self.report_text(caller, earlier))
        after = Report.model_validate_json(self.report_text(caller, later))
        return compare_reports(before, after)

    def repaired_model(self, caller: Caller, audit_id: str) -> RepairedModel:
        """Open the repaired model.

        Raises:
            NotFound: not in the caller's project, or the audit made none, or its bytes
                are not those any more that were written.
            Conflict: the audit is unfinished.
        """
        with self._database.reading() as session:
            row = self._found(session, caller, audit_id)
        if row.status not in TERMINAL:
            raise Conflict(detail=f"The audit is {row.status}.")
        if row.remedy_sha256 is None:
            raise NotFound(detail="This audit made no repaired model.")
        try:
            file = self._blobs.open(row.remedy_sha256)
        except BlobMissingError as error:
            how = "damaged" if isinstance(error, BlobDamagedError) else "lost"
            raise NotFound(
                detail=f"The repaired model of this audit was {how} in the store; "
                "delete the audit and repeat it to have it made again."
            ) from error
        return RepairedModel(row.remedy_sha256, os.fstat(file.fileno()).st_size, file)

    def delete(self, caller: Caller, audit_id: str) -> str | None:
        """Remove an audit that has ended; returns the digest of its repaired model.

        Raises:
            NotFound: not in the caller's project.
            Conflict: it has not ended.
        """
        with self._database.transaction() as session:
            row = self._found(session, caller, audit_id)
            if row.status not in TERMINAL:
                raise Conflict(detail="Cancel the audit before deleting it.")
            audit_store.remove(session, row)
        return row.remedy_sha256

    @staticmethod
    def _found(session: Session, caller: Caller, audit_id: str) -> AuditRow:
        row = (
            audit_store.find(session, caller.project, audit_id)
            if is_id(audit_id, "aud")
            else None
        )
        if row is None:
            raise _unknown(audit_id)
        return row


def check_request(session: Session, project: str, request: AuditRequest) -> None:
    """Refuse an audit that cannot be done, before anything is written.

    Raises:
        InvalidFields, UnusableModel, UnusableDataset, Mismatch: it cannot be done.
        Conflict: an upload could not be inspected.
    """
    model = (
        model_store.find(session, project, request.model_id)
        if is_id(request.model_id, "mdl")
        else None
    )
    dataset = (
        dataset_store.find(session, project, request.dataset_id)
        if is_id(request.dataset_id, "dst")
        else None
    )
    missing = [
        FieldError(pointer=pointer, detail=f"there is no such {kind} in this project")
        for pointer, kind, row in (
            ("/model_id", "model", model),
            ("/dataset_id", "dataset", dataset),
        )
        if row is None
    ]
    regression = request.policy.max_regression_from if request.policy else None
    if regression is not None and not (
        is_id(regression, "aud") and audit_store.find(session, project, regression)
    ):
        missing.append(
            FieldError(
                pointer="/policy/max_regression_from",
                detail="there is no such audit in this project",
            )
        )
    if model is None or dataset is None or missing:
        raise InvalidFields(
            detail="The request names what is not there.", errors=missing
        )
    check_fit(request, inspection(model.inspection), inspection(dataset.inspection))


def start_audit(
    session: Session,
    project: str,
    request: AuditRequest,
    *,
    now: datetime,
    audit_id: str | None = None,
    schedule_id: str | None = None,
) -> AuditRow:
    """Write an audit and its first piece of work, in the caller's transaction.

    Its callback is kept apart, so that workers neither see nor depend on it.

    Raises:
        InvalidFields, UnusableModel, UnusableDataset, Mismatch: it cannot be done.
        Conflict: an upload could not be inspected.
    """
    check_request(session, project, request)
    row = AuditRow(
        id=audit_id or new_id("aud"),
        project=project,
        status="queued",
        model_id=request.model_id,
        dataset_id=request.dataset_id,
        schedule_id=schedule_id,
        webhook_id=None if request.callback is None else new_id("whk"),
        request=request.model_dump(
            mode="json", exclude_unset=True, exclude={"callback"}
        ),
        tags=list(request.tags),
        progress=Progress().model_dump(mode="json"),
        version=1,
        cancel_requested=False,
        created_at=now,
    )
    session.add(row)
    session.flush()
    if request.callback is not None:
        add_webhook(session, row, request.callback, now=now)
    add_first_advance(session, row.id, now=now)
    return row


def snapshot(row: AuditRow) -> Snapshot:
    """Freeze one state of an audit."""
    return Snapshot(
        row.project,
        row.version,
        row.status,
        audit_body(row).model_dump_json().encode(),
    )


def audit_body(row: AuditRow) -> AuditBody:
    """Show an audit."""
    return AuditBody.model_validate(
        {
            "id": row.id,
            "status": row.status,
            "progress": row.progress or {},
            "model_id": row.model_id,
            "dataset_id": row.dataset_id,
            "created_at": row.created_at,
            "started_at": row.started_at,
            "finished_at": row.finished_at,
            "error": row.error,
            "tags": row.tags or [],
            "schedule_id": row.schedule_id,
            "request": row.request,
            "links": audit_links(row),
        }
    )


def _new_audit_body(
    session: Session, row: AuditRow, request: AuditRequest
) -> NewAuditBody:
    """Show an audit just asked for, or asked for again under its idempotency key."""
    shown = NewAuditBody.model_validate(audit_body(row).model_dump())
    if request.callback is None or row.webhook_id is None:
        return shown
    made = None
    if request.callback.secret is None:
        made = session.get_one(WebhookRow, row.webhook_id).secret
    webhook = NewWebhook(id=row.webhook_id, secret=made)
    return shown.model_copy(update={"webhook": webhook})


def _experiment_body(piece: PieceRow, outcome: OutcomeRow) -> ExperimentBody:
    values = json.loads(outcome.body)
    values.pop("file", None)  # a name within the store
    return ExperimentBody(
        id=piece.id,
        question=str(piece.body.get("question", "")),
        finished_at=piece.finished_at,
        seconds=outcome.seconds,
        experiment=piece.body,
        outcome=values,
    )


def audit_links(row: AuditRow) -> dict[str, str]:
    """Say where an audit and what belongs to it can be found."""
    here = f"/v1/audits/{row.id}"
    links = {
        "self": here,
        "page": f"/audits/{row.id}",
        "events": f"{here}/events",
        "experiments": f"{here}/experiments",
        "model": f"/v1/models/{row.model_id}",
        "dataset": f"/v1/datasets/{row.dataset_id}",
    }
    if row.status not in TERMINAL:
        links["cancel"] = f"{here}/cancel"
    if row.has_report:
        links["report"] = f"{here}/report"
    if row.remedy_sha256 is not None:
        links["repaired_model"] = f"{here}/model"
    if row.webhook_id is not None:
        links["webhook"] = f"/v1/webhooks/{row.webhook_id}"
    return links


def _lack_of_report(session: Session, row: AuditRow) -> str:
    """Say why an audit has no report, or not yet."""
    if row.status != "cancelled":
        return f"The audit is {row.status}; a report is there once it has succeeded."
    conclusion = rounds.conclusion_of(session, row.id)
    if conclusion is None:
        return "The audit was cancelled before it had finished a round."
    if conclusion.error is not None:
        why = conclusion.error["detail"]
        return f"The audit was cancelled, and what it had is not reported: {why}"
    return "The audit was cancelled; a report of what it had finished is being written."


def _unknown(audit_id: str) -> NotFound:
    return NotFound(detail=f"There is no audit {audit_id[:64]!r}.")
