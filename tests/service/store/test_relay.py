import os
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from redis import Redis
from sqlalchemy import select

from service.broker import PrivateBroker
from service.dispatch import (
    BrokerDown,
    Publisher,
    Relay,
    broker_address,
    client_address,
    ping_broker,
)
from service.store import outbox, workers
from service.store.database import Database, database_time
from service.store.tables import OutboxRow
from service.store.work import claim
from service.upkeep import Upkeep, reap, resend
from tests.service.store.rows import add_audit, worker_row


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[PrivateBroker]:
    broker = PrivateBroker(tmp_path)
    broker.start()
    yield broker
    broker.stop()


def waiting(broker: PrivateBroker, queue: str = "cpu") -> int:
    client = Redis.from_url(broker.url)
    try:
        return int(client.llen(queue))
    finally:
        client.close()


def invite(database: Database, subject_id: str = "aud_a", *, count: int = 1) -> None:
    with database.transaction() as session:
        outbox.invite(
            session, subject_id, queue="gpu", now=database_time(session), count=count
        )


def unsent(database: Database) -> int:
    with database.reading() as session:
        rows = session.scalars(select(OutboxRow).where(OutboxRow.sent_at.is_(None)))
        return len(rows.all())


def relay_to(database: Database, url: str) -> Relay:
    publisher = Publisher(url, timeout_seconds=1.0)
    return Relay(database, publisher, interval_seconds=1.0)


def test_what_is_due_reaches_the_broker_once(
    database: Database, broker: PrivateBroker
) -> None:
    invite(database, count=3)
    relay = relay_to(database, broker.url)

    assert relay.send_due() == 3
    assert relay.send_due() == 0

    assert waiting(broker) == 3
    assert unsent(database) == 0


def test_invitations_wait_while_the_broker_is_down(
    database: Database, broker: PrivateBroker
) -> None:
    relay = relay_to(database, broker.url)
    broker.stop()
    invite(database, count=2)

    with pytest.raises(BrokerDown):
        relay.send_due()
    assert unsent(database) == 2

    broker.start()
    assert relay.send_due() == 2


def test_a_gpu_is_asked_for_only_where_one_is_alive(
    database: Database, broker: PrivateBroker
) -> None:
    relay = relay_to(database, broker.url)
    with database.transaction() as session:
        now = database_time(session)
        gpu = worker_row("g", device="cuda:0", seen_at=now)
        workers.register(session, gpu)
    invite(database)
    relay.send_due()

    assert (waiting(broker, "gpu"), waiting(broker, "cpu")) == (1, 0)


def test_what_is_committed_here_is_sent_at_once(
    database: Database, broker: PrivateBroker
) -> None:
    stop = threading.Event()
    relay = Relay(
        database,
        Publisher(broker.url, timeout_seconds=1.0),
        interval_seconds=60.0,
    )
    thread = threading.Thread(target=relay.run, args=(stop,))
    thread.start()
    time.sleep(0.3)
    begin = time.monotonic()

    invite(database)
    while not waiting(broker) and time.monotonic() - begin < 10:
        time.sleep(0.02)
    stop.set()
    relay.wake()
    thread.join()

    assert waiting(broker) == 1
    assert time.monotonic() - begin < 5


def test_a_silent_broker_holds_nobody_up_for_long(broker: PrivateBroker) -> None:
    assert broker.pid is not None
    process = psutil.Process(broker.pid)
    publisher = Publisher(broker.url, timeout_seconds=1.0)
    process.suspend()
    begin = time.monotonic()
    try:
        with pytest.raises(BrokerDown):
            publisher.publish("model_audit.work", "cpu", "aud_a")
        with pytest.raises(BrokerDown):
            ping_broker(broker.url, timeout_seconds=0.5)
    finally:
        process.resume()

    assert time.monotonic() - begin < 5
    publisher.publish("model_audit.work", "cpu", "aud_a")
    publisher.close()


def test_work_whose_invitation_was_lost_is_offered_again_to_the_idle(
    database: Database,
) -> None:
    with database.transaction() as session:
        add_audit(session)
        long_ago = database_time(session) - timedelta(minutes=5)
        for row in session.scalars(select(OutboxRow)):
            row.sent_at = long_ago
    assert resend(database) == 0  # nobody is there to take it

    with database.transaction() as session:
        now = database_time(session)
        workers.register(session, worker_row("idle", seen_at=now))

    assert resend(database) == 2  # the audit, and the inspection of its model
    assert resend(database) == 0


def test_upkeep_takes_lost_leases_back(database: Database, tmp_path: Path) -> None:
    with database.transaction() as session:
        audit_id = add_audit(session)
        past = database_time(session) - timedelta(minutes=1)
        lease = timedelta(seconds=10)
        assert claim(session, audit_id, worker="gone", lease=lease, now=past)
    before = unsent(database)

    Upkeep(database, incoming=tmp_path, interval_seconds=1).once()

    assert unsent(database) == before + 1
    assert reap(database) == 0


def test_upkeep_removes_files_that_nobody_writes_any_more(
    database: Database, tmp_path: Path
) -> None:
    abandoned = tmp_path / "abandoned.part"
    abandoned.touch()
    os.utime(abandoned, times=(time.time() - 120,) * 2)

    Upkeep(database, incoming=tmp_path, interval_seconds=1).once()

    assert not abandoned.exists()


def test_addresses_are_written_as_each_library_wants_them() -> None:
    assert broker_address("unix:///a/b.sock") == "redis+socket:///a/b.sock"
    assert client_address("redis+socket:///a/b.sock") == "unix:///a/b.sock"
    assert broker_address("rediss://h:1/0") == client_address("rediss://h:1/0")
