"""When members are looked at during a training, and on which rows."""

from dataclasses import dataclass

import numpy as np

from worker.engine.lab.batches import Rows, stratified_order
from worker.engine.lab.evaluation import Marks, Weights, finite, marks, outputs
from worker.engine.lab.members import Member
from worker.engine.lab.residence import ResidentSplit

SCORED_ROWS = 20_000  # most held-out rows scored
TRAIN_ROWS = 2_000  # most training rows scored
POINTS = 12  # of a curve
_CURVE_SHARE = 0.05  # of the training's time that its curve may take
_CURVE_ROWS = (64, 1_000)  # least and most rows of a point
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


class Scorer:
    """Scores members on fixed rows, so that every arm is measured alike."""

    def __init__(
        self, train: ResidentSplit, held_out: ResidentSplit, base: Rows
    ) -> None:
        """Choose the rows: stratified, the same for every arm and seed."""
        self._train, self._held_out = train, held_out
        everything = np.arange(len(held_out.y))
        self._order = stratified_order(held_out.y, everything, seed=1)
        self.places = np.sort(self._order[:SCORED_ROWS])
        self._train_order = stratified_order(train.y, base, seed=1)
        self._train_places = np.sort(self._train_order[:TRAIN_ROWS])
        self._curve_rows = _CURVE_ROWS[1]

    def moments(self, member: Member) -> list[int]:
        """Return the steps at which a member's curve gets its points."""
        found: set[int] = set()
        for end in member.ends:
            found.update(round(end.step * (k + 1) / POINTS) for k in range(POINTS - 1))
            found.add(end.step)
        rows = member.steps * member.stream.batch * _BACKWARD
        affordable = int(rows * _CURVE_SHARE / (2 * len(found)))
        least, most = _CURVE_ROWS
        self._curve_rows = min(self._curve_rows, max(least, min(most, affordable)))
        return sorted(found - {0})

    def points(self, members: list[Member], weights: Weights) -> list[Point]:
        """Look at members on few rows."""
        held = np.sort(self._order[: self._curve_rows])
        train = np.sort(self._train_order[: self._curve_rows])
        network = members[0].network
        pipes = [member.pipe for member in members]
        seen = outputs(network, weights, pipes, self._held_out, held)
        fitted = outputs(network, weights, pipes, self._train, train)
        found = []
        for member, raw, own in zip(members, seen, fitted, strict=True):
            outside = marks(member.head, member, raw, self._held_out.y[held])
            inside = marks(member.head, member, own, member.view.labels[train])
            found.append(
                Point(
                    train_accuracy=inside.accuracy,
                    eval_loss=outside.loss,
                    eval_balanced_accuracy=outside.balanced_accuracy,
                )
            )
        return found

    def final(self, member: Member, weights: Weights) -> tuple[Marks, Marks]:
        """Score a member for good: held-out marks, then training marks.

        Training rows that the arm leaves out do not count.
        """
        network, pipes = member.network, [member.pipe]
        [raw] = outputs(network, weights, pipes, self._held_out, self.places)
        held_out = marks(member.head, member, raw, self._held_out.y[self.places])
        places = self._train_places
        mine = places[member.view.kept[places]]
        if not len(mine):
            rows = np.flatnonzero(member.view.kept)
            mine = np.sort(stratified_order(member.view.labels, rows, seed=1))
            mine = mine[:TRAIN_ROWS]
        [raw] = outputs(network, weights, pipes, self._train, mine)
        return held_out, marks(member.head, member, raw, member.view.labels[mine])

    def activity(self, member: Member, weights: Weights) -> dict[str, float | None]:
        """Return `dead_share` and `saturated_share` of hidden units."""
        return {"dead_share": None, "saturated_share": None}


__all__ = ["SCORED_ROWS", "Point", "Scorer", "finite"]
