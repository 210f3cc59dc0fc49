"""Invitations to work, written in the transaction that causes them.

An invitation names a subject only. Losing one, or sending it twice, does no harm: what
there is to do stands in `pieces`, and whoever has no work finds none.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import ColumnElement, delete, event, exists, func, select, update
from sqlalchemy.orm import Session, aliased

from service.store.tables import AuditRow, OutboxRow, PieceRow

WORK_TASK = "model_audit.work"
Queue = Literal["cpu", "gpu"]
QUIET = timedelta(seconds=8)  # after an invitation, before it is taken for lost
KEEP_SENT = timedelta(hours=1)
FIRST_RETRY = timedelta(seconds=10)  # longer than publishing may take
LONGEST_RETRY = timedelta(minutes=1)


# Set once an invitation of this process is committed, so that a relay in the same
# process need not poll often; relays elsewhere see it at their next look.
COMMITTED = threading.Event()


@dataclass(frozen=True)
class Invitation:
    """An invitation that a relay has taken to publish it."""

    id: int
    task: str
    queue: str
    subject_id: str


def invite(
    session: Session,
    subject_id: str,
    *,
    queue: Queue,
    now: datetime,
    count: int = 1,
) -> None:
    """Ask for workers for a subject.

    Args:
        session: the transaction that makes the work.
        subject_id: an audit, model or dataset.
        queue: `gpu` means a worker with a GPU where one is alive, else any.
        now: time from which it may be sent.
        count: how many workers are wanted.
    """
    session.add_all(
        OutboxRow(
            task=WORK_TASK,
            queue=queue,
            subject_id=subject_id,
            created_at=now,
            next_try_at=now,
        )
        for _ in range(count)
    )
    event.listen(session, "after_commit", _announce, once=True)


def _announce(_session: Session) -> None:
    COMMITTED.set()


def has_due(session: Session, now: datetime) -> bool:
    """Say, without a lock, whether there is anything to send."""
    due = select(OutboxRow.id).where(*_is_due(now)).limit(1)
    return session.execute(due).first() is not None


def take(session: Session, now: datetime, *, limit: int = 100) -> list[Invitation]:
    """Take due invitations; other relays do not see them before their next try."""
    due = (
        select(OutboxRow.id)
        .where(*_is_due(now))
        .order_by(OutboxRow.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = session.scalars(
        select(OutboxRow).where(OutboxRow.id.in_(session.scalars(due).all()))
    ).all()
    for row in rows:
        row.next_try_at = now + min(FIRST_RETRY * 2**row.attempts, LONGEST_RETRY)
        row.attempts += 1
    return [Invitation(row.id, row.task, row.queue, row.subject_id) for row in rows]


def mark_sent(session: Session, ids: Sequence[int], now: datetime) -> None:
    """Note that a broker has accepted these."""
    session.execute(update(OutboxRow).where(OutboxRow.id.in_(ids)).values(sent_at=now))


def retry_now(session: Session, ids: Sequence[int], now: datetime) -> None:
    """Give back what was taken but not tried, since the broker does not answer."""
    session.execute(
        update(OutboxRow).where(OutboxRow.id.in_(ids)).values(next_try_at=now)
    )


def prune(session: Session, now: datetime) -> None:
    """Forget what was sent long ago."""
    session.execute(delete(OutboxRow).where(OutboxRow.sent_at < now - KEEP_SENT))


def stranded(
    session: Session, now: datetime, *, quiet: timedelta, limit: int
) -> list[tuple[str, Queue]]:
    """Find subjects with work that nobody does and nobody was lately invited to.

    Returns:
        Subject and queue of its last invitation, oldest work first.
    """
    running = aliased(PieceRow)
    invited = aliased(OutboxRow)
    query = (
        select(PieceRow.subject_id, func.min(PieceRow.created_at))
        .where(
            PieceRow.status == "ready",
            ~exists().where(
                running.subject_id == PieceRow.subject_id, running.status == "running"
            ),
            ~exists().where(
                invited.subject_id == PieceRow.subject_id,
                invited.sent_at.is_(None) | (invited.sent_at > now - quiet),
            ),
        )
        .group_by(PieceRow.subject_id)
        .order_by(func.min(PieceRow.created_at))
        .limit(limit)
    )
    return [
        (subject, "gpu" if subject.startswith("aud_") else "cpu")
        for subject, _ in session.execute(query)
    ]


def interrupted(session: Session, now: datetime, *, quiet: timedelta) -> list[str]:
    """Find audits that a worker left in the middle, without inviting anybody to them.

    It was stopped or lost. What waits for its next turn was invited to since its last
    piece of work, and stands in the queue as the others do.

    Args:
        session: of the database.
        now: of the database.
        quiet: since that piece, in which whoever did it may go on.

    Returns:
        Their ids, the oldest first.
    """
    ready, tried, running = aliased(PieceRow), aliased(PieceRow), aliased(PieceRow)
    done = (
        select(func.max(PieceRow.finished_at))
        .where(PieceRow.subject_id == AuditRow.id)
        .scalar_subquery()
    )
    invited = (
        select(func.max(OutboxRow.created_at))
        .where(OutboxRow.subject_id == AuditRow.id)
        .scalar_subquery()
    )
    query = (
        select(AuditRow.id)
        .where(
            AuditRow.status == "running",
            exists().where(ready.subject_id == AuditRow.id, ready.status == "ready"),
            ~exists().where(
                running.subject_id == AuditRow.id, running.status == "running"
            ),
            exists().where(
                tried.subject_id == AuditRow.id,
                tried.status == "ready",
                tried.attempts > 0,
            )
            | ((done < now - quiet) & (invited.is_(None) | (done > invited))),
        )
        .order_by(AuditRow.created_at)
    )
    return list(session.scalars(query))


def _is_due(now: datetime) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return OutboxRow.sent_at.is_(None), OutboxRow.next_try_at <= now
