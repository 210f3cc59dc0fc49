"""How the service is: what it depends on, who works for it, and how much is waiting."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Literal

from pydantic import BaseModel, ConfigDict

from service.broker_state import broker_answers
from service.contract.errors import Unavailable
from service.settings import Settings
from service.store import audit_store, workers
from service.store.blobs import BlobStore
from service.store.database import Database

PROBE_SECONDS = 5.0
State = Literal["ok", "down", "not_set"]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True)


class WorkerBody(_Body):
    """A worker that is alive."""

    id: str
    device: str
    sandbox: str
    engine: str
    torch: str


class Readiness(_Body):
    """Whether audits are accepted, and whether they get done."""

    status: Literal["ready", "degraded", "down"]
    database: State
    blobs: State
    broker: State
    sandbox: str | None
    workers: list[WorkerBody]


class Versions(_Body):
    """What runs here; engine and torch as the living workers say."""

    service: str
    engine: list[str]
    torch: list[str]


class Load(_Body):
    """How much there is to do."""

    audits: dict[str, int]
    unsent_invitations: int
    ready_pieces: int
    workers: dict[str, int]


class Health:
    """Looks at what the service depends on."""

    def __init__(
        self, database: Database, blobs: BlobStore, settings: Settings
    ) -> None:
        self._database = database
        self._settings = settings
        self._alive = timedelta(seconds=settings.worker_alive_seconds)
        self._writes = _Probe(database.probe)
        self._keeps = _Probe(blobs.ping)

    def readiness(self) -> Readiness:
        """Database and blobs decide; without broker or worker it is degraded.

        Both are written to, every few seconds at most.
        """
        answers = _state(self._database.ping) == "ok"
        database = self._writes.state() if answers else "down"
        blobs = self._keeps.state()
        broker = self._broker()
        alive = self._workers() if answers else []
        if "down" in (database, blobs):
            status: Literal["ready", "degraded", "down"] = "down"
        elif broker == "down" or not alive:
            status = "degraded"
        else:
            status = "ready"
        return Readiness(
            status=status,
            database=database,
            blobs=blobs,
            broker=broker,
            sandbox=_weakest([worker.sandbox for worker in alive]),
            workers=alive,
        )

    def versions(self) -> Versions:
        """Name what runs here."""
        alive = self._workers()
        return Versions(
            service=version("model-audit"),
            engine=sorted({worker.engine for worker in alive}),
            torch=sorted({worker.torch for worker in alive}),
        )

    def load(self) -> Load:
        """Count what there is to do.

        Raises:
            Unavailable: the database does not answer.
        """
        with self._database.reading() as session:
            audits = audit_store.count_by_status(session)
            unsent, ready = audit_store.count_waiting(session)
        devices = [worker.device for worker in self._workers()]
        return Load(
            audits=audits,
            unsent_invitations=unsent,
            ready_pieces=ready,
            workers={device: devices.count(device) for device in sorted(set(devices))},
        )

    def _workers(self) -> list[WorkerBody]:
        with self._database.reading() as session:
            rows = workers.alive(session, datetime.now(UTC), within=self._alive)
            return [
                WorkerBody(
                    id=row.id,
                    device=row.device,
                    sandbox=row.sandbox,
                    engine=row.engine,
                    torch=row.torch,
                )
                for row in rows
            ]

    def _broker(self) -> State:
        if self._settings.redis_url is None:
            return "not_set"
        answers = broker_answers(
            self._settings.redis_url,
            timeout_seconds=min(2.0, self._settings.broker_timeout_seconds),
        )
        return "ok" if answers else "down"


class _Probe:
    """A look that is dear, hence taken every few seconds at most."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._state: State = "down"
        self._until = 0.0

    def state(self) -> State:
        """Say how it is, or was a moment ago."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._state = _state(self._look)
                self._until = time.monotonic() + PROBE_SECONDS
            return self._state


def _state(ping: Callable[[], None]) -> State:
    try:
        ping()
    except Unavailable:
        return "down"
    return "ok"


def _weakest(levels: list[str]) -> str | None:
    for level in ("none", "reduced", "strong"):
        if level in levels:
            return level
    return None
