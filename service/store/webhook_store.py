"""Rows of webhooks: who is to be told of an audit's end, and what came of telling.

The row of a callback is its own outbox: it becomes due in the transaction that ends the
audit, so it is neither forgotten nor due twice. Whoever delivers it takes it for a
while; where that one dies, it becomes due again.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.orm import Session

from service.store.tables import WebhookRow

KEPT_ATTEMPTS = 50


def find(
    session: Session, project: str, webhook_id: str, *, lock: bool = False
) -> WebhookRow | None:
    """Find a webhook of a project; `lock` keeps others from changing it."""
    row = session.get(WebhookRow, webhook_id, with_for_update=lock or None)
    return row if row is not None and row.project == project else None


def announce(session: Session, audit_id: str, *, now: datetime) -> None:
    """Let the callback of an audit become due, in the transaction that ends it."""
    session.execute(
        update(WebhookRow)
        .where(WebhookRow.audit_id == audit_id, WebhookRow.status == "waiting")
        .values(status="pending", next_attempt_at=now)
    )


def announce_again(row: WebhookRow, *, now: datetime) -> None:
    """Let a locked row become due at once; one that is being delivered stays as is."""
    if row.taken_until is not None and row.taken_until > now:
        return
    row.status = "pending"
    row.next_attempt_at = now
    row.taken_until = None
    row.tries = 0


def has_due(session: Session, now: datetime) -> bool:
    """Say, without a lock, whether there is anything to deliver."""
    due = select(WebhookRow.id).where(*_is_due(now)).limit(1)
    return session.execute(due).first() is not None


def take(
    session: Session, now: datetime, *, lease: timedelta, limit: int
) -> Sequence[WebhookRow]:
    """Take what is due; nobody else does so before the lease has ended."""
    due = (
        select(WebhookRow.id)
        .where(*_is_due(now))
        .order_by(WebhookRow.next_attempt_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = session.scalars(
        select(WebhookRow).where(WebhookRow.id.in_(session.scalars(due).all()))
    ).all()
    for row in rows:
        row.taken_until = now + lease
    return rows


def record(
    session: Session,
    taken: WebhookRow,
    attempt: dict[str, Any],
    *,
    status: str,
    next_attempt_at: datetime | None,
) -> None:
    """Note an attempt and what follows from it.

    Args:
        session: a transaction.
        taken: the row as it was taken; it may have been deleted since.
        attempt: when, and what came of it.
        status: of the webhook from now on, unless another has taken it since.
        next_attempt_at: when to try again.
    """
    row = session.get(WebhookRow, taken.id, with_for_update=True)
    if row is None:
        return
    row.attempts = [*row.attempts, attempt][-KEPT_ATTEMPTS:]
    if row.taken_until != taken.taken_until:
        return
    row.taken_until = None
    row.tries += 1
    row.status = status
    row.next_attempt_at = next_attempt_at


def _is_due(now: datetime) -> tuple[ColumnElement[bool], ...]:
    return (
        WebhookRow.status == "pending",
        WebhookRow.next_attempt_at <= now,
        or_(WebhookRow.taken_until.is_(None), WebhookRow.taken_until <= now),
    )
