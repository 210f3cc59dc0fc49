"""Outputs of many members on the same rows, and what they score."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from worker.engine.head import Head
from worker.engine.lab.batches import Rows
from worker.engine.lab.gradients import Buffers, Layout
from worker.engine.lab.inputs import Pipe
from worker.engine.lab.losses import batch_loss, targets
from worker.engine.lab.members import Member
from worker.engine.lab.residence import ResidentSplit
from worker.engine.lab.threads import threads, work_a_row
from worker.engine.network.network import Network

_VALUES = 4_000_000  # inputs times members in one pass
_MOST_ROWS = 2048
# Beyond so many, members take turns on the CPU, some rows at a time that stay in its
# cache: on 28 x 28 pictures twelve at once took two to three times as long.
_TURN_VALUES = 250_000


@dataclass(frozen=True)
class Marks:
    """What one member scores on some rows.

    Attributes:
        correct: bool, (rows,).
        accuracy: share hit.
        balanced_accuracy: mean recall of the classes present.
        log_loss: nats, by the head; None where not finite.
        loss: the recipe's; None where not finite.
    """

    correct: np.ndarray
    accuracy: float
    balanced_accuracy: float
    log_loss: float | None
    loss: float | None


@dataclass(frozen=True)
class Weights:
    """Parameters and buffers of some members.

    Attributes:
        layout: of a row.
        rows: float, (members, parameters).
        buffers: each (members, ...).
    """

    layout: Layout
    rows: Tensor
    buffers: Buffers

    def chosen(self, which: list[int]) -> "Weights":
        """Take some of the members."""
        if which == list(range(len(self.rows))):
            return self
        buffers = {name: value[which] for name, value in self.buffers.items()}
        return Weights(self.layout, self.rows[which], buffers)


def outputs(
    network: Network,
    weights: Weights,
    pipes: list[Pipe],
    split: ResidentSplit,
    places: Rows,
) -> list[Tensor]:
    """Run every member in evaluation mode on the same rows.

    Returns:
        One tensor a member: (rows, …) as the network returns them.
    """
    found: list[list[Tensor]] = [[] for _ in pipes]
    groups: dict[str, list[int]] = {}
    for k, pipe in enumerate(pipes):
        groups.setdefault(pipe.key, []).append(k)
    with torch.no_grad():
        for mine in groups.values():
            some = weights.chosen(mine)
            size = _rows_at_once(split, len(mine), len(places))
            for start in range(0, len(places), size):
                at = torch.from_numpy(places[start : start + size]).to(split.device)
                x = split.inputs(at, pipes[mine[0]], some.rows.dtype)
                with threads(work_a_row(network, x).threads(len(x))):
                    raws = _forward(network, some, x)
                for k, raw in zip(mine, raws, strict=True):
                    found[k].append(raw)
    return [torch.cat(parts) for parts in found]


def _rows_at_once(split: ResidentSplit, members: int, rows: int) -> int:
    values = max(1, split.values_a_row)
    size = _VALUES // (values * members)
    if split.device.type == "cpu" and members * values * rows > _TURN_VALUES:
        size = _TURN_VALUES // values
    return max(1, min(size, _MOST_ROWS))


def _forward(network: Network, weights: Weights, x: Tensor) -> list[Tensor]:
    def one(row: Tensor, buffers: Buffers) -> Tensor:
        raw, _ = network.forward(
            weights.layout.parameters(row), buffers, x, training=False
        )
        return raw

    turns = x.device.type == "cpu" and len(weights.rows) * x.numel() > _TURN_VALUES
    if network.stacked and len(weights.rows) > 1 and not turns:
        return list(vmap(one)(weights.rows, weights.buffers))
    return [
        one(row, {name: value[k] for name, value in weights.buffers.items()})
        for k, row in enumerate(weights.rows)
    ]


def marks(head: Head, member: Member, raw: Tensor, labels: Rows) -> Marks:
    """Score one member's outputs against labels, int64, (rows,)."""
    y = torch.from_numpy(labels).to(raw.device)
    correct = hits(head, raw, labels)
    picked = head.log_probabilities(raw).gather(1, y[:, None])
    return Marks(
        correct=correct,
        accuracy=float(correct.mean()),
        balanced_accuracy=mean_recall(correct, labels),
        log_loss=finite(-float(picked.double().mean())),
        loss=recipe_loss(member, raw, labels),
    )


def hits(head: Head, raw: Tensor, labels: Rows) -> np.ndarray:
    """Say which rows get the right class: bool, (rows,)."""
    y = torch.from_numpy(labels).to(raw.device)
    return np.asarray((head.predict(raw) == y).cpu().numpy())


def mean_recall(correct: np.ndarray, labels: Rows) -> float:
    """Return the balanced accuracy over the classes that are present."""
    counts = np.bincount(labels)
    found = np.bincount(labels, weights=correct)
    return float((found[counts > 0] / counts[counts > 0]).mean())


def recipe_loss(member: Member, raw: Tensor, labels: Rows) -> float | None:
    """Return what the member minimises, on these rows; None where not finite."""
    y = torch.from_numpy(labels).to(raw.device)[None]
    real = torch.ones_like(y, dtype=torch.bool)
    target, weight = targets(member.form, member.recipe.loss, y, real, raw.dtype)
    return finite(float(batch_loss(member.form, raw, target[0], weight[0])))


def finite(value: float) -> float | None:
    """Turn what JSON cannot say into None."""
    return value if np.isfinite(value) else None
