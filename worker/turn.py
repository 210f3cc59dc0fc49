"""A turn: one worker does a subject's pieces of work until none is left for it."""

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Literal

from pydantic import JsonValue

from service.contract.errors import Crashed, Internal, Problem
from service.contract.report import Report
from service.store.blobs import (
    BlobMissingError,
    BlobStore,
    BlobStoreDown,
    BlobWriter,
)
from service.store.database import DatabaseDown
from service.store.work import Claim, LeaseLostError, is_audit
from worker.companion import Companion, OnProgress, by_budget
from worker.engine.lab.experiment import TrainingOutcome
from worker.failures import (
    ChildCrashed,
    ChildDied,
    ChildFailed,
    ChildStopped,
    ChildTimedOut,
    ScratchDown,
)
from worker.pulse import Pulse
from worker.recorder import (
    Answer,
    Case,
    NonsenseError,
    Recorder,
    read_answer,
    read_outcome,
)
from worker.sandbox import Child
from worker.settings import WorkerSettings

LOG = logging.getLogger(__name__)
PROGRESS_SECONDS = 1.0
LINGER_POLL_SECONDS = 0.02
AHEAD_SECONDS = 10.0  # for opening what another works on; what hangs is not worth more
CHUNK_BYTES = 1 << 20
ROOM_PAUSE_SECONDS = 5.0
DEFECT = "This is a defect in the service; the operator's log has details."
NONSENSE = "The confined process gave an answer that cannot be used."
LOST_FILE = (
    "A file of this audit is not in the store any more, or damaged there; upload it "
    "again."
)


class Turn:
    """Does pieces of work, one at a time."""

    def __init__(
        self,
        *,
        recorder: Recorder,
        companion: Companion,
        blobs: BlobStore,
        pulse: Pulse,
        settings: WorkerSettings,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._recorder = recorder
        self._companion = companion
        self._blobs = blobs
        self._pulse = pulse
        self._settings = settings
        self._is_stopping = is_stopping

    def take(self, subject_id: str) -> int:
        """Work on a subject, and before it on audits that others left in the middle.

        Behind all that was asked for since these would wait for hours.

        Returns:
            How many pieces were taken up.
        """
        return sum(map(self._work_on, [*self._left_behind(subject_id), subject_id]))

    def _left_behind(self, subject_id: str) -> list[str]:
        if not is_audit(subject_id):
            return []
        try:
            return [one for one in self._recorder.interrupted() if one != subject_id]
        except DatabaseDown as error:
            LOG.warning("who was left behind is not known: %s", error.detail)
            return []

    def _work_on(self, subject_id: str) -> int:
        """Work on a subject until nothing is left for this worker.

        Returns:
            How many pieces were taken up.
        """
        end = time.monotonic() + self._settings.turn_seconds
        done, opened = 0, False
        while not self._is_stopping():
            try:
                held = self._recorder.claim(subject_id)
                if held is None:
                    opened = opened or done > 0 or self._opened_ahead(subject_id)
                    if opened and self._comes_more(subject_id):
                        continue
            except DatabaseDown as error:
                # The reaper invites again once the database is back.
                LOG.warning("turn for %s ends: %s", subject_id, error.detail)
                break
            if held is None:
                break
            done += 1
            with self._pulse.keeping(held):
                self._do(held)
            if time.monotonic() > end and is_audit(subject_id):
                self._recorder.invite_again(subject_id)
                break
        return done

    def _opened_ahead(self, subject_id: str) -> bool:
        """Open an audit that is in another's hands, so as to be there for what follows.

        What is wrong with it is for the other to say.
        """
        if not is_audit(subject_id) or self._recorder.outlook(subject_id) != "busy":
            return False
        try:
            case = self._recorder.case(subject_id)
            self._companion.child_for(case, seconds=AHEAD_SECONDS)
        except DatabaseDown:
            raise
        except (Problem, ChildFailed, BlobMissingError, LeaseLostError) as error:
            LOG.info("%s was not opened ahead: %r", subject_id, error)
            self._companion.drop()
            return False
        self._companion.used()
        return True

    def _comes_more(self, subject_id: str) -> bool:
        """Wait for an audit's next round, for which another worker may ask.

        An invitation would take longer than what is to be done often does. Whatever
        else waits comes first.
        """
        end = time.monotonic() + self._settings.linger_seconds
        while is_audit(subject_id) and not self._is_stopping():
            if time.monotonic() > end:
                break
            outlook = self._recorder.outlook(subject_id)
            if outlook != "busy":
                return outlook == "ready"
            time.sleep(LINGER_POLL_SECONDS)
        return False

    def _do(self, held: Claim) -> None:
        """Do one piece and record what became of it, whatever that is."""
        try:
            self._work(held)
        except LeaseLostError:
            LOG.info("%s of %s was lost or cancelled", held.kind, held.subject_id)
            self._companion.drop()
        except (DatabaseDown, BlobStoreDown) as error:
            # Nothing can be recorded: the lease ends, and the reaper tries again.
            LOG.warning("%s of %s: %s", held.kind, held.subject_id, error.detail)
            self._companion.drop()
        except ScratchDown as error:
            LOG.warning("%s of %s waits: %s", held.kind, held.subject_id, error.detail)
            self._companion.drop()
            self._give_back(held)

    def _give_back(self, held: Claim) -> None:
        """Leave a piece to whoever has room for it, and wait before taking another."""
        end = time.monotonic() + ROOM_PAUSE_SECONDS
        while time.monotonic() < end and not self._is_stopping():
            time.sleep(ROOM_PAUSE_SECONDS / 20)
        # On the same disk the database may not work either: then the lease ends.
        with contextlib.suppress(DatabaseDown, LeaseLostError):
            self._recorder.released(held)

    def _work(self, held: Claim) -> None:
        try:
            if is_audit(held.subject_id):
                self._audit(held)
            else:
                self._inspect(held)
        except ChildStopped:
            self._companion.drop()
            if not self._pulse.is_lost:
                self._recorder.released(held)
        except ChildTimedOut as error:
            # What hung once hangs again, and others wait for this worker.
            self._companion.drop()
            self._log(held, error)
            self._recorder.failed(held, Crashed(_describe(error)))
        except ChildDied as error:
            self._companion.drop_for_want_of_room()
            self._log(held, error)
            again = self._recorder.died(held, Crashed(_describe(error)))
            LOG.warning("%s of %s: again: %s", held.kind, held.subject_id, again)
        except (ChildCrashed, NonsenseError) as error:
            self._companion.drop_for_want_of_room()
            self._log(held, error)
            detail = NONSENSE if isinstance(error, NonsenseError) else DEFECT
            self._recorder.failed(held, Internal(detail))
        except BlobMissingError:
            self._companion.drop()
            LOG.exception("%s of %s", held.kind, held.subject_id)
            self._recorder.failed(held, Internal(LOST_FILE))
        except (DatabaseDown, BlobStoreDown, ScratchDown):
            raise
        except Problem as problem:
            self._recorder.failed(held, problem)

    def _inspect(self, held: Claim) -> None:
        upload = self._recorder.upload(held.subject_id)
        with self._companion.start() as child:
            facts = self._companion.call(
                child,
                held.kind,
                {"format": upload.format, "spec": upload.spec}
                if held.kind == "inspect_dataset"
                else {"format": upload.format},
                files={"file": upload.sha256},
                seconds=self._settings.inspect_seconds,
            )
        self._recorder.inspected(held, facts)

    def _audit(self, held: Claim) -> None:
        case = self._recorder.case(held.subject_id)
        if held.kind == "experiment":
            held = self._recorder.own(held, case)
            if self._recorder.take_known_outcome(held):
                return
        child = self._companion.child_for(case)
        try:
            if held.kind == "experiment":
                self._experiment(held, case, child)
            elif held.kind == "conclude":
                self._conclude(held, case, child)
            else:
                self._advance(held, case, child)
        finally:
            self._companion.used()

    def _experiment(self, held: Claim, case: Case, child: Child) -> None:
        begin = time.monotonic()
        value = self._companion.call(
            child,
            "run",
            {"experiment": held.body},
            seconds=self._seconds(held, case),
            on_progress=self._shown(held),
        )
        outcome = read_outcome(value, held.body)
        if not isinstance(outcome, TrainingOutcome) or outcome.file is None:
            self._recorder.outcome(held, outcome, seconds=time.monotonic() - begin)
            return
        with self._blobs.writer() as writer:
            sha256 = self._copy(child, outcome.file, writer)
            self._recorder.outcome(
                held,
                outcome.model_copy(update={"file": sha256}),
                seconds=time.monotonic() - begin,
                file=writer,
            )

    def _advance(self, held: Claim, case: Case, child: Child) -> None:
        outcomes = self._recorder.outcomes(held.subject_id)
        answer = self._judged(child, "advance", outcomes, self._shown(held))
        if answer.report is None:
            self._recorder.next_round(held, case, answer)
            return
        self._report(held, case, child, outcomes, answer.report)

    def _conclude(self, held: Claim, case: Case, child: Child) -> None:
        """Report what a cancelled audit had finished; nothing more is run."""
        outcomes = self._recorder.outcomes(held.subject_id)
        answer = self._judged(child, "conclude", outcomes)
        if answer.report is None:
            raise NonsenseError
        self._report(held, case, child, outcomes, answer.report)

    def _judged(
        self,
        child: Child,
        operation: Literal["advance", "conclude"],
        outcomes: list[JsonValue],
        on_progress: OnProgress | None = None,
    ) -> Answer:
        """Have the child judge what was found out so far."""
        value = self._companion.call(
            child,
            operation,
            {"outcomes": outcomes},
            seconds=self._settings.advance_seconds,
            on_progress=on_progress,
        )
        return read_answer(value)

    def _report(
        self,
        held: Claim,
        case: Case,
        child: Child,
        outcomes: list[JsonValue],
        said: Report,
    ) -> None:
        # The child cannot know how well it is confined, and could lie about whose
        # report this is.
        environment = said.environment.model_copy(update={"sandbox": child.level})
        report = said.model_copy(
            update={"audit_id": case.audit_id, "environment": environment}
        )
        # A child may name only what an experiment of this audit has kept.
        remedy = report.remedy.model if report.remedy is not None else None
        if remedy not in _kept_models(outcomes):
            remedy = None
        self._recorder.report(held, case, report, remedy_sha256=remedy)

    def _seconds(self, held: Claim, case: Case) -> float:
        """The clock limit: twice what the experiment was to keep to, and some more."""
        asked = held.body.get("max_seconds")
        if isinstance(asked, int | float):
            return min(self._settings.experiment_seconds, 2.0 * asked + 300.0)
        return by_budget(case, self._settings.measurement_seconds)

    def _shown(self, held: Claim) -> Callable[[float, str], None]:
        last = time.monotonic()

        def show(share: float, detail: str) -> None:
            nonlocal last
            if time.monotonic() - last >= PROGRESS_SECONDS:
                last = time.monotonic()
                self._recorder.progress(held, min(max(share, 0.0), 1.0), detail)

        return show

    def _copy(self, child: Child, name: str, writer: BlobWriter) -> str:
        """Make a file of the child ready to be kept; returns its SHA-256."""
        try:
            source = child.open_scratch(name)
        except (OSError, ValueError) as error:
            raise NonsenseError from error
        with source:
            while chunk := source.read(CHUNK_BYTES):
                writer.write(chunk)
                if writer.size_bytes > self._settings.remedy_limit_bytes:
                    raise NonsenseError
        sha256, _ = writer.finish()
        return sha256

    def _log(self, held: Claim, error: ChildFailed | NonsenseError) -> None:
        LOG.warning(
            "%s of %s: %s",
            held.kind,
            held.subject_id,
            error.trace if isinstance(error, ChildCrashed) else repr(error),
            exc_info=error.__cause__,
        )


def _describe(error: ChildDied | ChildTimedOut) -> str:
    if isinstance(error, ChildTimedOut):
        return (
            f"The confined process took longer than {error.seconds:g} s: the model may "
            "not come to an end on some input, or take very long. Run the file on two "
            "samples, and on all."
        )
    if error.reason:
        return f"The confined process was ended: {error.reason}."
    if error.signal is not None:
        return f"The confined process was killed by signal {error.signal}."
    return f"The confined process exited with status {error.exit_code}."


def _kept_models(outcomes: list[JsonValue]) -> set[str]:
    """List the files that experiments kept."""
    found = [entry["outcome"] for entry in outcomes if isinstance(entry, dict)]
    files = [outcome.get("file") for outcome in found if isinstance(outcome, dict)]
    return {file for file in files if isinstance(file, str)}
