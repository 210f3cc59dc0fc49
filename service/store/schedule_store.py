"""Rows of schedules."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.store.paging import read_page, where_equal
from service.store.tables import ScheduleRow


def find(
    session: Session, project: str, schedule_id: str, *, lock: bool = False
) -> ScheduleRow | None:
    """Find a schedule of a project; `lock` keeps others from changing it."""
    row = session.get(ScheduleRow, schedule_id, with_for_update=lock or None)
    return row if row is not None and row.project == project else None


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
