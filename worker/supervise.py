"""Starts a worker: finds its device and its level of confinement, then listens.

Exit codes: 0 after an orderly stop, 2 where something it needs is not set, 3 where
uploads cannot be confined here, 4 where it could not be told whether they can: then it
is worth another start.
"""

import contextlib
import importlib.metadata
import logging
import os
import secrets
import select
import socket
import subprocess
import sys
import threading
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from celery.exceptions import SecurityWarning
from celery.signals import worker_shutting_down

from service.contract.errors import Unavailable
from service.leash import is_cut
from service.settings import Settings
from service.store.database import Database
from service.store.tables import WorkerRow
from worker.app import make_app
from worker.companion import Place
from worker.engine.version import ENGINE
from worker.inmate import usable_cores
from worker.level import CUT_SHORT, open_ways, was_cut_short
from worker.sandbox import probe_level
from worker.settings import WorkerSettings
from worker.tasks import Post, add_tasks

LOG = logging.getLogger(__name__)
NOT_SET = 2
NOT_CONFINED = 3
NOT_KNOWN = 4
BROKER_SOCKET = Path("queue") / "broker.sock"
LOOK_SECONDS = 30.0
STOP_SECONDS = 15.0
LEASH_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 15.0


def run_worker(settings: Settings, worker_settings: WorkerSettings) -> int:
    """Work until told to stop; returns the exit code."""
    redis_url = settings.redis_url or _broker_beside(settings)
    if redis_url is None:
        _say(
            "no broker: set MODEL_AUDIT_REDIS_URL, or start `model-audit serve` with "
            f"the data folder {settings.data_dir} first"
        )
        return NOT_SET
    level, results = probe_level()
    if level != "strong" and not worker_settings.allow_weak_sandbox:
        if was_cut_short(results):
            _say(f"whether uploads are confined here cannot be told: {CUT_SHORT}")
            return NOT_KNOWN
        _say(
            f"uploads cannot be confined here (level {level}; open: "
            f"{', '.join(open_ways(results)) or 'the attempts did not answer'}). Set "
            "MODEL_AUDIT_ALLOW_WEAK_SANDBOX=1 only for uploads that you would run "
            "yourself."
        )
        return NOT_CONFINED
    device = find_device(settings.device)
    _wait_for_database(settings.database_address)
    name = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    stopping = Stopping()
    post = Post(
        database_url=settings.database_address,
        blob_address=settings.blob_address,
        blob_cache=settings.data_dir / "cache",
        place=Place(
            device=device,
            scratch=worker_settings.scratch_dir or settings.data_dir / "scratch",
            memory_bytes=worker_settings.memory_for_child(),
            threads=worker_settings.threads_for_child(usable_cores()),
        ),
        row=describe(name, device=device, level=level),
        settings=worker_settings,
        is_stopping=stopping.is_set,
    )
    return _listen(post, redis_url, stopping)


def describe(name: str, *, device: str, level: str) -> WorkerRow:
    """Describe this worker for the table of workers."""
    now = datetime.now(UTC)
    return WorkerRow(
        id=name,
        host=socket.gethostname(),
        device=device,
        sandbox=level,
        engine=ENGINE,
        torch=importlib.metadata.version("torch"),
        started_at=now,
        seen_at=now,
    )


def find_device(wanted: str) -> str:
    """Decide on a device; `auto` takes a GPU where torch can use one.

    Torch is asked in a process of its own, and only where there is a GPU at all.
    """
    if wanted == "cuda":
        return "cuda:0"
    if wanted != "auto":
        return wanted
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return "cpu"
    asked = subprocess.run(
        [sys.executable, "-c", "import torch; print(torch.cuda.is_available())"],
        capture_output=True,
        text=True,
        check=False,
    )
    return "cuda:0" if asked.stdout.strip() == "True" else "cpu"


class Stopping:
    """A flag that one process raises and its forks see."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()

    def set(self) -> None:
        """Raise the flag, for good."""
        os.write(self._writer, b"x")

    def is_set(self) -> bool:
        """Say whether it is raised; the byte stays in the pipe for the others."""
        return bool(select.select([self._reader], [], [], 0)[0])


def main() -> int:
    """Run one worker, set up by the environment."""
    settings = Settings()
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    if settings.log_level != "debug":
        for name in ("alembic", "celery.app.trace", "celery.worker.strategy"):
            logging.getLogger(name).setLevel(logging.WARNING)
    # Celery warns of a superuser's pickles; here nothing is ever unpickled.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    return run_worker(settings, WorkerSettings())


def _listen(post: Post, redis_url: str, stopping: Stopping) -> int:
    app = make_app(redis_url, post.settings)
    add_tasks(app, post)
    end_soon = _Deadline(STOP_SECONDS)

    def stop(**_: Any) -> None:  # noqa: ANN401 - Celery's signals pass anything
        stopping.set()
        end_soon.start()

    worker_shutting_down.connect(stop, weak=False)
    worker = app.Worker(
        hostname=f"{post.row.id}@{post.row.host}",
        queues=["gpu", "cpu"] if post.place.device != "cpu" else ["cpu"],
        loglevel=logging.getLogger().getEffectiveLevel(),
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        optimization="fair",
        quiet=True,
    )
    LOG.info("worker %s on %s", post.row.id, post.place.device)
    worker.start()
    return int(worker.exitcode or 0)


class _Deadline:
    """Ends this process where an orderly stop takes too long, the broker gone, say.

    Counts from when it is told to, or when the service that started this worker is
    gone: its signal may come while no handler can act on it. Whatever is lost with this
    process comes back through its lease.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # Not an event: its lock would be waited for for ever by a signal's handler that
        # interrupts another one.
        self._begun: float | None = None
        # Started now: a signal's handler must not start a thread, since it may have
        # interrupted the start of another.
        threading.Thread(target=self._watch, name="deadline", daemon=True).start()

    def start(self) -> None:
        """Begin to count, at the first call."""
        if self._begun is None:
            self._begun = time.monotonic()

    def _watch(self) -> None:
        while self._begun is None and not is_cut():
            time.sleep(LEASH_SECONDS)
        self.start()
        assert self._begun is not None
        time.sleep(max(0.0, self._begun + self._seconds - time.monotonic()))
        os._exit(0)


def _broker_beside(settings: Settings) -> str | None:
    """Find the private broker of a service that runs on the same data folder."""
    path = settings.data_dir / BROKER_SOCKET
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(path.resolve()))
        return f"unix://{path.resolve()}"
    return None


def _wait_for_database(url: str) -> None:
    """Wait until the database answers, and bring its tables to this version."""
    database = Database(url)
    pause = 1.0
    while True:
        try:
            database.migrate()
        except Unavailable as error:
            LOG.warning("waiting: %s", error.detail)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        else:
            database.close()
            return


def _say(message: str) -> None:
    sys.stderr.write(f"model-audit worker: {message}\n")


if __name__ == "__main__":
    sys.exit(main())
