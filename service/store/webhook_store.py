"""Rows of webhooks: who is to be told of an audit's end, and what came of telling.

The row of a callback is its own outbox: it becomes due in the transaction that ends the
audit, so it is neither forgotten nor due twice. Whoever delivers it takes it for a
while; where that one dies, it becomes due again.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.orm import Session

from service.store.tables import WebhookRow

KEPT_ATTEMPTS = 50
LOOKED_AT = 10_000  # of what is owed; more than fail in a day


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
    session: Session, now: datetime, *, lease: timedelta, limit: int, per_host: int
) -> Sequence[WebhookRow]:
    """Take what is due; nobody else does so before the lease has ended.

    Args:
        session: a transaction.
        now: its time.
        lease: for how long.
        limit: how many at most.
        per_host: how many deliveries to one host may be under way at once, those that
            others have taken included.
    """
    chosen = _fair_share(session, now, limit=limit, per_host=per_host)
    rows = session.scalars(
        select(WebhookRow)
        .where(WebhookRow.id.in_(chosen), *_is_due(now))
        .with_for_update(skip_locked=True)
    ).all()
    for row in rows:
        row.taken_until = now + lease
    return rows


def _fair_share(
    session: Session, now: datetime, *, limit: int, per_host: int
) -> list[str]:
    """Choose the oldest that are due, but not too many of one host."""
    owed = session.execute(
        select(WebhookRow.id, WebhookRow.url, WebhookRow.taken_until)
        .where(WebhookRow.status == "pending", WebhookRow.next_attempt_at <= now)
        .order_by(WebhookRow.next_attempt_at)
        .limit(LOOKED_AT)
    ).all()
    under_way = Counter(
        urlsplit(url).netloc
        for _, url, taken_until in owed
        if taken_until is not None and taken_until > now
    )
    chosen: list[str] = []
    for webhook_id, url, taken_until in owed:
        host = urlsplit(url).netloc
        is_free = taken_until is None or taken_until <= now
        if is_free and under_way[host] < per_host and len(chosen) < limit:
            under_way[host] += 1
            chosen.append(webhook_id)
    return chosen


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
