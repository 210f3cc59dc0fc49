"""How audits and pieces end badly: failed, cancelled, given up by the reaper.

A terminal state never changes; every function here leaves an ended audit alone.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service.contract.errors import Crashed, Problem
from service.contract.jobs import TERMINAL
from service.store import webhook_store
from service.store.tables import AuditRow, PieceRow
from service.store.work import (
    MAX_ATTEMPTS,
    MAX_DEATHS_BY_SIGNAL,
    Claim,
    add_conclusion,
    close,
    hold,
    is_audit,
    is_over,
    lock_audit,
    make_ready,
    pieces_of,
    write_inspection,
)


def cancel(session: Session, audit_id: str, *, now: datetime) -> AuditRow | None:
    """Cancel an audit at once; what it had finished stays.

    Whoever works on it loses the lease, sees so within a second and stops. Where a
    round had been finished, a worker then writes the report of what there is.

    Returns:
        The audit, cancelled or as it had ended before; None where there is none.
    """
    audit = lock_audit(session, audit_id)
    if audit is None or audit.status in TERMINAL:
        return audit
    audit.cancel_requested = True
    _end(session, audit, "cancelled", now)
    if len(pieces_of(session, audit.id, "advance")) > 1:  # each round but the first
        add_conclusion(session, audit.id, now=now)
    return audit


def fail(session: Session, held: Claim, problem: Problem, *, now: datetime) -> None:
    """End a piece, and what is unfinished of its audit or upload, with a problem.

    Raises:
        LeaseLostError: another token is in force, or the audit has ended.
    """
    audit, piece = hold(session, held)
    _fail(session, audit, piece, problem, now)


def died(session: Session, held: Claim, problem: Crashed, *, now: datetime) -> bool:
    """Note that the confined child was killed; try again, or fail with the problem.

    Returns:
        Whether it will be tried again.

    Raises:
        LeaseLostError: another token is in force, or the audit has ended.
    """
    audit, piece = hold(session, held)
    piece.deaths_by_signal += 1
    if piece.deaths_by_signal >= MAX_DEATHS_BY_SIGNAL or piece.attempts >= MAX_ATTEMPTS:
        _fail(session, audit, piece, problem, now)
        return False
    make_ready(session, piece, now)
    return True


def subjects_with_lost_leases(session: Session, now: datetime) -> list[str]:
    """Find, without a lock, what the reaper has to look at."""
    query = (
        select(PieceRow.subject_id)
        .where(PieceRow.status == "running", PieceRow.lease_until < now)
        .distinct()
    )
    return list(session.scalars(query))


def reap(session: Session, subject_id: str, *, now: datetime) -> int:
    """Take back the pieces of a subject whose lease has ended.

    Each becomes ready for another worker or, after too many attempts, fails its
    subject visibly.

    Returns:
        How many leases were taken back.
    """
    audit = lock_audit(session, subject_id) if is_audit(subject_id) else None
    lost = session.scalars(
        select(PieceRow)
        .where(
            PieceRow.subject_id == subject_id,
            PieceRow.status == "running",
            PieceRow.lease_until < now,
        )
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    for piece in lost:
        if piece.status != "running":  # failed together with an earlier one
            continue
        if audit is not None and is_over(audit, piece.kind):
            close(piece, "failed", now)
        elif piece.attempts >= MAX_ATTEMPTS:
            _fail(session, audit, piece, _given_up(piece.attempts), now)
        else:
            make_ready(session, piece, now)
    return len(lost)


def _given_up(attempts: int) -> Crashed:
    return Crashed(
        f"The worker was lost {attempts} times while it worked on this; it is not "
        "tried again."
    )


def _fail(
    session: Session,
    audit: AuditRow | None,
    piece: PieceRow,
    problem: Problem,
    now: datetime,
) -> None:
    document: dict[str, Any] = problem.document().model_dump(mode="json")
    close(piece, "failed", now)
    piece.error = document
    if audit is None:
        write_inspection(
            session,
            piece.subject_id,
            {"status": "failed", "facts": {}, "problem": document},
        )
    elif audit.status not in TERMINAL:  # else it only stays without a report
        audit.error = document
        _end(session, audit, "failed", now)


def _end(session: Session, audit: AuditRow, status: str, now: datetime) -> None:
    audit.status = status
    audit.finished_at = now
    audit.version += 1
    session.flush()
    session.execute(
        update(PieceRow)
        .where(
            PieceRow.subject_id == audit.id,
            PieceRow.status.in_(["ready", "running"]),
        )
        .values(status="failed", token=None, lease_until=None, finished_at=now)
    )
    webhook_store.announce(session, audit.id, now=now)
