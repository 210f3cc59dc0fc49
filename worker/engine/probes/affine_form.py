"""The form that suits the delivered weights best, of all that scale and shift.

The figures of a normalisation need not be the data's: they may be those of other data,
or of a library. What they make of the inputs is still a scale and a shift, of all
values or by channel, so that these are looked for: a coarse grid, then downhill on the
log loss of training rows, whose labels the weights were trained on.
Source: Nelder & Mead 1965, A simplex method for function minimization, The Computer
Journal 7:308.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from service.contract.errors import UnusableModel
from worker.engine.affine import affine_name
from worker.engine.data import Split
from worker.engine.probes.inputs_as_trained import AsTrained, outputs
from worker.engine.probes.material import Floats, Material
from worker.engine.probes.scores import losses
from worker.engine.probes.transforms import Figures, transform

CALLS = 40  # of the network, going downhill from a start
BY_CHANNEL = (2, 4)  # channels of pictures that may have figures of their own
CALLS_A_FIGURE = 25  # for those
# The usual factors and terms, from the least value and the range of the inputs.
USUAL: tuple[Callable[[float, float], tuple[float, float]], ...] = (
    lambda _low, _width: (1.0, 0.0),
    lambda low, width: (1 / width, -low / width),
    lambda low, width: (2 / width, -2 * low / width - 1),
    lambda _low, _width: (1 / 255, 0.0),
    lambda _low, _width: (255.0, 0.0),
    lambda low, width: (-1.0, 2 * low + width),
)
STARTS = 2  # of the grid, from which to go downhill
SCALES = (0.1, 0.3, 1.0, 3.0, 10.0, 100.0)  # deviations that the inputs may have had
TWO = 2
WORST = 1e6  # nats, of what the network cannot take


def passes(known: Figures) -> int:
    """How often the network is asked, at most."""
    by_channel = 2 * CALLS_A_FIGURE * known.channels if _has_own(known) else 0
    return len(USUAL) + 2 * len(SCALES) + STARTS * CALLS + by_channel


def _has_own(known: Figures) -> bool:
    """Whether channels may have figures of their own."""
    least, most = BY_CHANNEL
    return known.kind == "image" and least <= known.channels <= most


def fitted_form(
    material: Material, train: Split, prepare: AsTrained, known: Figures
) -> str | None:
    """Find the scale and the shift under which training rows are likeliest.

    Args:
        material: the subject.
        train: training rows, few.
        prepare: makes inputs of stored ones, as the recipe says.
        known: figures of the training inputs, as prepared.

    Returns:
        The transformation's name; None where the network gives no loss that is finite,
        and of two classes: some scale and shift put any weights on the right side, and
        make them as sure as they are right.
    """
    if known.kind == "tokens" or len(material.dataset.class_names) == TWO:
        return None
    low, high = float(known.low.min()), float(known.high.max())
    mean, deviation = _figures(prepare(train.x))

    def loss(name: str) -> float:
        try:
            raw = outputs(
                material, train.x, lambda x: transform(name, prepare(x), known)
            )
        except UnusableModel:
            return WORST
        found = float(np.mean(losses(material.head, raw, train.y)))
        return found if np.isfinite(found) else WORST

    def named(units: Floats) -> str:
        """Name what brings the inputs to these deviations and means."""
        scales, means = np.split(units, 2)
        return affine_name(scales / deviation, means - scales / deviation * mean)

    usual = [usual(low, max(high - low, 1e-12)) for usual in USUAL]
    grid = [np.array([a * deviation, a * mean + b]) for a, b in usual]
    grid += [np.array([a, b]) for a in SCALES for b in (0.0, a)]
    grid.sort(key=lambda units: loss(named(units)))
    best = min(
        (_downhill(lambda units: loss(named(units)), s, CALLS) for s in grid[:STARTS]),
        key=lambda found: found[1],
    )
    if _has_own(known):
        start = np.repeat(best[0], known.channels)
        each = _downhill(
            lambda units: loss(named(units)), start, CALLS_A_FIGURE * len(start)
        )
        best = min(best, each, key=lambda found: found[1])
    return None if best[1] >= WORST else named(best[0])


def _figures(x: Tensor) -> tuple[float, float]:
    """Mean and deviation of all finite values together."""
    values = x.double()[torch.isfinite(x)]
    if not len(values):
        return 0.0, 1.0
    return float(values.mean()), max(float(values.std(correction=0)), 1e-12)


def _downhill(
    loss: Callable[[Floats], float], start: Floats, calls: int
) -> tuple[Floats, float]:
    """Go downhill in scales, which keep their signs, and shifts."""
    scales, shifts = np.split(start, 2)
    sign, size = np.sign(scales), np.abs(scales)

    def units(point: Floats) -> Floats:
        grown, moved = np.split(point, 2)
        scale = sign * size * np.exp(grown)
        return np.concatenate([scale, shifts + size * moved])

    corners = 0.3 * np.vstack([np.zeros(len(start)), np.eye(len(start))])
    found = minimize(
        lambda point: loss(units(point)),
        np.zeros(len(start)),
        method="Nelder-Mead",
        options={"maxfev": calls, "initial_simplex": corners},
    )
    return units(found.x), float(found.fun)
