"""Callers and what they do first, for tests of the API."""

from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI

from service.store.tables import AuditRow, DatasetRow, ModelRow, ReportRow
from tests.service.api.app_client import AppClient
from tests.service.files import npz, torchscript

ADMIN_KEY = "test-admin-key-0123456789"


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def new_key(admin: AppClient, role: str, *, project: str = "default") -> str:
    answer = admin.post(
        "/v1/keys", json={"name": "test", "role": role, "project": project}
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["key"])


def upload_model(client: AppClient, content: bytes | None = None) -> str:
    answer = client.post(
        "/v1/models", files={"file": ("m.pt", content or torchscript())}
    )
    assert answer.status_code in {200, 201}, answer.text
    return str(answer.json()["id"])


def upload_dataset(client: AppClient, content: bytes | None = None) -> str:
    answer = client.post("/v1/datasets", files={"file": ("d.npz", content or npz())})
    assert answer.status_code in {200, 201}, answer.text
    return str(answer.json()["id"])


def request_of(client: AppClient, **fields: Any) -> dict[str, Any]:
    return {
        "model_id": upload_model(client),
        "dataset_id": upload_dataset(client),
        **fields,
    }


def new_audit(client: AppClient, **fields: Any) -> str:
    answer = client.post("/v1/audits", json=request_of(client, **fields))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def inspected(app: FastAPI, upload_id: str, inspection: dict[str, Any]) -> None:
    """Write what a worker would have found out about an upload."""
    table = ModelRow if upload_id.startswith("mdl_") else DatasetRow
    with app.state.desk.database.transaction() as session:
        session.get_one(table, upload_id).inspection = inspection


def change_audit(
    app: FastAPI, audit_id: str, report: str | None = None, **columns: Any
) -> None:
    """Write what a worker would have written about an audit."""
    now = datetime.now(UTC)
    with app.state.desk.database.transaction() as session:
        row = session.get_one(AuditRow, audit_id)
        for name, value in columns.items():
            setattr(row, name, value)
        row.version += 1
        if report is not None:
            session.add(ReportRow(audit_id=audit_id, body=report, created_at=now))


def problem(answer: Any, name: str, status: int) -> dict[str, Any]:
    """Check that an answer is this problem document; return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["type"] == f"/problems/{name}"
    assert document["status"] == status
    return document
