"""Do reported intervals contain the gain when it is measured again?

The arms behind every gain that retraining measured are trained again by the same
experiment from fresh seeds, once for all gains of a report. The gain is then measured
twice: on the rows that the audit decided on, which says whether the seeds' part of the
interval is right, and on the hidden rows, which says whether all of it is. As hidden
rows are few, too, a gain there is called compatible where the two estimates differ by
no more than both errors together allow.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.drive import OpenedAudit
from benchmarks.faults.figures import Share
from benchmarks.faults.reported_gains import (
    ReportedGain,
    reported_gains,
    uses_rows_left_out,
)
from worker.engine.data import Split
from worker.engine.lab.bench import Bench
from worker.engine.lab.experiment import Training, TrainingOutcome
from worker.engine.results import Results, collect
from worker.engine.stats.pairs import PairedGain, Rows

FIRST_SEED = 900_001  # far from those that audits draw
MOST_SEEDS = 20
LEAST_SEEDS = 8
Row = dict[str, Any]


class TooDearError(RuntimeError):
    """The arms of a report would train for too long."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"{LEAST_SEEDS} seeds of all arms take about {seconds:.0f} s")


def remeasure(
    folder: Path, scratch: Path, report: dict[str, Any], *, seconds: float
) -> Iterator[Row]:
    """Measure a report's gains again.

    Args:
        folder: of the program.
        scratch: emptied first.
        report: of an audit of that program.
        seconds: that may be spent, of processor time; fewer seeds where they are short.

    Yields:
        One row a gain.

    Raises:
        TooDearError: not even `LEAST_SEEDS` fit.
    """
    gains = [*reported_gains(report)]
    borrows = uses_rows_left_out(report)
    opened = OpenedAudit(folder, scratch, budget="standard", seed=0)
    bench, decided = _with_hidden_rows(opened, folder)
    for is_confirmed in (True, False):
        chosen = [gain for gain in gains if gain.is_confirmed is is_confirmed]
        if not chosen:
            continue
        training = _affordable(bench, chosen, seconds)
        results = _trained(opened, bench, training)
        on_decide = _on(results, decided, hidden=False, borrows=borrows)
        on_hidden = _on(results, decided, hidden=True, borrows=False)
        for gain in chosen:
            names = _name(gain.after), _name(gain.before)
            if not all(name in results for name in names):
                continue
            again, hidden = on_decide.gain(*names), on_hidden.gain(*names)
            yield {**_told(gain), **_compared(gain, again, hidden)}


def _told(gain: ReportedGain) -> Row:
    return {
        "cause": gain.cause,
        "verdict": gain.verdict,
        "kind": gain.kind,
        "confirmed": gain.is_confirmed,
        "after": gain.after["name"],
        "before": gain.before["name"],
        "low": round(gain.low, 4),
        "value": round(gain.value, 4),
        "high": round(gain.high, 4),
    }


def _compared(gain: ReportedGain, again: PairedGain, hidden: PairedGain) -> Row:
    half = max(gain.high - gain.value, gain.value - gain.low)
    allowed = float(np.hypot(half, hidden.bound(0.95)))
    return {
        "seeds": again.seeds,
        "again": round(again.value, 4),
        "inside": gain.low <= again.value <= gain.high,
        "hidden": round(hidden.value, 4),
        "hidden_error": round(hidden.error, 4),
        "hidden_inside": gain.low <= hidden.value <= gain.high,
        "hidden_compatible": abs(hidden.value - gain.value) <= allowed,
    }


def _name(arm: dict[str, Any]) -> str:
    return str(arm["name"])


def _with_hidden_rows(opened: OpenedAudit, folder: Path) -> tuple[Bench, int]:
    """Make a bench that scores hidden rows after those that decide.

    Returns:
        The bench, and how many rows decide.
    """
    material = opened.session.material
    assert material is not None
    decide = material.decide
    with np.load(folder / "hidden.npz") as arrays:
        x, y = arrays["x"], arrays["y"]
    both = Split(
        x=np.concatenate([decide.x, x.astype(decide.x.dtype)]),
        y=np.concatenate([decide.y, y]),
        rows=np.arange(len(decide) + len(y)),
        source="decide and hidden",
    )
    return Bench(replace(material, decide=both)), len(decide)


def _affordable(
    bench: Bench, gains: Sequence[ReportedGain], seconds: float
) -> Training:
    """Plan the training of all arms from as many seeds as fit.

    Raises:
        TooDearError: not even the least number fits.
    """
    arms = {_name(arm): arm for gain in gains for arm in (gain.after, gain.before)}
    plan = Training.model_validate(
        {
            "round": "remeasure",
            "question": "Is the gain there again?",
            "arms": [{"name": n, "changes": a["changes"]} for n, a in arms.items()],
            "seeds": range(FIRST_SEED, FIRST_SEED + LEAST_SEEDS),
            "rows": gains[0].rows,
            "folds": gains[0].folds,
        }
    )
    least = bench.predict_seconds(plan)
    if least > seconds:
        raise TooDearError(least)
    count = min(MOST_SEEDS, int(LEAST_SEEDS * seconds / max(1e-9, least)))
    return plan.model_copy(
        update={"seeds": tuple(range(FIRST_SEED, FIRST_SEED + count))}
    )


def _trained(opened: OpenedAudit, bench: Bench, training: Training) -> Results:
    outcome = bench.run(training)
    assert isinstance(outcome, TrainingOutcome)
    material, original = bench.material, opened.session.material
    assert original is not None
    return collect([("again", training, outcome)], material.decide.y, original.train.y)


def _on(results: Results, decided: int, *, hidden: bool, borrows: bool) -> Results:
    """Keep the rows that decide, with or without those left out, or hidden ones."""
    rows = results.rows
    places = np.arange(len(rows.labels))
    scored = places < rows.held_out
    if hidden:
        keep = scored & (places >= decided)
    else:
        keep = (places < decided) | (~scored & borrows)
    seen = None if rows.seen is None or not borrows else rows.seen[:, keep]
    count = int((keep & scored).sum())
    return Results(
        Rows(rows.labels[keep], count, seen),
        {
            key: replace(ran, correct=ran.correct[:, keep])
            for key, ran in results.arms.items()
        },
    )


GROUPS = (
    ("found or suspected, on fresh seeds", {"found", "suspected"}, True),
    ("not found or inconclusive, on fresh seeds", {"not_found", "inconclusive"}, True),
    ("screening seeds only", {"not_found", "inconclusive", "suspected"}, False),
)


def coverage_table(rows: Iterable[Row]) -> str:
    """Make the table: how many reported intervals contain the gain measured again."""
    rows = list(rows)
    lines = [
        "| gains | kind | deciding rows | hidden rows | hidden, compatible |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, verdicts, is_confirmed in GROUPS:
        for kind in ("alone", "within"):
            chosen = [
                row
                for row in rows
                if row["verdict"] in verdicts
                and row["confirmed"] is is_confirmed
                and row["kind"] == kind
            ]
            if chosen:
                lines.append(f"| {name} | {kind} | {_cells(chosen)} |")
    return "\n".join(lines)


def _cells(rows: Sequence[Row]) -> str:
    keys = ("inside", "hidden_inside", "hidden_compatible")
    return " | ".join(
        str(Share(sum(row[key] for row in rows), len(rows))) for key in keys
    )


def remedies_table(
    reports: dict[str, dict[str, Any]], audits: dict[str, dict[str, Any]]
) -> str:
    """Compare each remedy's reported gain with what it gains on hidden rows.

    The interval holds the finite number of final rows only, so that the hidden rows'
    own error is not allowed for.
    """
    inside = []
    for case, report in reports.items():
        gain = (report.get("remedy") or {}).get("gain")
        row = audits.get(case, {})
        before, after = row.get("hidden_before"), row.get("hidden_after")
        if gain and isinstance(before, float) and isinstance(after, float):
            inside.append(gain["low"] <= after - before <= gain["high"])
    share = Share(sum(inside), len(inside))
    return f"remedies whose gain on hidden rows lies in the reported interval: {share}"
