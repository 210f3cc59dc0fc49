"""Rows of API keys."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.store.paging import read_page, where_equal
from service.store.tables import KeyRow

USE_NOTED_EVERY = timedelta(minutes=1)


def find(session: Session, key_id: str) -> KeyRow | None:
    """Find a key by its id."""
    return session.get(KeyRow, key_id)


def find_secret(session: Session, secret_sha256: str) -> KeyRow | None:
    """Find a key by the hash of its secret."""
    query = select(KeyRow).where(KeyRow.secret_sha256 == secret_sha256)
    return session.scalars(query).one_or_none()


def add(session: Session, row: KeyRow) -> bool:
    """Add a key; False where a key with this secret is there already."""
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        return False
    return True


def page(
    session: Session, filters: dict[str, Any], *, before: str | None, limit: int
) -> tuple[Sequence[KeyRow], bool]:
    """Read a page of the keys that are in force."""
    query = where_equal(
        select(KeyRow).where(KeyRow.revoked_at.is_(None)), KeyRow, filters
    )
    return read_page(session, query, KeyRow.id, before=before, limit=limit)


def use_is_stale(row: KeyRow, now: datetime) -> bool:
    """Say whether the last noted use of a key is old enough to note another."""
    return row.last_used_at is None or row.last_used_at < now - USE_NOTED_EVERY


def note_use(session: Session, key_id: str, now: datetime) -> None:
    """Note that a key is in use, unless that was noted a moment ago."""
    session.execute(
        update(KeyRow)
        .where(
            KeyRow.id == key_id,
            or_(
                KeyRow.last_used_at.is_(None),
                KeyRow.last_used_at < now - USE_NOTED_EVERY,
            ),
        )
        .values(last_used_at=now)
    )
