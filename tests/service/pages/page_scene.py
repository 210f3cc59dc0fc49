"""The pages over a real store, with rows put there by hand."""

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import numpy as np
import uvicorn
from fastapi import FastAPI
from sqlalchemy import delete

from service.contract.report import Report
from service.contract.request import KeyRequest
from service.desk import Desk
from service.ids import new_id
from service.pages.router import router
from service.settings import Settings
from service.store.tables import (
    AuditRow,
    DatasetRow,
    ModelRow,
    OutboxRow,
    PieceRow,
    ReportRow,
)

SECRET = "a-key-for-the-tests-only"  # noqa: S105
OURS = {"sec-fetch-site": "same-origin"}


class Scene:
    """A browser, and what the service holds."""

    def __init__(self, desk: Desk, browser: httpx.Client) -> None:
        self.desk = desk
        self.browser = browser

    def forget(self) -> None:
        """Begin anew: a browser without a cookie, a store without audits."""
        self.browser.cookies.clear()
        with self.desk.database.transaction() as session:
            for table in (
                ReportRow,
                PieceRow,
                OutboxRow,
                AuditRow,
                ModelRow,
                DatasetRow,
            ):
                session.execute(delete(table))

    def sign_in(self, secret: str = SECRET) -> None:
        answer = self.browser.post("/login", data={"key": secret}, headers=OURS)
        assert answer.status_code == 303, answer.text

    def add_key(self, role: str, project: str) -> str:
        admin = self.desk.keys.authenticate(SECRET)
        request = KeyRequest.model_validate(
            {"name": "another", "role": role, "project": project}
        )
        return self.desk.keys.create(admin, request, None).key

    def add_uploads(self, *, name: str = "net.pt") -> tuple[str, str]:
        common = {
            "project": "default",
            "size_bytes": 1,
            "created_at": datetime.now(UTC),
        }
        model = ModelRow(
            id=new_id("mdl"),
            name=name,
            format="torchscript",
            sha256=new_id("mdl"),
            inspection={"status": "ok"},
            **common,
        )
        dataset = DatasetRow(
            id=new_id("dst"),
            name="data.npz",
            format="npz",
            sha256=new_id("dst"),
            spec_sha256="0",
            inspection={"status": "ok"},
            **common,
        )
        with self.desk.database.transaction() as session:
            session.add_all([model, dataset])
            session.flush()
            return model.id, dataset.id

    def add_audit(
        self,
        uploads: tuple[str, str],
        *,
        status: str = "succeeded",
        report: Report | None = None,
        **fields: Any,
    ) -> str:
        audit_id = new_id("aud")
        model_id, dataset_id = uploads
        row = AuditRow(
            id=audit_id,
            project="default",
            status=status,
            model_id=model_id,
            dataset_id=dataset_id,
            created_at=datetime.now(UTC),
            request={"model_id": model_id, "dataset_id": dataset_id},
            **fields,
        )
        with self.desk.database.transaction() as session:
            session.add(row)
            session.flush()
            if report is not None:
                body = report.model_copy(update={"audit_id": audit_id})
                session.add(
                    ReportRow(
                        audit_id=audit_id,
                        body=body.model_dump_json(),
                        created_at=datetime.now(UTC),
                    )
                )
        return audit_id


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    desk = Desk.open(Settings(data_dir=folder, api_key=SECRET))
    app = FastAPI()
    app.state.desk = desk
    app.include_router(router)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as browser:
            yield Scene(desk, browser)
    finally:
        server.should_exit = True
        thread.join()
        desk.close()


def make_dataset_file() -> bytes:
    file = io.BytesIO()
    np.savez(file, x=np.zeros((4, 2), np.float32), y=np.array([0, 1, 0, 1]))
    return file.getvalue()
