"""Reads from the store what a piece of work needs, and writes what came of it.

What a confined child says is not trusted: it is checked against its model, and its
size against a limit, before any of it is kept.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import PydanticSerializationError
from sqlalchemy.orm import Session

from service.contract.errors import Crashed, Problem
from service.contract.gate import judge_gate
from service.contract.jobs import Inspection
from service.contract.report import Performance, Report
from service.contract.request import AuditRequest
from service.store import ending, rounds, work, workers
from service.store.blobs import BlobWriter
from service.store.database import (
    Database,
    DatabaseDown,
    database_time,
    lock_bytes,
)
from service.store.outbox import QUIET, interrupted, invite
from service.store.tables import AuditRow, DatasetRow, ModelRow, ReportRow
from service.store.work import Claim
from worker.engine.lab.experiment import Experiment, Outcome, TrainingOutcome
from worker.engine.version import ENGINE
from worker.fingerprint import outcome_digest
from worker.settings import WorkerSettings

LOG = logging.getLogger(__name__)
INSPECTION_LIMIT_BYTES = 1 << 20
PATIENCE_SECONDS = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
EXPERIMENTS: TypeAdapter[Experiment] = TypeAdapter(Experiment)
OUTCOMES: TypeAdapter[Outcome] = TypeAdapter(Outcome)

Result = TypeVar("Result")


class NonsenseError(Exception):
    """The confined child gave an answer that cannot be used."""


class Answer(BaseModel):
    """What `Session.advance` answers."""

    model_config = ConfigDict(extra="forbid")

    stage: Literal["inspect", "screen", "confirm", "interact", "remedy", "report"]
    fraction: float = Field(ge=0, le=1)
    detail: str = Field(max_length=1000)
    experiments: Annotated[
        list[Experiment], Field(max_length=rounds.MOST_EXPERIMENTS)
    ] = []
    report: Report | None = None


@dataclass(frozen=True)
class Upload:
    """An uploaded file, and what `Session.open` is told of it."""

    id: str
    sha256: str
    format: str
    spec: dict[str, Any]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Case:
    """All that an audit's pieces share."""

    audit_id: str
    project: str
    model: Upload
    dataset: Upload
    request: dict[str, Any]


class Recorder:
    """The store as a worker sees it; waits while the database is away."""

    def __init__(
        self, database: Database, settings: WorkerSettings, *, worker_id: str
    ) -> None:
        self._database = database
        self._settings = settings
        self._worker_id = worker_id
        self._lease = timedelta(seconds=settings.lease_seconds)

    def claim(self, subject_id: str) -> Claim | None:
        """Take the next piece of a subject, None where there is none."""
        with self._database.transaction() as session:
            return work.claim(
                session,
                subject_id,
                worker=self._worker_id,
                lease=self._lease,
                now=database_time(session),
            )

    def outlook(self, audit_id: str) -> work.Outlook:
        """Say what a worker of an audit has to expect."""
        with self._database.reading() as session:
            return work.outlook(session, audit_id)

    def interrupted(self) -> list[str]:
        """List audits that a worker left in the middle, the oldest first."""
        with self._database.reading() as session:
            now = database_time(session)
            return interrupted(session, now, quiet=QUIET)

    def invite_again(self, subject_id: str) -> None:
        """Let a subject wait for its next turn."""
        self._write(
            lambda session: invite(
                session, subject_id, queue="gpu", now=database_time(session)
            )
        )

    def upload(self, subject_id: str) -> Upload:
        """Read what is known of an upload.

        Raises:
            LeaseLostError: it has been deleted.
        """
        with self._database.reading() as session:
            return _upload(session, subject_id)

    def case(self, audit_id: str) -> Case:
        """Read what an audit is about.

        Raises:
            LeaseLostError: it has been deleted.
        """
        with self._database.reading() as session:
            audit = session.get(AuditRow, audit_id)
            if audit is None:
                raise work.LeaseLostError
            return Case(
                audit_id=audit.id,
                project=audit.project,
                model=_upload(session, audit.model_id),
                dataset=_upload(session, audit.dataset_id),
                request=audit.request,
            )

    def outcomes(self, audit_id: str) -> list[JsonValue]:
        """Read all outcomes so far, as `Session.advance` takes them."""
        with self._database.reading() as session:
            return [
                {"experiment": experiment, "outcome": outcome}
                for experiment, outcome in rounds.outcomes_of(session, audit_id)
            ]

    def inspected(self, held: Claim, facts: object) -> None:
        """Write what the inspection of an upload saw."""
        try:
            inspection = Inspection.model_validate({"status": "ok", "facts": facts})
            body = inspection.model_dump(mode="json")
        except (ValidationError, PydanticSerializationError) as error:
            raise NonsenseError from error
        _within(inspection.model_dump_json(), INSPECTION_LIMIT_BYTES)
        self._write(
            lambda session: work.record_inspection(
                session, held, body, now=database_time(session)
            )
        )

    def own(self, held: Claim, case: Case) -> Claim:
        """Make an experiment one of this worker's engine.

        A worker with another engine may have asked for it. What this one yields is not
        to be taken later for what that one would have yielded.
        """
        try:
            digest = _digest_of(case, EXPERIMENTS.validate_python(held.body))
        except ValidationError:  # not known to this engine, as the child will say
            return held
        if digest == held.digest:
            return held
        self._write(lambda session: work.rename(session, held, digest))
        return replace(held, digest=digest)

    def take_known_outcome(self, held: Claim) -> bool:
        """Finish an experiment whose outcome is there already."""
        return self._write(
            lambda session: rounds.take_known_outcome(
                session, held, now=database_time(session)
            )
        )

    def progress(self, held: Claim, share: float, detail: str) -> None:
        """Show how far a piece is; what cannot be shown now is not shown."""
        try:
            with self._database.transaction() as session:
                rounds.record_progress(
                    session, held, share, detail[:200], now=database_time(session)
                )
        except DatabaseDown:
            LOG.info("progress of %s is not shown", held.subject_id)

    def outcome(
        self,
        held: Claim,
        outcome: Outcome,
        *,
        seconds: float,
        file: BlobWriter | None = None,
    ) -> None:
        """Keep the outcome of an experiment, and the file that it names."""
        body = outcome.model_dump_json()
        _within(body, self._settings.outcome_limit_bytes)

        def write(session: Session) -> None:
            if isinstance(outcome, TrainingOutcome) and outcome.file is not None:
                lock_bytes(session, outcome.file)
            now = database_time(session)
            rounds.record_outcome(session, held, body, seconds, now=now)
            if file is not None:
                file.keep()

        self._write(write)

    def next_round(self, held: Claim, case: Case, answer: Answer) -> None:
        """Turn what the auditor asks for into pieces."""
        asked = rounds.Round(
            stage=answer.stage,
            fraction=answer.fraction,
            detail=answer.detail[:200],
            experiments=[
                (_digest_of(case, experiment), experiment.model_dump(mode="json"))
                for experiment in answer.experiments
            ],
        )

        def write(session: Session) -> None:
            now = database_time(session)
            alive = len(workers.alive(session, now))
            rounds.record_round(session, held, asked, workers=alive, now=now)

        try:
            self._write(write)
        except rounds.NoNewExperimentsError as error:
            raise NonsenseError from error

    def report(
        self, held: Claim, case: Case, report: Report, *, remedy_sha256: str | None
    ) -> None:
        """Judge the gate and keep the report of an audit done or cancelled."""
        policy = AuditRequest.model_validate(case.request).policy
        earlier = None
        if policy is not None and policy.max_regression_from is not None:
            earlier = self._earlier(policy.max_regression_from, case.project)
        gate = judge_gate(
            policy,
            findings=report.findings,
            performance=report.performance,
            earlier=earlier,
            is_cancelled=held.kind == "conclude",
        )
        remedy = report.remedy
        if remedy is not None:
            link = f"/v1/audits/{case.audit_id}/model" if remedy_sha256 else None
            remedy = remedy.model_copy(update={"model": link})
        limits = [*report.limits, *self._taken_over(case)]
        whole = report.model_copy(
            update={"gate": gate, "remedy": remedy, "limits": limits}
        )
        body = whole.model_dump_json()
        _within(body, self._settings.report_limit_bytes)
        self._write(
            lambda session: rounds.record_report(
                session,
                held,
                body,
                remedy_sha256=remedy_sha256,
                now=database_time(session),
            )
        )

    def failed(self, held: Claim, problem: Problem) -> None:
        """End the audit or the inspection with a problem."""
        self._write(
            lambda session: ending.fail(
                session, held, problem, now=database_time(session)
            )
        )

    def died(self, held: Claim, problem: Crashed) -> bool:
        """Note that the child was killed; says whether it will be tried again."""
        return self._write(
            lambda session: ending.died(
                session, held, problem, now=database_time(session)
            )
        )

    def released(self, held: Claim) -> None:
        """Give a piece back, since this worker stops."""
        self._write(
            lambda session: work.release(session, held, now=database_time(session))
        )

    def _taken_over(self, case: Case) -> list[str]:
        """Say what the report's times are of, where earlier audits spent them.

        Not where only another project can have: what that audits is its own affair.
        """
        with self._database.reading() as session:
            known, whole = rounds.count_taken_over(session, case.audit_id)
            is_own = known > 0 and rounds.was_audited_before(
                session,
                case.audit_id,
                project=case.project,
                files=(case.model.sha256, case.dataset.sha256),
            )
        if not is_own:
            return []
        text = (
            f"{known} of {whole} outcomes were taken over from earlier audits of the "
            "same model, data and recipe; `timings` hold what they took there."
        )
        return [text]

    def _earlier(self, audit_id: str, project: str) -> Performance | None:
        with self._database.reading() as session:
            audit = session.get(AuditRow, audit_id)
            row = session.get(ReportRow, audit_id)
        if audit is None or row is None or audit.project != project:
            return None
        return Report.model_validate_json(row.body).performance

    def _write(self, change: Callable[[Session], Result]) -> Result:
        """Write, and wait where the database is away: the work is not to be lost."""
        for pause in PATIENCE_SECONDS:
            try:
                with self._database.transaction() as session:
                    return change(session)
            except DatabaseDown:
                LOG.warning("the database is away; trying again in %g s", pause)
                time.sleep(pause)
        with self._database.transaction() as session:
            return change(session)


def read_answer(value: object) -> Answer:
    """Check what `advance` answered.

    Raises:
        NonsenseError: it is not an answer.
    """
    try:
        return Answer.model_validate(value)
    except ValidationError as error:
        raise NonsenseError from error


def read_outcome(value: object, experiment: Mapping[str, Any]) -> Outcome:
    """Check what `run` answered.

    Raises:
        NonsenseError: it is not the outcome of such an experiment.
    """
    try:
        outcome = OUTCOMES.validate_python(value)
    except ValidationError as error:
        raise NonsenseError from error
    if outcome.kind != experiment["kind"]:
        raise NonsenseError
    return outcome


def _digest_of(case: Case, experiment: Experiment) -> str:
    return outcome_digest(
        model_sha256=case.model.sha256,
        dataset_sha256=case.dataset.sha256,
        spec=case.dataset.spec,
        request=case.request,
        engine=ENGINE,
        experiment=experiment.digest(),
    )


def _upload(session: Session, upload_id: str) -> Upload:
    row: ModelRow | DatasetRow | None
    if upload_id.startswith("mdl_"):
        row = session.get(ModelRow, upload_id)
    else:
        row = session.get(DatasetRow, upload_id)
    if row is None:
        raise work.LeaseLostError
    facts = (row.inspection or {}).get("facts") or {}
    named = {"id": row.id, "name": row.name, "format": row.format, "sha256": row.sha256}
    return Upload(
        id=row.id,
        sha256=row.sha256,
        format=row.format,
        spec=row.spec if isinstance(row, DatasetRow) else {},
        facts={**facts, **named},
    )


def _within(text: str, limit_bytes: int) -> None:
    if len(text.encode()) > limit_bytes:
        raise NonsenseError
