"""Publishes invitations to the broker: the relay, the only one who ever does.

The broker may be down, silent or emptied at any time. Whatever is not published stays
in the outbox, and whatever the broker loses is found by `upkeep.py` and sent again.

Celery is imported with the first message: a quarter of a second and 16 MiB that the
start of the service need not wait for.
"""

import logging
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from service.contract.errors import Unavailable
from service.store import outbox, workers
from service.store.database import Database, database_time
from service.store.outbox import Invitation

if TYPE_CHECKING:
    from celery import Celery
    from kombu.connection import Connection

LOG = logging.getLogger(__name__)
BATCH = 100
IDLE_SECONDS = 1.0
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 15.0


def broker_address(url: str) -> str:
    """Write a broker's URL as Celery wants it: `unix:///path` is `redis+socket://`."""
    if url.startswith("unix://"):
        return url.replace("unix://", "redis+socket://", 1)
    return url


def client_address(url: str) -> str:
    """Write a broker's URL as the Redis client wants it."""
    if url.startswith("redis+socket://"):
        return url.replace("redis+socket://", "unix://", 1)
    return url


def ping_broker(url: str, *, timeout_seconds: float) -> None:
    """Ask the broker for a sign of life.

    Raises:
        Unavailable: it does not answer in time.
    """
    from redis import Redis  # noqa: PLC0415 - see above
    from redis.exceptions import RedisError  # noqa: PLC0415

    client = Redis.from_url(
        client_address(url),
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
    )
    try:
        client.ping()
    except (RedisError, OSError) as error:
        raise BrokerDown from error
    finally:
        client.close()


class BrokerDown(Unavailable):
    """The broker does not answer; what was asked for is kept and sent later."""

    def __init__(self) -> None:
        super().__init__("The broker does not answer.")


class Publisher:
    """Hands messages to the broker, or says within seconds that it cannot."""

    def __init__(self, url: str, *, timeout_seconds: float) -> None:
        self._url = url
        self._timeout = timeout_seconds
        # Not from Celery's pools: those cannot be used again once they were closed.
        self._connection: Connection | None = None
        self._celery: Celery | None = None

    def publish(self, task: str, queue: str, subject_id: str) -> None:
        """Send one invitation.

        Raises:
            BrokerDown: the broker does not answer.
        """
        if self._celery is None:
            self._celery = self._sender()
        try:
            if self._connection is None:
                self._connection = self._celery.connection_for_write()
            self._celery.send_task(
                task,
                args=[subject_id],
                queue=queue,
                producer=self._celery.amqp.Producer(
                    self._connection, auto_declare=False
                ),
                ignore_result=True,
                retry=False,
            )
        except _broker_errors() as error:
            self.close()  # a connection that failed once is not used again
            raise BrokerDown from error

    def close(self) -> None:
        """Close the connection; the next message opens another."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            connection.release()  # type: ignore[no-untyped-call]
        except _broker_errors():
            LOG.debug("the broker was gone already")

    def _sender(self) -> "Celery":
        from celery import Celery  # noqa: PLC0415 - see above

        sender = Celery(
            "model_audit", broker=broker_address(self._url), set_as_current=False
        )
        sender.conf.update(
            task_serializer="json",
            accept_content=["json"],
            task_ignore_result=True,
            broker_transport_options={
                # Without these, publishing to a silent broker hangs.
                "socket_timeout": self._timeout,
                "socket_connect_timeout": self._timeout,
                "max_retries": 0,
                "interval_start": 0,
                "interval_step": 0,
                "interval_max": 0,
            },
        )
        return sender


def _broker_errors() -> tuple[type[Exception], ...]:
    """What the libraries raise where the broker does not answer."""
    from celery.exceptions import CeleryError  # noqa: PLC0415 - see above
    from kombu.exceptions import OperationalError  # noqa: PLC0415
    from redis.exceptions import RedisError  # noqa: PLC0415

    return (OperationalError, RedisError, CeleryError, OSError)


class Relay:
    """Moves invitations from the outbox to the broker, until told to stop."""

    def __init__(
        self, database: Database, publisher: Publisher, *, interval_seconds: float
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._interval = interval_seconds
        self._pause = 0.0

    def wake(self) -> None:
        """End the wait between two looks."""
        outbox.COMMITTED.set()

    def run(self, stop: threading.Event) -> None:
        """Send what is due, look again, and rest longer while the broker is down."""
        while not stop.is_set():
            try:
                self.send_due()
            except Unavailable as error:
                LOG.warning("invitations wait: %s", error.detail)
                self._rest(stop)
            # What this process commits wakes it; the rest can wait for a second.
            outbox.COMMITTED.wait(max(self._interval, IDLE_SECONDS))
            outbox.COMMITTED.clear()

    def send_due(self) -> int:
        """Send what is due once; returns how many were sent.

        Raises:
            Unavailable: the database or the broker does not answer.
        """
        with self._database.reading() as session:
            now = database_time(session)
            if not outbox.has_due(session, now):
                return 0
            devices = [worker.device for worker in workers.alive(session, now)]
        with self._database.transaction() as session:
            taken = outbox.take(session, now, limit=BATCH)
        sent = self._send(taken, has_gpu=any(d.startswith("cuda") for d in devices))
        self._pause = 0.0
        return sent

    def _send(self, taken: Sequence[Invitation], *, has_gpu: bool) -> int:
        sent: list[int] = []
        down: BrokerDown | None = None
        for invitation in taken:
            queue = invitation.queue if has_gpu else "cpu"
            try:
                self._publisher.publish(invitation.task, queue, invitation.subject_id)
            except BrokerDown as error:
                down = error
                break
            sent.append(invitation.id)
        untried = [i.id for i in taken if i.id not in set(sent)]
        with self._database.transaction() as session:
            now: datetime = database_time(session)
            outbox.mark_sent(session, sent, now)
            outbox.retry_now(session, untried, now)
        if down is not None:
            raise down
        return len(sent)

    def _rest(self, stop: threading.Event) -> None:
        self._pause = min(
            max(FIRST_PAUSE_SECONDS, 2 * self._pause), LONGEST_PAUSE_SECONDS
        )
        until = time.monotonic() + self._pause
        while not stop.is_set() and (left := until - time.monotonic()) > 0:
            stop.wait(min(left, 0.5))
