"""Schedules, and the loops that keep everything going; safe in several instances.

A due schedule is locked, moved to its next time and turned into an audit in one
transaction, so of several instances one runs it, and none can lose it half-way.

Misfire: a run that is late by less than `MISFIRE_BOUND` is made up for, once; what is
later is skipped. Overlap: a run is skipped while the one before is unfinished. Both
are recorded.
"""

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from service.contract.errors import InvalidFields, Problem, Unavailable
from service.contract.jobs import TERMINAL
from service.courier import Courier
from service.dispatch import Publisher, Relay
from service.outward import Outward
from service.schedules import next_run, start_scheduled
from service.settings import Settings
from service.store.blobs import incoming_folder
from service.store.database import Database, database_time
from service.store.tables import AuditRow, ScheduleRow, ScheduleRunRow
from service.upkeep import Upkeep

LOG = logging.getLogger(__name__)
MISFIRE_BOUND = timedelta(hours=1)
NOT_SET = 2
DATABASE_PAUSE_SECONDS = 3
AGAIN_SECONDS = 5.0

StartAudit = Callable[[Session, ScheduleRow, datetime], str]


class Scheduler:
    """Runs what is due, until told to stop."""

    def __init__(
        self, database: Database, start_audit: StartAudit, *, interval_seconds: float
    ) -> None:
        """Prepare.

        Args:
            database: where the schedules are.
            start_audit: makes the audit of a schedule within a transaction; returns
                its id, or raises a `Problem`.
            interval_seconds: how often to look.
        """
        self._database = database
        self._start_audit = start_audit
        self._interval = interval_seconds

    def run(self, stop: threading.Event) -> None:
        """Look for due schedules until told to stop."""
        while not stop.is_set():
            try:
                self.run_due()
            except Unavailable as error:
                LOG.warning("schedules wait: %s", error.detail)
            stop.wait(self._interval)

    def run_due(self, *, now: datetime | None = None) -> int:
        """Run what is due once; returns how many due times were dealt with.

        Raises:
            Unavailable: the database does not answer.
        """
        with self._database.reading() as session:
            moment = now or database_time(session)
            due = session.scalars(
                select(ScheduleRow.id)
                .where(ScheduleRow.enabled, ScheduleRow.next_run_at <= moment)
                .order_by(ScheduleRow.next_run_at)
            ).all()
        return sum(self._run_one(schedule_id, moment) for schedule_id in due)

    def _run_one(self, schedule_id: str, now: datetime) -> bool:
        try:
            with self._database.transaction() as session:
                return self._try(session, schedule_id, now)
        except Unavailable:
            raise
        except Problem as error:
            problem = error
        except ValidationError as error:  # an older version's request, say
            problem = InvalidFields("The schedule's audit is not valid any more.")
            problem.__cause__ = error
        LOG.warning("schedule %s: %s", schedule_id, problem, exc_info=problem.__cause__)
        # What the audit's part of the transaction wrote is rolled back; what came of
        # the due time is recorded in another.
        with self._database.transaction() as session:
            return self._note_failure(session, schedule_id, problem, now)

    def _try(self, session: Session, schedule_id: str, now: datetime) -> bool:
        schedule = _lock_due(session, schedule_id, now)
        if schedule is None or schedule.next_run_at is None:
            return False
        due_at = schedule.next_run_at
        audit_id = None
        if session.get(ScheduleRunRow, (schedule.id, due_at)) is not None:
            _move_on(schedule, now)  # its times were changed and changed back
            return False
        if now - due_at > MISFIRE_BOUND:
            result = "skipped_late"
        elif _is_unfinished(session, schedule.last_audit_id):
            result = "skipped_overlap"
        else:
            result = "started"
            audit_id = self._start_audit(session, schedule, now)
            schedule.last_run_at = now
            schedule.last_audit_id = audit_id
        _finish(session, schedule, due_at, result, audit_id=audit_id, now=now)
        return True

    @staticmethod
    def _note_failure(
        session: Session, schedule_id: str, problem: Problem, now: datetime
    ) -> bool:
        schedule = _lock_due(session, schedule_id, now)
        if schedule is None or schedule.next_run_at is None:
            return False
        _finish(
            session, schedule, schedule.next_run_at, "failed", audit_id=None, now=now
        )
        schedule.last_problem = problem.document().model_dump(mode="json")
        return True


def _lock_due(session: Session, schedule_id: str, now: datetime) -> ScheduleRow | None:
    schedule = session.get(
        ScheduleRow, schedule_id, with_for_update=True, populate_existing=True
    )
    if schedule is None or not schedule.enabled or schedule.next_run_at is None:
        return None
    return schedule if schedule.next_run_at <= now else None


def _is_unfinished(session: Session, audit_id: str | None) -> bool:
    audit = None if audit_id is None else session.get(AuditRow, audit_id)
    return audit is not None and audit.status not in TERMINAL


def _finish(
    session: Session,
    schedule: ScheduleRow,
    due_at: datetime,
    result: str,
    *,
    audit_id: str | None,
    now: datetime,
) -> None:
    session.add(
        ScheduleRunRow(
            schedule_id=schedule.id, due_at=due_at, audit_id=audit_id, result=result
        )
    )
    schedule.last_result = result
    schedule.last_problem = None
    _move_on(schedule, now)
    LOG.info("schedule %s, due %s: %s", schedule.id, due_at, result)


def _move_on(schedule: ScheduleRow, now: datetime) -> None:
    try:
        schedule.next_run_at = next_run(schedule.cron, schedule.timezone, now)
    except InvalidFields:  # its time zone is not known here any more, say
        schedule.next_run_at = None
        LOG.warning("schedule %s has no next time", schedule.id)


@contextmanager
def loops(settings: Settings, database: Database) -> Iterator[Relay]:
    """Run relay, reaper, schedules and courier in threads of this process.

    Yields:
        The relay, to be woken where there is something to send.
    """
    publisher = Publisher(
        settings.redis_url or "", timeout_seconds=settings.broker_timeout_seconds
    )
    relay = Relay(
        database, publisher, interval_seconds=settings.outbox_interval_seconds
    )
    upkeep = Upkeep(
        database,
        incoming=incoming_folder(
            settings.blob_address, cache=settings.data_dir / "cache"
        ),
        interval_seconds=settings.reaper_interval_seconds,
    )
    scheduler = Scheduler(
        database,
        start_scheduled,
        interval_seconds=settings.schedule_interval_seconds,
    )
    courier = Courier(database, Outward(settings.callback_networks))
    stop = threading.Event()
    threads = [
        threading.Thread(target=_keep_going, args=(loop, stop), name=name)
        for name, loop in (
            ("relay", relay.run),
            ("upkeep", upkeep.run),
            ("scheduler", scheduler.run),
            ("courier", courier.run),
        )
    ]
    for thread in threads:
        thread.daemon = True
        thread.start()
    try:
        yield relay
    finally:
        stop.set()
        relay.wake()
        for thread in threads:
            thread.join(timeout=10.0)
        publisher.close()


def run_scheduler(settings: Settings) -> int:
    """Run the loops alone, as a role of its own; returns the exit code."""
    if settings.redis_url is None:
        sys.stderr.write("model-audit scheduler: set MODEL_AUDIT_REDIS_URL\n")
        return NOT_SET
    stops = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)  # before there are threads
    database = Database(settings.database_address)
    while not _is_migrated(database):
        if signal.sigtimedwait(stops, DATABASE_PAUSE_SECONDS) is not None:
            return 0
    with loops(settings, database):
        signal.sigwait(stops)
    database.close()
    return 0


def _is_migrated(database: Database) -> bool:
    try:
        database.migrate()
    except Unavailable as error:
        LOG.warning("waiting: %s", error.detail)
        return False
    return True


def _keep_going(loop: Callable[[threading.Event], None], stop: threading.Event) -> None:
    """Run a loop; a defect in it is logged, and does not end it for good."""
    while not stop.is_set():
        try:
            loop(stop)
        except Exception:  # the outermost frame of a thread: else it would be silent
            LOG.exception("%s failed; it starts again", threading.current_thread().name)
            stop.wait(AGAIN_SECONDS)
