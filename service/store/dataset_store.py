"""Rows of uploaded datasets."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.store.paging import read_page, where_equal
from service.store.tables import AuditRow, DatasetRow, ModelRow


def find(session: Session, project: str, dataset_id: str) -> DatasetRow | None:
    """Find a dataset of a project."""
    row = session.get(DatasetRow, dataset_id)
    return row if row is not None and row.project == project else None


def find_equal(session: Session, row: DatasetRow) -> DatasetRow | None:
    """Find a project's dataset with the bytes of a new one under its spec."""
    query = select(DatasetRow).where(
        DatasetRow.project == row.project,
        DatasetRow.sha256 == row.sha256,
        DatasetRow.spec_sha256 == row.spec_sha256,
    )
    return session.scalars(query).one_or_none()


def add(session: Session, row: DatasetRow) -> DatasetRow | None:
    """Add a dataset.

    Returns:
        None, or the equal dataset that another request has just added.
    """
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        return find_equal(session, row)
    return None


def page(
    session: Session,
    project: str,
    filters: dict[str, Any],
    *,
    before: str | None,
    limit: int,
) -> tuple[Sequence[DatasetRow], bool]:
    """Read a page of a project's datasets."""
    query = where_equal(
        select(DatasetRow).where(DatasetRow.project == project), DatasetRow, filters
    )
    return read_page(session, query, DatasetRow.id, before=before, limit=limit)


def is_used(session: Session, dataset_id: str) -> bool:
    """Say whether an audit refers to a dataset."""
    query = select(AuditRow.id).where(AuditRow.dataset_id == dataset_id).limit(1)
    return session.execute(query).first() is not None


def bytes_are_used(session: Session, sha256: str) -> bool:
    """Say whether any upload or repaired model of any project has these bytes."""
    return any(
        session.execute(select(column).where(column == sha256).limit(1)).first()
        for column in (ModelRow.sha256, DatasetRow.sha256, AuditRow.remedy_sha256)
    )
