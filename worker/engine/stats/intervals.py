"""Estimates with intervals: shares, balanced accuracy, differences, log loss.

Every interval holds at the edges too: a model that is right on all rows gets a lower
bound below 1, one that is never right an upper bound above 0.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from service.contract.report import Interval

Flags = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]

LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """A difference with its interval; `standard_error` is in the same unit."""

    value: float
    low: float
    high: float
    standard_error: float

    def as_interval(self) -> Interval:
        """Return value and bounds alone."""
        return Interval(value=self.value, low=self.low, high=self.high)


def normal_quantile(level: float = LEVEL) -> float:
    """Return z so that a standard normal lies in ±z with probability `level`."""
    return float(stats.norm.ppf(0.5 + level / 2))


def wilson(hits: float, trials: float, level: float = LEVEL) -> Interval:
    """Estimate a share.

    Source: Wilson 1927, JASA 22; recommended by Brown, Cai & DasGupta 2001, section 3.

    Args:
        hits: successes, 0 to `trials`.
        trials: 0 gives an interval of `None`.
        level: probability that the interval covers the truth.
    """
    if trials <= 0:
        return Interval(value=None, low=None, high=None)
    low, high = _wilson_bounds(np.array([hits]), np.array([trials]), level)
    return Interval(value=hits / trials, low=float(low[0]), high=float(high[0]))


def clopper_pearson(hits: int, trials: int, level: float = LEVEL) -> Interval:
    """Estimate a share with an interval that covers at least `level`.

    Source: Clopper & Pearson 1934, Biometrika 26.
    """
    if trials <= 0:
        return Interval(value=None, low=None, high=None)
    tail = (1 - level) / 2
    low = float(stats.beta.ppf(tail, hits, trials - hits + 1)) if hits else 0.0
    high = (
        float(stats.beta.ppf(1 - tail, hits + 1, trials - hits))
        if hits < trials
        else 1.0
    )
    return Interval(value=hits / trials, low=low, high=high)


def class_counts(correct: Flags, y: Labels) -> tuple[Numbers, Numbers]:
    """Count hits and rows of each class that occurs.

    Args:
        correct: bool, (rows,).
        y: int64, (rows,), labels from 0.

    Returns:
        float64, (classes present,) hits and rows.
    """
    rows = np.bincount(y).astype(np.float64)
    hits = np.bincount(y, weights=correct.astype(np.float64)).astype(np.float64)
    present = rows > 0
    return hits[present], rows[present]


def balanced_accuracy(correct: Flags, y: Labels, level: float = LEVEL) -> Interval:
    """Estimate the mean recall over the classes that occur.

    The limits of the recalls are combined by their recovered variances; each is the
    wider of Wilson's, which holds at the edges, and the normal one, since Wilson's pull
    to the middle does not cancel in a mean over classes.
    Source: Zou & Donner 2008, Statistics in Medicine 27:1693 (MOVER).

    Args:
        correct: bool, (rows,).
        y: int64, (rows,), labels from 0.
        level: probability that the interval covers the truth.
    """
    if len(y) == 0:
        return Interval(value=None, low=None, high=None)
    hits, rows = class_counts(correct, y)
    low, high = _wilson_bounds(hits, rows, level)
    recalls = hits / rows
    value = float(recalls.mean())
    variance = recalls * (1 - recalls) / np.maximum(rows - 1, 1)
    half = normal_quantile(level) * np.sqrt(variance)
    below = float(np.sqrt((np.maximum(recalls - low, half) ** 2).sum())) / len(rows)
    above = float(np.sqrt((np.maximum(high - recalls, half) ** 2).sum())) / len(rows)
    return Interval(
        value=value, low=max(0.0, value - below), high=min(1.0, value + above)
    )


def paired_balanced_accuracy(
    before: Flags, after: Flags, y: Labels, level: float = LEVEL
) -> Difference:
    """Estimate the gain of balanced accuracy on the same rows.

    The discordant shares of each class are shrunk to those of all rows by two
    pseudo-rows, so that a class without any change does not count as certain.
    Source: Bonett & Price 2012, J. Educ. Behav. Stat. 37:479 (adjusted Wald for paired
    shares); pooling over classes is ours.

    Args:
        before: bool, (rows,), hits of the one.
        after: bool, (rows,), hits of the other.
        y: int64, (rows,), labels from 0.
        level: probability that the interval covers the truth.
    """
    won = after & ~before
    lost = before & ~after
    won_by_class, rows = class_counts(won, y)
    lost_by_class, _ = class_counts(lost, y)
    total = float(rows.sum())
    pooled_won = (float(won_by_class.sum()) + 1) / (total + 2)
    pooled_lost = (float(lost_by_class.sum()) + 1) / (total + 2)
    share_won = (won_by_class + 2 * pooled_won) / (rows + 2)
    share_lost = (lost_by_class + 2 * pooled_lost) / (rows + 2)
    variance = (share_won + share_lost - (share_won - share_lost) ** 2) / (rows + 2)
    value = float(np.mean((won_by_class - lost_by_class) / rows))
    return _difference(value, float(np.sqrt(variance.sum())) / len(rows), level)


def unpaired_balanced_accuracy(
    first: tuple[Flags, Labels], second: tuple[Flags, Labels], level: float = LEVEL
) -> Difference:
    """Estimate balanced accuracy of `second` minus that of `first`, disjoint rows.

    Only classes that occur in both count. Each recall's variance is that of its
    Agresti-Coull share. Source: Agresti & Caffo 2000, The American Statistician 54:280.
    """
    classes = np.intersect1d(first[1], second[1])
    if len(classes) == 0:
        return Difference(0.0, -1.0, 1.0, 1.0)
    value, variance = 0.0, 0.0
    for (correct, y), sign in ((first, -1.0), (second, 1.0)):
        kept = np.isin(y, classes)
        hits, rows = class_counts(correct[kept], y[kept])
        share = (hits + 1) / (rows + 2)
        value += sign * float(np.mean(hits / rows))
        variance += float((share * (1 - share) / (rows + 2)).sum()) / len(classes) ** 2
    return _difference(value, float(np.sqrt(variance)), level)


def mean_loss(losses: Numbers, level: float = LEVEL) -> Interval:
    """Estimate the mean of non-negative, skewed losses.

    A t interval on the logarithm of the mean (delta method), since losses are skewed
    to the right; it never reaches below 0.

    Args:
        losses: float64, (rows,), nats.
        level: probability that the interval covers the truth.
    """
    finite = losses[np.isfinite(losses)]
    if len(finite) == 0:
        return Interval(value=None, low=None, high=None)
    value = float(finite.mean())
    if len(finite) == 1 or value <= 0:
        return Interval(value=value, low=0.0 if value <= 0 else None, high=None)
    relative = float(finite.std(ddof=1)) / float(np.sqrt(len(finite))) / value
    half = float(stats.t.ppf(0.5 + level / 2, len(finite) - 1)) * relative
    return Interval(
        value=value,
        low=value * float(np.exp(-half)),
        high=value * float(np.exp(min(half, 50.0))),
    )


def area_under_curve(
    scores: Numbers, positive: Flags, level: float = LEVEL
) -> Difference:
    """Estimate the probability that a positive row scores above a negative one.

    The standard error is DeLong's, but at least that of a share with Wilson's
    adjustment on the smaller group, so that perfect separation is not certain.
    Source: DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44:837; fast form: Sun & Xu
    2014, IEEE Signal Processing Letters 21:1389.

    Args:
        scores: float64, (rows,), higher means more likely positive.
        positive: bool, (rows,); both kinds must occur.
        level: probability that the interval covers the truth.
    """
    ranks = stats.rankdata(scores)
    ups, downs = int(positive.sum()), int((~positive).sum())
    above = (ranks[positive] - stats.rankdata(scores[positive])) / downs
    below = 1 - (ranks[~positive] - stats.rankdata(scores[~positive])) / ups
    value = float(above.mean())
    variance = (
        float(above.var(ddof=1 if ups > 1 else 0)) / ups
        + float(below.var(ddof=1 if downs > 1 else 0)) / downs
    )
    least = 0.25 / min(ups, downs) ** 2
    return _difference(value, float(np.sqrt(max(variance, least))), level, floor=0.0)


def _wilson_bounds(
    hits: Numbers, trials: Numbers, level: float
) -> tuple[Numbers, Numbers]:
    z = normal_quantile(level)
    share = hits / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    spread = np.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2))
    half = z * spread / (1 + z * z / trials)
    return (
        np.where(hits == 0, 0.0, np.maximum(0.0, centre - half)),
        np.where(hits == trials, 1.0, np.minimum(1.0, centre + half)),
    )


def widened(difference: Difference, factor: float, level: float = LEVEL) -> Difference:
    """Multiply the standard error of a difference."""
    return _difference(difference.value, factor * difference.standard_error, level)


def _difference(
    value: float, standard_error: float, level: float, *, floor: float = -1.0
) -> Difference:
    half = normal_quantile(level) * standard_error
    return Difference(
        value=value,
        low=max(floor, value - half),
        high=min(1.0, value + half),
        standard_error=standard_error,
    )
