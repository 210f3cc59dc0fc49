"""A program is driven through the engine as the service would do it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.faults import drive


class Scripted:
    """A session that asks for one repaired model, then reports."""

    def __init__(self, remedy: dict[str, Any] | None) -> None:
        self.remedy = remedy

    def advance(self, done: list[dict[str, Any]]) -> dict[str, Any]:
        """Ask once."""
        if done:
            return {"report": {"remedy": self.remedy}, "experiments": []}
        return {"report": None, "experiments": [{"kind": "repair"}]}

    def run(self, _experiment: dict[str, Any]) -> dict[str, Any]:
        """Train it."""
        return {"file": "repaired.pt"}


@pytest.mark.parametrize(
    ("remedy", "file"),
    [(None, None), ({"model": "repaired.pt"}, "repaired.pt"), ({"model": None}, None)],
)
def test_a_repaired_model_that_the_report_withholds_is_not_scored(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    remedy: dict[str, Any] | None,
    file: str | None,
) -> None:
    opened = SimpleNamespace(session=Scripted(remedy))
    monkeypatch.setattr(drive, "OpenedAudit", lambda *_args, **_options: opened)

    run = drive.audit_here(tmp_path, tmp_path / "scratch")

    assert run.remedy == (tmp_path / "scratch" / file if file else None)
