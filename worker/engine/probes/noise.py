"""Which training labels a reference that never saw them contradicts.

Rows are ranked by the margin of their given label, averaged over early epochs of a
small reference network (source: Pleiss et al. 2020, Identifying mislabeled data using
the area under the margin ranking, arXiv:2001.10528). The rate is the smaller of two
counts out of fold, both of which overlap of the classes can only raise:
- cleanlab's calibrated count of the confident joint (Northcutt, Jiang & Chuang 2021,
  Confident learning, arXiv:1911.00068);
- the share contradicted among the quarter of rows that the reference is surest of,
  class by class, where hard examples are rare.

Values:
    rate: share of wrong labels, `value`, `low`, `high`; absent where the reference
        predicts no better than chance.
    counts: the two counts. reference: its balanced accuracy out of fold.
    suspects: `row` (in the uploaded split), `given`, `suggested` (names), `score` (the
        probability of the given label, out of fold); at most 100, the worst first.
    mask: training rows that are suspect (`pack_mask`); random_mask: as many random rows
        of each given class; suspected: how many; corrections: the class that the
        reference gives each suspect, in row order.
"""

import warnings

import numpy as np

from worker.engine.data import Split
from worker.engine.lab.experiment import pack_mask
from worker.engine.probes.crossfit import Watched, watch
from worker.engine.probes.features import Features
from worker.engine.probes.material import (
    Flags,
    Floats,
    Labels,
    Material,
    Values,
    choose,
    integer,
    note,
)
from worker.engine.splits import base_rows
from worker.engine.stats.intervals import balanced_accuracy, wilson

MOST_CHECKED = 100_000  # rows; of more, a stratified part is checked
MOST_ROWS = 10_000  # a fold is trained on an epoch
MOST_COLUMNS = 300
MOST_LISTED = 100
SUREST = 0.25  # share of the rows of each predicted class
LEAST_A_CLASS = 5  # rows without which the confident joint is not calibrated
LEAST_ROWS = 40
MOST_CELLS = 50_000_000  # rows times classes


def measure(material: Material, settings: Values) -> Values:
    """Cross-check the training labels; settings: `rows`."""
    values: Values = {"notes": []}
    # The rows that experiments train on come first in this order, should they be fewer.
    places = base_rows(material.train, MOST_CHECKED)
    train, classes = choose(material.train, places), len(material.dataset.class_names)
    if len(train) < len(material.train):
        note(
            values,
            f"the labels of {len(train)} of {len(material.train)} training rows were "
            "cross-checked",
        )
    y = train.y
    if len(y) < LEAST_ROWS or len(y) * classes > MOST_CELLS:
        note(values, "labels were not cross-checked: too few rows, or too many classes")
        return values
    most = integer(settings, "rows", MOST_ROWS)
    seen = watch(_columns(material, train), y, classes, most=most)
    predicted = seen.out_of_fold.argmax(1)
    hit = np.asarray(predicted == y, dtype=np.bool_)
    reference = balanced_accuracy(hit, y)
    values["reference"] = reference.model_dump()
    chance = 1 / max(1, len(np.unique(y)))
    if reference.low is None or reference.low <= chance:
        note(
            values,
            "labels were not cross-checked: the reference predicts no better than "
            "chance",
        )
        return values
    flags = _rate(values, seen, y, places, len(material.train))
    names = material.dataset.class_names
    values["corrections"] = [int(k) for k in predicted[flags]]
    worst = np.flatnonzero(flags)
    worst = worst[np.argsort(seen.margin[worst], kind="stable")][:MOST_LISTED]
    values["suspects"] = [
        {
            "row": int(train.rows[k]),
            "given": names[y[k]],
            "suggested": names[predicted[k]],
            "score": float(seen.out_of_fold[k, y[k]]),
        }
        for k in worst
    ]
    return values


def _columns(material: Material, train: Split) -> Floats:
    features = Features.fit(material.dataset, train.x)
    columns = features.columns(train.x)
    if columns.shape[1] <= MOST_COLUMNS:
        return columns
    return features.reduced(train.x)


def _rate(values: Values, seen: Watched, y: Labels, places: Labels, rows: int) -> Flags:
    """Estimate the rate, and flag the suspects among the rows that were checked."""
    contradicted, among = surest(seen.out_of_fold, y)
    counts = [contradicted / among]
    joint = confident_joint_rate(seen.out_of_fold, y)
    if joint is not None:
        counts.append(joint)
    rate = min(counts)
    interval = wilson(rate * among, among)
    values["rate"] = interval.model_dump()
    values["counts"] = {"surest": counts[0], "confident_joint": joint}
    flags = suspects(seen, y, round(rate * len(y)))
    values["suspected"] = int(flags.sum())
    for name, flagged in (("mask", flags), ("random_mask", as_many(flags, y))):
        everywhere = np.zeros(rows, dtype=np.bool_)
        everywhere[places] = flagged
        values[name] = pack_mask(everywhere)
    return flags


def surest(probabilities: Floats, y: Labels) -> tuple[int, int]:
    """Count contradicted labels among the surest quarter of each predicted class.

    Returns:
        Contradicted rows, and rows looked at.
    """
    predicted, sure = probabilities.argmax(1), probabilities.max(1)
    contradicted = among = 0
    for k in np.unique(predicted):
        rows = np.flatnonzero(predicted == k)
        count = max(1, round(SUREST * len(rows)))
        top = rows[np.argsort(-sure[rows], kind="stable")[:count]]
        contradicted += int((y[top] != k).sum())
        among += count
    return contradicted, among


def confident_joint_rate(probabilities: Floats, y: Labels) -> float | None:
    """Count wrong labels as cleanlab does; None where a class has too few rows."""
    counts = np.bincount(y, minlength=probabilities.shape[1])
    if counts.min() < LEAST_A_CLASS:
        return None
    # Imported late: it takes a second, and most probes do without.
    from cleanlab.count import num_label_issues  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = num_label_issues(
            y, probabilities, estimation_method="off_diagonal_calibrated"
        )
    return float(found) / len(y)


def suspects(seen: Watched, y: Labels, count: int) -> Flags:
    """Flag the rows of lowest margin that the reference contradicts."""
    order = np.argsort(seen.margin, kind="stable")
    contradicted = seen.out_of_fold.argmax(1) != y
    chosen = order[contradicted[order]][:count]
    flags = np.zeros(len(y), dtype=np.bool_)
    flags[chosen] = True
    return flags


def as_many(flags: Flags, y: Labels, seed: int = 0) -> Flags:
    """Flag as many random rows of each class."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(y), dtype=np.bool_)
    for k in np.unique(y[flags]):
        rows = np.flatnonzero(y == k)
        count = int(flags[rows].sum())
        chosen[rng.choice(rows, count, replace=False)] = True
    return chosen
