"""Rows of schedules."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from service.store.paging import read_page, where_equal
from service.store.tables import ScheduleRow


def find(
    session: Session, project: str, schedule_id: str, *, lock: bool = False
) -> ScheduleRow | None:
    """Find a schedule of a project; `lock` keeps others from changing it."""
    row = session.get(ScheduleRow, schedule_id, with_for_update=lock or None)
    return row if row is not None and row.project == project else None


def refers_to(session: Session, upload_id: str) -> bool:
    """Say whether a schedule needs an upload."""
    audit = ScheduleRow.audit
    query = select(ScheduleRow.id).where(
        or_(
            audit["model_id"].as_string() == upload_id,
            audit["dataset_id"].as_string() == upload_id,
        )
    )
    return session.execute(query.limit(1)).first() is not None


def page(
    session: Session,
    project: str,
    filters: dict[str, Any],
    *,
    before: str | None,
    limit: int,
) -> tuple[Sequence[ScheduleRow], bool]:
    """Read a page of a project's schedules."""
    query = where_equal(
        select(ScheduleRow).where(ScheduleRow.project == project), ScheduleRow, filters
    )
    return read_page(session, query, ScheduleRow.id, before=before, limit=limit)
