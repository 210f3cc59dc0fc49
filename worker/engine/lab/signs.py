"""Signs that a training shows: cheap numbers that only choose what to try next."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from worker.engine.lab.experiment import UNTOUCHED
from worker.engine.lab.gradients import Layout
from worker.engine.network.freshness import as_array, comparable, looks_fresh

EARLY_STEPS = 5  # steps whose gradients and updates are looked at
_WINDOWS = 50  # pieces in which a training's losses are averaged
_LEAST = 10  # steps in a piece, below which single batches show
_RISE = 0.01  # of the first window's loss: a smaller rise is no rise
_SIDE = 256  # rows and columns of a layer, to tell whether it looks fresh
_MATRIX = 2  # dimensions from which a parameter counts as a layer's weights


class EarlySigns:
    """Gradient and update sizes in the first steps of a stack."""

    def __init__(self, layout: Layout, members: int) -> None:
        """Find the first and the last weight matrix."""
        weighted = [
            name
            for name, shape in zip(layout.names, layout.shapes, strict=True)
            if len(shape) >= _MATRIX
        ] or list(layout.names)
        self._first, self._last = layout.span(weighted[0]), layout.span(weighted[-1])
        self._ratios: list[Tensor] = []
        self._updates: list[Tensor] = []
        self._members = members

    def see_gradient(self, gradient: Tensor) -> None:
        """Look at a step's gradient, (members, parameters), before it is spent."""
        first = gradient[:, self._first].norm(dim=1)
        last = gradient[:, self._last].norm(dim=1)
        self._ratios.append((first / last).double().cpu())

    def see_update(self, before: Tensor, after: Tensor) -> None:
        """Look at weights before and after a step, (members, parameters)."""
        size = before.norm(dim=1).clamp_min(torch.finfo(before.dtype).tiny)
        self._updates.append(((after - before).norm(dim=1) / size).double().cpu())

    def values(self) -> list[dict[str, float | None]]:
        """Return `gradient_ratio` and `update_ratio`, one dictionary a member."""
        return [
            {
                "gradient_ratio": _middle(self._ratios, k),
                "update_ratio": _middle(self._updates, k),
            }
            for k in range(self._members)
        ]


def _middle(seen: list[Tensor], k: int) -> float | None:
    values = np.array([float(one[k]) for one in seen])
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else None


def size_distance(
    trained: dict[str, Tensor], delivered: dict[str, Tensor]
) -> float | None:
    """Return how far trained layers are from delivered ones in size.

    A layer's root mean square hardly varies from seed to seed, but it does with the
    scale that it was drawn from, and training moves it by the recipe.

    Args:
        trained: weights by name.
        delivered: likewise.

    Returns:
        The median over the layers' weights of |log of the ratio of their root mean
        squares|; None where no layer can be compared.
    """
    off = []
    for name, weight in trained.items():
        other = delivered.get(name)
        if other is None or weight.dim() < _MATRIX or weight.shape != other.shape:
            continue
        # Of equal shape, so that norms are to each other as root mean squares.
        sizes = [
            float(torch.linalg.vector_norm(one, dtype=torch.float64))
            for one in (weight, other)
        ]
        if all(np.isfinite(sizes)) and min(sizes) > 0:
            off.append(abs(np.log(sizes[0] / sizes[1])))
    return float(np.median(off)) if off else None


def untouched(trained: dict[str, Tensor], drawn: dict[str, Tensor]) -> dict[str, float]:
    """Name layers that look as if they had never been trained, although they were.

    Args:
        trained: weights by name.
        drawn: what they began with.

    Returns:
        1 by `untouched NAME`; others are not named.
    """
    return {
        f"{UNTOUCHED}{name}": 1.0
        for name, weight in trained.items()
        for value in [as_array(weight)]
        if comparable(value, as_array(drawn[name])) and looks_fresh(value, _SIDE)
    }


def oscillation(losses: np.ndarray) -> float | None:
    """Return the share of windows of a training whose mean loss rises.

    Args:
        losses: float, (steps,), in order.
    """
    size = max(1, min(_LEAST, len(losses) // 3), len(losses) // _WINDOWS)
    whole = len(losses) // size * size
    if whole // size < 3:  # noqa: PLR2004 - no trend in two values
        return None
    means = losses[:whole].reshape(-1, size).mean(1)
    if not np.isfinite(means).all():
        return 1.0
    rises = np.diff(means) > _RISE * max(abs(means[0]), 1e-12)
    return float(rises.mean())


def activity(seen: Sequence[tuple[str, str, Tensor]]) -> dict[str, float | None]:
    """Say how many hidden units never react, and how many are stuck at their limits.

    Args:
        seen: kind, operation and output, (rows, ...), of each layer in order.

    Returns:
        `dead_share`: of the units of rectifiers, those at zero for every row.
        `saturated_share`: of the values of sigmoid and tanh, those within 2 % of a
        limit. None where there is no such layer.
    """
    hidden = [(op, value) for kind, op, value in seen if kind == "activation"]
    dead, stuck = [], []
    for op, value in hidden:
        if "relu" in op and value.dim() > 1:
            units = value.movedim(1, -1).reshape(-1, value.shape[1])
            dead.append((units.abs().amax(0) == 0).double())
        elif op.endswith(("sigmoid", "tanh")):
            low = -1.0 if op.endswith("tanh") else 0.0
            margin = 0.02 * (1.0 - low)
            at_limit = (value < low + margin) | (value > 1.0 - margin)
            stuck.append(at_limit.double().reshape(-1))
    return {
        "dead_share": float(torch.cat(dead).mean()) if dead else None,
        "saturated_share": float(torch.cat(stuck).mean()) if stuck else None,
    }
