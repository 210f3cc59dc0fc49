"""Pages of a list, newest first, by the id of the last row seen."""

from collections.abc import Sequence
from typing import Any, TypeVar

from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute, Session

Row = TypeVar("Row")


def read_page(
    session: Session,
    query: Select[Row],
    id_column: InstrumentedAttribute[str],
    *,
    before: str | None,
    limit: int,
) -> tuple[Sequence[Row], bool]:
    """Read one page; ids sort by time, so they are the cursor.

    Returns:
        The rows, and whether there are more.
    """
    if before is not None:
        query = query.where(id_column < before)
    rows = session.scalars(query.order_by(id_column.desc()).limit(limit + 1)).all()
    return rows[:limit], len(rows) > limit


def where_equal(query: Select[Any], table: Any, filters: dict[str, Any]) -> Select[Any]:  # noqa: ANN401 - any of our tables
    """Keep the rows whose columns have the given values; None is no filter."""
    for name, value in filters.items():
        if value is not None:
            query = query.where(getattr(table, name) == value)
    return query
