"""Starts the callers and reads what they say; prepares what they ask for."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.load.processes import ADMIN_KEY, Server
from service.ids import new_id
from service.store.database import Database
from service.store.tables import AuditRow, ReportRow
from tests.builders_report import make_report
from tests.service.files import npz, torchscript

CONNECTIONS = 16
LONGEST_SECONDS = 120.0
AUTHORIZATION = f"Authorization: Bearer {ADMIN_KEY}"


class CallersFailedError(Exception):
    """The callers did not get the answers they expect."""


@contextmanager
def started(**plan: Any) -> Iterator[Iterator[dict[str, Any]]]:  # noqa: ANN401 - JSON
    """Run callers beside this process; yields their milestones as they come."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.load.client"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    lines = process.stdout
    try:
        process.stdin.write(json.dumps({"seconds": LONGEST_SECONDS, **plan}))
        process.stdin.close()
        yield (json.loads(line) for line in lines)
    finally:
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        lines.close()


def outcome(**plan: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Run callers to their end; returns what they saw.

    Raises:
        CallersFailedError: they failed.
    """
    with started(**plan) as milestones:
        said = list(milestones)
    if not said:
        raise CallersFailedError("the callers ended without a word")
    return said[-1]


def expect(seen: dict[str, Any], status: int) -> None:
    """Check that all answers had a status.

    Raises:
        CallersFailedError: others were seen.
    """
    if set(seen["statuses"]) != {str(status)}:
        raise CallersFailedError(f"expected {status} only, got {seen['statuses']}")


def get(path: str, *headers: str) -> str:
    """Write a request as it goes over the wire."""
    lines = [f"GET {path} HTTP/1.1", "Host: load", AUTHORIZATION, *headers]
    return "\r\n".join(lines) + "\r\n\r\n"


def client(server: Server) -> httpx.Client:
    """Make a client for what is not measured."""
    return httpx.Client(
        base_url=f"http://127.0.0.1:{server.port}",
        headers={"Authorization": f"Bearer {ADMIN_KEY}"},
        timeout=60,
    )


def queued_audits(server: Server, count: int) -> list[str]:
    """Ask for audits, which stay queued as there is no worker; returns their ids."""
    with client(server) as caller:
        model = caller.post("/v1/models", files={"file": ("m.pt", torchscript())})
        data = caller.post("/v1/datasets", files={"file": ("d.npz", npz())})
        ids = []
        for number in range(count):
            answer = caller.post(
                "/v1/audits",
                json={
                    "model_id": model.json()["id"],
                    "dataset_id": data.json()["id"],
                    "seed": number,
                },
            )
            answer.raise_for_status()
            ids.append(str(answer.json()["id"]))
    return ids


def finished_audit(folder: Path, like: str) -> str:
    """Write an audit with a report, as a worker would have; returns its id."""
    database = Database(f"sqlite:///{folder}/model-audit.sqlite3")
    audit_id = new_id("aud")
    with database.transaction() as session:
        other = session.get_one(AuditRow, like)
        columns = {
            column.key: getattr(other, column.key)
            for column in AuditRow.__table__.columns
        }
        columns |= {
            "id": audit_id,
            "status": "succeeded",
            "finished_at": other.created_at,
        }
        session.add(AuditRow(**columns))
        session.flush()
        body = make_report(audit_id=audit_id).model_dump_json()
        session.add(
            ReportRow(audit_id=audit_id, body=body, created_at=other.created_at)
        )
    database.close()
    return audit_id
