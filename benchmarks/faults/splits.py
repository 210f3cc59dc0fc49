"""Rows of a program: trained on, delivered as held out, and hidden from the audit."""

from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import train_test_split

from benchmarks.faults.program import Sketch
from benchmarks.faults.real_sets import load_real
from benchmarks.faults.set_files import Floats, Kind, Labels, RealSet
from benchmarks.faults.synthetic_sets import generate

MOST_VAL = 800
MOST_HIDDEN = 1500


@dataclass(frozen=True)
class Rows:
    """`x` float32, (rows, *sample shape); `y` int64, (rows,)."""

    x: Floats
    y: Labels

    def take(self, index: np.ndarray) -> "Rows":
        """Pick rows."""
        return Rows(self.x[index], self.y[index])


@dataclass(frozen=True)
class Material:
    """Three disjoint parts of a data set; the audit never sees `hidden`."""

    train: Rows
    val: Rows
    hidden: Rows
    classes: int
    kind: Kind


def _part(rows: Rows, count: int, seed: int) -> tuple[Rows, Rows]:
    """Split off `count` rows, every class in proportion; (taken, rest)."""
    everything = np.arange(len(rows.y))
    if count >= len(rows.y):
        return rows, rows.take(everything[:0])
    first, rest = train_test_split(
        everything, train_size=count, random_state=seed, stratify=rows.y
    )
    return rows.take(np.sort(first)), rows.take(np.sort(rest))


def _whole(data: str) -> RealSet:
    found = generate(data)
    return load_real(data) if found is None else found


def kind_of(data: str) -> Kind:
    """What a set holds.

    Raises:
        SetMissingError: the package that carries the set is not installed.
    """
    return _whole(data).kind


def draw(sketch: Sketch) -> Material:
    """Split a sketch's data, the same for every seed, and put it on its scale.

    Raises:
        SetMissingError: the package that carries the set is not installed.
    """
    x, y, kind = _whole(sketch.data)
    rows = Rows(x, y)
    held_out = min(MOST_HIDDEN, len(y) // 4)
    hidden, rest = _part(rows, held_out, 1)
    val, rest = _part(rest, min(MOST_VAL, len(y) // 4), 2)
    train, _ = _part(rest, sketch.rows, 3)
    parts = [train, val, hidden]
    if sketch.scale == "standard" and kind == "table":
        center, spread = train.x.mean(0), train.x.std(0)
        spread = np.where(spread > 0, spread, 1)
        parts = [
            Rows(((part.x - center) / spread).astype(np.float32), part.y)
            for part in parts
        ]
    elif sketch.scale in {"unit", "byte"}:
        top = float(np.abs(train.x).max()) / (255 if sketch.scale == "byte" else 1)
        parts = [Rows((part.x / top).astype(np.float32), part.y) for part in parts]
    return Material(
        train=parts[0],
        val=parts[1],
        hidden=parts[2],
        classes=int(y.max()) + 1,
        kind=kind,
    )
