"""Delivers what callbacks are owed, until told to stop; safe in several instances.

At least once: what was sent by one that died before noting so is sent again by another,
under the same `webhook-id`.
"""

import asyncio
import logging
import random
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Protocol

from sqlalchemy.orm import Session

from service.audits import audit_links
from service.contract.errors import Unavailable
from service.contract.jobs import Attempt, WebhookEvent
from service.outward import AddressRefusedError, UndeliverableError
from service.signature import signed_headers
from service.store import webhook_store
from service.store.database import Database, database_time
from service.store.tables import AuditRow, WebhookRow

LOG = logging.getLogger(__name__)
MOST_UNDER_WAY = 50
MOST_OF_A_HOST = 5  # so that ten dead ones are needed to hold up the rest
SPARE_THREADS = 8
IDLE_SECONDS = 1.0
LEASE = timedelta(seconds=30)  # longer than a try takes
# After the first try, after the second and so on; then it is given up.
RETRIES = (
    timedelta(seconds=5),
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
)
JITTER = 0.2  # longer by up to this share, so that many do not come back at once


class Post(Protocol):
    """Sends one message, as `Outward` does."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """Post once; returns the status of the answer."""
        ...


@dataclass(frozen=True)
class Delivery:
    """A message to be sent, and the row that asks for it."""

    row: WebhookRow
    body: bytes
    taken_at: datetime


class Courier:
    """Takes what is due, sends it and notes what came of it."""

    def __init__(self, database: Database, outward: Post) -> None:
        self._database = database
        self._outward = outward

    def run(self, stop: threading.Event) -> None:
        """Deliver what is due until told to stop."""
        while not stop.is_set():
            try:
                self.deliver_due(stop)
            except Unavailable as error:
                LOG.warning("callbacks wait: %s", error.detail)
            stop.wait(IDLE_SECONDS)

    def deliver_due(
        self, stop: threading.Event | None = None, *, now: datetime | None = None
    ) -> int:
        """Try what is due until nothing is; returns how many tries that were.

        What becomes due meanwhile is tried as well, so that a receiver that does not
        answer holds up nobody else's.

        Args:
            stop: once it is set nothing more is begun.
            now: taken for the time of the database.

        Raises:
            Unavailable: the database does not answer.
        """
        due = self._take(MOST_UNDER_WAY, now)
        if not due:
            return 0
        return asyncio.run(self._work_off(due, stop or threading.Event(), now))

    async def _work_off(
        self, due: list[Delivery], stop: threading.Event, now: datetime | None
    ) -> int:
        # A thread for each name that is slow to resolve, and some for the database.
        pool = ThreadPoolExecutor(MOST_UNDER_WAY + SPARE_THREADS)
        asyncio.get_running_loop().set_default_executor(pool)
        tries = 0
        under_way: set[asyncio.Task[None]] = set()
        async with asyncio.TaskGroup() as group:
            while due or under_way:
                tries += len(due)
                under_way |= {group.create_task(self._deliver(one)) for one in due}
                _, under_way = await asyncio.wait(
                    under_way,
                    timeout=IDLE_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                room = 0 if stop.is_set() else MOST_UNDER_WAY - len(under_way)
                due = await asyncio.to_thread(self._more, room, now) if room else []
        return tries

    def _more(self, limit: int, now: datetime | None) -> list[Delivery]:
        try:
            return self._take(limit, now)
        except Unavailable as error:  # what is under way goes on
            LOG.warning("callbacks wait: %s", error.detail)
            return []

    def _take(self, limit: int, now: datetime | None) -> list[Delivery]:
        with self._database.reading() as session:
            moment = now or database_time(session)
            if not webhook_store.has_due(session, moment):
                return []
        with self._database.transaction() as session:
            taken = webhook_store.take(
                session, moment, lease=LEASE, limit=limit, per_host=MOST_OF_A_HOST
            )
            return [Delivery(row, _message(session, row), moment) for row in taken]

    async def _deliver(self, delivery: Delivery) -> None:
        row, now = delivery.row, delivery.taken_at
        headers = {
            "content-type": "application/json",
            "user-agent": "model-audit",
            **signed_headers(row.secret, row.id, now, delivery.body),
        }
        began = time.monotonic()
        code: int | None = None
        is_final = False
        try:
            code = await self._outward.post(row.url, headers, delivery.body)
        except UndeliverableError as error:
            complaint: str | None = str(error)
            is_final = isinstance(error, AddressRefusedError)
        else:
            complaint = _complaint(code)
            is_final = complaint is None or code == HTTPStatus.GONE
        seconds = round(time.monotonic() - began, 3)
        attempt = Attempt(at=now, status_code=code, error=complaint, seconds=seconds)
        try:
            await asyncio.to_thread(self._note, row, attempt, is_final=is_final)
        except Unavailable as error:  # it is tried again once the lease has ended
            LOG.warning("what came of %s is lost: %s", row.id, error.detail)

    def _note(self, row: WebhookRow, attempt: Attempt, *, is_final: bool) -> None:
        retry_at = None if is_final else _retry_at(row.tries, attempt)
        if attempt.error is None:
            status = "delivered"
        else:
            status = "failed" if retry_at is None else "pending"
        with self._database.transaction() as session:
            webhook_store.record(
                session,
                row,
                attempt.model_dump(mode="json"),
                status=status,
                next_attempt_at=retry_at,
            )
        LOG.info("%s: %s", row.id, attempt.error or "delivered")


def _message(session: Session, row: WebhookRow) -> bytes:
    """Write the message; an audit that has ended does not change any more."""
    audit = session.get_one(AuditRow, row.audit_id)
    event = WebhookEvent.model_validate(
        {
            "type": f"audit.{audit.status}",
            "timestamp": audit.finished_at,
            "data": {
                "audit_id": audit.id,
                "status": audit.status,
                "model_id": audit.model_id,
                "dataset_id": audit.dataset_id,
                "schedule_id": audit.schedule_id,
                "tags": audit.tags,
                "error": audit.error,
                "links": audit_links(audit),
            },
        }
    )
    return event.model_dump_json().encode()


def _complaint(code: int) -> str | None:
    if HTTPStatus.OK <= code < HTTPStatus.MULTIPLE_CHOICES:
        return None
    if HTTPStatus.MULTIPLE_CHOICES <= code < HTTPStatus.BAD_REQUEST:
        return f"answered {code}; redirects are not followed"
    return f"answered {code}"


def _retry_at(tries: int, attempt: Attempt) -> datetime | None:
    """Say when to try again after so many earlier tries; None: no more."""
    if tries >= len(RETRIES):
        return None
    longer = 1 + JITTER * random.random()  # noqa: S311 - not for secrets
    return attempt.at + timedelta(seconds=attempt.seconds) + RETRIES[tries] * longer
