"""The audit's own splits: rows to train on, to decide on, and to judge the remedy on.

Source:    Dwork et al. 2015, The reusable holdout, doi:10.1126/science.aaa9375: rows
           that choices were made on flatter what was chosen.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from worker.engine.data import Dataset, Split
from worker.engine.randomness import numpy_generator

TRAIN_SHARE = 0.6  # of rows that came without a held-out split
DECIDE_SHARE = 0.67  # of the held-out rows; the rest judges the remedy
MOST_SCORED = 20_000  # rows a scored split holds at most
LENT_PARTS = 4  # of the held-out rows; all but one are lent
MOST_LENT = 3.0  # held-out rows, for each training row
LEAST_SPARED = 2  # rows of a class in each part that is left out in turn

Places = npt.NDArray[np.int64]
SPARED_SEED = 20_260_102


@dataclass(frozen=True)
class Parts:
    """The three splits, and what was done to make them."""

    train: Split
    decide: Split
    final: Split
    held_out_given: bool
    notes: tuple[str, ...]


def make_parts(dataset: Dataset, *, seed: int) -> Parts:
    """Divide a dataset, stratified by class.

    A given held-out split is honoured: no model that is given back was trained on any
    of it, and none that is compared on a row on that row. With `val` and `test`, both
    are held out.
    """
    rng = np.random.default_rng([seed, 20_260_101])
    notes = []
    given = dataset.splits
    if "train" in given and len(given) > 1:
        train = given["train"]
        held = _join([given[name] for name in ("val", "test") if name in given])
        held_out_given = True
    else:
        [only] = given.values()
        first, second = _divide(only.y, TRAIN_SHARE, rng)
        train, held = _take(only, first), _take(only, second)
        held_out_given = False
        notes.append(
            "The dataset came without a held-out split: a stratified one of "
            f"{len(held)} rows was made. Where the delivered model was trained on "
            "these rows, its scores flatter it."
        )
    decide_rows, final_rows = _divide(held.y, DECIDE_SHARE, rng)
    parts = []
    for label, places in (("decide", decide_rows), ("final", final_rows)):
        if len(places) > MOST_SCORED:
            keep, _ = _divide(held.y[places], MOST_SCORED / len(places), rng)
            places = places[keep]  # noqa: PLW2901
            notes.append(f"{MOST_SCORED} held-out rows are scored to {label}.")
        parts.append(_take(held, places))
    return Parts(train, parts[0], parts[1], held_out_given, tuple(notes))


def stratified_order(y: Places, rows: Places, *, seed: int) -> Places:
    """Order rows so that every beginning holds the classes in their proportion.

    Args:
        y: int64, (all rows,).
        rows: int64, (some rows,), places in `y`.
        seed: governs the order within a class.
    """
    shuffled = numpy_generator(seed, "strata").permutation(rows)
    labels = y[shuffled]
    by_class = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    rank = np.empty(len(rows))
    rank[by_class] = (np.arange(len(rows)) - starts + 0.5) / np.repeat(counts, counts)
    return shuffled[np.argsort(rank, kind="stable")]


def base_rows(train: Split, rows: int | None) -> Places:
    """Return the places an experiment trains on, ascending.

    A subsample is stratified and the same for every arm and seed.
    """
    everything = np.arange(len(train))
    if rows is None or rows >= len(train):
        return everything
    return np.sort(stratified_order(train.y, everything, seed=0)[:rows])


def spared_rows(y: npt.NDArray[np.int64], folds: int) -> tuple[Places, ...]:
    """Divide training rows into parts that are left out in turn.

    The parts are stratified and of one size, so that stacks stay alike; what does not
    go into equal parts, and classes too small to be divided, are always trained on.

    Args:
        y: int64, (rows,).
        folds: number of parts.

    Returns:
        As many ascending int64 arrays of places.
    """
    rng = np.random.default_rng([SPARED_SEED, folds])
    parts: list[list[Places]] = [[] for _ in range(folds)]
    for k in np.unique(y):
        places = rng.permutation(np.flatnonzero(y == k))
        size = len(places) // folds
        if size < LEAST_SPARED:
            continue
        for at, part in enumerate(parts):
            part.append(places[at * size : (at + 1) * size])
    nothing = np.empty(0, np.int64)
    return tuple(np.sort(np.concatenate([nothing, *part])) for part in parts)


def lent_share(train: int, decide: int) -> float:
    """How many held-out rows a training may borrow, for each training row."""
    kept = 1 / LENT_PARTS
    return min(MOST_LENT, (1 - kept) * decide / max(1, train))


def lent_rows(
    y: npt.NDArray[np.int64], train: int
) -> tuple[tuple[Places, npt.NDArray[np.bool_]], ...]:
    """Divide held-out rows into those that a training borrows and those that score it.

    Args:
        y: int64, (rows that decide,).
        train: number of training rows.

    Returns:
        Ways to do so, which seeds take in turn: int64, places that are borrowed, and
        bool, (rows,), those that none of these is.
    """
    ways = []
    most = round(lent_share(train, len(y)) * train)
    for part in spared_rows(y, LENT_PARTS):
        others = np.setdiff1d(np.arange(len(y)), part)
        lent = np.sort(stratified_order(y, others, seed=2)[:most])
        scored = np.zeros(len(y), dtype=np.bool_)
        scored[part] = True
        ways.append((lent, scored))
    return tuple(ways)


def _divide(
    y: npt.NDArray[np.int64], share: float, rng: np.random.Generator
) -> tuple[Places, Places]:
    """Divide row numbers by class; each class leaves at least one to both sides."""
    first: list[Places] = []
    second: list[Places] = []
    for k in np.unique(y):
        places = rng.permutation(np.flatnonzero(y == k))
        cut = round(share * len(places))
        if len(places) > 1:
            cut = min(max(1, cut), len(places) - 1)
        first.append(places[:cut])
        second.append(places[cut:])
    return np.sort(np.concatenate(first)), np.sort(np.concatenate(second))


def _take(split: Split, places: Places) -> Split:
    return replace(split, x=split.x[places], y=split.y[places], rows=split.rows[places])


def _join(splits: list[Split]) -> Split:
    if len(splits) == 1:
        return splits[0]
    return Split(
        x=np.concatenate([s.x for s in splits]),
        y=np.concatenate([s.y for s in splits]),
        rows=np.concatenate([s.rows for s in splits]),
        source="+".join(s.source for s in splits),
    )
