"""A worker's pulse: keeps its row and its lease alive, sees what has been lost."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from service.contract.errors import Unavailable
from service.store import work, workers
from service.store.database import Database, database_time
from service.store.tables import WorkerRow
from service.store.work import Claim

LOG = logging.getLogger(__name__)
LOOK_SECONDS = 0.5  # how soon a cancelled audit is noticed
SEEN_SECONDS = 5.0
SAID_SECONDS = 60.0  # between two lines of the log that say the same
BEATS_A_LEASE = 5


class Pulse:
    """A thread beside the work."""

    def __init__(
        self,
        database: Database,
        row: Callable[[], WorkerRow],
        *,
        lease: timedelta,
        idle: Callable[[], None],
    ) -> None:
        """Prepare.

        Args:
            database: where the rows are.
            row: describes the worker as of now.
            lease: how long a lease lasts from its last heartbeat.
            idle: called now and then while there is nothing to do.
        """
        self._database = database
        self._row = row
        self._lease = lease
        self._idle = idle
        self._held: Claim | None = None
        self._changed = threading.Event()
        self._end = threading.Event()
        self._lost = False
        self._seen_at = 0.0
        self._beat_at = 0.0
        self._said_at = -math.inf
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Beat no more, and take the worker's row away."""
        self._end.set()
        self._changed.set()
        self._thread.join(timeout=10.0)
        try:
            with self._database.transaction() as session:
                workers.leave(session, self._row().id)
        except Unavailable as error:
            LOG.info("this worker's row stays: %s", error.detail)

    @property
    def is_lost(self) -> bool:
        """Whether the lease in hand was lost: another has it, or it was cancelled."""
        return self._lost

    @contextmanager
    def keeping(self, held: Claim) -> Iterator[None]:
        """Keep the lease of a piece while it is worked on."""
        self._lost = False
        self._beat_at = time.monotonic()
        self._held = held
        self._changed.set()
        try:
            yield
        finally:
            self._held = None

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                self._beat()
            except Unavailable as error:
                self._say_none(error.detail)
            idle = self._held is None
            self._changed.wait(SEEN_SECONDS if idle else LOOK_SECONDS)
            self._changed.clear()

    def _say_none(self, why: str) -> None:
        """Log that there is no pulse, once a minute while that lasts."""
        now = time.monotonic()
        if now - self._said_at >= SAID_SECONDS:
            self._said_at = now
            LOG.warning("no pulse: %s", why)

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self._seen_at >= SEEN_SECONDS - LOOK_SECONDS:
            self._be_seen()
            self._seen_at = now
        held = self._held
        if held is None:
            self._idle()
            return
        if now - self._beat_at >= self._lease.total_seconds() / BEATS_A_LEASE:
            with self._database.transaction() as session:
                kept = work.heartbeat(
                    session, held, lease=self._lease, now=database_time(session)
                )
            self._beat_at = now
        else:
            with self._database.reading() as session:
                kept = work.is_held(session, held)
        if not kept and self._held is held:
            self._lost = True

    def _be_seen(self) -> None:
        with self._database.transaction() as session:
            now = database_time(session)
            row = self._row()
            if not workers.seen(session, row.id, now):
                row.started_at = row.seen_at = now
                workers.register(session, row)
