import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.store import workers
from service.store.database import Database
from service.store.tables import WorkerRow
from tests.builders_report import make_report
from tests.service.commands.fake_service import FakeService, serving


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    url = f"sqlite:///{tmp_path}/test.sqlite3"
    monkeypatch.setenv("MODEL_AUDIT_DATABASE_URL", url)
    monkeypatch.delenv("MODEL_AUDIT_REDIS_URL", raising=False)
    made = Database(url)
    made.migrate()
    return made


def register(database: Database, *, host: str, seconds_ago: float) -> None:
    seen = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    with database.transaction() as session:
        workers.register(
            session,
            WorkerRow(
                id=f"{host}-1", host=host, device="cpu", sandbox="strong",
                engine="1", torch="2", started_at=seen, seen_at=seen,
            ),
        )  # fmt: skip


def health(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["health", *map(str, arguments)])
    return result.exit_code, result.output


def test_a_service_that_does_not_answer_is_not_well() -> None:
    code, output = health("service", "--port", 9)

    assert code == 3
    assert "does not answer" in output


def test_a_service_that_answers_otherwise_is_not_well() -> None:
    with serving(FakeService(make_report())) as fake:
        code, output = health("service", "--port", fake.url.rsplit(":", 1)[1])

    assert code == 3
    assert "the service answers 404" in output


def test_a_worker_seen_lately_on_this_machine_is_well(database: Database) -> None:
    register(database, host=socket.gethostname(), seconds_ago=5)

    assert health("worker") == (0, "")


def test_a_worker_not_seen_for_long_is_not_well(database: Database) -> None:
    register(database, host=socket.gethostname(), seconds_ago=60)

    assert health("worker")[0] == 3


def test_another_machines_worker_does_not_count(database: Database) -> None:
    register(database, host="elsewhere", seconds_ago=1)

    assert health("worker")[0] == 3


@pytest.mark.usefixtures("database")
def test_a_scheduler_without_a_broker_is_not_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MODEL_AUDIT_REDIS_URL", "redis://127.0.0.1:9/0")

    code, output = health("scheduler")

    assert code == 3
    assert "The broker does not answer." in output
