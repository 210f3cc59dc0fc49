"""Paired differences between two arms, with both sources of noise.

The seed counts (another initialisation, another order of batches) and so does the
finite held-out set. Both are in every interval:

    D      = mean over seeds of the difference of balanced accuracy
    se²    = sd_seeds² / S  +  sum over classes of var(d_i) / (n_k K²)

where d_i is the difference of hits on row i, averaged over seeds. The seeds' spread is
moderated towards the spread pooled over all pairs of the audit, as small numbers of
seeds estimate it badly (Smyth 2004, Linear models and empirical Bayes methods,
doi:10.2202/1544-6115.1027, section 3). The second term holds a part of the first, so
that the interval is, if anything, wide.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

Bits = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

PRIOR_DEGREES = 3.0  # weight of the pooled spread, in seeds
ROW_PRIOR = 0.5  # squared differences added to each class, as if one row had moved


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


def balanced_accuracies(correct: Bits, labels: Labels) -> Floats:
    """Balanced accuracy a seed.

    Args:
        correct: bool, (seeds, rows).
        labels: int64, (rows,).

    Returns:
        float64, (seeds,).
    """
    return np.asarray(correct @ row_weights(labels), np.float64)


def row_weights(labels: Labels) -> Floats:
    """Weight of each row in balanced accuracy: 1 / (classes · rows of its class)."""
    counts = np.bincount(labels)
    present = int((counts > 0).sum())
    return np.asarray(1.0 / (present * counts[labels]), np.float64)


def seed_variance(after: Bits, before: Bits, labels: Labels) -> float:
    """Variance of the paired differences over seeds; 0 with a single seed."""
    if len(after) == 1:
        return 0.0
    differences = balanced_accuracies(after, labels) - balanced_accuracies(
        before, labels
    )
    return float(differences.var(ddof=1))


def row_variance(after: Bits, before: Bits, labels: Labels) -> float:
    """Variance of the mean difference that comes from the finite held-out set."""
    difference = after.mean(axis=0) - before.mean(axis=0)
    counts = np.bincount(labels)
    present = counts > 0
    n = counts[present]
    means = np.bincount(labels, difference)[present] / n
    squares = np.bincount(labels, difference**2)[present] - n * means**2 + ROW_PRIOR
    return float((squares / (n + 1) / n).sum() / len(n) ** 2)


def paired_gain(
    after: Bits, before: Bits, labels: Labels, *, pooled_variance: float | None = None
) -> PairedGain:
    """Estimate what the change brings.

    Args:
        after: bool, (seeds, rows), hits of the mended arm.
        before: bool, (seeds, rows), hits of the other arm, same seeds and rows.
        labels: int64, (rows,).
        pooled_variance: the seeds' variance pooled over comparable pairs.

    Returns:
        The difference of balanced accuracy with its standard error.
    """
    seeds = len(after)
    differences = balanced_accuracies(after, labels) - balanced_accuracies(
        before, labels
    )
    own = seed_variance(after, before, labels)
    if pooled_variance is None:
        variance, seed_degrees = own, max(1.0, seeds - 1.0)
    else:
        seed_degrees = PRIOR_DEGREES + seeds - 1
        variance = (PRIOR_DEGREES * pooled_variance + (seeds - 1) * own) / seed_degrees
    from_seeds = variance / seeds
    from_rows = row_variance(after, before, labels)
    total = from_seeds + from_rows
    # Welch-Satterthwaite; the rows' part has as many degrees as rows, taken as many.
    degrees = min(1e6, total**2 / max(1e-30, from_seeds**2 / seed_degrees))
    return PairedGain(
        value=float(differences.mean()),
        error=float(np.sqrt(total)),
        degrees=max(1.0, degrees),
        seeds=seeds,
    )


def minus(first: PairedGain, second: PairedGain) -> PairedGain:
    """Difference of two estimates taken as independent, which is conservative here."""
    return PairedGain(
        value=first.value - second.value,
        error=float(np.hypot(first.error, second.error)),
        degrees=min(first.degrees, second.degrees),
        seeds=min(first.seeds, second.seeds),
    )
