"""How a stack is cut into pieces that workers train side by side, and joined again.

Seeds are dealt out first, so that a piece holds every arm; where they are fewer than
the pieces, arms are, and those that go one way stay together. The report knows nothing
of pieces: the seed alone decides the random numbers of a member.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from worker.engine.lab.experiment import (
    Arm,
    ArmOutcome,
    Outcome,
    Training,
    TrainingOutcome,
)
from worker.engine.planning import Costs, ways
from worker.engine.subject import Subject

LARGEST_STACK = 48  # members of a piece
LEAST_SECONDS = 1.5  # of a piece: to open and to record one more costs a tenth of that
LOST = 0.12  # of a stack's time, that being cut may cost a worker who does it alone
LITTLE = 0.005  # of the audit's budget, likewise
MOST_PIECES = 8


@dataclass(frozen=True)
class Cut:
    """A training and the pieces that are trained in its place."""

    whole: Training
    pieces: tuple[Training, ...]

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """Under which the outcomes of the pieces are found."""
        return tuple(piece.digest() for piece in self.pieces)

    def joined(self, answers: Mapping[str, Outcome]) -> tuple[Training, Outcome]:
        """Put the outcomes of the pieces together.

        Of a cancelled audit some pieces never ran: what is told then are the seeds
        before the first of those.

        Returns:
            The training, with the seeds that ran, and what came out of it.
        """
        ran = [answers[digest] for digest in self.digests]
        if len(ran) == 1:
            return self.whole, ran[0]
        outcomes = [out for out in ran if isinstance(out, TrainingOutcome)]
        of_arm: dict[str, list[ArmOutcome]] = {}
        for outcome in outcomes:
            for arm in outcome.arms:
                of_arm.setdefault(arm.name, []).append(arm)
        seeds = self._trained_seeds(outcomes)
        kept = max(
            (outcome for outcome in outcomes if outcome.file),
            key=lambda outcome: outcome.kept_level or 0.0,
            default=outcomes[0],
        )
        return self.whole.model_copy(update={"seeds": seeds}), TrainingOutcome(
            arms=tuple(_joined_arm(of_arm[a.name], seeds) for a in self.whole.arms),
            seconds=sum(outcome.seconds for outcome in outcomes),
            member_steps=sum(outcome.member_steps for outcome in outcomes),
            rows=max(outcome.rows for outcome in outcomes),
            notes=tuple(dict.fromkeys(n for out in outcomes for n in out.notes)),
            file=kept.file,
            kept_seed=kept.kept_seed,
            kept_level=kept.kept_level,
        )

    def _trained_seeds(self, outcomes: Sequence[TrainingOutcome]) -> tuple[int, ...]:
        began = {
            seed
            for piece, outcome in zip(self.pieces, outcomes, strict=True)
            if outcome.was_run
            for seed in piece.seeds
        }
        seeds = self.whole.seeds
        return tuple(itertools.takewhile(began.__contains__, seeds)) or seeds


def _joined_arm(parts: Sequence[ArmOutcome], seeds: Sequence[int]) -> ArmOutcome:
    """Put the seeds of an arm together; one that is missing makes it a failure."""
    by_seed = {trial.seed: trial for part in parts for trial in part.trials}
    if all(seed in by_seed for seed in seeds):
        trials = tuple(by_seed[seed] for seed in seeds)
        return parts[0].model_copy(update={"trials": trials, "failure": None})
    untrained = ArmOutcome(name=parts[0].name, failure="a seed was not trained")
    return next((part for part in parts if part.failure), untrained)


def cut(subject: Subject, whole: Training, costs: Costs) -> Cut:
    """Cut one stack into as many pieces as cost little more than the whole.

    Args:
        subject: what is audited.
        whole: arms of one stack.
        costs: what a step takes, by itself and for each member.
    """
    least = next(n for n in itertools.count(1) if _is_small(_pieces(subject, whole, n)))
    alone = costs.of(subject, whole)
    affordable = min(MOST_PIECES, int(alone / LEAST_SECONDS))
    lost = max(LOST * alone, LITTLE * subject.budget_seconds)
    for count in range(affordable, least, -1):
        pieces = _pieces(subject, whole, count)
        if sum(costs.of(subject, piece) for piece in pieces) - alone <= lost:
            return Cut(whole, pieces)
    return Cut(whole, _pieces(subject, whole, least))


def _is_small(pieces: Sequence[Training]) -> bool:
    return all(
        len(piece.arms) * len(piece.seeds) <= LARGEST_STACK or len(piece.arms) == 1
        for piece in pieces
    )


def _pieces(subject: Subject, whole: Training, count: int) -> tuple[Training, ...]:
    by_seed = min(count, len(whole.seeds))
    dealt = _dealt(subject, whole, -(-count // by_seed))
    pieces = []
    for seeds in np.array_split(np.array(whole.seeds), by_seed):
        for arms, share in dealt:
            part = share * len(seeds) / len(whole.seeds)
            limit = None if whole.max_seconds is None else part * whole.max_seconds
            update: dict[str, object] = {
                "arms": arms,
                "seeds": tuple(int(seed) for seed in seeds),
                "max_seconds": limit,
            }
            pieces.append(whole.model_copy(update=update))
    return tuple(pieces)


def _dealt(
    subject: Subject, whole: Training, count: int
) -> list[tuple[tuple[Arm, ...], float]]:
    """Deal arms out about evenly, like with like; with each part's share of all.

    What a step costs however few its members are is paid for as long as the longest
    of a stack goes on: long ways cost least beside long ones.
    """
    parts = sorted(ways(subject, whole.arms, whole.rows), key=lambda way: -way.steps)
    total = sum(way.steps for way in parts)
    dealt: list[tuple[set[str], int]] = [(set(), 0)]
    done = 0
    for way in parts:
        if done * count >= total * len(dealt):
            dealt.append((set(), 0))
        names, load = dealt[-1]
        dealt[-1] = (names | {arm.name for arm in way.arms}, load + way.steps)
        done += way.steps
    return [
        (tuple(arm for arm in whole.arms if arm.name in names), load / total)
        for names, load in dealt
    ]
