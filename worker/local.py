"""An audit without any service: `python -m worker.local REQUEST.json`.

The request is `{"model": PATH, "dataset": PATH, "spec": {…}, "audit": {…AuditRequest
without ids…}, "remedy": PATH or null}`. Prints JSON lines: `{"progress": {…}}` while it
runs, at the end `{"report": {…}}` or `{"problem": {…}}`. The files are opened only in
the confined child, as everywhere.
"""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from service.contract.errors import Crashed, Problem
from service.contract.gate import judge_gate
from service.contract.report import Report
from service.contract.request import Policy
from worker.failures import ChildFailed
from worker.sandbox import Child

MEMORY_BYTES = 8 << 30
PIECE_SECONDS = 3600.0
DATASET_FORMATS = {
    ".npz": "npz",
    ".safetensors": "safetensors",
    ".csv": "csv",
    ".parquet": "parquet",
    ".zip": "zip",
    ".pt": "pt",
}


def say(kind: str, value: object) -> None:
    """Print one JSON line."""
    sys.stdout.write(json.dumps({kind: value}) + "\n")
    sys.stdout.flush()


@contextmanager
def descriptors(paths: dict[str, Path]) -> Iterator[dict[str, int]]:
    """Open files for reading, as descriptors that can be passed on."""
    opened = {name: os.open(path, os.O_RDONLY) for name, path in paths.items()}
    try:
        yield opened
    finally:
        for descriptor in opened.values():
            os.close(descriptor)


class LocalAudit:
    """One audit in one confined child."""

    def __init__(self, request: dict[str, Any], child: Child) -> None:
        self.request = request
        self.child = child
        self.seen: list[dict[str, Any]] = []

    def open(self) -> None:
        """Load both files in the child.

        Raises:
            Problem: one cannot be audited, or they do not fit each other.
        """
        model, dataset = Path(self.request["model"]), Path(self.request["dataset"])
        audit = {
            "model_id": "mdl_local",
            "dataset_id": "dst_local",
            **self.request["audit"],
        }
        arguments: dict[str, JsonValue] = {
            "audit_id": "aud_local",
            "model_format": "torch_export" if model.suffix == ".pt2" else "torchscript",
            "model_facts": {"name": model.name, "size_bytes": model.stat().st_size},
            "dataset_format": DATASET_FORMATS.get(dataset.suffix.lower(), "npz"),
            "dataset_facts": {
                "name": dataset.name,
                "size_bytes": dataset.stat().st_size,
            },
            "spec": self.request.get("spec") or {},
            "request": audit,
        }
        with descriptors({"model": model, "dataset": dataset}) as files:
            self.child.call("open", arguments, files=files, seconds=PIECE_SECONDS)

    def run(self) -> dict[str, Any]:
        """Go through the rounds; returns the report as JSON."""
        while True:
            step = self._call("advance", {"outcomes": self.seen})
            say("progress", {k: step[k] for k in ("stage", "fraction", "detail")})
            if step["report"] is not None:
                return dict(step["report"])
            for experiment in step["experiments"]:
                self.seen.append(
                    {"experiment": experiment, "outcome": self.train(experiment)}
                )

    def train(self, experiment: dict[str, Any]) -> dict[str, Any]:
        """Run one experiment."""
        return self._call("run", {"experiment": experiment})

    def keep(self, report: dict[str, Any]) -> None:
        """Copy the repaired model out of the scratch folder, where it is wanted."""
        remedy, wanted = report["remedy"], self.request.get("remedy")
        if remedy is None:
            return
        name, remedy["model"] = remedy["model"], None
        if name and wanted:
            with self.child.open_scratch(name) as made, Path(wanted).open("wb") as kept:
                shutil.copyfileobj(made, kept)
            remedy["model"] = wanted

    def _call(self, op: str, arguments: dict[str, Any]) -> dict[str, Any]:
        answer = self.child.call(op, arguments, seconds=PIECE_SECONDS)
        if not isinstance(answer, dict):
            raise Crashed(f"the engine answered {op} with {type(answer).__name__}")
        return answer


def audit(request: dict[str, Any]) -> int:
    """Run one request; returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="model-audit-") as folder:
        device = request.get("device", "cpu")
        try:
            with Child.start(
                device=device,
                scratch=Path(folder),
                memory_bytes=MEMORY_BYTES,
                keep_template=False,
            ) as child:
                running = LocalAudit(request, child)
                running.open()
                body = running.run()
                running.keep(body)
                body["environment"]["sandbox"] = child.level
        except Problem as problem:
            say("problem", problem.document().model_dump(mode="json"))
            return 3
        except ChildFailed as failure:
            document = Crashed(
                f"The audit's process ended early: {failure}."
            ).document()
            say("problem", document.model_dump(mode="json"))
            return 3
    report = Report.model_validate(body)
    policy = request["audit"].get("policy")
    judged = judge_gate(
        Policy.model_validate(policy) if policy else None,
        findings=report.findings,
        performance=report.performance,
    )
    report = report.model_copy(update={"gate": judged})
    say("report", report.model_dump(mode="json"))
    return 0


if __name__ == "__main__":
    sys.exit(audit(json.loads(Path(sys.argv[1]).read_text())))
