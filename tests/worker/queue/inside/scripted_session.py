"""What the confined child serves in tests of the queue: it does what the model says.

The "model" is a JSON file: `{"crash": "experiment b", ...}`.
"""

import ctypes
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from service.contract.errors import UnusableModel

ROUNDS = (("a", "b"), ("c",))


class Session:
    """Asks for two rounds of measurements, then reports."""

    def __init__(
        self, *, device: str, scratch: Path, progress: Callable[[float, str], None]
    ) -> None:
        self.scratch = scratch
        self.progress = progress
        self.script: dict[str, Any] = {}
        self.audit_id = ""

    def inspect_model(self, file: BinaryIO, format: str) -> dict[str, Any]:  # noqa: A002
        self.script = json.loads(file.read())
        self._act("inspect")
        return {"parameters": 7, "format": format}

    def open(self, *, audit_id: str, model: BinaryIO, **_: Any) -> None:
        self.script = json.loads(model.read())
        self.audit_id = audit_id
        self._act("open")

    def advance(self, outcomes: list[dict[str, Any]]) -> dict[str, Any]:
        self._act("advance")
        done = {entry["experiment"]["name"] for entry in outcomes}
        for names in ROUNDS:
            if missing := [name for name in names if name not in done]:
                return {
                    "stage": "screen",
                    "fraction": len(done) / 4,
                    "detail": f"{len(done)} done",
                    "experiments": [measurement(name) for name in missing],
                    "report": None,
                }
        return self._reported()

    def conclude(self, outcomes: list[dict[str, Any]]) -> dict[str, Any]:
        self._act("conclude")
        self.script["report"]["limits"] = [
            f"{entry['experiment']['name']} was done" for entry in outcomes
        ]
        return self._reported()

    def _reported(self) -> dict[str, Any]:
        report = self.script["report"]
        return {
            "stage": "report",
            "fraction": 1.0,
            "detail": "",
            "experiments": [],
            "report": report,
        }

    def run(self, experiment: dict[str, Any]) -> dict[str, Any]:
        name = experiment["name"]
        self.progress(0.5, f"at {name}")
        time.sleep(self.script.get("seconds", 0))
        self._act(name)
        if self.script.get("writes"):
            (self.scratch / name).touch()
        if self.script.get("nonsense") == name:
            return {"kind": "training", "values": "nonsense"}
        return {"kind": "measurement", "values": {"pid": os.getpid(), "name": name}}

    def _act(self, moment: str) -> None:
        match self.script.get(moment):
            case "segfault":
                ctypes.string_at(0)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                time.sleep(1000)
            case "exception":
                raise RuntimeError(moment)
            case "problem":
                reason = "It has two inputs."
                raise UnusableModel(reason)


def measurement(name: str) -> dict[str, Any]:
    return {"kind": "measurement", "question": f"{name}?", "name": name}
