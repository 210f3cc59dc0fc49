"""What Celery runs: one task, in a process of its own, for as long as the worker lives.

Nothing is connected before the pool has forked: neither a database connection nor a
thread survives a fork.
"""

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown

from service.store.blobs import open_blobs
from service.store.database import Database
from service.store.outbox import WORK_TASK
from service.store.tables import WorkerRow
from worker.companion import Companion, Place
from worker.pulse import Pulse
from worker.recorder import Recorder
from worker.settings import WorkerSettings
from worker.turn import Turn

LOG = logging.getLogger(__name__)
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Post:
    """What a worker process is given: where things are, and who it is."""

    database_url: str
    blob_address: str
    blob_cache: Path
    place: Place
    row: WorkerRow
    settings: WorkerSettings
    is_stopping: Callable[[], bool]


class Desk:
    """All that lives in the process that works."""

    def __init__(self, post: Post) -> None:
        self._database = Database(post.database_url)
        blobs = open_blobs(post.blob_address, cache=post.blob_cache)
        self._pulse = Pulse(
            self._database,
            lambda: copy_of(post.row),
            lease=timedelta(seconds=post.settings.lease_seconds),
            idle=self._tidy,
        )
        self._companion = Companion(
            post.place,
            blobs,
            post.settings,
            lambda: self._pulse.is_lost or post.is_stopping(),
        )
        self._turn = Turn(
            recorder=Recorder(self._database, post.settings, worker_id=post.row.id),
            companion=self._companion,
            blobs=blobs,
            pulse=self._pulse,
            settings=post.settings,
            is_stopping=post.is_stopping,
        )

    def open(self) -> None:
        """Begin: be seen, and have a template stand by."""
        self._companion.warm_up()
        self._pulse.start()

    def work(self, subject_id: str) -> int:
        """Take a turn for a subject."""
        return self._turn.take(subject_id)

    def _tidy(self) -> None:
        self._companion.drop_if_cold()

    def close(self) -> None:
        """End all children, and be seen no more."""
        self._companion.close()
        self._pulse.stop()
        self._database.close()


def copy_of(row: WorkerRow) -> WorkerRow:
    """Describe this worker anew: a row belongs to the session that wrote it."""
    now = datetime.now(UTC)
    return WorkerRow(
        id=row.id,
        host=row.host,
        device=row.device,
        sandbox=row.sandbox,
        engine=row.engine,
        torch=row.torch,
        started_at=now,
        seen_at=now,
    )


def add_tasks(app: Celery, post: Post) -> None:
    """Register the task, and what opens and closes the process that runs it."""
    desks: list[Desk] = []
    parent = os.getpid()

    def begin(**_: Any) -> None:  # noqa: ANN401 - Celery's signals pass anything
        die_with_parent(parent)
        desk = Desk(post)
        desk.open()
        desks.append(desk)

    def end(**_: Any) -> None:  # noqa: ANN401
        while desks:
            desks.pop().close()

    def take_turn(subject_id: str) -> int:
        return desks[0].work(subject_id)

    worker_process_init.connect(begin, weak=False)
    worker_process_shutdown.connect(end, weak=False)
    app.task(name=WORK_TASK)(take_turn)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however that ends."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the kernel was told
        os.kill(os.getpid(), signal.SIGKILL)
