"""Whether columns of whole numbers are names of categories, taken for quantities.

A linear learner that looks each code up, as one column a code, is held against the same
on the numbers: where codes are names, their order and their distances say nothing.
Training rows are predicted out of fold.
Source: Guo & Berkhahn 2016, Entity embeddings of categorical variables,
arXiv:1604.06737.

Values:
    columns: how many columns may hold codes.
    sizes: how many codes each column of a sample has, 0 for a quantity; empty where
        there are none.
    numbers, codes: balanced accuracy of the two learners; None where none was trained.
    gain: paired difference, with `low`, `high`, `standard_error`; None likewise.
    level: `value` and `low` of the balanced accuracy with codes; None likewise.
"""

import numpy as np

from worker.engine.data import Split
from worker.engine.probes.learners import FOLDS, MANY_CLASSES, linear, out_of_fold
from worker.engine.probes.material import (
    Floats,
    Material,
    Values,
    choose,
    integer,
    sample_places,
)
from worker.engine.probes.selection import as_values, balanced
from worker.engine.stats.intervals import balanced_accuracy, paired_balanced_accuracy

MOST_ROWS = 1_500
MOST_SEEN = 20_000  # rows whose codes are counted
TABLE = 2  # dimensions
FEWEST = 3  # codes; of two a network makes what it would of a code each
LARGEST = 1_000  # a code
MOST_CODES = 2_048  # of a sample, all columns together
ROWS_A_CODE = 3  # at least, on average


def measure(material: Material, settings: Values) -> Values:
    """Compare codes with numbers; settings: `rows`."""
    values: Values = {"columns": 0, "sizes": []}
    values |= dict.fromkeys(("numbers", "codes", "gain", "level"))
    most = integer(settings, "rows", MOST_ROWS)
    train = choose(material.train, sample_places(material.train.y, most))
    sizes = code_sizes(material.train)
    values["columns"] = sum(size > 0 for size in sizes)
    classes = len(material.dataset.class_names)
    fewest = np.bincount(train.y, minlength=classes)
    if not any(sizes) or classes > MANY_CLASSES or (fewest < FOLDS).any():
        return values
    values["sizes"] = list(sizes)
    x = np.nan_to_num(np.asarray(train.x, dtype=np.float64))
    by_number, by_code = (
        out_of_fold(linear, columns, train.y, classes).argmax(1) == train.y
        for columns in (x, looked_up(x, sizes))
    )
    values["numbers"], values["codes"] = (
        balanced(hit, train.y) for hit in (by_number, by_code)
    )
    values["gain"] = as_values(paired_balanced_accuracy(by_number, by_code, train.y))
    level = balanced_accuracy(by_code, train.y)
    values["level"] = {"value": level.value, "low": level.low}
    return values


def code_sizes(train: Split) -> list[int]:
    """Count the codes of each column, from 0 on; 0 of what is no code.

    In a sample of many rows: a code that none of these holds has no column.
    """
    if train.x.ndim != TABLE or train.x.shape[1] > MOST_CODES:
        return []
    x = choose(train, sample_places(train.y, MOST_SEEN)).x
    sizes = [_codes_of(x[:, place]) for place in range(x.shape[1])]
    return sizes if sum(sizes) <= MOST_CODES else [0] * len(sizes)


def _codes_of(column: np.ndarray) -> int:
    if not np.isfinite(column).all() or (column != np.round(column)).any():
        return 0
    low, high = int(column.min()), int(column.max())
    if low < 0 or high >= LARGEST:
        return 0
    distinct = len(np.unique(column))
    if distinct < FEWEST or ROWS_A_CODE * distinct > len(column):
        return 0
    return high + 1


def looked_up(x: Floats, sizes: list[int]) -> Floats:
    """Give each code a column of its own: float64, (rows, codes and quantities)."""
    parts = [
        (x[:, place, None] == np.arange(size)).astype(np.float64)
        if size
        else x[:, place, None]
        for place, size in enumerate(sizes)
    ]
    return np.concatenate(parts, 1)
