"""Forms in which held-out inputs look like the training inputs.

Where held-out data alone came on another scale, or with their columns in another order,
what undoes that can be told from the inputs: the scale and the shift that give each
feature the mean and the deviation of the training rows, or pictures their range, and
the order in which columns are distributed, and go together, as there. No label is
looked at.
Source: assignment: Crouse 2016, On implementing 2D rectangular assignment algorithms,
IEEE Transactions on Aerospace and Electronic Systems 52:1679.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

from worker.engine.affine import affine_name, order_name
from worker.engine.probes.material import Array, Floats
from worker.engine.probes.transforms import Figures

LEAST_ROWS = 30
MOST_FIGURES = 256  # of one form
FAR = 4.0  # standard errors, from which a mean or a deviation has moved
MATERIAL = 0.25  # deviations, likewise; and of the logarithm of a ratio of them
BYTES = 255.0  # times as large are pictures that nobody scaled
NEAR_BYTES = 1.25  # times that, either way
MOST_COLUMNS = 64  # that are put in order
QUANTILES = np.linspace(0.02, 0.98, 25)
LEAST_UNLIKE = 0.1  # deviations, mean of the quantiles, by which columns are told apart
BROUGHT_NEARER = 0.5  # of how unlike columns are, what another order may leave
ROUNDS = 4  # over all pairs of columns, of exchanging two
TABLE = 2  # dimensions


def forms(held: Array, train: Array, known: Figures) -> list[str]:
    """Name what would make held-out inputs look like training inputs.

    Args:
        held: held-out inputs as prepared, (rows, *sample shape).
        train: training inputs, likewise.
        known: figures of the latter.

    Returns:
        Names of transformations, the likeliest first; none where nothing moved so.
    """
    if known.kind == "tokens" or min(len(held), len(train)) < LEAST_ROWS:
        return []
    parts = _by_figure(held, known), _by_figure(train, known)
    found = []
    if known.kind == "image" and (usual := _bytes(*parts)):
        found.append(usual)
    if _have_moved(*parts):
        if known.kind == "image" and (by_range := _to_the_range(held, known)):
            found.append(by_range)
        (mean, std), (wanted, spread) = (_figures(part) for part in parts)
        scale = np.where((std > 0) & (spread > 0), spread / np.maximum(std, 1e-30), 1.0)
        found.append(affine_name(scale, wanted - scale * mean))
    is_table = known.kind == "table" and held.ndim == TABLE
    if is_table and TABLE < held.shape[1] <= MOST_COLUMNS:
        order = order_of(_filled(held), _filled(train))
        if order is not None:
            found.append(order_name(order))
    return found


def _by_figure(x: Array, known: Figures) -> Floats:
    """Values that share a figure, one column each: float64, (values, figures)."""
    if known.kind == "table" and x.ndim == TABLE and x.shape[1] <= MOST_FIGURES:
        columns = np.asarray(x, dtype=np.float64)
    elif known.channel is not None and known.channels <= MOST_FIGURES:
        columns = np.moveaxis(np.asarray(x, dtype=np.float64), known.channel, -1)
        columns = columns.reshape(-1, known.channels)
    else:
        columns = np.asarray(x, dtype=np.float64).reshape(-1, 1)
    return np.where(np.isfinite(columns), columns, np.nan)


def _filled(x: Array) -> Floats:
    """Put the median where there is no value: float64, (rows, columns)."""
    columns = np.where(np.isfinite(x), x, np.nan).astype(np.float64)
    columns[:, np.isnan(columns).all(0)] = 0.0
    return np.where(np.isnan(columns), np.nanmedian(columns, axis=0), columns)


def _figures(columns: Floats) -> tuple[Floats, Floats]:
    known = np.isfinite(columns)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, columns, 0.0).sum(0) / count
    square = np.where(known, columns - mean, 0.0) ** 2
    return mean, np.sqrt(square.sum(0) / count)


def _bytes(held: Floats, train: Floats) -> str | None:
    """Whether pictures are 255 times as large on one side."""
    (_, held_std), (_, train_std) = (
        _figures(part.reshape(-1, 1)) for part in (held, train)
    )
    if held_std[0] <= 0 or train_std[0] <= 0:
        return None
    ratio = float(held_std[0] / train_std[0])
    for name, factor in (("divide_255", BYTES), ("multiply_255", 1 / BYTES)):
        if 1 / NEAR_BYTES <= ratio / factor <= NEAR_BYTES:
            return name
    return None


def _to_the_range(held: Array, known: Figures) -> str | None:
    """Stretch pictures to the least and the greatest value of training ones.

    Of a plain ground even a small difference is told at a glance.
    """
    values = held[np.isfinite(held)]
    low, high = float(known.low.min()), float(known.high.max())
    if not len(values) or values.max() <= values.min() or high <= low:
        return None
    scale = (high - low) / float(values.max() - values.min())
    return affine_name([scale], [low - scale * float(values.min())])


def _have_moved(held: Floats, train: Floats) -> bool:
    """Whether some mean or deviation is surely, and materially, another one."""
    (mean, std), (wanted, spread) = _figures(held), _figures(train)
    unit = np.where(spread > 0, spread, 1.0)
    error = np.sqrt(1 / len(held) + 1 / len(train))
    off = np.abs(mean - wanted) / unit
    ratio = np.where((std > 0) & (spread > 0), std / unit, 1.0)
    # Beyond the errors of both: a deviation is known to 1/sqrt(2 n) of itself.
    apart = np.maximum(off / np.maximum(1.0, ratio), np.abs(np.log(ratio)) * np.sqrt(2))
    least = max(MATERIAL, FAR * float(error))
    return bool((apart >= least).any())


def order_of(held: Floats, train: Floats) -> list[int] | None:
    """Find the order in which held-out columns are as the training columns.

    Args:
        held: finite float64, (rows, columns).
        train: the same of training rows.

    Returns:
        Which held-out column stands for each training column; None where they stand
        in their order, or where no order makes them alike.
    """
    unit = np.maximum(train.std(0), 1e-12)
    quantiles = [np.quantile(part, QUANTILES, axis=0).T for part in (train, held)]
    unlike = np.abs(quantiles[0][:, None] - quantiles[1][None]).mean(2)
    unlike /= unit[:, None]
    before = float(np.diagonal(unlike).mean())
    together = [_correlations(part) for part in (train, held)]
    order = linear_sum_assignment(unlike)[1]
    order = _exchanged(order, unlike, *together)
    stay = np.arange(len(order))
    is_like = float(unlike[stay, order].mean()) <= BROUGHT_NEARER * before
    if before < LEAST_UNLIKE or not is_like or (order == stay).all():
        return None
    return [int(k) for k in order]


def _correlations(columns: Floats) -> Floats:
    centred = columns - columns.mean(0)
    units = centred / np.maximum(np.sqrt((centred**2).sum(0)), 1e-12)
    return np.asarray(units.T @ units, dtype=np.float64)


def _exchanged(
    order: np.ndarray, unlike: Floats, wanted: Floats, given: Floats
) -> np.ndarray:
    """Exchange two columns as long as that fits how columns go together better."""
    order = order.copy()
    columns = len(order)
    places = np.arange(columns)

    def misfit(chosen: np.ndarray) -> float:
        off = np.abs(wanted - given[np.ix_(chosen, chosen)]).sum() / columns
        return float(unlike[places, chosen].sum() + off)

    least = misfit(order)
    for _ in range(ROUNDS):
        before = least
        for first in range(columns):
            for second in range(first + 1, columns):
                other = order.copy()
                other[[first, second]] = order[[second, first]]
                if (found := misfit(other)) < least - 1e-9:
                    order, least = other, found
        if least >= before:
            break
    return order
