"""Paired differences between two arms, with both sources of noise.

The seed counts (another initialisation, another order of batches) and so does the
finite held-out set. Both are in every interval:

    D      = mean over seeds of the difference of balanced accuracy
    se²    = sd_seeds² / S  +  sum over classes of var(d_i) / (n_k K²)

where d_i is the difference of hits on row i, averaged over the seeds that scored it.
Training rows that seeds leave out in turn count like held-out ones, but for a wider
variance: the trainings they are scored by share most of their rows, which the plain sum
does not know (Nadeau & Bengio 2003, Inference for the generalization error,
doi:10.1023/A:1024068626366; Bates, Hastie & Tibshirani 2021, arXiv:2104.00673).
The seeds' spread is
moderated towards the spread pooled over all pairs of the audit, as small numbers of
seeds estimate it badly (Smyth 2004, Linear models and empirical Bayes methods,
doi:10.2202/1544-6115.1027, section 3). The second term holds a part of the first, so
that the interval is, if anything, wide.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import beta
from scipy.stats import t as student

Bits = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Hits = Bits | Floats  # 0 or 1, or what that stands for where labels are noisy

PRIOR_DEGREES = 3.0  # weight of the pooled spread, in seeds
ROW_PRIOR = 0.5  # squared differences added to each class, as if one row had moved
UNLIKE, UNLIKE_ERRORS = 0.01, 2.0  # allowed difference, in itself and in errors
OVERLAP = 1.3  # variance of rows left out in turn over that of held-out rows


@dataclass(frozen=True)
class PairedGain:
    """A paired difference of balanced accuracy.

    Attributes:
        value: mean difference, -1 to 1.
        error: its standard error.
        degrees: degrees of freedom of the t distribution.
        seeds: number of pairs; 0 where only rows were resampled.
    """

    value: float
    error: float
    degrees: float
    seeds: int

    def bound(self, level: float) -> float:
        """Half the width of the two-sided interval that holds with `level`."""
        return float(student.ppf(0.5 + level / 2, self.degrees)) * self.error

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval."""
        return max(-1.0, self.value - self.bound(0.95))

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return min(1.0, self.value + self.bound(0.95))

    def p_above(self, floor: float) -> float:
        """One-sided p value of `the difference is at most floor`."""
        if self.error <= 0:
            return 0.0 if self.value > floor else 1.0
        return float(student.sf((self.value - floor) / self.error, self.degrees))

    def p_below(self, floor: float) -> float:
        """One-sided p value of `the difference is at least floor`."""
        return 1.0 - self.p_above(floor)


@dataclass(frozen=True)
class Rows:
    """The rows on which arms are compared.

    Attributes:
        labels: int64, (rows,).
        held_out: so many, the first, were never trained on; the rest is left out in
            turn.
        seen: bool, (seeds, rows), which seed scored which row; None: every one.
    """

    labels: Labels
    held_out: int
    seen: Bits | None = None

    @classmethod
    def of(cls, labels: Labels) -> "Rows":
        """Held-out rows only."""
        return cls(labels, len(labels))


def balanced_accuracies(correct: Hits, labels: Labels) -> Floats:
    """Balanced accuracy a seed.

    Args:
        correct: bool, (seeds, rows).
        labels: int64, (rows,).

    Returns:
        float64, (seeds,).
    """
    return np.asarray(correct @ row_weights(labels), np.float64)


def by_seed(values: npt.NDArray[Any], rows: Rows) -> Floats:
    """Balanced mean of values on the rows that each seed scored: (seeds,).

    Args:
        values: (seeds, rows); what was not scored is ignored.
        rows: on which.
    """
    if rows.seen is None:
        return balanced_accuracies(values, rows.labels)
    return np.array(
        [
            value[seen] @ row_weights(rows.labels[seen])
            for value, seen in zip(values, rows.seen, strict=True)
        ]
    )


def row_weights(labels: Labels) -> Floats:
    """Weight of each row in balanced accuracy: 1 / (classes · rows of its class)."""
    counts = np.bincount(labels)
    present = int((counts > 0).sum())
    return np.asarray(1.0 / (present * counts[labels]), np.float64)


def seed_variance(after: Hits, before: Hits, rows: Rows) -> float:
    """Variance of the paired differences over seeds; 0 with a single seed."""
    if len(after) == 1:
        return 0.0
    return float(by_seed(_difference(after, before), rows).var(ddof=1))


def _difference(after: Hits, before: Hits) -> Floats:
    return after.astype(np.float64) - before


def _by_row(after: Hits, before: Hits, rows: Rows) -> tuple[Floats, Labels, Floats]:
    """Mean difference of each row that was scored, its label, its variance's factor."""
    difference = _difference(after, before)
    if rows.seen is None:
        return difference.mean(axis=0), rows.labels, np.ones(len(rows.labels))
    times = rows.seen.sum(axis=0)
    scored = times > 0
    means = (difference * rows.seen).sum(axis=0)[scored] / times[scored]
    factor = np.where(np.arange(len(scored)) < rows.held_out, 1.0, OVERLAP)
    return means, rows.labels[scored], factor[scored]


def row_variance(after: Hits, before: Hits, rows: Rows) -> float:
    """Variance of the mean difference that comes from the finite number of rows."""
    difference, labels, factor = _by_row(after, before, rows)
    counts = np.bincount(labels)
    present = counts > 0
    n = counts[present]
    means = np.bincount(labels, difference)[present] / n
    squares = np.bincount(labels, difference**2)[present] - n * means**2 + ROW_PRIOR
    wider = np.bincount(labels, factor)[present] / n
    return float((wider * squares / (n + 1) / n).sum() / len(n) ** 2)


def most_to_gain(hits: Hits, rows: Rows, *, level: float) -> float:
    """Upper end of what is missing to a perfect balanced accuracy.

    Args:
        hits: bool, (seeds, rows).
        rows: that were scored.
        level: one-sided confidence.

    Returns:
        Balanced accuracy. Rows of unequal weight count as so many equal ones (Kish
        1965, Survey sampling, section 11.7), whose errors are binomial (Clopper and
        Pearson 1934, Biometrika 26).
    """
    means, labels, factor = _by_row(hits, np.zeros(hits.shape, np.bool_), rows)
    weights = row_weights(labels)
    errors = float(weights @ (1 - means))
    count = 1 / float((factor * weights**2).sum())
    return float(beta.ppf(level, errors * count + 1, count * (1 - errors)))


def paired_gain(
    after: Hits, before: Hits, rows: Rows, *, pooled_variance: float | None = None
) -> PairedGain:
    """Estimate what the change brings.

    Args:
        after: bool, (seeds, rows), hits of the mended arm.
        before: bool, (seeds, rows), hits of the other arm, same seeds and rows.
        rows: on which both were scored.
        pooled_variance: the seeds' variance pooled over comparable pairs.

    Returns:
        The difference of balanced accuracy with its standard error.
    """
    seeds = len(after)
    means, labels, _ = _by_row(after, before, rows)
    own = seed_variance(after, before, rows)
    if pooled_variance is None:
        variance, seed_degrees = own, max(1.0, seeds - 1.0)
    else:
        seed_degrees = PRIOR_DEGREES + seeds - 1
        variance = (PRIOR_DEGREES * pooled_variance + (seeds - 1) * own) / seed_degrees
    from_seeds = variance / seeds
    from_rows = row_variance(after, before, rows)
    total = from_seeds + from_rows
    # Welch-Satterthwaite; the rows' part has as many degrees as rows, taken as many.
    degrees = min(1e6, total**2 / max(1e-30, from_seeds**2 / seed_degrees))
    return PairedGain(
        value=float(means @ row_weights(labels)),
        error=float(np.sqrt(total)),
        degrees=max(1.0, degrees),
        seeds=seeds,
    )


Scored = tuple[Hits, Bits | None, Labels]


def unlikeness(
    first: Scored, second: Scored, *, errors: float = UNLIKE_ERRORS
) -> float:
    """How differently one arm does on two sets of rows; up to 1 they are alike.

    Args:
        first: hits (seeds, rows), which seed scored which row, labels (rows,).
        second: likewise.
        errors: standard errors that chance explains; more for an arm that was chosen.

    Returns:
        The difference of balanced accuracy over what chance would explain.
    """
    apart = between_rows(first, second)
    return abs(apart.value) / (UNLIKE + errors * apart.error)


def between_rows(first: Scored, second: Scored) -> PairedGain:
    """Estimate how much better one arm does on some rows than on others.

    Args:
        first: hits (seeds, rows), which seed scored which row, labels (rows,).
        second: likewise.

    Returns:
        The difference of balanced accuracy; its error is that of the finite rows.
    """
    (one, one_variance), (other, other_variance) = _level(first), _level(second)
    return PairedGain(
        value=one - other,
        error=float(np.sqrt(one_variance + other_variance)),
        degrees=1e6,
        seeds=len(first[0]),
    )


def _level(scored: Scored) -> tuple[float, float]:
    """Balanced accuracy and the variance that comes from the number of rows."""
    correct, seen, labels = scored
    rows = Rows(labels, len(labels), seen)
    nothing = np.zeros(correct.shape, np.bool_)
    means, known, _ = _by_row(correct, nothing, rows)
    return float(means @ row_weights(known)), row_variance(correct, nothing, rows)


def without_noise(hits: Hits, *, rate: float, classes: int) -> Floats:
    """What hits on noisy labels say of hits on the right ones, on average.

    A label that is wrong with probability r, evenly over the other classes, is hit with
    probability a (1 - r) + (1 - a) r / (K - 1) by a model of accuracy a; solved for a.

    Args:
        hits: (seeds, rows).
        rate: r, share of wrong labels.
        classes: K.
    """
    by_chance = rate / (classes - 1)
    return np.asarray((hits - by_chance) / (1 - rate - by_chance), np.float64)


def minus(first: PairedGain, second: PairedGain) -> PairedGain:
    """Difference of two estimates taken as independent, which is conservative here."""
    return PairedGain(
        value=first.value - second.value,
        error=float(np.hypot(first.error, second.error)),
        degrees=min(first.degrees, second.degrees),
        seeds=min(first.seeds, second.seeds),
    )
