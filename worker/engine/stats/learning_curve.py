"""What more data would bring: a power law with an offset through nested subsets.

    error(n) = c + a n^-b

With subsets of a quarter, a half and all rows, the two steps g1 = e(N/4) - e(N/2) and
g2 = e(N/2) - e(N) determine the curve: g2 / g1 = 2^-b, and the next doubling brings
g2 · g2 / g1. The interval comes from drawing both steps from their error. No curve is
taken to fall faster than the inverse of the rows (b = 1): doubling at most halves the
error that is left. Below some number of rows a network learns nothing, which lies on no
power law: where a quarter of them is so few, or half of them do no better than a
quarter, b is anything from 0.15 to 1.

Source:    Viering & Loog 2023, The shape of learning curves: a review,
           doi:10.1109/TPAMI.2022.3220744 (power laws; about 15 % are ill-behaved).
"""

from dataclasses import dataclass

import numpy as np

from worker.engine.stats.pairs import PairedGain

DRAWS = 4000
STEEPEST = (
    0.9  # g2 / g1; a curve that does not flatten cannot be told from a straight one
)
BENT = 1.6  # g2 / g1, far beyond what noise makes of a curve that flattens
UNKNOWN = 0.5, STEEPEST  # where g1 tells nothing: inverse of the rows, to the steepest


@dataclass(frozen=True)
class Extrapolation:
    """Predicted gain of balanced accuracy.

    Attributes:
        doubled: value, low, high at twice the rows (all that there are).
        quadrupled: likewise at four times.
        halves: the measured gain from a half to all rows.
        is_well_behaved: whether each doubling brought less than the one before, and
            the least rows taught something.
        is_bent: whether the second doubling brought far more than the first, though
            the least rows taught something: no such curve goes through the three.
    """

    doubled: tuple[float, float, float]
    quadrupled: tuple[float, float, float]
    halves: float
    is_well_behaved: bool
    is_bent: bool


def extrapolate(
    half: PairedGain,
    quarter: PairedGain,
    *,
    error: float = 1.0,
    times: float = 1.0,
    learned: bool = True,
    seed: int = 0,
) -> Extrapolation:
    """Predict from the losses at a half and at a quarter of the rows.

    Args:
        half: balanced accuracy with half the rows minus with all that were used;
            usually negative.
        quarter: likewise with a quarter.
        error: 1 - balanced accuracy with all the rows.
        times: rows that there are, over those used: what twice all of them bring.
        learned: whether the network learned much from a quarter of the rows.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    at_half = -rng.normal(half.value, half.error, DRAWS)
    at_quarter = -rng.normal(quarter.value, quarter.error, DRAWS)
    second, first = at_half, at_quarter - at_half
    second = np.maximum(second, 0.0)
    anything = rng.uniform(*UNKNOWN, DRAWS)
    known = (first > 0) & learned
    ratio = np.where(known, second / np.where(known, first, 1.0), anything)
    ratio = np.clip(ratio, 0.0, STEEPEST)
    most, most_of_two = error / 2, 3 * error / 4
    doublings = 1 + np.log2(times)
    doubled = np.minimum(second * ratio**doublings, most)
    quadrupled = np.minimum(doubled * (1 + ratio), most_of_two)
    step, before = -half.value, half.value - quarter.value
    if before > 0 and learned:
        point_ratio = min(STEEPEST, max(0.0, step / before))
    else:
        point_ratio = float(np.mean(UNKNOWN))
    point = min(max(0.0, step) * point_ratio**doublings, most)
    return Extrapolation(
        doubled=(point, *_interval(doubled)),
        quadrupled=(
            min(point * (1 + point_ratio), most_of_two),
            *_interval(quadrupled),
        ),
        halves=step,
        is_well_behaved=learned and before > step > 0,
        is_bent=learned and step > 0 and step > BENT * before,
    )


def _interval(draws: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)
