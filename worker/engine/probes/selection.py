"""Choose among candidates on one half of the rows, judge the choice on the other.

Both halves take both parts, so that every row is judged by a choice made without it.
"""

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from worker.engine.probes.material import Flags, Labels, Values
from worker.engine.stats.intervals import (
    Difference,
    paired_balanced_accuracy,
    widened,
)

Choice = TypeVar("Choice")


def halves(y: Labels, seed: int = 0) -> Flags:
    """Put every other row of each class, in random order, into the first half."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y))
    by_class = order[np.argsort(y[order], kind="stable")]
    first = np.zeros(len(y), dtype=np.bool_)
    # Alternating over the whole sorted list keeps the halves equal in size and, up to
    # one row, in every class.
    first[by_class[::2]] = True
    return first


def balanced(correct: Flags, y: Labels) -> float:
    """Return the mean recall over the classes that occur; 0 for no rows."""
    if len(y) == 0:
        return 0.0
    rows = np.bincount(y)
    hits = np.bincount(y, weights=correct, minlength=len(rows))
    present = rows > 0
    return float((hits[present] / rows[present]).mean())


def cross_fitted(
    y: Labels,
    choose: Callable[[Flags], Choice],
    judge: Callable[[Choice, Flags], Flags],
    *,
    seed: int = 0,
) -> tuple[Flags, tuple[Choice, Choice]]:
    """Choose on each half and judge on the other.

    Args:
        y: int64, (rows,).
        choose: from the rows to look at, bool (rows,), to a choice.
        judge: from a choice and the rows to judge to hits, bool (rows judged,).
        seed: governs the halves.

    Returns:
        Hits of all rows, and the two choices.
    """
    first = halves(y, seed)
    hits = np.zeros(len(y), dtype=np.bool_)
    by_first, by_second = choose(first), choose(~first)
    hits[~first] = judge(by_first, ~first)
    hits[first] = judge(by_second, first)
    return hits, (by_first, by_second)


def chosen_gain(before: Flags, after: Flags, y: Labels, *, agreed: bool) -> Difference:
    """Estimate the gain of cross-fitted choices.

    Where the halves chose differently the two parts of the estimate depend on each
    other through the rows both choices saw; it then counts as if one half judged it.

    Args:
        before: bool, (rows,), hits without any choice.
        after: bool, (rows,), hits of `cross_fitted`.
        y: int64, (rows,).
        agreed: whether both halves chose the same.
    """
    gain = paired_balanced_accuracy(before, after, y)
    if agreed:
        return gain
    return widened(gain, float(np.sqrt(2)))


def as_values(difference: Difference) -> Values:
    """Put a difference into JSON."""
    return {
        "value": difference.value,
        "low": difference.low,
        "high": difference.high,
        "standard_error": difference.standard_error,
    }
