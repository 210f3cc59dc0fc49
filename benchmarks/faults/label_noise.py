"""How well wrong labels are ranked and counted, without any audit around it.

The same training rows, of which a known share got another label, are judged by the
engine's probe; by cleanlab on the probe's own out-of-fold probabilities; by cleanlab on
those of a logistic regression; and by that regression alone. Rows that are called clean
are as their collectors left them: a rate estimated there may be theirs.
"""

import json
import warnings
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.faults.cases.bases import half_of_data
from benchmarks.faults.cleanlab_rival import (
    Judged,
    flagged_by_cleanlab,
    judged_by_cleanlab,
)
from benchmarks.faults.label_spoils import flipped, noisy
from benchmarks.faults.program import Sketch
from benchmarks.faults.set_files import SetMissingError
from benchmarks.faults.splits import Rows, draw
from worker.engine.data import Dataset, Split
from worker.engine.probes import noise
from worker.engine.probes.doubts import doubt

SETS = (
    "digits", "satimage", "segment", "vowel", "twonorm", "spambase",
    "penbased", "texture", "letter", "breast_cancer", "phoneme", "fashion",
)  # fmt: skip
KINDS = (
    ("clean", 0.0),
    ("symmetric", 0.1),
    ("symmetric", 0.2),
    ("symmetric", 0.4),
    ("to the next", 0.2),
)
SPOILERS = {"clean": noisy, "symmetric": noisy, "to the next": flipped}
METHODS = ("probe", "cleanlab_on_probe", "cleanlab", "regression")
Row = dict[str, Any]


def judged_by_probe(rows: Rows, classes: int, kind: str) -> dict[str, Judged]:
    """Let the engine's probe judge labels, and cleanlab by what the probe sees.

    Returns:
        By method: suspicion, float64, (rows,), and the estimated share of wrong labels;
        NaN where the probe does not say.
    """
    split = Split(rows.x, rows.y, np.arange(len(rows.y)), "train")
    names = tuple(str(k) for k in range(classes))
    layout = "NCHW" if kind == "image" else None
    dataset = Dataset({"train": split}, names, (), kind, layout)  # type: ignore[arg-type]
    material: Any = SimpleNamespace(train=split, dataset=dataset)
    columns = noise.columns_of(material, split)
    doubts = doubt(columns, rows.y, classes)  # from the seed that `measure` uses
    known = noise.is_known(doubts, rows.y)
    return {
        "probe": (-doubts.margin, doubts.rate if known else float("nan")),
        "cleanlab_on_probe": flagged_by_cleanlab(rows.y, doubts.first),
    }


def judge(data: str, kind: str, share: float, seed: int) -> Row:
    """Spoil labels of a set from a seed, and have all three methods judge them.

    Raises:
        SetMissingError: the package that carries the set is not installed.
    """
    material = draw(Sketch(data=data))
    given = SPOILERS[kind](material.train, share, material.classes, seed)
    wrong = given.y != material.train.y
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # regression that has not converged
        found = {
            **judged_by_probe(given, material.classes, material.kind),
            **judged_by_cleanlab(given.x, given.y),
        }
    row: Row = {"data": data, "kind": kind, "share": share, "seed": seed}
    for method, (suspicion, rate) in found.items():
        row[f"{method}_rate"] = round(rate, 4)
        if wrong.any():
            row[f"{method}_auroc"] = round(float(roc_auc_score(wrong, suspicion)), 4)
    return row


def measure(path: Path, sets: Iterable[str], seeds: int) -> Iterator[Row]:
    """Judge what `path` does not hold yet, one line each."""
    done = {_key(row) for row in read(path)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        for data in sets:
            for kind, share in KINDS:
                for seed in range(1 if kind == "clean" else seeds):
                    if (data, kind, share, seed) in done:
                        continue
                    try:
                        row = judge(data, kind, share, seed)
                    except SetMissingError as missing:
                        print(missing)
                        break
                    file.write(json.dumps(row) + "\n")
                    file.flush()
                    yield row


def read(path: Path) -> list[Row]:
    """Read what was judged before."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def _key(row: Row) -> tuple[str, str, float, int]:
    return row["data"], row["kind"], row["share"], row["seed"]


def table(rows: list[Row]) -> str:
    """Make the table: a line a set and kind of noise, figures in the order of methods.

    AUROCs are means over the seeds; rates are given as estimate minus truth, of the
    seeds' the farthest off.
    """
    both = "AUROC | rate − truth, points"
    lines = [
        f"| set | half | noise | seeds | {both} |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    order = {data: place for place, data in enumerate(SETS)}
    rows = sorted(rows, key=lambda row: (order.get(row["data"], 99), *_key(row)[1:]))
    for (data, kind, share), group in groupby(rows, key=lambda row: _key(row)[:3]):
        seeds = list(group)
        aurocs = [_mean(seeds, f"{method}_auroc") for method in METHODS]
        errors = [_farthest(seeds, f"{method}_rate") for method in METHODS]
        name = kind if kind == "clean" else f"{kind}, {share:.0%}".replace("%", " %")
        lines.append(
            f"| {data} | {half_of_data(data).replace('_', ' ')} | {name} | "
            f"{len(seeds)} | {', '.join(aurocs)} | {', '.join(errors)} |"
        )
    return "\n".join(lines)


def _mean(rows: list[Row], key: str) -> str:
    values = [row[key] for row in rows if key in row]
    return f"{np.mean(values):.3f}" if values else "-"


def _farthest(rows: list[Row], key: str) -> str:
    errors = [100 * (row[key] - row["share"]) for row in rows]
    errors = [error for error in errors if np.isfinite(error)]
    return f"{max(errors, key=abs):+.1f}" if errors else "-"
