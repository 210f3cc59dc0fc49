"""What is alike of models and datasets: found, listed, kept once, and removed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, Literal, Protocol, TypeVar

from sqlalchemy.orm import Session

from service.contract.errors import Conflict, NotFound
from service.contract.jobs import DatasetBody, ModelBody, Page
from service.cursors import Slice, as_page
from service.ids import Prefix, is_id
from service.promises import promise
from service.store import idempotency, schedule_store
from service.store.tables import DatasetRow, ModelRow
from service.store.work import Kind, add_inspection, repeat_inspection
from service.upload_bodies import inspection, may_be_repeated

Row = TypeVar("Row", ModelRow, DatasetRow)
Body = TypeVar("Body", ModelBody, DatasetBody)


class Rows(Protocol[Row]):
    """What the store's module of a kind offers."""

    def find(self, session: Session, project: str, upload_id: str, /) -> Row | None:
        """Find an upload of a project."""

    def find_equal(self, session: Session, row: Row, /) -> Row | None:
        """Find what a new row would repeat."""

    def add(self, session: Session, row: Row, /) -> Row | None:
        """Add a row, or return the equal one that was quicker."""

    def page(
        self,
        session: Session,
        project: str,
        filters: dict[str, Any],
        /,
        *,
        before: str | None,
        limit: int,
    ) -> tuple[Sequence[Row], bool]:
        """Read a page of a project's uploads."""

    def is_used(self, session: Session, upload_id: str, /) -> bool:
        """Say whether an audit refers to an upload."""


@dataclass(frozen=True)
class Shelf(Generic[Row, Body]):
    """One kind of upload. Transactions are the caller's.

    Attributes:
        word: what it is called, in addresses too.
        prefix: of its ids.
        inspection: the piece of work that opens it.
        rows: its rows in the store.
        body: shows a row.
    """

    word: Literal["model", "dataset"]
    prefix: Prefix
    inspection: Kind
    rows: Rows[Row]
    body: Callable[[Row], Body]

    def find(self, session: Session, project: str, upload_id: str) -> Row:
        """Find an upload.

        Raises:
            NotFound: not in this project.
        """
        row = None
        if is_id(upload_id, self.prefix):
            row = self.rows.find(session, project, upload_id)
        if row is None:
            raise NotFound(detail=f"There is no {self.word} {upload_id[:64]!r}.")
        return row

    def page(
        self,
        session: Session,
        project: str,
        chosen: Slice,
        filters: dict[str, str | None],
    ) -> Page[Body]:
        """List a project's uploads, newest first."""
        rows, more = self.rows.page(
            session, project, filters, before=chosen.before, limit=chosen.limit
        )
        return as_page([self.body(row) for row in rows], more=more)

    def put(
        self,
        session: Session,
        row: Row,
        *,
        described: str,
        idempotency_key: str | None,
        kept: timedelta,
    ) -> tuple[Body, bool]:
        """Keep a row, unless it repeats one, and ask for its inspection.

        A row whose inspection failed for no fault of its file is inspected again. What
        an idempotency key made and was since deleted is made anew: its bytes are here.

        Args:
            session: in a transaction.
            row: new.
            described: what of the request must be the same where its key is.
            idempotency_key: as sent.
            kept: how long the key holds.

        Returns:
            What is kept, and whether it is new.

        Raises:
            IdempotencyMismatch: the key was used for another upload.
        """
        there = self.rows.find_equal(session, row)
        promised = promise(
            row.project, f"POST /v1/{self.word}s", idempotency_key, described
        )
        earlier = None
        if promised is not None:
            earlier = idempotency.redeem(
                session,
                promised,
                row.id if there is None else there.id,
                now=row.created_at,
                kept=kept,
            )
        there = there or self.rows.add(session, row)
        if there is None:
            add_inspection(session, self.inspection, row.id, now=row.created_at)
        elif may_be_repeated(inspection(there.inspection)):
            repeat_inspection(session, self.inspection, there, now=row.created_at)
        body, is_new = self.body(there or row), there is None
        if earlier is not None and earlier.resource_id == body.id:
            return body.model_validate(earlier.answer["body"]), earlier.answer["is_new"]
        answer = {"body": body.model_dump(mode="json"), "is_new": is_new}
        idempotency.keep_answer(session, promised, body.id, answer)
        return body, is_new

    def remove(self, session: Session, project: str, upload_id: str) -> str:
        """Remove an upload that nothing refers to; return the hash of its bytes.

        Raises:
            NotFound: not in this project.
            Conflict: an audit or a schedule refers to it.
        """
        row = self.find(session, project, upload_id)
        if self.rows.is_used(session, upload_id):
            raise Conflict(
                detail=f"Audits refer to this {self.word}; delete them first."
            )
        if schedule_store.refers_to(session, upload_id):
            raise Conflict(
                detail=f"A schedule needs this {self.word}; change or delete it first."
            )
        session.delete(row)
        return row.sha256
