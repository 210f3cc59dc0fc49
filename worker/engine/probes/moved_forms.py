"""Forms in which held-out inputs look like the training inputs.

Where held-out data alone came on another scale, or with their columns in another order,
what undoes that can be told from the inputs: the scale and the shift that give each
feature the mean and the deviation of the training rows, or pictures their range, and
the order in which columns are distributed, and go together, as there. No label is
looked at.
Source: assignment: Crouse 2016, On implementing 2D rectangular assignment algorithms,
IEEE Transactions on Aerospace and Electronic Systems 52:1679.
"""

from collections.abc import Callable
from itertools import combinations

import numpy as np
from scipy.optimize import linear_sum_assignment

from worker.engine.affine import affine_name, order_name
from worker.engine.probes.material import Array, Floats, Labels
from worker.engine.probes.transforms import Figures, moments

LEAST_ROWS = 30
MOST_FIGURES = 256  # of one form
FAR = 4.0  # standard errors, from which a mean or a deviation has moved
MATERIAL = 0.25  # deviations, likewise; and of the logarithm of a ratio of them
BYTES = 255.0  # times as large are pictures that nobody scaled
NEAR_BYTES = 1.25  # times that, either way
MOST_COLUMNS = 64  # that are put in order
QUANTILES = np.linspace(0.02, 0.98, 25)
LEAST_UNLIKE = 0.1  # deviations, by which columns in their places must differ
BROUGHT_NEARER = 0.75  # of that, what another order may leave: few rows differ, too
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
    with np.errstate(over="ignore", invalid="ignore"):  # of values near the largest
        return _forms(held, train, known)


def _forms(held: Array, train: Array, known: Figures) -> list[str]:
    parts = _by_figure(held, known), _by_figure(train, known)
    found = []
    if known.kind == "image" and (usual := _bytes(*parts)):
        found.append(usual)
    if _have_moved(*parts):
        if known.kind == "image" and (by_range := _to_the_range(held, known)):
            found.append(by_range)
        (mean, std), (wanted, spread) = (moments(part) for part in parts)
        scale = np.where((std > 0) & (spread > 0), spread / np.maximum(std, 1e-30), 1.0)
        scale = np.array([float(f"{value:.6g}") for value in scale])  # as it is named
        shift = wanted - scale * mean
        if np.isfinite(scale).all() and np.isfinite(shift).all():
            found.append(affine_name(scale, shift))
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


def _bytes(held: Floats, train: Floats) -> str | None:
    """Whether pictures are 255 times as large on one side."""
    (_, held_std), (_, train_std) = (
        moments(part.reshape(-1, 1)) for part in (held, train)
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
    (mean, std), (wanted, spread) = moments(held), moments(train)
    unit = np.where(spread > 0, spread, 1.0)
    ratio = np.where((std > 0) & (spread > 0), std / unit, 1.0)
    share = np.sqrt(1 / len(held) + 1 / len(train))
    # Of a deviation the fourth moment tells how well it is known.
    loose = (
        np.sqrt(np.maximum(np.maximum(_kurtosis(held), _kurtosis(train)) - 1, 2)) / 2
    )
    off = np.abs(mean - wanted) / np.maximum(unit, std)
    is_off = off >= np.maximum(MATERIAL, FAR * share)
    is_wider = np.abs(np.log(ratio)) >= np.maximum(MATERIAL, FAR * share * loose)
    return bool((is_off | is_wider).any())


def _kurtosis(columns: Floats) -> Floats:
    """Fourth moment over the square of the second, 1 of a constant."""
    mean, std = moments(columns)
    units = np.where(np.isfinite(columns), columns - mean, 0.0) / np.maximum(std, 1e-30)
    return np.asarray(np.maximum((units**4).mean(0), 1.0), dtype=np.float64)


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
    wanted, given = _correlations(train), _correlations(held)
    places = np.arange(len(unlike))

    def misfit(order: Labels) -> float:
        """How unlike columns are, and how otherwise they go together, on average."""
        off = np.abs(wanted - given[np.ix_(order, order)]).mean()
        return float(unlike[places, order].mean() + off)

    before = misfit(places)
    if not LEAST_UNLIKE <= before < np.inf:
        return None
    order = _exchanged(linear_sum_assignment(unlike)[1], misfit)
    if (order == places).all() or misfit(order) > BROUGHT_NEARER * before:
        return None
    return [int(k) for k in order]


def _correlations(columns: Floats) -> Floats:
    centred = columns - columns.mean(0)
    units = centred / np.maximum(np.sqrt((centred**2).sum(0)), 1e-12)
    return np.asarray(units.T @ units, dtype=np.float64)


def _exchanged(order: Labels, misfit: Callable[[Labels], float]) -> Labels:
    """Exchange two columns as long as that fits better."""
    least = misfit(order)
    for _ in range(ROUNDS):
        before = least
        for first, second in combinations(range(len(order)), 2):
            other = order.copy()
            other[[first, second]] = order[[second, first]]
            if (found := misfit(other)) < least - 1e-9:
                order, least = other, found
        if least >= before:
            break
    return order
