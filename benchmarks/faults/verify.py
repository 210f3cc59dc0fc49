"""Measure what each program is worth: is the fault a fault, is the control healthy?

Figures of a sketch and a seed are kept under `build/faults/scores`, so that only what
changed is trained again. The table goes to `cases.json`, which is committed.
"""

import fcntl
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.program import Case, Sketch
from benchmarks.faults.splits import kind_of
from service.contract.causes import Cause

BUILD = Path("build/faults")
TABLE = Path(__file__).parent / "cases.json"
SEEDS = (101, 102, 103)
MENU_SEEDS = SEEDS[:2]
LEAST_GAIN = 0.05  # balanced accuracy: what makes a fault a fault
LITTLE = 0.5  # share of the gain that no single mend of an interaction may exceed
CONFIRMED = 0.02  # balanced accuracy: what makes a finding on a control no false alarm


def measured(sketch: Sketch, seed: int, *, part: str = "hidden") -> float:
    """Score of a sketch, from disk where it was measured before."""
    path = BUILD / "scores" / f"{sketch.digest()}-{seed}-{part}.json"
    if path.exists():
        return float(json.loads(path.read_text()))
    from benchmarks.faults.referee import score  # noqa: PLC0415 - imports torch

    value = score(sketch, seed, part=part)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return value


def scores(
    sketch: Sketch, seeds: tuple[int, ...] = SEEDS, *, part: str = "hidden"
) -> list[float]:
    """Scores over the paired seeds."""
    return [measured(sketch, seed, part=part) for seed in seeds]


Change = tuple[Sketch, tuple[Cause, ...]]


def menu(sketch: Sketch) -> dict[str, Change]:
    """Single changes that would show a control to be unhealthy, with their causes."""
    slow = (
        Cause.LEARNING_RATE_TOO_LOW,
        Cause.INSUFFICIENT_TRAINING,
        Cause.UNSUITABLE_OPTIMIZER,
    )
    fast = (Cause.LEARNING_RATE_TOO_HIGH, Cause.UNSUITABLE_OPTIMIZER)
    loose = (Cause.INSUFFICIENT_REGULARIZATION, Cause.EXCESS_CAPACITY)
    double = tuple(width * 2 for width in sketch.widths)
    half = tuple(max(1, width // 2) for width in sketch.widths)
    dropout = 0.3 if sketch.dropout == 0 else 0.0
    short = max(1, sketch.epochs // 3)
    decay = sketch.weight_decay + 1e-2
    return _other_layers(sketch) | {
        "lr x3": (replace(sketch, lr=sketch.lr * 3), slow),
        "lr /3": (replace(sketch, lr=sketch.lr / 3), fast),
        "epochs x2": (replace(sketch, epochs=sketch.epochs * 2), slow),
        "epochs /3": (replace(sketch, epochs=short), loose),
        "width x2": (replace(sketch, widths=double), (Cause.INSUFFICIENT_CAPACITY,)),
        "width /2": (replace(sketch, widths=half), loose),
        "balanced": (replace(sketch, sampler="balanced"), (Cause.CLASS_IMBALANCE,)),
        "weight decay": (replace(sketch, weight_decay=decay), loose),
        "dropout": (
            replace(sketch, dropout=dropout),
            loose if dropout else (Cause.EXCESS_REGULARIZATION,),
        ),
        "rows x2": (
            replace(sketch, rows=sketch.rows * 2),
            (Cause.INSUFFICIENT_DATA,),
        ),
    }


def _other_layers(sketch: Sketch) -> dict[str, Change]:
    """Convolutions, where dense layers read pictures or series."""
    if sketch.family != "dense":
        return {}
    kind = kind_of(sketch.data)
    if kind not in {"image", "series"}:
        return {}
    other = (
        replace(sketch, family="conv", widths=(16, 32, 64))
        if kind == "image"
        else replace(sketch, family="series_conv", widths=(48,))
    )
    return {"convolutions": (other, (Cause.UNSUITABLE_LAYERS,))}


def verify(case: Case, *, with_menu: bool) -> dict[str, Any]:
    """Measure a case: its score, the best mended score, and whether it is kept.

    Raises:
        SetMissingError: the package that carries its data is not installed.
    """
    part = "val" if case.criterion == "inflation" else "hidden"
    faulty = scores(case.sketch, part=part)
    row: dict[str, Any] = {"score": round(float(np.mean(faulty)), 4)}
    if case.criterion == "inflation":
        honest = scores(case.sketch)
        gains = np.subtract(faulty, honest)
    elif case.mended:
        options = [scores(mended) for mended in case.mended]
        best = max(options, key=lambda values: float(np.mean(values)))
        row["mended"] = round(float(np.mean(best)), 4)
        gains = np.subtract(best, faulty)
    elif case.is_healthy and with_menu:
        return {**row, **_health(case.sketch, faulty)}
    else:
        row["kept"] = True
        return row
    gain = float(np.mean(gains))
    row["gain"] = round(gain, 4)
    row["deviation"] = round(float(np.std(gains, ddof=1)), 4)
    is_large = gain >= LEAST_GAIN
    row["kept"] = not is_large if case.is_healthy else is_large
    if case.singles:
        # All that is tried alone counts, also another value of what is wrong.
        row["single"] = round(max(float(np.mean(scores(s))) for s in case.singles), 4)
        recovered = row["single"] - row["score"]
        row["kept"] = is_large and recovered <= LITTLE * gain
    if case.lacking:
        needed = [
            cause.value
            for cause, sketch in case.lacking
            if row["mended"] - float(np.mean(scores(sketch))) >= LEAST_GAIN
        ]
        row["needed"] = needed
        row["kept"] = is_large and bool(needed)
        if row["kept"] and with_menu:
            health = _health(case.mended[0], scores(case.mended[0]))
            row["kept"], row["confirmed"] = health["kept"], health["confirmed"]
    return row


def as_measured(case: Case, row: dict[str, Any]) -> Case:
    """Leave out of a case's truth what proved harmless; it may be named all the same.

    Args:
        case: as planned.
        row: of the committed table.
    """
    if "needed" not in row:
        return case
    needed = tuple(cause for cause in case.causes if cause.value in row["needed"])
    others = {*case.equivalents, *case.causes} - {*needed}
    return replace(case, causes=needed, equivalents=tuple(sorted(others)))


def _health(sketch: Sketch, given: list[float]) -> dict[str, Any]:
    """Try the menu on a control.

    It is kept where no change of the program gains as much as a fault would; more rows
    are no change of the program. Causes that a change confirms by `CONFIRMED` points
    or more are noted: naming one of them is no false alarm.
    """
    gains: dict[str, float] = {}
    base = given[: len(MENU_SEEDS)]
    confirmed: set[Cause] = set()
    for name, (other, causes) in menu(sketch).items():
        gains[name] = round(
            float(np.mean(np.subtract(scores(other, MENU_SEEDS), base))), 4
        )
        if gains[name] >= CONFIRMED:
            confirmed.update(causes)
    own = {name: gain for name, gain in gains.items() if name != "rows x2"}
    best = max(own, key=lambda name: own[name])
    return {
        "gain": own[best],
        "best_change": best,
        "confirmed": sorted(cause.value for cause in confirmed),
        "kept": own[best] < LEAST_GAIN,
    }


def save_table(rows: dict[str, dict[str, Any]]) -> None:
    """Merge rows into the committed table; safe beside another `--verify`."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "cases.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        table = read_table()
        table.update(rows)
        text = ",\n".join(
            f" {json.dumps(name)}: {json.dumps(table[name])}" for name in sorted(table)
        )
        TABLE.write_text("{\n" + text + "\n}\n")


def read_table() -> dict[str, dict[str, Any]]:
    """Read the committed table; empty where there is none."""
    table: dict[str, dict[str, Any]] = (
        json.loads(TABLE.read_text()) if TABLE.exists() else {}
    )
    return table
