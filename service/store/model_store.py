"""Rows of uploaded models."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.store.paging import read_page, where_equal
from service.store.tables import AuditRow, ModelRow


def find(session: Session, project: str, model_id: str) -> ModelRow | None:
    """Find a model of a project."""
    row = session.get(ModelRow, model_id)
    return row if row is not None and row.project == project else None


def find_equal(session: Session, row: ModelRow) -> ModelRow | None:
    """Find a project's model with the bytes of a new one."""
    query = select(ModelRow).where(
        ModelRow.project == row.project, ModelRow.sha256 == row.sha256
    )
    return session.scalars(query).one_or_none()


def add(session: Session, row: ModelRow) -> ModelRow | None:
    """Add a model.

    Returns:
        None, or the model with the same bytes that another request has just added.
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
) -> tuple[Sequence[ModelRow], bool]:
    """Read a page of a project's models."""
    query = where_equal(
        select(ModelRow).where(ModelRow.project == project), ModelRow, filters
    )
    return read_page(session, query, ModelRow.id, before=before, limit=limit)


def is_used(session: Session, model_id: str) -> bool:
    """Say whether an audit refers to a model."""
    query = select(AuditRow.id).where(AuditRow.model_id == model_id).limit(1)
    return session.execute(query).first() is not None
