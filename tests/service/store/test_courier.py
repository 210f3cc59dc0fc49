import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread
from typing import Any

import pytest
from sqlalchemy import select

from service import courier
from service.contract.errors import Unavailable, UnusableModel
from service.courier import JITTER, LEASE, RETRIES, Courier
from service.outward import AddressRefusedError, UndeliverableError
from service.store import ending, rounds, webhook_store, work
from service.store.database import Database
from service.store.tables import AuditRow, WebhookRow
from tests.service.store.rows import NOW, add_audit

KEY = b"a key of thirty-two bytes or so!"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
URL = "https://ci.example.com/hooks"


class Receiver:
    """Stands in for the network: answers in turn, the last one for ever."""

    def __init__(self, *answers: int | Exception) -> None:
        self.answers = list(answers)
        self.seen: list[tuple[str, Mapping[str, str], bytes]] = []

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        self.seen.append((url, headers, body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def new_audit(database: Database) -> str:
    with database.transaction() as session:
        audit_id = add_audit(session)
        session.add(
            WebhookRow(
                id=f"whk_{audit_id}",
                project="default",
                audit_id=audit_id,
                url=URL,
                secret=SECRET,
                status="waiting",
                tries=0,
                attempts=[],
                created_at=NOW,
            )
        )
    return audit_id


def cancelled(database: Database) -> str:
    audit_id = new_audit(database)
    with database.transaction() as session:
        ending.cancel(session, audit_id, now=NOW)
    return audit_id


def claimed(database: Database, audit_id: str) -> work.Claim:
    with database.transaction() as session:
        lease = timedelta(seconds=15)
        held = work.claim(session, audit_id, worker="one", lease=lease, now=NOW)
    assert held is not None
    return held


def row(database: Database) -> WebhookRow:
    with database.reading() as session:
        return session.scalars(select(WebhookRow)).one()


def deliver(database: Database, receiver: Receiver, *, now: datetime = NOW) -> int:
    return Courier(database, receiver).deliver_due(now=now)


def test_an_unfinished_audit_is_not_announced(database: Database) -> None:
    audit_id = new_audit(database)
    claimed(database, audit_id)
    receiver = Receiver(200)

    assert deliver(database, receiver) == 0
    assert row(database).status == "waiting"


@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled"])
def test_every_end_is_announced_once_in_its_transaction(
    database: Database, end: str
) -> None:
    audit_id = new_audit(database)
    held = claimed(database, audit_id)
    with database.transaction() as session:
        if end == "succeeded":
            rounds.record_report(session, held, "{}", remedy_sha256=None, now=NOW)
        elif end == "failed":
            ending.fail(session, held, UnusableModel("It has two inputs."), now=NOW)
        else:
            ending.cancel(session, audit_id, now=NOW)
    assert (row(database).status, row(database).next_attempt_at) == ("pending", NOW)
    receiver = Receiver(200)

    assert deliver(database, receiver) == 1
    with database.transaction() as session:
        ending.cancel(session, audit_id, now=NOW)
    assert deliver(database, receiver) == 0

    [(url, _, body)] = receiver.seen
    message = json.loads(body)
    assert url == URL
    assert message["type"] == f"audit.{end}"
    assert message["timestamp"] == "2026-11-24T12:00:00Z"
    assert message["data"]["audit_id"] == audit_id
    assert message["data"]["status"] == end
    assert ("report" in message["data"]["links"]) == (end == "succeeded")
    assert (message["data"]["error"] is not None) == (end == "failed")
    assert len(body) < 2000


def test_a_rolled_back_end_is_not_announced(database: Database) -> None:
    audit_id = new_audit(database)

    def break_off() -> None:
        with database.transaction() as session:
            ending.cancel(session, audit_id, now=NOW)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()

    assert row(database).status == "waiting"


def test_the_signature_is_what_a_receiver_computes(database: Database) -> None:
    audit_id = cancelled(database)
    receiver = Receiver(204)

    deliver(database, receiver)

    [(_, headers, body)] = receiver.seen
    signed = f"whk_{audit_id}.{int(NOW.timestamp())}.".encode() + body
    digest = hmac.new(KEY, signed, hashlib.sha256).digest()
    assert headers["webhook-id"] == f"whk_{audit_id}"
    assert headers["webhook-timestamp"] == str(int(NOW.timestamp()))
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
    assert headers["content-type"] == "application/json"


def test_what_arrived_is_noted_and_not_sent_again(database: Database) -> None:
    cancelled(database)

    deliver(database, Receiver(204))

    found = row(database)
    assert (found.status, found.next_attempt_at) == ("delivered", None)
    [attempt] = found.attempts
    assert attempt["at"] == "2026-11-24T12:00:00Z"
    assert (attempt["status_code"], attempt["error"]) == (204, None)
    assert 0 <= attempt["seconds"] < 5


@pytest.mark.parametrize(
    ("answer", "code", "complaint"),
    [
        (500, 500, "answered 500"),
        (404, 404, "answered 404"),
        (302, 302, "answered 302; redirects are not followed"),
        (UndeliverableError("no answer: refused"), None, "no answer: refused"),
    ],
)
def test_what_did_not_arrive_is_tried_again_later(
    database: Database, answer: int | Exception, code: int | None, complaint: str
) -> None:
    cancelled(database)
    receiver = Receiver(answer, 200)

    deliver(database, receiver)

    found = row(database)
    assert found.status == "pending"
    assert found.attempts[0]["status_code"] == code
    assert found.attempts[0]["error"] == complaint
    retry_at = found.next_attempt_at
    assert retry_at is not None
    assert RETRIES[0] <= retry_at - NOW < RETRIES[0] * (1 + JITTER) + LEASE
    assert deliver(database, receiver, now=retry_at - timedelta(seconds=1)) == 0
    assert deliver(database, receiver, now=retry_at) == 1
    assert row(database).status == "delivered"
    assert len({headers["webhook-id"] for _, headers, _ in receiver.seen}) == 1
    assert len({body for _, _, body in receiver.seen}) == 1


def test_it_is_given_up_after_the_last_retry_and_starts_anew_on_demand(
    database: Database,
) -> None:
    cancelled(database)
    receiver = Receiver(503)
    moment, waits = NOW, []
    while row(database).status == "pending":
        assert deliver(database, receiver, now=moment) == 1
        retry_at = row(database).next_attempt_at
        if retry_at is not None:
            waits.append(retry_at - moment)
            moment = retry_at

    assert row(database).status == "failed"
    assert len(receiver.seen) == len(RETRIES) + 1
    assert waits == sorted(waits)
    assert deliver(database, receiver, now=moment + timedelta(days=9)) == 0

    with database.transaction() as session:
        again = session.scalars(select(WebhookRow)).one()
        webhook_store.announce_again(again, now=moment)
    assert deliver(database, receiver, now=moment) == 1
    assert row(database).status == "pending"


@pytest.mark.parametrize("answer", [AddressRefusedError(), 410])
def test_what_cannot_get_better_is_given_up_at_once(
    database: Database, answer: int | Exception
) -> None:
    cancelled(database)

    deliver(database, Receiver(answer))

    assert row(database).status == "failed"


def test_a_delivery_cut_off_is_made_again_after_a_while(database: Database) -> None:
    cancelled(database)
    with database.transaction() as session:  # took it, and died
        webhook_store.take(session, NOW, lease=LEASE, limit=10, per_host=10)
    receiver = Receiver(200)

    assert deliver(database, receiver, now=NOW + LEASE - timedelta(seconds=1)) == 0
    assert deliver(database, receiver, now=NOW + LEASE) == 1

    assert row(database).status == "delivered"


def test_what_comes_of_a_late_delivery_does_not_undo_a_newer_one(
    database: Database,
) -> None:
    cancelled(database)
    with database.transaction() as session:
        [late] = webhook_store.take(session, NOW, lease=LEASE, limit=10, per_host=10)
    deliver(database, Receiver(200), now=NOW + LEASE)

    with database.transaction() as session:
        webhook_store.record(
            session, late, {"late": True}, status="pending", next_attempt_at=NOW
        )

    found = row(database)
    assert (found.status, len(found.attempts)) == ("delivered", 2)


def test_asking_again_in_the_middle_of_a_delivery_changes_nothing(
    database: Database,
) -> None:
    cancelled(database)
    with database.transaction() as session:
        [taken] = webhook_store.take(session, NOW, lease=LEASE, limit=10, per_host=10)
        webhook_store.announce_again(taken, now=NOW + timedelta(seconds=1))

    assert deliver(database, Receiver(200), now=NOW + timedelta(seconds=2)) == 0


def test_several_instances_deliver_once(database: Database) -> None:
    for _ in range(5):
        cancelled(database)
    receiver = Receiver(200)
    start = Barrier(4)

    def instance() -> None:
        start.wait()
        deliver(database, receiver)

    threads = [Thread(target=instance) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    ids = [headers["webhook-id"] for _, headers, _ in receiver.seen]
    assert len(ids) == len(set(ids)) == 5


def test_one_receiver_that_fails_keeps_nothing_from_the_others(
    database: Database,
) -> None:
    for _ in range(3):
        cancelled(database)

    deliver(database, Receiver(UndeliverableError("no answer"), 200))

    with database.reading() as session:
        states = [found.status for found in session.scalars(select(WebhookRow))]
    assert sorted(states) == ["delivered", "delivered", "pending"]


class SlowReceiver(Receiver):
    """Does not answer one host until another's message has come."""

    def __init__(self, slow: str) -> None:
        super().__init__(200)
        self.slow = slow
        self.most_waiting = 0
        self._waiting = 0
        self._another = asyncio.Event()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        if url == self.slow:
            self._waiting += 1
            self.most_waiting = max(self.most_waiting, self._waiting)
            await asyncio.wait_for(self._another.wait(), timeout=10)
            self._waiting -= 1
        else:
            self._another.set()
        return await super().post(url, headers, body)


def redirected(database: Database, audit_id: str, url: str) -> None:
    with database.transaction() as session:
        session.get_one(WebhookRow, f"whk_{audit_id}").url = url


def test_a_slow_receiver_holds_up_nobody_else(database: Database) -> None:
    slow = "https://slow.example.com/hooks"
    for _ in range(courier.MOST_UNDER_WAY + 5):
        redirected(database, cancelled(database), slow)
    cancelled(database)  # the last that is due
    receiver = SlowReceiver(slow)

    tried = deliver(database, receiver)

    assert tried == courier.MOST_UNDER_WAY + 6
    assert receiver.seen[0][0] == URL
    assert receiver.most_waiting == courier.MOST_OF_A_HOST


class LateReceiver(Receiver):
    """While it waits for the first answer, another audit ends."""

    def __init__(self, database: Database) -> None:
        super().__init__(200)
        self._database = database
        self._second = asyncio.Event()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        if not self.seen:
            self.seen.append((url, headers, body))
            await asyncio.to_thread(cancelled, self._database)
            await asyncio.wait_for(self._second.wait(), timeout=10)
            return 200
        self._second.set()
        return await super().post(url, headers, body)


def test_what_becomes_due_meanwhile_does_not_wait_for_the_slow(
    database: Database,
) -> None:
    cancelled(database)

    assert deliver(database, LateReceiver(database)) == 2


def test_a_database_that_fails_meanwhile_cuts_no_delivery_off(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled(database)
    due, calls = webhook_store.has_due, []

    def down_later(*given: Any) -> bool:
        calls.append(given)
        if len(calls) > 1:
            raise Unavailable(detail="The database does not answer.")
        return due(*given)

    monkeypatch.setattr(courier.webhook_store, "has_due", down_later)

    assert deliver(database, Receiver(200)) == 1
    assert len(calls) > 1
    assert row(database).status == "delivered"


def test_a_delivery_that_cannot_be_noted_is_made_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled(database)

    def down(*_: object, **__: object) -> None:
        raise Unavailable(detail="The database does not answer.")

    with monkeypatch.context() as patch:
        patch.setattr(courier.webhook_store, "record", down)
        assert deliver(database, Receiver(200)) == 1

    receiver = Receiver(200)
    assert deliver(database, receiver, now=NOW + LEASE) == 1
    assert row(database).status == "delivered"


def test_an_audit_deleted_during_its_delivery_does_no_harm(database: Database) -> None:
    audit_id = cancelled(database)
    with database.transaction() as session:
        [taken] = webhook_store.take(session, NOW, lease=LEASE, limit=10, per_host=10)
    with database.transaction() as session:
        session.delete(session.get_one(WebhookRow, taken.id))
        session.flush()
        assert session.get_one(AuditRow, audit_id).status == "cancelled"

    with database.transaction() as session:
        webhook_store.record(
            session, taken, {}, status="delivered", next_attempt_at=None
        )


def test_only_so_many_attempts_are_kept(database: Database) -> None:
    cancelled(database)
    with database.transaction() as session:
        [taken] = webhook_store.take(session, NOW, lease=LEASE, limit=10, per_host=10)
    for number in range(webhook_store.KEPT_ATTEMPTS + 1):
        with database.transaction() as session:
            webhook_store.record(
                session,
                taken,
                {"number": number},
                status="pending",
                next_attempt_at=datetime(2027, 1, 1, tzinfo=UTC),
            )

    attempts = row(database).attempts
    assert len(attempts) == webhook_store.KEPT_ATTEMPTS
    assert attempts[-1] == {"number": webhook_store.KEPT_ATTEMPTS}
