"""Pieces of work and the fenced leases they are done under.

A worker claims a piece and gets a token. Only the holder of the token may write what
came of it; when its lease ends without a heartbeat the reaper gives the piece to
another, under another token, and whatever the first one still writes is refused.

Locks are always taken in one order, audit before piece, so nothing can deadlock, and
all changes of one audit happen one after the other: of two workers that finish the
last two experiments of a round exactly one sees the round complete.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from service.contract.jobs import TERMINAL
from service.ids import new_id
from service.store import workers
from service.store.outbox import invite
from service.store.tables import AuditRow, DatasetRow, ModelRow, PieceRow

Outlook = Literal["over", "busy", "ready", "elsewhere"]
Kind = Literal["inspect_model", "inspect_dataset", "experiment", "advance", "conclude"]
MAX_ATTEMPTS = 3
MAX_DEATHS_BY_SIGNAL = 2


class LeaseLostError(Exception):
    """The piece was given to another worker, or its audit has ended."""


@dataclass(frozen=True)
class Claim:
    """The right to do one piece of work, for as long as the lease is kept."""

    piece_id: str
    subject_id: str
    kind: str
    digest: str
    body: dict[str, Any]
    token: str
    attempt: int


def is_audit(subject_id: str) -> bool:
    """Say whether a subject is an audit (else it is an upload)."""
    return subject_id.startswith("aud_")


def add_inspection(
    session: Session, kind: Kind, subject_id: str, *, now: datetime
) -> None:
    """Ask for the inspection of an upload, in the transaction that stores it."""
    session.add(_piece(subject_id, kind, "0", now=now))
    invite(session, subject_id, queue="cpu", now=now)


def repeat_inspection(
    session: Session, kind: Kind, upload: ModelRow | DatasetRow, *, now: datetime
) -> None:
    """Ask anew for the inspection of an upload whose file has come once more."""
    session.execute(
        delete(PieceRow).where(PieceRow.subject_id == upload.id, PieceRow.kind == kind)
    )
    upload.inspection = {"status": "pending"}
    add_inspection(session, kind, upload.id, now=now)


def add_first_advance(session: Session, audit_id: str, *, now: datetime) -> None:
    """Ask for an audit to be worked on, in the transaction that stores it.

    The first piece is for one worker. Another that no audit needs is invited at once,
    too, so that it has opened this one when there is work for two.
    """
    count = min(2, max(1, workers.spare(session, now)))
    session.add(_piece(audit_id, "advance", "0", now=now))
    invite(session, audit_id, queue="gpu", now=now, count=count)


def add_conclusion(session: Session, audit_id: str, *, now: datetime) -> None:
    """Ask for a report of what a cancelled audit had finished."""
    session.add(_piece(audit_id, "conclude", "0", now=now))
    invite(session, audit_id, queue="gpu", now=now)


def add_piece(  # noqa: PLR0913 - a row has that many columns
    session: Session,
    subject_id: str,
    kind: Kind,
    digest: str,
    *,
    position: int,
    body: dict[str, Any],
    done: bool,
    now: datetime,
) -> None:
    """Add a piece to an audit whose row the caller has locked."""
    piece = _piece(subject_id, kind, digest, now=now)
    piece.position = position
    piece.body = body
    if done:
        piece.status = "done"
        piece.finished_at = now
    session.add(piece)


def lock_audit(session: Session, audit_id: str) -> AuditRow | None:
    """Read an audit and keep others from changing it until the transaction ends."""
    return session.get(AuditRow, audit_id, with_for_update=True, populate_existing=True)


def outlook(session: Session, audit_id: str) -> Outlook:
    """Say what a worker of an audit has to expect.

    Returns:
        `over` where it has ended, `ready` where it has work to give, `busy` where all
        of that is in others' hands; `elsewhere` if then something else waits.
    """
    audit = session.get(AuditRow, audit_id)
    if audit is None or audit.status in TERMINAL:
        return "over"
    waiting = session.scalars(
        select(PieceRow.subject_id).where(PieceRow.status == "ready").distinct()
    ).all()
    if audit_id in waiting:
        return "ready"
    return "elsewhere" if waiting else "busy"


def claim(
    session: Session, subject_id: str, *, worker: str, lease: timedelta, now: datetime
) -> Claim | None:
    """Take the next ready piece of a subject.

    Returns:
        The claim, or None where nothing is ready or the audit has ended.
    """
    ready = [PieceRow.subject_id == subject_id, PieceRow.status == "ready"]
    audit = None
    if is_audit(subject_id):
        audit = lock_audit(session, subject_id)
        if audit is None:
            return None
        if audit.status in TERMINAL:
            ready.append(PieceRow.kind == "conclude")
    candidate = (
        select(PieceRow.id)
        .where(*ready)
        .order_by(PieceRow.position, PieceRow.id)
        .limit(1)
        .with_for_update(skip_locked=True)  # no effect, and no need, on SQLite
        .scalar_subquery()
    )
    piece = session.scalars(
        update(PieceRow)
        .where(PieceRow.id == candidate, PieceRow.status == "ready")
        .values(
            status="running",
            token=secrets.token_hex(16),
            lease_until=now + lease,
            attempts=PieceRow.attempts + 1,
            worker=worker,
        )
        .returning(PieceRow)
    ).one_or_none()
    if piece is None or piece.token is None:
        return None
    if audit is not None and audit.status == "queued":
        audit.status = "running"
        audit.started_at = now
        audit.progress = {**(audit.progress or {}), "stage": "inspect"}
        audit.version += 1
    return Claim(
        piece_id=piece.id,
        subject_id=piece.subject_id,
        kind=piece.kind,
        digest=piece.digest,
        body=piece.body,
        token=piece.token,
        attempt=piece.attempts,
    )


def is_over(audit: AuditRow, kind: str) -> bool:
    """Say whether work of a kind is no longer done for an audit, since it has ended.

    A cancelled one is still concluded: reported from what had been finished.
    """
    return audit.status in TERMINAL and kind != "conclude"


def is_held(session: Session, held: Claim) -> bool:
    """Say, without a lock, whether the claim still holds."""
    found = session.execute(
        select(PieceRow.id).where(
            PieceRow.id == held.piece_id,
            PieceRow.token == held.token,
            PieceRow.status == "running",
        )
    )
    return found.first() is not None


def heartbeat(
    session: Session, held: Claim, *, lease: timedelta, now: datetime
) -> bool:
    """Keep the lease; False where it is lost."""
    found = session.execute(
        update(PieceRow)
        .where(
            PieceRow.id == held.piece_id,
            PieceRow.token == held.token,
            PieceRow.status == "running",
        )
        .values(lease_until=now + lease)
        .returning(PieceRow.id)
    )
    return found.first() is not None


def hold(session: Session, held: Claim) -> tuple[AuditRow | None, PieceRow]:
    """Lock what a claim is about, to write its result.

    Returns:
        The audit (None for an upload) and the piece.

    Raises:
        LeaseLostError: another token is in force, or the audit has ended.
    """
    audit = None
    if is_audit(held.subject_id):
        audit = lock_audit(session, held.subject_id)
        if audit is None or is_over(audit, held.kind):
            raise LeaseLostError
    piece = session.scalars(
        select(PieceRow)
        .where(
            PieceRow.id == held.piece_id,
            PieceRow.token == held.token,
            PieceRow.status == "running",
        )
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()
    if piece is None:
        raise LeaseLostError
    return audit, piece


def rename(session: Session, held: Claim, digest: str) -> None:
    """Give an experiment the digest under which its outcome will be kept.

    Raises:
        LeaseLostError: another token is in force, or the audit has ended.
    """
    _, piece = hold(session, held)
    piece.digest = digest


def close(piece: PieceRow, status: Literal["done", "failed"], now: datetime) -> None:
    """End a piece that the caller holds."""
    piece.status = status
    piece.token = None
    piece.lease_until = None
    piece.finished_at = now


def release(session: Session, held: Claim, *, now: datetime) -> None:
    """Give a piece back untried, since the worker stops; costs no attempt.

    Raises:
        LeaseLostError: it is not ours any more.
    """
    _, piece = hold(session, held)
    piece.attempts -= 1
    make_ready(session, piece, now)


def make_ready(session: Session, piece: PieceRow, now: datetime) -> None:
    """Let another worker claim a locked piece, and invite one."""
    piece.status = "ready"
    piece.token = None
    piece.lease_until = None
    queue: Literal["cpu", "gpu"] = "gpu" if is_audit(piece.subject_id) else "cpu"
    invite(session, piece.subject_id, queue=queue, now=now)


def record_inspection(
    session: Session, held: Claim, inspection: dict[str, Any], *, now: datetime
) -> None:
    """Write what the inspection of an upload saw.

    Raises:
        LeaseLostError: another token is in force.
    """
    _, piece = hold(session, held)
    close(piece, "done" if inspection["status"] == "ok" else "failed", now)
    write_inspection(session, held.subject_id, inspection)


def write_inspection(
    session: Session, subject_id: str, inspection: dict[str, Any]
) -> None:
    """Put an inspection into the row of its upload, if that is still there."""
    upload: ModelRow | DatasetRow | None
    if subject_id.startswith("mdl_"):
        upload = session.get(ModelRow, subject_id)
    else:
        upload = session.get(DatasetRow, subject_id)
    if upload is not None:
        upload.inspection = inspection


def pieces_of(session: Session, audit_id: str, kind: Kind) -> Sequence[PieceRow]:
    """Find the pieces of one kind of an audit, in order."""
    return session.scalars(
        select(PieceRow)
        .where(PieceRow.subject_id == audit_id, PieceRow.kind == kind)
        .order_by(PieceRow.position, PieceRow.id)
    ).all()


def _piece(subject_id: str, kind: Kind, digest: str, *, now: datetime) -> PieceRow:
    return PieceRow(
        id=new_id("pce"),
        subject_id=subject_id,
        kind=kind,
        digest=digest,
        status="ready",
        created_at=now,
    )
