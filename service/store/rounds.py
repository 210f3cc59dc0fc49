"""An audit's rounds: experiments asked for, their outcomes, and at last the report."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from service.contract.jobs import TERMINAL
from service.store import webhook_store
from service.store.outbox import invite
from service.store.paging import read_page
from service.store.tables import (
    AuditRow,
    DatasetRow,
    ModelRow,
    OutcomeRow,
    PieceRow,
    ReportRow,
)
from service.store.work import Claim, add_piece, close, hold, is_held, pieces_of

MOST_EXPERIMENTS = 1000  # of one round
# Where a stage ends, as a fraction of the audit; where it begins, the auditor says.
STAGE_ENDS = {
    "inspect": 0.15,
    "screen": 0.5,
    "interact": 0.65,
    "confirm": 0.88,
    "remedy": 0.97,
    "report": 1.0,
}
NEARLY_DONE = 0.99  # only the report is all
ETA_FROM = 0.05  # fraction; before that an estimate would be a guess


class NoNewExperimentsError(Exception):
    """The auditor asked for nothing that was not asked for before: it would loop."""


@dataclass(frozen=True)
class Round:
    """What the auditor wants next."""

    stage: str
    fraction: float
    detail: str
    experiments: Sequence[tuple[str, dict[str, Any]]]  # outcome digest, experiment


def record_round(
    session: Session, held: Claim, asked: Round, *, workers: int, now: datetime
) -> None:
    """Turn an auditor's answer into pieces; those with a known outcome are done.

    Args:
        session: a transaction.
        held: the `advance` piece.
        asked: the answer.
        workers: how many are alive; as many as can help are invited.
        now: the database's time.

    Raises:
        LeaseLostError: another token is in force, or the audit has ended.
        NoNewExperimentsError: there is nothing new in the answer.
    """
    audit, piece = hold(session, held)
    known = {row.digest for row in pieces_of(session, held.subject_id, "experiment")}
    fresh = {digest: body for digest, body in asked.experiments if digest not in known}
    if audit is None or not fresh:
        raise NoNewExperimentsError
    finished = set(
        session.scalars(select(OutcomeRow.digest).where(OutcomeRow.digest.in_(fresh)))
    )
    close(piece, "done", now)
    piece.body = {
        "fraction": asked.fraction,
        "stage": asked.stage,
        "first": _first(piece.digest),
    }
    for place, (digest, body) in enumerate(fresh.items()):
        add_piece(
            session,
            audit.id,
            "experiment",
            digest,
            position=_first(piece.digest) + place,
            body=body,
            done=digest in finished,
            now=now,
        )
    _show(audit, asked.fraction, stage=asked.stage, detail=asked.detail, now=now)
    session.flush()
    helpers = min(workers, len(fresh) - len(finished)) - 1
    if helpers > 0:
        invite(session, audit.id, queue="gpu", now=now, count=helpers)
    _close_round(session, audit, now)


def record_outcome(
    session: Session, held: Claim, body: str, seconds: float, *, now: datetime
) -> None:
    """Keep an experiment's outcome; the last of a round asks the auditor again.

    Raises:
        LeaseLostError: another token is in force, or the audit has ended.
    """
    audit, piece = hold(session, held)
    session.execute(
        _insert(session)
        .values(digest=held.digest, body=body, seconds=seconds, created_at=now)
        .on_conflict_do_nothing()
    )
    _finish_experiment(session, audit, piece, now)


def take_known_outcome(session: Session, held: Claim, *, now: datetime) -> bool:
    """Finish a piece whose outcome another audit has meanwhile produced.

    Raises:
        LeaseLostError: another token is in force, or the audit has ended.
    """
    audit, piece = hold(session, held)
    if session.get(OutcomeRow, held.digest) is None:
        return False
    _finish_experiment(session, audit, piece, now)
    return True


def conclusion_of(session: Session, audit_id: str) -> PieceRow | None:
    """Find the piece that reports what a cancelled audit had finished, if any."""
    return next(iter(pieces_of(session, audit_id, "conclude")), None)


def outcomes_of(
    session: Session, audit_id: str
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Read experiments and their outcomes as JSON values, in order of asking."""
    rows = session.execute(
        select(PieceRow.body, OutcomeRow.body)
        .join(OutcomeRow, OutcomeRow.digest == PieceRow.digest)
        .where(
            PieceRow.subject_id == audit_id,
            PieceRow.kind == "experiment",
            PieceRow.status == "done",
        )
        .order_by(PieceRow.position, PieceRow.id)
    )
    return [(experiment, json.loads(outcome)) for experiment, outcome in rows]


def count_taken_over(session: Session, audit_id: str) -> tuple[int, int]:
    """Count the outcomes that other audits made before this one needed them.

    A piece that made its own outcome was finished at the moment in which that was kept.

    Returns:
        How many were taken over, and of how many.
    """
    taken_over = session.scalars(
        select(OutcomeRow.created_at < PieceRow.finished_at)
        .join(PieceRow, OutcomeRow.digest == PieceRow.digest)
        .where(
            PieceRow.subject_id == audit_id,
            PieceRow.kind == "experiment",
            PieceRow.status == "done",
        )
    ).all()
    return sum(taken_over), len(taken_over)


def was_audited_before(
    session: Session, audit_id: str, *, project: str, files: tuple[str, str]
) -> bool:
    """Whether a project had audited the same files when it asked for an audit.

    Args:
        session: of the database.
        audit_id: the audit; ids sort by time.
        project: whose earlier audits count.
        files: SHA-256 of the model and of the dataset.
    """
    model, dataset = files
    earlier = (
        select(AuditRow.id)
        .join(ModelRow, AuditRow.model_id == ModelRow.id)
        .join(DatasetRow, AuditRow.dataset_id == DatasetRow.id)
        .where(
            AuditRow.project == project,
            AuditRow.id < audit_id,
            ModelRow.sha256 == model,
            DatasetRow.sha256 == dataset,
        )
    )
    return session.scalar(earlier.limit(1)) is not None


def page_of_outcomes(
    session: Session, audit_id: str, *, before: str | None, limit: int
) -> tuple[list[tuple[PieceRow, OutcomeRow]], bool]:
    """Read a page of an audit's experiments with outcomes, newest first."""
    query = select(PieceRow).where(
        PieceRow.subject_id == audit_id,
        PieceRow.kind == "experiment",
        PieceRow.status == "done",
        PieceRow.digest.in_(select(OutcomeRow.digest)),
    )
    pieces, more = read_page(session, query, PieceRow.id, before=before, limit=limit)
    found = [(piece, session.get_one(OutcomeRow, piece.digest)) for piece in pieces]
    return found, more


def forget_outcomes_with(session: Session, sha256: str) -> bool:
    """Forget outcomes whose file is to go, so that an audit makes it anew.

    Returns:
        Whether the file may go: no unfinished audit counts on such an outcome.
    """
    holding = OutcomeRow.body.contains(f'"file":"{sha256}"', autoescape=True)
    counted_on = session.execute(
        select(PieceRow.id)
        .join(OutcomeRow, OutcomeRow.digest == PieceRow.digest)
        .join(AuditRow, AuditRow.id == PieceRow.subject_id)
        .where(holding, AuditRow.status.not_in(TERMINAL))
        .limit(1)
    ).first()
    if counted_on is not None:
        return False
    session.execute(delete(OutcomeRow).where(holding))
    return True


def record_progress(
    session: Session, held: Claim, share: float, detail: str, *, now: datetime
) -> None:
    """Show how far the piece in hand is.

    Args:
        session: a transaction.
        held: the piece.
        share: done of the piece, 0 to 1.
        detail: what it is at, for a person; empty keeps what is shown.
        now: the database's time.
    """
    audit = session.get(AuditRow, held.subject_id, with_for_update=True)
    if audit is not None and is_held(session, held):
        _show(audit, _reached(session, audit.id, share), detail=detail, now=now)


def record_report(
    session: Session,
    held: Claim,
    body: str,
    *,
    remedy_sha256: str | None,
    now: datetime,
) -> None:
    """Keep the report; the audit has succeeded, unless it was cancelled before.

    Raises:
        LeaseLostError: another token is in force, or the audit has ended.
    """
    audit, piece = hold(session, held)
    if audit is None:
        raise NoNewExperimentsError
    close(piece, "done", now)
    session.add(ReportRow(audit_id=audit.id, body=body, created_at=now))
    audit.remedy_sha256 = remedy_sha256
    if audit.status in TERMINAL:
        audit.version += 1
        return
    audit.status = "succeeded"
    audit.finished_at = now
    audit.progress = {
        "fraction": 1.0,
        "stage": "report",
        "detail": "finished",
        "eta_seconds": None,
    }
    audit.version += 1
    webhook_store.announce(session, audit.id, now=now)


def _finish_experiment(
    session: Session, audit: AuditRow | None, piece: PieceRow, now: datetime
) -> None:
    close(piece, "done", now)
    if audit is None:  # an experiment always belongs to an audit
        return
    session.flush()
    _show(audit, _reached(session, audit.id, 0.0), now=now)
    _close_round(session, audit, now)


def _close_round(session: Session, audit: AuditRow, now: datetime) -> None:
    open_pieces = [
        piece
        for piece in pieces_of(session, audit.id, "experiment")
        if piece.status != "done"
    ]
    if open_pieces:
        return
    number = len(pieces_of(session, audit.id, "advance"))
    add_piece(
        session,
        audit.id,
        "advance",
        str(number),
        position=number * MOST_EXPERIMENTS + MOST_EXPERIMENTS - 1,
        body={},
        done=False,
        now=now,
    )


def _reached(session: Session, audit_id: str, share: float) -> float:
    """Estimate the audit's fraction from its latest round and a piece's share."""
    rounds = [
        piece.body
        for piece in pieces_of(session, audit_id, "advance")
        if piece.status == "done"
    ]
    if not rounds:
        return 0.0
    fraction, first = float(rounds[-1]["fraction"]), int(rounds[-1]["first"])
    states = [
        piece.status
        for piece in pieces_of(session, audit_id, "experiment")
        if piece.position >= first
    ]
    done = (states.count("done") + share) / max(1, len(states))
    end = max(fraction, STAGE_ENDS.get(str(rounds[-1]["stage"]), fraction))
    return fraction + (end - fraction) * min(1.0, done)


def _show(
    audit: AuditRow,
    fraction: float,
    *,
    stage: str | None = None,
    detail: str = "",
    now: datetime,
) -> None:
    """Write progress that never falls, with an estimate of the time left."""
    before = audit.progress or {}
    reached = max(float(before.get("fraction", 0.0)), min(fraction, NEARLY_DONE))
    elapsed = (now - (audit.started_at or now)).total_seconds()
    eta = elapsed * (1.0 - reached) / reached if reached > ETA_FROM else None
    audit.progress = {
        "fraction": round(reached, 4),
        "stage": stage or before.get("stage", "inspect"),
        "detail": detail or before.get("detail", ""),
        "eta_seconds": None if eta is None else round(eta, 1),
    }
    audit.version += 1


def _first(digest: str) -> int:
    return (int(digest) + 1) * MOST_EXPERIMENTS


def _insert(session: Session) -> Any:  # noqa: ANN401 - the two dialects share no type
    if session.get_bind().dialect.name == "postgresql":
        return postgresql.insert(OutcomeRow)
    return sqlite.insert(OutcomeRow)
