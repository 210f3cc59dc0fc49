"""Deepchecks on the causes that it covers, in an environment of its own.

Its last release cannot be imported beside the scikit-learn that this project needs, so
it gets the last versions that it works with, and is called as another program.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.faults.figures import Share
from benchmarks.faults.program import Case
from benchmarks.faults.runner import program_folder

ENVIRONMENT = Path("build/rivals-venv")
PINS = (
    "deepchecks==0.19.1",
    "scikit-learn==1.5.2",
    "numpy<2",
    "pandas<2.3",
    "category-encoders<2.7",
    "setuptools<81",
)
CHILD = Path(__file__).with_name("deepchecks_child.py")
LONGEST_SECONDS = 600

# Which of our causes a check of theirs speaks of.
SPEAKS_OF: dict[str, tuple[str, ...]] = {
    "split_leakage": ("TrainTestSamplesMix",),
    "distribution_shift": ("FeatureDrift", "LabelDrift", "MultivariateDrift"),
    "class_imbalance": ("ClassImbalance",),
    "corrupted_inputs": (
        "OutlierSampleDetection",
        "PercentOfNulls",
        "MixedNulls",
        "SpecialCharacters",
        "IsSingleValue",
    ),
    "label_noise": ("ConflictingLabels",),
}
Row = dict[str, Any]


def prepared() -> Path:
    """Make the environment unless it is there; returns its interpreter.

    Raises:
        CalledProcessError: the packages cannot be installed.
    """
    python = ENVIRONMENT / "bin" / "python"
    ready = ENVIRONMENT / "ready"
    if not ready.exists():
        make = (
            [sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)],
            [str(python), "-m", "pip", "install", "--quiet", *PINS],
        )
        for command in make:
            subprocess.run(command, check=True)  # noqa: S603 - our own words
        ready.touch()
    return python


def covers(case: Case) -> bool:
    """Whether deepchecks speaks of the case's faults, or it is a healthy table."""
    return case.is_healthy or any(cause.value in SPEAKS_OF for cause in case.causes)


def deepchecks_rows(
    cases: Iterable[Case], audits: dict[str, Row], *, seed: int
) -> Iterator[Row]:
    """Run deepchecks on the data of programs.

    Args:
        cases: to judge; those that it does not cover are left out.
        audits: finished rows by case, to stand beside.
        seed: of the programs.
    """
    python = prepared()
    for case in cases:
        if not covers(case):
            continue
        folder = program_folder(case, seed)
        ended = subprocess.run(  # noqa: S603 - our own program
            [str(python), str(CHILD), str(folder / "data.npz")],
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST_SECONDS,
        )
        row: Row = {
            "case": case.name,
            "half": case.half,
            "causes": [cause.value for cause in case.causes],
            "audit_found": audits.get(case.name, {}).get("found"),
        }
        try:
            answer = json.loads(ended.stdout.strip().splitlines()[-1])
        except (IndexError, json.JSONDecodeError):
            yield {**row, "problem": ended.stderr[-300:]}
            continue
        failed = answer["failed"]
        named = [
            cause
            for cause, checks in SPEAKS_OF.items()
            if any(check in failed for check in checks)
        ]
        yield {**row, "failed": failed, "named": named}


def deepchecks_table(rows: Iterable[Row]) -> str:
    """Make the table: what it detects, and what it says of healthy programs."""
    rows = [row for row in rows if "problem" not in row]
    lines = [
        "| cause | deepchecks | audit | controls: deepchecks | controls: audit |",
        "| --- | --- | --- | --- | --- |",
    ]
    healthy = [row for row in rows if not row["causes"]]
    audited = [row for row in healthy if row["audit_found"] is not None]

    def shares(
        name: str, planted: list[Row], causes: Iterable[str] | None
    ) -> tuple[str, ...]:
        def said(row: Row, key: str) -> bool:
            found = row[key] if causes is None else set(row[key]) & set(causes)
            return bool(found)

        seen = [row for row in planted if row["audit_found"] is not None]
        return (
            name,
            str(Share(sum(said(row, "named") for row in planted), len(planted))),
            str(Share(sum(said(row, "audit_found") for row in seen), len(seen))),
            str(Share(sum(said(row, "named") for row in healthy), len(healthy))),
            str(Share(sum(said(row, "audit_found") for row in audited), len(audited))),
        )

    for cause in SPEAKS_OF:
        planted = [row for row in rows if cause in row["causes"]]
        if planted:
            lines.append(f"| {' | '.join(shares(cause, planted, [cause]))} |")
    lines.append(f"| {' | '.join(shares('any of these', [], SPEAKS_OF))} |")
    any_condition = sum(bool(row["failed"]) for row in healthy)
    lines += [
        "",
        "Controls on which any condition of its suites fails: "
        + str(Share(any_condition, len(healthy))),
    ]
    return "\n".join(lines)
