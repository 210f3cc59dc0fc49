import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy.exc import OperationalError

from service.contract.causes import Cause
from service.contract.errors import PROBLEMS
from service.health import Health
from service.store.tables import WorkerRow
from tests.service.api.app_client import AppClient
from tests.service.api.callers import new_audit, problem


def add_worker(app: FastAPI, name: str, sandbox: str) -> None:
    now = datetime.now(UTC)
    with app.state.desk.database.transaction() as session:
        session.add(
            WorkerRow(
                id=name,
                host="h",
                device="cpu",
                sandbox=sandbox,
                engine="1",
                torch="2.13",
                started_at=now,
                seen_at=now,
            )
        )


def break_database(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OperationalError("SELECT", {}, Exception("down"))

    database = app.state.desk.database
    monkeypatch.setattr(database.engine.dialect, "do_execute", fail)
    monkeypatch.setattr(database.engine.dialect, "do_execute_no_params", fail)


def test_liveness_asks_nobody(app: FastAPI, stranger: AppClient, monkeypatch):
    break_database(app, monkeypatch)

    assert stranger.get("/livez").text == "ok"


def test_readiness_shows_the_weakest_confinement_of_living_workers(
    app: FastAPI, stranger: AppClient
):
    alone = stranger.get("/readyz").json()
    add_worker(app, "a", "strong")
    add_worker(app, "b", "reduced")
    both = stranger.get("/readyz").json()

    assert (alone["status"], alone["sandbox"]) == ("degraded", None)
    assert (both["status"], both["sandbox"]) == ("ready", "reduced")
    assert [worker["id"] for worker in both["workers"]] == ["a", "b"]
    versions = stranger.get("/version").json()
    assert versions["torch"] == ["2.13"]


def test_without_a_database_it_is_not_ready_and_says_so_everywhere(
    app: FastAPI, stranger: AppClient, admin: AppClient, monkeypatch
):
    audit_id = new_audit(admin)
    break_database(app, monkeypatch)

    ready = stranger.get("/readyz")

    assert (ready.status_code, ready.json()["database"]) == (503, "down")
    for address in ("/v1/models", f"/v1/audits/{audit_id}"):
        answer = admin.get(address)
        problem(answer, "unavailable", 503)
        assert "retry-after" in answer.headers
    assert stranger.get("/metrics").status_code == 200


@pytest.fixture
def unwritable(app: FastAPI) -> Iterator[None]:
    """Have another process hold the write lock for long."""
    path = app.state.desk.settings.data_dir / "model-audit.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.fixture
def fresh(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what was seen of database and file store a moment ago."""
    desk = app.state.desk
    health = Health(desk.database, desk.uploads._blobs, desk.settings)
    monkeypatch.setattr(desk.health, "readiness", health.readiness)


@pytest.mark.usefixtures("fresh", "unwritable")
def test_a_database_that_cannot_be_written_is_not_ready(stranger: AppClient):
    ready = stranger.get("/readyz")

    assert (ready.status_code, ready.json()["database"]) == (503, "down")
    assert ready.json()["blobs"] == "ok"


@pytest.mark.usefixtures("fresh")
def test_a_full_file_store_is_not_ready(stranger: AppClient, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("service.store.blobs.os.fsync", full)

    ready = stranger.get("/readyz")

    assert (ready.status_code, ready.json()["blobs"]) == (503, "down")


def test_reading_goes_on_while_nothing_can_be_written(
    viewer: AppClient, request: pytest.FixtureRequest
):
    request.getfixturevalue("unwritable")

    assert viewer.get("/v1/models").status_code == 200


def test_a_silent_broker_degrades_but_audits_are_still_accepted(
    app: FastAPI, admin: AppClient, monkeypatch
):
    health = app.state.desk.health
    settings = app.state.desk.settings.model_copy(
        update={"redis_url": "redis://127.0.0.1:1/0"}
    )
    monkeypatch.setattr(health, "_settings", settings)
    add_worker(app, "a", "strong")

    ready = admin.get("/readyz")

    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert ready.json()["broker"] == "down"
    assert new_audit(admin)


def test_the_measurements_count_by_route_and_never_by_address(
    stranger: AppClient, admin: AppClient
):
    audit_id = new_audit(admin)
    admin.get(f"/v1/audits/{audit_id}")
    admin.get("/nowhere/at/all")

    text = stranger.get("/metrics").text

    assert 'model_audit_audits{status="queued"} 1.0' in text
    assert "model_audit_queue_depth 3.0" in text
    assert 'model_audit_uploaded_bytes_total{kind="models"}' in text
    assert 'route="/v1/audits/{audit_id}"' in text
    assert audit_id not in text
    assert "nowhere" not in text


def test_the_catalogue_lists_every_cause(admin: AppClient):
    items = admin.get("/v1/causes").json()["items"]

    assert {item["cause"] for item in items} == {cause.value for cause in Cause}
    assert admin.get(items[0]["docs"]).status_code == 200


@pytest.mark.parametrize("kind", PROBLEMS)
def test_every_problem_has_a_page(stranger: AppClient, kind):
    answer = stranger.get(f"/problems/{kind.name}")

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert kind.title in answer.text.replace("&#x27;", "'")


def test_what_the_framework_refuses_is_a_problem_document_too(
    admin: AppClient, stranger: AppClient
):
    problem(stranger.get("/nowhere"), "not-found", 404)
    problem(admin.get("/v1/models/"), "not-found", 404)
    answer = admin.put("/v1/audits")
    problem(answer, "method-not-allowed", 405)
    assert answer.headers["allow"] == "GET, HEAD, POST"
    problem(admin.get("/v1/models?name=%00"), "bad-request", 400)
    problem(admin.get("/v1/models?cursor=b%C3%BC"), "invalid-fields", 422)
    problem(admin.get("/v1/models?limit=" + "9" * 5000), "invalid-fields", 422)


def test_a_defect_of_ours_is_a_problem_document_without_details(
    app: FastAPI, admin: AppClient, monkeypatch
):
    detail = "inner detail"

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(detail)

    monkeypatch.setattr(app.state.desk.schedules, "page", broken)

    answer = admin.get("/v1/schedules")

    problem(answer, "internal", 500)
    assert detail not in answer.text


def test_the_reference_needs_nothing_from_elsewhere(stranger: AppClient):
    text = stranger.get("/docs/api").text

    assert "POST /v1/audits" in text
    assert re.search(r"(src|href|action)=.?https?://|url\(|@import", text) is None


def test_the_api_never_imports_what_belongs_to_workers(tmp_path: Path):
    program = (
        "import sys; from service.app import create_app;"
        "from service.settings import Settings; from pathlib import Path;"
        f"create_app(Settings(data_dir=Path({str(tmp_path)!r}))).openapi();"
        "print([name for name in ('torch', 'numpy', 'sklearn', 'scipy', 'cleanlab',"
        " 'pyarrow', 'PIL', 'worker') if name in sys.modules])"
    )

    answer = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert answer.stdout.strip() == "[]"
