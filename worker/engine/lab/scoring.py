"""When members are looked at during a training, and on which rows."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from worker.engine.lab.batches import Rows
from worker.engine.lab.evaluation import (
    Marks,
    Weights,
    hits,
    marks,
    mean_recall,
    outputs,
    recipe_loss,
)
from worker.engine.lab.members import End, Member
from worker.engine.lab.residence import ResidentSplit
from worker.engine.lab.signs import activity
from worker.engine.splits import stratified_order

TRAIN_ROWS = 2_000  # most training rows scored
POINTS = 12  # of a curve
_CURVE_SHARE = 0.05  # of the training's time that its curve may take
_CURVE_ROWS = (64, 1_000)  # least and most rows of a point
_ACTIVITY_ROWS = 128  # training rows that hidden units are watched on
_BACKWARD = 3  # a training row costs about three scored rows


@dataclass
class Point:
    """One point of a curve."""

    step: int = 0
    epoch: float = 0.0
    train_loss: float | None = None
    train_accuracy: float | None = None
    eval_loss: float | None = None
    eval_balanced_accuracy: float | None = None


def _not_lent(
    member: Member, raw: torch.Tensor, places: Rows, y: Rows
) -> tuple[torch.Tensor, Rows]:
    """Keep the outputs and labels of held-out rows that may score a member."""
    if member.view.scored is None:
        return raw, y
    scored = member.view.scored[places]
    return raw[torch.from_numpy(scored).to(raw.device)], y[scored]


class Scorer:
    """Scores members on fixed rows, so that every arm is measured alike."""

    def __init__(
        self, train: ResidentSplit, held_out: ResidentSplit, base: Rows
    ) -> None:
        """Choose the rows: stratified, the same for every arm and seed."""
        self._train, self._held_out = train, held_out
        everything = np.arange(len(held_out.y))
        self._order = stratified_order(held_out.y, everything, seed=1)
        self.places = everything  # `splits` has bounded them
        self._train_order = stratified_order(train.y, base, seed=1)
        self._train_places = np.sort(self._train_order[:TRAIN_ROWS])
        self._curve_rows = _CURVE_ROWS[1]

    @property
    def rows(self) -> int:
        """Rows on which a member is scored in the end, but for those left out."""
        return len(self.places) + len(self._train_places)

    @staticmethod
    def moments_of(end: End) -> list[int]:
        """Return the steps at which the curve of a trial gets its points."""
        found = {round(end.step * (k + 1) / POINTS) for k in range(POINTS)}
        return sorted(found - {0})

    def moments(self, member: Member) -> list[int]:
        """Return the steps at which a member is looked at."""
        found = sorted({at for end in member.ends for at in self.moments_of(end)})
        rows = member.steps * member.stream.batch * _BACKWARD
        affordable = int(rows * _CURVE_SHARE / (2 * max(1, len(found))))
        least, most = _CURVE_ROWS
        self._curve_rows = min(self._curve_rows, max(least, min(most, affordable)))
        return found

    def points(self, members: list[Member], weights: Weights) -> list[Point]:
        """Look at members on few rows."""
        held = np.sort(self._order[: self._curve_rows])
        train = np.sort(self._train_order[: self._curve_rows])
        network = members[0].network
        pipes = [member.scoring_pipe for member in members]
        seen = outputs(network, weights, pipes, self._held_out, held)
        fitted = outputs(network, weights, pipes, self._train, train)
        held_y = self._held_out.y[held]
        found = []
        for member, raw, own in zip(members, seen, fitted, strict=True):
            inside = hits(member.head, own, member.view.labels[train])
            point = Point(train_accuracy=float(inside.mean()))
            raw, y = _not_lent(member, raw, held, held_y)  # noqa: PLW2901
            if len(y):
                outside = hits(member.head, raw, y)
                point.eval_loss = recipe_loss(member, raw, y)
                point.eval_balanced_accuracy = mean_recall(outside, y)
            found.append(point)
        return found

    def final(
        self, members: list[Member], weights: Weights
    ) -> list[tuple[Marks, Marks, Marks | None]]:
        """Score members for good: held-out, training and spared marks, of each.

        Training rows that an arm leaves out do not count for it.
        """
        network = members[0].network
        pipes = [member.scoring_pipe for member in members]
        seen = outputs(network, weights, pipes, self._held_out, self.places)
        places = self._train_places
        fitted = outputs(network, weights, pipes, self._train, places)
        spared = self._on_spared(members, weights)
        found = []
        for k, member in enumerate(members):
            outside = self._outside(member, seen[k])
            mine, own = places[member.view.kept[places]], fitted[k]
            if len(mine):
                own = own[torch.from_numpy(member.view.kept[places]).to(own.device)]
            else:
                rows = np.flatnonzero(member.view.kept[: len(self._train.y)])
                order = stratified_order(member.view.labels, rows, seed=1)
                mine = np.sort(order[:TRAIN_ROWS])
                alone = weights.chosen([k])
                [own] = outputs(network, alone, pipes[k : k + 1], self._train, mine)
            inside = marks(member.head, member, own, member.view.labels[mine])
            found.append((outside, inside, spared[k]))
        return found

    def _outside(self, member: Member, raw: torch.Tensor) -> Marks:
        """Score held-out rows; those that were lent are flagged as hit or not, too."""
        y = self._held_out.y[self.places]
        if member.view.scored is None:
            return marks(member.head, member, raw, y)
        own = marks(member.head, member, *_not_lent(member, raw, self.places, y))
        return replace(own, correct=hits(member.head, raw, y))

    def _on_spared(self, members: list[Member], weights: Weights) -> list[Marks | None]:
        """Score members on the training rows that they left out, if any."""
        found: list[Marks | None] = [None] * len(members)
        groups: dict[bytes, list[int]] = {}
        for k, member in enumerate(members):
            if len(member.spared):
                groups.setdefault(member.spared.tobytes(), []).append(k)
        for which in groups.values():
            places = members[which[0]].spared
            seen = outputs(
                members[0].network,
                weights.chosen(which),
                [members[k].scoring_pipe for k in which],
                self._train,
                places,
            )
            for k, raw in zip(which, seen, strict=True):
                member = members[k]
                found[k] = marks(member.head, member, raw, self._train.y[places])
        return found

    def activity(
        self, members: list[Member], weights: Weights
    ) -> list[dict[str, float | None]]:
        """Return `dead_share` and `saturated_share` of hidden units, of each member."""
        places = torch.from_numpy(np.sort(self._train_order[:_ACTIVITY_ROWS]))
        found = []
        for k, member in enumerate(members):
            x = self._train.inputs(
                places.to(self._train.device), member.pipe, weights.rows.dtype
            )
            buffers = {name: value[k] for name, value in weights.buffers.items()}
            parameters = weights.layout.parameters(weights.rows[k])
            with torch.no_grad():
                seen = member.network.activations(parameters, buffers, x)
            found.append(activity([(one.kind, one.op, one.value) for one in seen]))
        return found
