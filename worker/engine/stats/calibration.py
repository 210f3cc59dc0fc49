"""Calibration error and macro F1, with intervals by resampling of counts."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from service.contract.report import CalibrationBin, Interval
from worker.engine.stats.intervals import LEVEL, Flags, Labels, Numbers

RESAMPLES = 2000
MOST_BINS = 10
LEAST_ROWS_A_BIN = 40


@dataclass(frozen=True)
class Calibration:
    """The debiased expected calibration error and the bins it was made from."""

    error: Interval
    bins: list[CalibrationBin]


def calibration(
    confidence: Numbers, correct: Flags, *, seed: int = 0, level: float = LEVEL
) -> Calibration:
    """Measure how far confidence is from accuracy.

    Bins of equal count. The plain estimate is biased upward: a bin's gap g of sampling
    deviation s shows up as |g + noise|, whose mean exceeds |g|. Each bin's gap becomes
    the one whose mean would be what was seen, 0 where that is less than pure noise
    shows. The interval resamples the gaps; there the variance counts twice. It reaches
    down to 0 where all gaps together are no more than chance shows (chi-square).
    Source: Kumar, Liang & Ma 2019, Verified uncertainty calibration, arXiv:1909.10155,
    section 5, for the bias; correcting it bin by bin by the mean of the folded normal
    is ours.

    Args:
        confidence: float64, (rows,), probability of the predicted class.
        correct: bool, (rows,).
        seed: governs the resampling.
        level: probability that the interval covers the truth.
    """
    rows = len(confidence)
    if rows == 0:
        return Calibration(Interval(value=None, low=None, high=None), [])
    wanted = max(1, min(MOST_BINS, rows // LEAST_ROWS_A_BIN))
    edges = np.unique(np.quantile(confidence, np.linspace(0, 1, wanted + 1)[1:-1]))
    place = np.searchsorted(edges, confidence, side="right")
    counts = np.bincount(place, minlength=len(edges) + 1).astype(np.float64)
    used = counts > 0
    hits = np.bincount(place, weights=correct.astype(float), minlength=len(counts))
    sums = np.bincount(place, weights=confidence, minlength=len(counts))
    counts, hits, sums = counts[used], hits[used], sums[used]
    accuracy, mean = hits / counts, sums / counts
    # The larger of what was seen and what the confidence implies, so that neither a bin
    # without errors nor an overconfident one counts as free of noise.
    implied = mean * (1 - mean) / counts
    variance = np.maximum(accuracy * (1 - accuracy) / counts, implied)
    share, gap = counts / rows, accuracy - mean

    value = float((share * _debiased(gap, variance)).sum())
    rng = np.random.default_rng(seed)
    draws = gap + rng.standard_normal((RESAMPLES, len(gap))) * np.sqrt(variance)
    errors = (share * _debiased(draws, 2 * variance)).sum(1)
    low, high = np.quantile(errors, [(1 - level) / 2, (1 + level) / 2])
    chance = stats.chi2.sf((gap**2 / np.maximum(implied, 1e-18)).sum(), len(gap))
    if chance > 1 - level:
        low = 0.0
    bounds = np.concatenate([[0.0], edges, [1.0]])
    lows, highs = bounds[:-1][used], bounds[1:][used]
    return Calibration(
        Interval(value=value, low=min(value, float(low)), high=max(value, float(high))),
        [
            CalibrationBin(
                low=float(lows[i]),
                high=float(highs[i]),
                n=int(counts[i]),
                confidence=float(mean[i]),
                accuracy=float(accuracy[i]),
            )
            for i in range(len(counts))
        ],
    )


_MEANS = np.linspace(0.0, 6.0, 601)
# Mean of |N(m, 1)| (Leone, Nelson & Nottingham 1961, the folded normal distribution).
_SEEN = _MEANS * special.erf(_MEANS / np.sqrt(2)) + np.sqrt(2 / np.pi) * np.exp(
    -(_MEANS**2) / 2
)


def _debiased(gap: Numbers, variance: Numbers) -> Numbers:
    deviation = np.sqrt(np.maximum(variance, 1e-18))
    seen = np.abs(gap) / deviation
    true = np.where(seen < _SEEN[-1], np.interp(seen, _SEEN, _MEANS), seen)
    return np.asarray(true * deviation, dtype=np.float64)


def macro_f1(
    predicted: Labels,
    y: Labels,
    *,
    seed: int = 0,
    level: float = LEVEL,
    resamples: int = 1000,
) -> Interval:
    """Estimate the mean F1 over the classes that occur in `y`.

    The cells of the confusion matrix are resampled (multinomial, half a row added to
    the cell of a wrong answer so that a perfect model is not certain).

    Args:
        predicted: int64, (rows,).
        y: int64, (rows,), labels from 0.
        seed: governs the resampling.
        level: probability that the interval covers the truth.
        resamples: number of resamples.
    """
    if len(y) == 0:
        return Interval(value=None, low=None, high=None)
    classes, given = np.unique(y, return_inverse=True)
    known = np.isin(predicted, classes)
    answer = np.where(known, np.searchsorted(classes, predicted), len(classes))
    answer = np.minimum(answer, len(classes))
    cells, counts = np.unique(
        np.stack([given.reshape(-1), answer], 1), axis=0, return_counts=True
    )
    value = float(_macro_f1(cells, counts[None].astype(np.float64), len(classes))[0])
    rng = np.random.default_rng(seed)
    shares, cells = _softened(cells, counts, len(classes))
    drawn = rng.multinomial(len(y), shares, size=resamples).astype(np.float64)
    scores = _macro_f1(cells, drawn, len(classes))
    low, high = np.nanquantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return Interval(
        value=value, low=min(value, float(low)), high=max(value, float(high))
    )


def _softened(
    cells: Labels, counts: npt.NDArray[np.int64], classes: int
) -> tuple[Numbers, Labels]:
    """Spread one pseudo-error over the classes where nothing was missed at all."""
    wrong = cells[:, 0] != cells[:, 1]
    if bool(wrong.any()):
        return counts / counts.sum(), cells
    # Three rows: the rule of three gives an upper 95 % bound of 3/n errors.
    extra = np.stack([np.arange(classes), np.full(classes, classes)], 1)
    weights = np.concatenate([counts.astype(np.float64), np.full(classes, 1 / classes)])
    return weights / weights.sum(), np.concatenate([cells, extra])


def _macro_f1(cells: Labels, counts: Numbers, classes: int) -> Numbers:
    """Macro F1 of each row of `counts`, (resamples, cells); absent classes left out."""
    given = np.zeros((len(counts), classes + 1))
    answered = np.zeros((len(counts), classes + 1))
    hit = np.zeros((len(counts), classes + 1))
    for index, (label, answer) in enumerate(cells):
        given[:, label] += counts[:, index]
        answered[:, answer] += counts[:, index]
        if label == answer:
            hit[:, label] += counts[:, index]
    total = (given + answered)[:, :classes]
    present = given[:, :classes] > 0
    f1 = np.divide(2 * hit[:, :classes], total, out=np.zeros_like(total), where=present)
    result: Numbers = f1.sum(1) / np.maximum(present.sum(1), 1)
    return result
