"""Workers that are or were alive."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.orm import Session

from service.store.tables import PieceRow, WorkerRow

ALIVE = timedelta(seconds=30)
FORGET = timedelta(days=1)


def register(session: Session, worker: WorkerRow) -> None:
    """Note a worker that has started; forget those gone for long."""
    session.merge(worker)
    session.execute(
        delete(WorkerRow).where(WorkerRow.seen_at < worker.seen_at - FORGET)
    )


def seen(session: Session, worker_id: str, now: datetime) -> bool:
    """Note that a worker lives; False where it is not known (any more)."""
    found = session.execute(
        update(WorkerRow)
        .where(WorkerRow.id == worker_id)
        .values(seen_at=now)
        .returning(WorkerRow.id)
    )
    return found.first() is not None


def leave(session: Session, worker_id: str) -> None:
    """Forget a worker that stops in an orderly way."""
    session.execute(delete(WorkerRow).where(WorkerRow.id == worker_id))


def alive(
    session: Session, now: datetime, *, within: timedelta = ALIVE
) -> Sequence[WorkerRow]:
    """Find the workers seen lately."""
    return session.scalars(
        select(WorkerRow).where(WorkerRow.seen_at > now - within).order_by(WorkerRow.id)
    ).all()


def spare(session: Session, now: datetime) -> int:
    """Count the workers that no audit has or waits for; inspections are short."""
    of_audit = PieceRow.kind.not_in(["inspect_model", "inspect_dataset"])
    working = select(func.count()).where(of_audit, PieceRow.status == "running")
    waiting = select(func.count(PieceRow.subject_id.distinct())).where(
        of_audit, PieceRow.status == "ready"
    )
    taken = session.scalars(working).one() + session.scalars(waiting).one()
    return max(0, len(alive(session, now)) - taken)


def idle(
    session: Session, now: datetime, *, within: timedelta = ALIVE
) -> Sequence[WorkerRow]:
    """Find the workers seen lately that hold no piece of work."""
    busy = exists().where(PieceRow.worker == WorkerRow.id, PieceRow.status == "running")
    return session.scalars(
        select(WorkerRow)
        .where(WorkerRow.seen_at > now - within, ~busy)
        .order_by(WorkerRow.id)
    ).all()
