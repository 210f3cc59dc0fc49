import sqlite3
from pathlib import Path
from threading import Thread

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from service.contract.errors import Unavailable
from service.store.database import (
    Database,
    UnknownDatabaseError,
    _keep_a_log,
    database_time,
    lock_bytes,
)
from service.store.tables import Table, WorkerRow
from tests.service.store.places import migrated
from tests.service.store.rows import NOW, worker_row


def test_migrations_and_tables_agree(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})

        differences = compare_metadata(context, Table.metadata)

    assert differences == []


def test_processes_that_start_together_migrate_once(database_url: str) -> None:
    errors: list[BaseException] = []

    def migrate() -> None:
        database = Database(database_url)
        try:
            database.migrate()
        except BaseException as error:  # noqa: BLE001 - shown below
            errors.append(error)
        finally:
            database.close()

    threads = [Thread(target=migrate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []


def test_an_error_rolls_the_transaction_back(database: Database) -> None:
    def break_off() -> None:
        with database.transaction() as session:
            session.add(worker_row("a"))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()

    with database.reading() as session:
        assert session.scalars(select(WorkerRow)).all() == []


def test_times_come_back_aware_and_in_utc(database: Database) -> None:
    with database.transaction() as session:
        session.add(worker_row("a"))

    with database.reading() as session:
        assert session.scalars(select(WorkerRow.seen_at)).one() == NOW


def test_the_clock_of_the_database_is_in_utc(database: Database) -> None:
    with database.reading() as session:
        offset = database_time(session).utcoffset()

    assert offset is not None
    assert offset.total_seconds() == 0


def test_writers_wait_for_each_other(database: Database) -> None:
    with database.transaction() as session:
        session.add(worker_row("a", torch="0"))

    def add_one() -> None:
        for _ in range(20):
            with database.transaction() as session:
                worker = session.get(WorkerRow, "a", with_for_update=True)
                assert worker is not None
                worker.torch = str(int(worker.torch) + 1)

    threads = [Thread(target=add_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with database.reading() as session:
        assert session.scalars(select(WorkerRow.torch)).one() == "80"


def test_foreign_keys_are_enforced(database: Database) -> None:
    insert = text(
        "INSERT INTO reports (audit_id, body, created_at) "
        "VALUES ('aud_none', '{}', '2026-01-01')"
    )

    def insert_orphan() -> None:
        with database.transaction() as session:
            session.execute(insert)

    with pytest.raises(IntegrityError, match=r"(?i)foreign key"):
        insert_orphan()


@pytest.mark.parametrize(
    "url", ["sqlite:////nowhere/at/all.sqlite3", "postgresql://127.0.0.1:1/none"]
)
def test_a_database_that_is_down_is_unavailable(url: str) -> None:
    database = Database(url)

    with pytest.raises(Unavailable):
        database.ping()


def test_a_damaged_database_is_unavailable(tmp_path: Path) -> None:
    file = tmp_path / "test.sqlite3"
    with migrated(f"sqlite:///{file}"):
        pass
    content = file.read_bytes()
    file.write_bytes(content[:100] + b"\xff" * (len(content) - 100))
    damaged = Database(f"sqlite:///{file}")

    with pytest.raises(Unavailable, match="damaged"), damaged.transaction() as session:
        session.add(worker_row("a"))
    with pytest.raises(Unavailable), damaged.reading() as session:
        session.scalars(select(WorkerRow)).all()
    with pytest.raises(Unavailable), damaged.glancing() as connection:
        connection.execute(select(WorkerRow.id))
    with pytest.raises(Unavailable):
        damaged.migrate()
    damaged.close()


def test_other_databases_are_refused() -> None:
    with pytest.raises(UnknownDatabaseError, match="mysql"):
        Database("mysql://localhost/audits")


def test_of_two_who_keep_or_delete_the_same_bytes_one_waits(database: Database) -> None:
    sha256 = "f" * 64
    order: list[str] = []

    def keep() -> None:
        with database.transaction() as session:
            lock_bytes(session, sha256)
            order.append("second")

    with database.transaction() as session:
        lock_bytes(session, sha256)
        other = Thread(target=keep)
        other.start()
        other.join(timeout=0.3)
        order.append("first")
    other.join()

    assert order == ["first", "second"]


class Busy:
    """A cursor of a database that another process is changing."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.done: list[str] = []

    def execute(self, statement: str) -> None:
        if self.refusals:
            self.refusals -= 1
            raise sqlite3.OperationalError
        self.done.append(statement)


def test_who_opens_a_new_database_waits_for_others_that_do() -> None:
    patient, hasty = Busy(3), Busy(3)

    _keep_a_log(patient, 20)  # type: ignore[arg-type]
    with pytest.raises(sqlite3.OperationalError):
        _keep_a_log(hasty, 0)  # type: ignore[arg-type]

    assert patient.done == ["PRAGMA journal_mode=WAL"]
    assert hasty.done == []
