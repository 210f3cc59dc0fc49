from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli import app
from tests.builders_report import make_report
from tests.service.commands.fake_service import (
    AUDIT,
    DATASET,
    MODEL,
    NOW,
    FakeService,
    serving,
)

KEY = {
    "id": "key_1",
    "name": "nightly\x1b[31m build",
    "role": "submitter",
    "project": "default",
    "created_at": NOW,
}
SCHEDULE = {
    "id": "sch_1",
    "name": "nightly",
    "cron": "0 3 * * *",
    "timezone": "Europe/Berlin",
    "audit": {"model_id": MODEL, "dataset_id": DATASET},
    "enabled": False,
    "created_at": NOW,
    "next_run_at": None,
    "last_audit_id": AUDIT,
    "last_result": "started",
}


class Lists(FakeService):
    """Answers lists of one key and one schedule."""

    def answer(self, method: str, path: str) -> tuple[int, dict[str, Any] | str]:
        for name, item in (("keys", KEY), ("schedules", SCHEDULE)):
            if path.startswith(f"/v1/{name}"):
                return 200, {"items": [item], "next_cursor": None}
        return super().answer(method, path)


@pytest.fixture
def lists(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("COLUMNS", "200")  # or else the table is folded
    monkeypatch.setenv("MODEL_AUDIT_API_KEY", "mak_any")
    with serving(Lists(make_report())) as fake:
        yield fake.url


def printed(*arguments: str) -> list[list[str]]:
    """The cells of a printed table, which stand at least two spaces apart."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    return [[c.strip() for c in line.split("  ") if c.strip()] for line in lines]


def test_keys_are_listed_under_their_columns_and_cannot_steer_the_terminal(lists):
    heads, row = printed("key", "list", "--url", lists)

    assert heads == ["Id", "Name", "Role", "Project", "Made", "Last used"]
    assert row[0] == "key_1"
    assert "\x1b" not in row[1]
    assert row[2:] == ["submitter", "default", "2026-01-02 03:04", "never"]


def test_a_paused_schedule_is_listed_without_a_next_run(lists):
    heads, row = printed("schedule", "list", "--url", lists)

    assert heads == [
        "Id", "Name", "Cron", "Zone", "Enabled", "Next run", "Last audit", "Last result"
    ]  # fmt: skip
    assert row == [
        "sch_1", "nightly", "0 3 * * *", "Europe/Berlin", "no", AUDIT, "started"
    ]  # fmt: skip
