"""Do reported intervals contain the gain when it is measured again?

Every `found` or `suspected` gain that was measured by retraining is trained again from
fresh seeds, on the same rows, by the experiment that stands in the report.
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.faults.drive import OpenedAudit

SEEDS = tuple(range(900_001, 900_021))  # far from those that audits draw
BASELINE = "baseline"
SAME = 1e-9  # balanced accuracy


def _arm_of(
    finding: dict[str, Any], report: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Find the arm, with the baseline, whose gain a finding reports.

    It is the one of the finding's own arms that was confirmed on fresh seeds, else the
    one whose screened gain is the reported gain.
    """
    tried: dict[str, dict[str, float]] = {}
    for evidence in finding["evidence"]:
        if evidence["kind"] == "paired_gain":
            tried = evidence["values"]["tried"]
    gain = finding["gain"]
    if gain["method"] != "paired retraining":  # against other arms than the baseline
        return None
    confirmed: dict[str, dict[str, Any]] = {}
    screened: dict[str, dict[str, Any]] = {}
    for experiment in report["experiments"]:
        chosen = confirmed if experiment["round"] == "confirm" else screened
        chosen.update({arm["name"]: arm for arm in experiment["arms"]})
    arms = {**screened, **confirmed}
    keys = [key for key in tried if key in confirmed] or [
        key
        for key, seen in tried.items()
        if abs(seen["value"] - gain["value"]) < SAME and key in arms
    ]
    if len(keys) != 1 or BASELINE not in arms:
        return None
    return arms[keys[0]], arms[BASELINE]


def remeasure(
    folder: Path, scratch: Path, report: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Measure a report's gains again, from `SEEDS`.

    Args:
        folder: of the program.
        scratch: emptied first.
        report: of an audit of that program.

    Yields:
        One row a gain: the interval, the new value, whether it lies inside.
    """
    opened = OpenedAudit(folder, scratch, budget="standard", seed=0)
    for finding in report["findings"]:
        gain = finding["gain"]
        if finding["verdict"] not in {"found", "suspected"} or not gain:
            continue
        found = _arm_of(finding, report) if gain["seeds"] else None
        if found is None:
            continue
        arms = [
            {"name": arm["name"], "changes": arm["changes"]} for arm in reversed(found)
        ]
        outcome = opened.session.run(
            {
                "kind": "training",
                "round": "remeasure",
                "question": "Is the gain there again?",
                "arms": arms,
                "seeds": SEEDS,
                "split": "decide",
            }
        )
        before, after = (
            [trial["balanced_accuracy"] for trial in arm["trials"]]
            for arm in outcome["arms"]
        )
        again = mean(b - a for a, b in zip(before, after, strict=True))
        yield {
            "cause": finding["cause"],
            "arm": arms[1]["name"],
            "low": gain["low"],
            "value": gain["value"],
            "high": gain["high"],
            "again": round(again, 4),
            "inside": gain["low"] <= again <= gain["high"],
        }
