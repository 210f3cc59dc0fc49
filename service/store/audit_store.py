"""Rows of audits and of their reports."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Text, bindparam, cast, delete, func, select
from sqlalchemy.orm import Session

from service.store.paging import read_page, where_equal
from service.store.tables import AuditRow, OutboxRow, PieceRow, ReportRow, WebhookRow

# Made once: what thousands of polls a second ask.
_AUDITS = AuditRow.__table__.c
_VERSIONS = select(_AUDITS.id, _AUDITS.project, _AUDITS.version).where(
    _AUDITS.id.in_(bindparam("audit_ids", expanding=True))
)


@dataclass(frozen=True, slots=True)
class Version:
    """Which state of an audit is the newest."""

    project: str
    number: int


def find(session: Session, project: str, audit_id: str) -> AuditRow | None:
    """Find an audit of a project."""
    row = session.get(AuditRow, audit_id)
    return row if row is not None and row.project == project else None


def versions(connection: Connection, audit_ids: Sequence[str]) -> dict[str, Version]:
    """Read the versions of many audits in one query; missing ones are left out."""
    found = connection.execute(_VERSIONS, {"audit_ids": audit_ids})
    return {audit_id: Version(project, number) for audit_id, project, number in found}


def find_many(session: Session, audit_ids: Sequence[str]) -> Sequence[AuditRow]:
    """Read many audits in one query."""
    return session.scalars(select(AuditRow).where(AuditRow.id.in_(audit_ids))).all()


def page(
    session: Session,
    project: str,
    filters: dict[str, Any],
    *,
    tag: str | None,
    before: str | None,
    limit: int,
) -> tuple[Sequence[AuditRow], bool]:
    """Read a page of a project's audits."""
    query = where_equal(
        select(AuditRow).where(AuditRow.project == project), AuditRow, filters
    )
    if tag is not None:
        # A search in the JSON text that means the same on every database; the
        # quotes keep it to whole tags.
        tags = cast(AuditRow.tags, Text)
        query = query.where(func.replace(tags, json.dumps(tag), "") != tags)
    return read_page(session, query, AuditRow.id, before=before, limit=limit)


def report(session: Session, audit_id: str) -> str | None:
    """Read the report of an audit, as JSON text."""
    return session.scalar(select(ReportRow.body).where(ReportRow.audit_id == audit_id))


def remove(session: Session, row: AuditRow) -> None:
    """Remove an audit, its report, its pieces of work and its callback."""
    session.execute(delete(ReportRow).where(ReportRow.audit_id == row.id))
    session.execute(delete(PieceRow).where(PieceRow.subject_id == row.id))
    session.execute(delete(OutboxRow).where(OutboxRow.subject_id == row.id))
    session.execute(delete(WebhookRow).where(WebhookRow.audit_id == row.id))
    session.delete(row)


def count_by_status(session: Session) -> dict[str, int]:
    """Count the audits of each status."""
    query = select(AuditRow.status, func.count()).group_by(AuditRow.status)
    return dict(session.execute(query).all())


def count_waiting(session: Session) -> tuple[int, int]:
    """Count the invitations not sent yet, and the pieces nobody works on yet."""
    unsent = select(func.count()).where(OutboxRow.sent_at.is_(None))
    ready = select(func.count()).where(PieceRow.status == "ready")
    return session.scalar(unsent) or 0, session.scalar(ready) or 0
