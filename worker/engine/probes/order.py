"""Whether the network tells the order of the steps, or pixels, of a sample at all.

Nor that of a table's columns, which one that pools them takes for a set. Attention
without positions, averages and convolutions of kernel 1 return the same for the steps,
or pixels, in any order, so that nothing they learn can depend on it. A recurrent layer
of which the first output is read, in place of the last one, has seen a single step.

Values:
    rows: held-out rows looked at.
    changed: share of predictions that one random order of the steps changes.
    difference: the largest change of an output, in deviations of the outputs.
    blind: whether that is arithmetic alone, while samples are told apart; None where a
        sample has no two steps or pixels.
    sees_only: `first` or `last`, where that step alone tells the outputs, else None.
"""

import numpy as np
import numpy.typing as npt
from torch import Tensor

from worker.engine.data import channel_axis
from worker.engine.probes.agreement import compare, exceeds
from worker.engine.probes.inputs_as_trained import AsTrained, outputs
from worker.engine.probes.material import (
    Array,
    Material,
    Values,
    choose,
    few,
    integer,
    sample_places,
)

MOST_ROWS = 64
PASSES = 4
LEAST_ROWS = 8
SEED = 0


def measure(material: Material, settings: Values) -> Values:
    """Run the delivered weights on steps in and out of order; settings: `rows`."""
    least = few(material, PASSES, least=LEAST_ROWS)
    most = min(integer(settings, "rows", MOST_ROWS), least)
    x = choose(material.decide, sample_places(material.decide.y, most)).x
    shape = x.shape[1:]
    axis = _steps(material, x.ndim - 1)
    if (pixels := _pixels(material, x)) is not None:
        x, axis = pixels
    if axis is None or x.shape[axis] < 2 or len(x) < 2:  # noqa: PLR2004 - an order
        return {"rows": len(x), "blind": None, "sees_only": None}
    order = _moved(x.shape[axis])
    trained = AsTrained(material)

    def prepare(x: Array) -> Tensor:
        return trained(x.reshape(len(x), *shape))

    first = outputs(material, x, prepare)
    mixed = outputs(material, np.take(x, order, axis=axis), prepare)
    change = compare(material, first, mixed)
    tells_samples = exceeds(compare(material, first, first.roll(1, 0)))

    def sees_only(step: int) -> bool:
        """Whether other samples' steps in place of all others change nothing."""
        other = np.roll(x, 1, axis=0)
        here = [slice(None)] * x.ndim
        here[axis] = slice(step, step + 1 or None)
        other[tuple(here)] = x[tuple(here)]
        return not exceeds(compare(material, first, outputs(material, other, prepare)))

    has_ends = tells_samples and exceeds(change) and material.dataset.kind != "table"
    ends = {"first": 0, "last": -1} if has_ends else {}
    return {
        "rows": len(x),
        "changed": change["changed"],
        "difference": change["difference"],
        "blind": not exceeds(change) and tells_samples,
        "sees_only": next((name for name, k in ends.items() if sees_only(k)), None),
    }


def _moved(steps: int) -> npt.NDArray[np.int64]:
    """A random order in which no step keeps its place."""
    cycle = np.random.default_rng(SEED).permutation(steps)
    order = np.empty(steps, np.int64)
    order[cycle] = np.roll(cycle, 1)
    return order


def _pixels(material: Material, x: Array) -> tuple[Array, int] | None:
    """Pictures with the pixels of a sample in a row, and the axis of these."""
    rank = x.ndim - 1
    if material.dataset.kind != "image" or rank < 2:  # noqa: PLR2004 - height and width
        return None
    channels = channel_axis("image", material.dataset.layout, rank)
    if channels is None:
        return x.reshape(len(x), -1), 1
    if channels == 0:
        return x.reshape(*x.shape[:2], -1), 2
    return x.reshape(len(x), -1, x.shape[-1]), 1


def _steps(material: Material, rank: int) -> int | None:
    """The axis of a batch along which the steps, or columns, of its samples stand."""
    kind, layout = material.dataset.kind, material.dataset.layout
    if kind in {"tokens", "table"}:
        return 1
    if kind != "series":
        return None
    channels = channel_axis(kind, layout, rank)
    return 2 if channels == 0 else 1
