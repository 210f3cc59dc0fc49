"""Compare a report with what is true of the program: one row a case."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.faults.drive import AuditRun
from benchmarks.faults.program import Case
from benchmarks.faults.referee import balanced_accuracy
from benchmarks.faults.splits import Rows


def hidden_score(model: Path, folder: Path, loss: str) -> float:
    """Balanced accuracy of a TorchScript file on rows that no audit has seen."""
    network = torch.jit.load(str(model))  # type: ignore[no-untyped-call]
    with np.load(folder / "hidden.npz") as arrays:
        rows = Rows(arrays["x"].astype(np.float32), arrays["y"])
    return balanced_accuracy(loss, network.eval(), rows)


def row_of(case: Case, run: AuditRun, folder: Path) -> dict[str, Any]:
    """Take from a report what the table needs."""
    report = run.report
    findings = {finding["cause"]: finding for finding in report["findings"]}
    verdicts: dict[str, list[str]] = {}
    for cause, finding in findings.items():
        verdicts.setdefault(finding["verdict"], []).append(cause)
    remedy = report.get("remedy") or {}
    row: dict[str, Any] = {
        "primary": report["primary_cause"],
        "equivalent": report["equivalent"],
        "explained_by": report["explained_by"],
        "found": verdicts.get("found", []),
        "suspected": verdicts.get("suspected", []),
        "inconclusive": verdicts.get("inconclusive", []),
        "not_applicable": verdicts.get("not_applicable", []),
        "findings": {
            cause: {
                "verdict": finding["verdict"],
                "confidence": finding["confidence"],
                "gain": finding["gain"],
                "check": finding.get("check", "finished"),
            }
            for cause, finding in findings.items()
        },
        "seconds": round(run.seconds, 2),
        "seconds_inspected": round(run.seconds_inspected, 2),
        "before": _value(remedy.get("before")),
        "after": _value(remedy.get("after")),
        "steps": remedy.get("steps", []),
        "limits": report["limits"],
        "engine": report["environment"]["engine"],
    }
    row["hidden_before"] = _try_score(folder / "model.pt", folder, case.sketch.loss)
    if run.remedy is not None:
        loss = (remedy.get("recipe") or {}).get("loss") or {}
        name = str(loss.get("name") or case.sketch.loss)
        row["hidden_after"] = _try_score(run.remedy, folder, name)
    return row


def _value(scores: dict[str, Any] | None) -> float | None:
    return None if scores is None else scores["balanced_accuracy"]["value"]


def _try_score(model: Path, folder: Path, loss: str) -> float | str:
    """Score, or say why it cannot be: a repaired model that breaks is a finding."""
    try:
        return round(hidden_score(model, folder, loss), 4)
    except RuntimeError as error:
        return f"{error}"[:200]
