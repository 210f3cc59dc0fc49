"""Rows for tests of the store."""

from datetime import UTC, datetime

from sqlalchemy.orm import Session

from service.ids import new_id
from service.store.tables import AuditRow, DatasetRow, ModelRow, WorkerRow
from service.store.work import add_first_advance, add_inspection

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def worker_row(
    name: str, *, device: str = "cpu", torch: str = "2", seen_at: datetime = NOW
) -> WorkerRow:
    return WorkerRow(
        id=name,
        host="here",
        device=device,
        sandbox="strong",
        engine="1",
        torch=torch,
        started_at=seen_at,
        seen_at=seen_at,
    )


def add_model(session: Session, *, sha256: str | None = None) -> str:
    model = ModelRow(
        id=new_id("mdl"),
        project="default",
        name="a model",
        format="torchscript",
        sha256=sha256 or new_id("mdl"),
        size_bytes=10,
        inspection={"status": "pending"},
        created_at=NOW,
    )
    session.add(model)
    session.flush()
    add_inspection(session, "inspect_model", model.id, now=NOW)
    return model.id


def add_audit(session: Session, request: dict[str, object] | None = None) -> str:
    model_id = add_model(session)
    dataset = DatasetRow(
        id=new_id("dst"),
        project="default",
        name="a dataset",
        format="npz",
        sha256=new_id("dst"),
        size_bytes=10,
        spec={},
        spec_sha256="0",
        inspection={"status": "pending"},
        created_at=NOW,
    )
    session.add(dataset)
    session.flush()
    audit = AuditRow(
        id=new_id("aud"),
        project="default",
        status="queued",
        model_id=model_id,
        dataset_id=dataset.id,
        request=request or {"model_id": model_id, "dataset_id": dataset.id},
        progress={"stage": "queued", "fraction": 0.0},
        created_at=NOW,
    )
    session.add(audit)
    session.flush()
    add_first_advance(session, audit.id, now=NOW)
    return audit.id
