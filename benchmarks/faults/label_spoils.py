"""Wrong labels of two kinds, from a seed."""

import numpy as np

from benchmarks.faults.splits import Rows


def noisy(rows: Rows, share: float, classes: int, seed: int) -> Rows:
    """Replace a share of the labels by another class, evenly."""
    rng = np.random.default_rng(seed)
    y = rows.y.copy()
    hit = rng.permutation(len(y))[: round(share * len(y))]
    y[hit] = (y[hit] + rng.integers(1, classes, size=len(hit))) % classes
    return Rows(rows.x, y)


def flipped(rows: Rows, share: float, classes: int, seed: int) -> Rows:
    """Mistake a share of the labels for the next class."""
    rng = np.random.default_rng(seed)
    y = rows.y.copy()
    hit = rng.permutation(len(y))[: round(share * len(y))]
    y[hit] = (y[hit] + 1) % classes
    return Rows(rows.x, y)
