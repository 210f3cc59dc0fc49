"""What is odd in one column of numbers: sentinels and isolated outliers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from worker.engine.probes.material import Flags, Floats

SENTINELS = (
    -9.0, -99.0, -999.0, -9999.0, -99999.0, 999.0, 9999.0, 99999.0, 999999.0, -1.0,
)  # fmt: skip
LEAST_REPEATS = 3  # equal values that make a spike
MOST_SPIKES = 3  # at either end
MOST_ISOLATED = 0.2  # share of the values beyond which a spike is no exception
MOST_FILLED = 0.6  # share of the values beyond which the fill is the rule
FILLED_GAP = 0.2  # least gap to most others, in their width
FILLED_REPEATS = 4.0  # times as often as any other value
MOST_CHANNELS = 256  # that are looked at
MOST_POOLED = 2_000_000  # values of all samples together that are looked at
LEAST_DISTINCT = 10  # distinct other values without which nothing is a bulk
LONG_CODE = 99.0  # and FAR_FROM_FEW times their range away: a code among categories
FAR_FROM_FEW = 10.0
FAR = 12.0  # robust deviations from the median before a value can be an outlier
GAP = 1.0  # least gap to the bulk, in asinh of robust deviations (about a factor e)
MOST_OUTLIERS = 0.05  # share of values beyond which they are a mode, not outliers
VERY_FAR = 50.0  # robust deviations; a second mode lies beyond
LEAST_MODE, MOST_MODE = 0.002, 0.5  # share of the values that a second mode holds
MOST_BETWEEN = 0.2  # values between FAR and VERY_FAR, for each beyond
MOST_ALIKE = 0.5  # share of the others that one value holds, where they have a width


@dataclass(frozen=True)
class Spike:
    """One value that is repeated far from the others."""

    value: float
    kind: str
    where: Flags


def deviations(column: Floats) -> Floats | None:
    """Return robust deviations from the median, None where the middle has no width.

    NaN stays NaN. Source: Iglewicz & Hoaglin 1993, How to detect and handle outliers.
    """
    good = column[np.isfinite(column)]
    if len(good) == 0:
        return None
    median = np.median(good)
    width = 1.4826 * float(np.median(np.abs(good - median)))
    if width <= 0:
        return None
    result: Floats = (column - median) / width
    return result


def spikes(column: Floats, *, filled: bool = False) -> list[Spike]:
    """Find values at either end that repeat and stand apart from all others.

    Known codes for a missing value need a gap of half the middle's width, any other
    value twice that; -1 counts where everything else is at least 0. Beside a few
    categories only codes of two digits or more count, ten times their range apart.

    Args:
        column: float64, (rows,).
        filled: whether values count as well that lie nearer, but repeat much more often
            than any other: what missing values of a feature were filled with, mostly 0.
    """
    found: list[Spike] = []
    good = column[np.isfinite(column)]
    for end in (np.min, np.max):
        for _ in range(MOST_SPIKES):
            if not len(good):
                break
            spike = _spike(column, good, float(end(good)), filled=filled)
            if spike is None:
                break
            found.append(spike)
            good = good[good != spike.value]
    return found


def _spike(column: Floats, good: Floats, value: float, *, filled: bool) -> Spike | None:
    """Judge the least or greatest value of `good`, the values not yet set apart."""
    rest = good[good != value]
    count = len(good) - len(rest)
    if count < LEAST_REPEATS or len(rest) < LEAST_DISTINCT:
        return None
    known = value in SENTINELS
    if not _is_bulk(rest):
        far = abs(value) >= LONG_CODE and _is_far_from_few(value, rest)
        return Spike(value, "code", column == value) if known and far else None
    gap = float(rest.min() - value) if value < rest[0] else float(value - rest.max())
    low, high = np.quantile(rest, [0.01, 0.99])
    width = float(high - low)
    if known and (gap > 0.5 * width or (value == -1 and rest.min() >= 0)):
        return Spike(value, "code", column == value)
    if gap > 1.0 * width and count / len(good) < MOST_ISOLATED:
        return Spike(value, "isolated", column == value)
    # A hundredth of the others may lie nearer.
    gap_to_most = low - value if value < rest[0] else value - high
    if filled and gap_to_most > FILLED_GAP * width and count / len(good) < MOST_FILLED:
        _, repeats = np.unique(rest, return_counts=True)
        if count >= FILLED_REPEATS * repeats.max():
            return Spike(value, "filled", column == value)
    return None


def _is_far_from_few(value: float, rest: Floats) -> bool:
    """Whether a value lies far from categories, of which there are a few."""
    low, high = float(rest.min()), float(rest.max())
    return low < high and max(low - value, value - high) > FAR_FROM_FEW * (high - low)


def _is_bulk(rest: Floats) -> bool:
    some = rest[:: max(1, len(rest) // 1000)]
    return len(np.unique(some)) >= LEAST_DISTINCT


def pooled_spikes(x: npt.NDArray[np.generic]) -> list[Spike]:
    """Find such values among those of all samples together: pictures and series.

    Args:
        x: (rows, *sample shape); a place of its own means little here.

    Returns:
        `where` flags rows that hold the value: bool, (rows,).
    """
    flat = x.reshape(len(x), -1)
    step = max(1, flat.size // MOST_POOLED)
    some = flat.reshape(-1)[::step].astype(np.float64)
    return [
        Spike(spike.value, spike.kind, np.asarray((flat == spike.value).any(1)))
        for spike in spikes(some)
    ]


def pooled_far(x: npt.NDArray[np.generic], axis: int | None) -> Flags:
    """Flag values far from all others of their channel: pictures and series.

    A slipped decimal point in most samples makes none of them odd as a whole.

    Args:
        x: (rows, *sample shape).
        axis: of a sample, along which values have their own scale; None: all share one.

    Returns:
        bool, like `x`; False for non-finite values.
    """
    far = np.zeros(x.shape, dtype=np.bool_)
    if x.dtype == np.uint8:
        return far  # too narrow for a decimal point to slip
    if axis is None:
        x, flags = x[..., None], far[..., None]  # views, like the moved ones
    else:
        x, flags = np.moveaxis(x, axis + 1, -1), np.moveaxis(far, axis + 1, -1)
    step = max(1, x.size // MOST_POOLED)
    for k in range(min(x.shape[-1], MOST_CHANNELS)):
        channel = x[..., k]
        some = channel.reshape(-1)[::step].astype(np.float64)
        odd = some[isolated(some) | second_mode(some)]
        if len(odd) == 0:
            continue
        middle = np.median(some[np.isfinite(some)])
        least = odd[odd > middle].min(initial=np.inf)
        greatest = odd[odd < middle].max(initial=-np.inf)
        outside = (channel >= least) | (channel <= greatest)
        flags[..., k] = outside & np.isfinite(channel)
    return far


def codes(x: npt.NDArray[np.generic], *, is_table: bool) -> Floats:
    """List the values that stand for "missing".

    Args:
        x: (rows, *sample shape).
        is_table: whether each place of a sample is a feature of its own.

    Returns:
        float64, (most codes of a feature, features) for a table, NaN where a feature
        has fewer; (codes, 1) otherwise.
    """
    if is_table:
        flat = x.reshape(len(x), -1)
        columns = (flat[:, k].astype(np.float64) for k in range(flat.shape[1]))
        return code_table(
            [values_of(spikes(column, filled=True)) for column in columns]
        )
    return code_table([values_of(pooled_spikes(x))])


def values_of(found: Sequence[Spike]) -> list[float]:
    """List what the spikes are, without the rows that hold them."""
    return [spike.value for spike in found]


def code_table(by_place: Sequence[Sequence[float]]) -> Floats:
    """Put the codes of each place below each other: float64, (most of one, places).

    NaN stands where a place has fewer.
    """
    table = np.full((max(map(len, by_place), default=0), len(by_place)), np.nan)
    for place, values in enumerate(by_place):
        table[: len(values), place] = values
    return table


def isolated(column: Floats) -> Flags:
    """Flag values that are far from the middle and apart from the nearest other value.

    On the scale asinh(robust deviations), heavy tails thin out evenly while a slipped
    decimal point leaves a gap.

    Returns:
        bool, (rows,); False for non-finite values.
    """
    nothing = np.zeros(len(column), dtype=np.bool_)
    scaled = deviations(column)
    if scaled is None:
        return nothing
    flags = nothing.copy()
    for sign in (1.0, -1.0):
        side = np.where(np.isfinite(scaled), np.arcsinh(sign * scaled), -np.inf)
        values = np.sort(side[np.isfinite(side)])
        far = int(np.searchsorted(values, np.arcsinh(FAR)))
        if far == len(values) or far == 0:
            continue
        tail = values[max(0, far - 1) :]
        gaps = np.diff(tail)
        first = int(np.argmax(gaps > GAP)) if bool((gaps > GAP).any()) else -1
        if first >= 0:
            flags |= side >= tail[first + 1]
    return flags if flags.mean() <= MOST_OUTLIERS else nothing


def second_mode(column: Floats) -> Flags:
    """Flag values of another order of magnitude, where few lie in between.

    A slipped decimal point, or another unit, in many rows: too many to be isolated. A
    heavy tail holds more values on the way than at its end.

    Returns:
        bool, (rows,); False for non-finite values.
    """
    nothing = np.zeros(len(column), dtype=np.bool_)
    scaled = deviations(column)
    if scaled is None:
        return nothing
    size = np.where(np.isfinite(scaled), np.abs(scaled), 0.0)
    far, beyond = size > FAR, size > VERY_FAR
    between = far.mean() - beyond.mean()
    if not LEAST_MODE <= beyond.mean() <= MOST_MODE:
        return nothing
    if between > MOST_BETWEEN * beyond.mean() or _are_mostly_one(column[~far]):
        return nothing
    return far


def _are_mostly_one(values: Floats) -> bool:
    """Whether one value holds most: the edge of a picture, a count that is mostly 0.

    Its neighbours then make the width, and all that is not at the edge looks far away.
    """
    good = values[np.isfinite(values)]
    _, repeats = np.unique(good, return_counts=True)
    return bool(repeats.max(initial=0) > MOST_ALIKE * len(good))
