from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread

import pytest
from sqlalchemy import select

from service.scheduler import MISFIRE_BOUND, Scheduler
from service.schedules import schedule_body, start_scheduled
from service.store.database import Database
from service.store.tables import (
    AuditRow,
    OutboxRow,
    PieceRow,
    ScheduleRow,
    ScheduleRunRow,
)
from tests.service.store.rows import NOW, add_audit

DUE = NOW - timedelta(minutes=1)


def add_schedule(
    database: Database,
    *,
    due: datetime = DUE,
    cron: str = "0 3 * * *",
    zone: str = "UTC",
) -> str:
    with database.transaction() as session:
        other = session.get(AuditRow, add_audit(session))
        assert other is not None
        schedule = ScheduleRow(
            id="sch_nightly",
            project="default",
            name="nightly",
            cron=cron,
            timezone=zone,
            audit={
                "model_id": other.model_id,
                "dataset_id": other.dataset_id,
                "tags": ["mine"],
            },
            enabled=True,
            created_at=NOW,
            next_run_at=due,
        )
        session.add(schedule)
    return schedule.id


def run(database: Database, *, now: datetime = NOW) -> int:
    scheduler = Scheduler(database, start_scheduled, interval_seconds=1)
    return scheduler.run_due(now=now)


def runs(database: Database) -> list[tuple[datetime, str]]:
    with database.reading() as session:
        rows = session.scalars(
            select(ScheduleRunRow).order_by(ScheduleRunRow.due_at)
        ).all()
        return [(row.due_at, row.result) for row in rows]


def schedule_row(database: Database) -> ScheduleRow:
    with database.reading() as session:
        return session.scalars(select(ScheduleRow)).one()


def scheduled_audits(database: Database) -> list[AuditRow]:
    with database.reading() as session:
        return list(
            session.scalars(select(AuditRow).where(AuditRow.schedule_id.is_not(None)))
        )


def test_a_due_schedule_starts_a_normal_audit(database: Database) -> None:
    schedule_id = add_schedule(database)

    assert run(database) == 1

    [audit] = scheduled_audits(database)
    schedule = schedule_row(database)
    assert audit.status == "queued"
    assert audit.tags == ["mine", f"schedule:{schedule_id}"]
    assert runs(database) == [(DUE, "started")]
    assert (schedule.last_run_at, schedule.last_audit_id) == (NOW, audit.id)
    assert (schedule.last_result, schedule.last_problem) == ("started", None)
    assert schedule.next_run_at == datetime(2026, 11, 25, 3, 0, tzinfo=UTC)
    with database.reading() as session:
        of_audit = {"subject_id": audit.id}
        assert session.query(PieceRow).filter_by(**of_audit).count() == 1
        assert session.query(OutboxRow).filter_by(**of_audit).count() == 1


def test_times_are_those_of_the_time_zone(database: Database) -> None:
    add_schedule(database, zone="America/New_York")

    run(database)

    expected = datetime(2026, 11, 25, 8, 0, tzinfo=UTC)
    assert schedule_row(database).next_run_at == expected


def test_two_instances_start_one_audit(database: Database) -> None:
    add_schedule(database)
    start = Barrier(4)

    def instance() -> None:
        start.wait()
        run(database)

    threads = [Thread(target=instance) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(scheduled_audits(database)) == 1
    assert runs(database) == [(DUE, "started")]


def test_a_run_is_skipped_while_the_one_before_is_unfinished(
    database: Database,
) -> None:
    add_schedule(database, cron="* * * * *")
    run(database)

    run(database, now=NOW + timedelta(minutes=1))

    assert [result for _, result in runs(database)] == ["started", "skipped_overlap"]
    assert len(scheduled_audits(database)) == 1


def test_a_run_follows_once_the_one_before_has_ended(database: Database) -> None:
    add_schedule(database, cron="* * * * *")
    run(database)
    with database.transaction() as session:
        for audit in session.scalars(select(AuditRow)):
            audit.status = "succeeded"

    run(database, now=NOW + timedelta(minutes=1))

    assert [result for _, result in runs(database)] == ["started", "started"]


def test_what_was_missed_for_long_is_skipped_and_recorded(database: Database) -> None:
    due = NOW - MISFIRE_BOUND - timedelta(seconds=1)
    add_schedule(database, due=due)

    run(database)

    assert runs(database) == [(due, "skipped_late")]
    assert scheduled_audits(database) == []
    next_run_at = schedule_row(database).next_run_at
    assert next_run_at is not None
    assert next_run_at > NOW


def test_what_was_missed_for_a_while_runs_once(database: Database) -> None:
    add_schedule(database, due=NOW - timedelta(minutes=30), cron="*/5 * * * *")

    run(database)
    run(database)

    assert len(scheduled_audits(database)) == 1
    assert schedule_row(database).next_run_at == NOW + timedelta(minutes=5)


def test_an_audit_that_cannot_be_made_is_recorded_and_does_not_repeat(
    database: Database,
) -> None:
    add_schedule(database)
    with database.transaction() as session:
        schedule = session.scalars(select(ScheduleRow)).one()
        schedule.audit = {**schedule.audit, "model_id": "mdl_gone"}

    run(database)

    shown = schedule_body(schedule_row(database))
    assert runs(database) == [(DUE, "failed")]
    assert shown.last_result == "failed"
    assert shown.last_problem is not None
    assert shown.last_problem.errors[0].pointer == "/model_id"
    assert scheduled_audits(database) == []
    assert run(database) == 0


@pytest.mark.parametrize("enabled", [True, False])
def test_only_what_is_enabled_and_due_runs(
    database: Database, *, enabled: bool
) -> None:
    add_schedule(database, due=NOW + timedelta(minutes=1) if enabled else DUE)
    with database.transaction() as session:
        session.scalars(select(ScheduleRow)).one().enabled = enabled

    assert run(database) == 0
    assert runs(database) == []


def test_a_due_time_that_was_run_is_not_run_again(database: Database) -> None:
    add_schedule(database)
    run(database)
    with database.transaction() as session:
        session.scalars(select(ScheduleRow)).one().next_run_at = DUE
        for audit in session.scalars(select(AuditRow)):
            audit.status = "succeeded"

    assert run(database) == 0

    assert len(scheduled_audits(database)) == 1
    next_run_at = schedule_row(database).next_run_at
    assert next_run_at is not None
    assert next_run_at > NOW
