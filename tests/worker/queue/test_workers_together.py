"""Real workers, a real broker, PostgreSQL, the real engine, and what can go wrong."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from sqlalchemy import func, select

from service.contract.report import Report
from service.ids import new_id
from service.scheduler import loops
from service.settings import Settings
from service.store.blobs import BlobStore, open_blobs
from service.store.database import Database, database_time
from service.store.tables import (
    AuditRow,
    DatasetRow,
    ModelRow,
    PieceRow,
    ReportRow,
    WorkerRow,
)
from service.store.work import add_first_advance
from tests.service.store.places import migrated, new_postgresql
from tests.worker.queue.outside import Broker, Worker, wait_for

pytestmark = [
    pytest.mark.end_to_end,
    # Users still make such archives, whatever torch would like better.
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
]
AUDIT_SECONDS = 240


@dataclass
class Site:
    """All that one installation has."""

    database: Database
    blobs: BlobStore
    settings: Settings
    broker: Broker
    folder: Path
    stack: ExitStack

    def worker(self, name: str) -> Worker:
        environment = {
            "MODEL_AUDIT_DATA_DIR": str(self.folder / name),
            "MODEL_AUDIT_DATABASE_URL": self.settings.database_address,
            "MODEL_AUDIT_BLOB_URL": self.settings.blob_address,
            "MODEL_AUDIT_REDIS_URL": self.broker.url,
            "MODEL_AUDIT_DEVICE": "cpu",
            "OMP_NUM_THREADS": "1",
        }
        worker = Worker(environment, self.folder / f"{name}.log")
        self.stack.callback(worker.stop)
        return worker

    def count(self, table: type, **values: object) -> int:
        with self.database.reading() as session:
            query = select(func.count()).select_from(table).filter_by(**values)
            return session.execute(query).scalar_one()

    def audit(self, audit_id: str) -> AuditRow:
        with self.database.reading() as session:
            row = session.get(AuditRow, audit_id)
            assert row is not None
            return row

    def busy_workers(self, audit_id: str) -> dict[str, int]:
        """Name who has done or does experiments of an audit, and how many."""
        with self.database.reading() as session:
            rows = session.execute(
                select(PieceRow.worker, func.count())
                .where(
                    PieceRow.subject_id == audit_id,
                    PieceRow.kind == "experiment",
                    PieceRow.worker.is_not(None),
                )
                .group_by(PieceRow.worker)
            ).all()
        return {str(worker): count for worker, count in rows}

    def has_ended(self, audit_id: str) -> bool:
        return self.audit(audit_id).status in {"succeeded", "failed", "cancelled"}

    def keep(self, content: bytes) -> tuple[str, int]:
        with self.blobs.writer() as writer:
            writer.write(content)
            kept = writer.finish()
            writer.keep()
        return kept


@pytest.fixture
def site(postgresql: str, tmp_path: Path) -> Iterator[Site]:
    broker = Broker(tmp_path)
    with ExitStack() as stack:
        url = stack.enter_context(new_postgresql(postgresql))
        database = stack.enter_context(migrated(url))
        broker.start()
        stack.callback(broker.kill)
        settings = Settings(
            data_dir=tmp_path / "service",
            database_url=url,
            redis_url=broker.url,
            blob_url=str(tmp_path / "blobs"),
            reaper_interval_seconds=1.0,
        )
        blobs = open_blobs(settings.blob_address, cache=tmp_path / "cache")
        stack.enter_context(loops(settings, database))
        yield Site(database, blobs, settings, broker, tmp_path, stack)


def new_audit(site: Site) -> str:
    """Ask for the audit of a small model that was trained with too high a rate."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1500, 6)).astype("float32")
    y = (x[:, 0] * x[:, 1] > 0).astype("int64")
    data, model = BytesIO(), BytesIO()
    np.savez(data, x=x, y=y)
    network = torch.nn.Sequential(
        torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2)
    )
    torch.jit.save(torch.jit.script(network), model)
    model_sha256, model_size = site.keep(model.getvalue())
    data_sha256, data_size = site.keep(data.getvalue())
    with site.database.transaction() as session:
        now = database_time(session)
        model_row = ModelRow(
            id=new_id("mdl"),
            project="default",
            name="small",
            format="torchscript",
            sha256=model_sha256,
            size_bytes=model_size,
            inspection={"status": "pending"},
            created_at=now,
        )
        data_row = DatasetRow(
            id=new_id("dst"),
            project="default",
            name="rows",
            format="npz",
            sha256=data_sha256,
            size_bytes=data_size,
            spec={},
            spec_sha256="0",
            inspection={"status": "pending"},
            created_at=now,
        )
        session.add_all([model_row, data_row])
        session.flush()
        audit = AuditRow(
            id=new_id("aud"),
            project="default",
            status="queued",
            model_id=model_row.id,
            dataset_id=data_row.id,
            request={
                "model_id": model_row.id,
                "dataset_id": data_row.id,
                "budget": "quick",
                "recipe": {"optimizer": {"name": "sgd", "lr": 0.1}, "epochs": 12},
            },
            created_at=now,
        )
        session.add(audit)
        session.flush()
        add_first_advance(session, audit.id, now=now)
    return audit.id


def two_workers(site: Site) -> dict[str, Worker]:
    """Start two workers; maps their names in the table to their processes."""
    started: dict[str, Worker] = {}
    for name in ("one", "two"):
        worker = site.worker(name)
        wait_for(
            lambda: site.count(WorkerRow) > len(started),
            seconds=60,
            what=f"worker {name}",
        )
        with site.database.reading() as session:
            [new] = set(session.scalars(select(WorkerRow.id))) - set(started)
        started[new] = worker
    return started


def assert_ended_once(site: Site, audit_id: str) -> None:
    audit = site.audit(audit_id)
    assert (audit.status, audit.error) == ("succeeded", None)
    with site.database.reading() as session:
        [report] = session.scalars(select(ReportRow)).all()
    assert Report.model_validate_json(report.body).audit_id == audit_id
    assert site.count(PieceRow, subject_id=audit_id, status="running") == 0
    assert site.count(PieceRow, subject_id=audit_id, status="ready") == 0


def test_two_workers_share_an_audit_and_one_is_killed(site: Site) -> None:
    workers = two_workers(site)
    audit_id = new_audit(site)
    wait_for(
        lambda: len(site.busy_workers(audit_id)) == 2,
        seconds=AUDIT_SECONDS,
        what="work by both",
    )

    with site.database.reading() as session:
        [victim, *_] = session.scalars(
            select(PieceRow.worker).filter_by(subject_id=audit_id, status="running")
        ).all()
    family = workers[str(victim)].kill()

    assert len(family) >= 3  # Celery's two processes and the confined child
    wait_for(
        lambda: not any(is_alive(process) for process in family),
        seconds=5,
        what="the end of the killed worker's children",
    )
    wait_for(
        lambda: site.has_ended(audit_id), seconds=AUDIT_SECONDS, what="the audit's end"
    )
    assert_ended_once(site, audit_id)


def test_an_audit_survives_a_broker_that_loses_everything(site: Site) -> None:
    two_workers(site)
    audit_id = new_audit(site)
    wait_for(
        lambda: site.count(PieceRow, subject_id=audit_id, kind="experiment") > 0,
        seconds=AUDIT_SECONDS,
        what="the first round",
    )

    site.broker.kill()
    second_id = new_audit_while_down(site)
    site.broker.start()

    wait_for(
        lambda: site.has_ended(audit_id), seconds=AUDIT_SECONDS, what="the audit's end"
    )
    wait_for(
        lambda: site.has_ended(second_id),
        seconds=AUDIT_SECONDS,
        what="the end of the audit that was asked for while the broker was down",
    )
    assert site.audit(audit_id).status == "succeeded"
    assert site.audit(second_id).status == "succeeded"
    assert site.count(ReportRow) == 2


def test_a_worker_that_stops_in_order_gives_its_work_back(site: Site) -> None:
    worker = site.worker("one")
    audit_id = new_audit(site)
    wait_for(
        lambda: site.count(PieceRow, kind="experiment", status="running") > 0,
        seconds=AUDIT_SECONDS,
        what="an experiment",
    )
    family = worker.family()

    code = worker.stop()

    assert code == 0
    assert not any(is_alive(process) for process in family)
    assert site.count(PieceRow, subject_id=audit_id, status="running") == 0
    assert site.count(PieceRow, subject_id=audit_id, attempts=2) == 0
    assert site.count(WorkerRow) == 0
    assert site.audit(audit_id).status == "running"


def new_audit_while_down(site: Site) -> str:
    """Ask for the same audit again: the same files, another row."""
    with site.database.transaction() as session:
        now = database_time(session)
        first = session.scalars(select(AuditRow)).one()
        audit = AuditRow(
            id=new_id("aud"),
            project="default",
            status="queued",
            model_id=first.model_id,
            dataset_id=first.dataset_id,
            request={**first.request, "seed": 1},
            created_at=now,
        )
        session.add(audit)
        session.flush()
        add_first_advance(session, audit.id, now=now)
    return audit.id


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
