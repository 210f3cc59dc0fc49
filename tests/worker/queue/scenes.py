"""A small stage for tests of the queue: rows, blobs, and a worker in this process."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from service.ids import new_id
from service.store.blobs import BlobStore
from service.store.database import Database, database_time
from service.store.tables import AuditRow, DatasetRow, ModelRow, ReportRow, WorkerRow
from service.store.work import add_first_advance, add_inspection
from tests.builders_report import make_report
from tests.service.store.rows import worker_row
from worker.companion import Companion, Place
from worker.pulse import Pulse
from worker.recorder import Recorder
from worker.settings import WorkerSettings
from worker.turn import Turn

INSIDE = Path(__file__).parent / "inside"
MEMORY_BYTES = 2 << 30


@dataclass
class Stage:
    """One worker without Celery, on a real database, store and confined child."""

    database: Database
    blobs: BlobStore
    turn: Turn
    companion: Companion
    stopping: threading.Event = field(default_factory=threading.Event)

    def set(self, **settings: float) -> None:
        """Change the worker's settings."""
        self.turn._settings = self.turn._settings.model_copy(update=settings)

    def keep(self, content: bytes) -> str:
        with self.blobs.writer() as writer:
            writer.write(content)
            digest, _ = writer.finish()
            writer.keep()
        return digest

    def model(self, script: dict[str, Any]) -> str:
        return add_model(self.database, self.blobs, script)

    def audit(self, script: dict[str, Any], **request: Any) -> str:
        whole = {"report": make_report().model_dump(mode="json"), **script}
        return add_audit(self.database, self.blobs, whole, **request)

    def row(self, audit_id: str) -> AuditRow:
        with self.database.reading() as session:
            audit = session.get(AuditRow, audit_id)
            assert audit is not None
            return audit

    def report(self, audit_id: str) -> dict[str, Any]:
        with self.database.reading() as session:
            row = session.get(ReportRow, audit_id)
            assert row is not None
            found: dict[str, Any] = json.loads(row.body)
            return found


@contextmanager
def stage(
    database: Database, blobs: BlobStore, scratch: Path, **settings: Any
) -> Iterator[Stage]:
    """Set up a worker called `here` whose child serves `scripted_session`."""
    limits = WorkerSettings(**settings)
    stopping = threading.Event()
    place = Place(
        device="cpu",
        scratch=scratch,
        memory_bytes=MEMORY_BYTES,
        session="scripted_session:Session",
        code=(INSIDE,),
    )

    def row() -> WorkerRow:
        return worker_row("here")

    pulse = Pulse(
        database,
        row,
        lease=timedelta(seconds=limits.lease_seconds),
        idle=lambda: None,
    )
    companion = Companion(
        place, blobs, limits, lambda: pulse.is_lost or stopping.is_set()
    )
    turn = Turn(
        recorder=Recorder(database, limits, worker_id="here"),
        companion=companion,
        blobs=blobs,
        pulse=pulse,
        settings=limits,
        is_stopping=stopping.is_set,
    )
    pulse.start()
    try:
        yield Stage(database, blobs, turn, companion, stopping)
    finally:
        companion.close()
        pulse.stop()


def add_model(database: Database, blobs: BlobStore, script: dict[str, Any]) -> str:
    with blobs.writer() as writer:
        writer.write(json.dumps(script).encode())
        sha256, size_bytes = writer.finish()
        writer.keep()
    with database.transaction() as session:
        now = database_time(session)
        model = ModelRow(
            id=new_id("mdl"),
            project=new_id("mdl"),  # the same script may be uploaded twice
            name="scripted",
            format="torchscript",
            sha256=sha256,
            size_bytes=size_bytes,
            inspection={"status": "pending"},
            created_at=now,
        )
        session.add(model)
        session.flush()
        add_inspection(session, "inspect_model", model.id, now=now)
    return model.id


def add_audit(
    database: Database, blobs: BlobStore, script: dict[str, Any], **request: Any
) -> str:
    model_id = add_model(database, blobs, script)
    with blobs.writer() as writer:
        writer.write(b"no rows")
        sha256, size_bytes = writer.finish()
        writer.keep()
    with database.transaction() as session:
        now = database_time(session)
        dataset = DatasetRow(
            id=new_id("dst"),
            project=new_id("dst"),
            name="rows",
            format="npz",
            sha256=sha256,
            size_bytes=size_bytes,
            spec_sha256="0",
            inspection={"status": "pending"},
            created_at=now,
        )
        session.add(dataset)
        session.flush()
        audit = AuditRow(
            id=new_id("aud"),
            project="default",
            status="queued",
            model_id=model_id,
            dataset_id=dataset.id,
            request={"model_id": model_id, "dataset_id": dataset.id, **request},
            progress={"stage": "queued", "fraction": 0.0},
            created_at=now,
        )
        session.add(audit)
        session.flush()
        add_first_advance(session, audit.id, now=now)
    return audit.id
