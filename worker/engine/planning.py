"""What a training costs, and what fits into the budget."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from pydantic import JsonValue

from service.contract.causes import Cause
from service.contract.request import BUDGET_SECONDS
from worker.engine.check import Mend
from worker.engine.lab.experiment import (
    Arm,
    Change,
    DataChange,
    NetworkChange,
    RecipeChange,
    Training,
    borrows,
)
from worker.engine.subject import Subject

SCORING = 1.2  # what scoring and starting add to the pure steps
A_QUICK_BUDGET, A_LONG_BUDGET = 60.0, 600.0  # seconds
FALLBACK = {1: 1e-3, 16: 4e-3}  # seconds a step, where nothing was measured
A_FEW_STEPS = 2  # of one member: what it takes to time a network
_FORMULA = ("name", "transition_matrix")  # of a loss, that members of a stack share
PRIOR_SECONDS = 1.0  # of experiments as predicted, before what was seen outweighs it


@dataclass(frozen=True)
class Effort:
    """How much an audit does.

    Attributes:
        seconds: of the whole audit.
        screen_seeds: pairs in the first look.
        confirm_seeds: fresh pairs for what survived it; six is the least with which a
            sign-flip test reaches p < .05.
        remedy_seeds: of the final judgement.
        confirmed_causes: how many survivors are confirmed at most.
        variants: how many mends a cause may try at first.
    """

    seconds: float
    screen_seeds: int = 3
    confirm_seeds: int = 8
    remedy_seeds: int = 4
    confirmed_causes: int = 7
    variants: int = 3


EFFORTS: dict[str, Effort] = {
    "quick": Effort(BUDGET_SECONDS["quick"], 2, 6, 2, 4, 3),
    "standard": Effort(BUDGET_SECONDS["standard"], 3, 8, 4, 7, 3),
    "thorough": Effort(BUDGET_SECONDS["thorough"], 4, 12, 6, 10, 6),
}


def effort_for(budget: str, seconds: float) -> Effort:
    """Choose what to do with a budget given in seconds."""
    if budget in EFFORTS:
        return EFFORTS[budget]
    name = "thorough"
    if seconds < A_QUICK_BUDGET:
        name = "quick"
    elif seconds < A_LONG_BUDGET:
        name = "standard"
    return replace(EFFORTS[name], seconds=seconds)


@dataclass(frozen=True)
class Costs:
    """Seconds that an optimiser step takes for a stack of some size.

    Other networks cost what a few of their steps took (`relative`, by `network_key`).
    What trainings really took corrects the prediction, for each kind of arm by itself:
    another network or optimiser may cost many times what was thought.
    """

    one: float
    each: float
    relative: dict[str, float] = field(default_factory=dict)
    seen: dict[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def from_measure(cls, values: dict[str, JsonValue]) -> "Costs":
        """Read the probe `cost`: `step_seconds` by number of members."""
        table = values.get("step_seconds")
        seconds = dict(FALLBACK)
        if isinstance(table, dict):
            seconds = {
                int(members): float(value)
                for members, value in table.items()
                if isinstance(value, int | float)
            } or seconds
        few, many = min(seconds), max(seconds)
        if few == many:
            return cls(one=0.0, each=seconds[few] / few)
        each = max(0.0, (seconds[many] - seconds[few]) / (many - few))
        return cls(one=max(0.0, seconds[few] - few * each), each=each)

    def of(self, subject: Subject, training: Training) -> float:
        """Predict the seconds that a training takes."""
        return sum(
            self._planned(subject, training, arms) * self._correction(arms[0])
            for arms in group(training.arms)
        )

    def of_adding(self, subject: Subject, training: Training, arm: Arm) -> float:
        """Predict the seconds that one more arm takes beside those of a training.

        What goes the way of another arm, for as many steps or fewer, is read off it.
        """
        alone = self.of(subject, training.model_copy(update={"arms": (arm,)}))
        if subject.recipe.schedule is not None:
            return alone
        steps = _steps(subject, arm, training.rows)
        known = [
            _steps(subject, other, training.rows)
            for other in training.arms
            if _trajectory(other) == _trajectory(arm)
        ]
        return alone * max(0.0, 1 - max(known, default=0) / steps)

    def of_trying(self, arm: Arm) -> float:
        """Predict the seconds that a few steps of a small stack of it take."""
        return A_FEW_STEPS * (self.one + self.each * _weight(arm))

    def learn(self, subject: Subject, training: Training, seconds: float) -> None:
        """Remember what a training took, beside what had been predicted."""
        parts = {
            _kind(arms[0]): self._planned(subject, training, arms)
            for arms in group(training.arms)
        }
        share = seconds / max(1e-9, sum(parts.values()))
        for kind, planned in parts.items():
            before = self.seen.get(kind, (0.0, 0.0))
            self.seen[kind] = (before[0] + planned, before[1] + planned * share)

    def _planned(self, subject: Subject, training: Training, arms: list[Arm]) -> float:
        steps = [way.steps for way in ways(subject, arms, training.rows)]
        members = len(training.seeds)
        weight = self._relative_to_given(arms[0])
        each = sum(steps) * members * self.each * weight
        return SCORING * (max(steps) * self.one + each)

    def _relative_to_given(self, arm: Arm) -> float:
        """How many times a member costs what one of the subject costs."""
        known = self.relative.get(network_key(arm.changes))
        return known if known is not None else math.prod(self._weights(arm).values())

    def _weights(self, arm: Arm) -> dict[str, float]:
        """What each change of the network is thought, or was seen, to multiply."""
        return {
            network_key((change,)): self.relative.get(
                network_key((change,)), _weight_of(change)
            )
            for change in arm.changes
            if _alters(change)
        }

    def _correction(self, arm: Arm) -> float:
        """Seconds taken over seconds planned: of this kind, its like, or else of all.

        Its like share the change that makes the network dearest.
        """
        kind, weights = _kind(arm), self._weights(arm)
        dearest = max(weights, key=lambda key: weights[key], default="")
        like = [known for known in self.seen if dearest and dearest in known.split("/")]
        for kinds in ([kind], like, list(self.seen)):
            planned = sum(self.seen[one][0] for one in kinds if one in self.seen)
            taken = sum(self.seen[one][1] for one in kinds if one in self.seen)
            if planned:
                return (PRIOR_SECONDS + taken) / (PRIOR_SECONDS + planned)
        return 1.0


@dataclass(frozen=True)
class Way:
    """Arms that are trained as one member, with the steps of the longest of them."""

    arms: tuple[Arm, ...]
    steps: int


def ways(subject: Subject, arms: Sequence[Arm], rows: int | None) -> list[Way]:
    """Put arms together that go one way, some of them further than others.

    Args:
        subject: what is audited.
        arms: of one stack.
        rows: that they are trained on, None where all.
    """
    found: dict[str, list[Arm]] = {}
    for arm in arms:
        key = _trajectory(arm) if subject.recipe.schedule is None else arm.name
        found.setdefault(key, []).append(arm)
    return [
        Way(tuple(same), max(_steps(subject, arm, rows) for arm in same))
        for same in found.values()
    ]


def group(arms: Sequence[Arm]) -> list[list[Arm]]:
    """Put arms together that can be trained in one stack."""
    found: dict[str, list[Arm]] = {}
    for arm in arms:
        found.setdefault(_kind(arm), []).append(arm)
    return list(found.values())


def _kind(arm: Arm) -> str:
    """Equal kinds can be trained in one stack."""
    parts = []
    for change in arm.changes:
        if _alters(change):
            parts.append(change.model_dump_json())
        elif isinstance(change, RecipeChange):
            optimizer = change.patch.get("optimizer") or {}
            if "name" in optimizer:
                parts.append(str(optimizer["name"]))
            if "batch_size" in change.patch:
                parts.append(str(change.patch["batch_size"]))
            loss = change.patch.get("loss") or {}
            parts += [str(loss[key]) for key in _FORMULA if loss.get(key)]
    return "/".join(parts)


def _trajectory(arm: Arm) -> str:
    """Equal keys mean equal trainings, but for how long they go on."""
    parts = []
    for change in arm.changes:
        if isinstance(change, RecipeChange):
            patch = {k: v for k, v in change.patch.items() if k != "epochs"}
            if patch:
                parts.append(RecipeChange(patch=patch).model_dump_json())
        else:
            parts.append(change.model_dump_json())
    return "/".join(parts)


def network_key(changes: Sequence[Change]) -> str:
    """Equal keys mean equal networks, whatever weights they begin with."""
    return "/".join(change.model_dump_json() for change in changes if _alters(change))


def _alters(change: Change) -> bool:
    """Whether it makes another network, and not only other initial weights."""
    return isinstance(change, NetworkChange) and change.name != "initialization"


def is_costly(arm: Arm) -> bool:
    """Whether an arm's network may cost a multiple, so that it is worth measuring."""
    return _weight(arm) > 1


def _weight(arm: Arm) -> float:
    """How many times a member of this arm may cost what one of the subject costs."""
    return math.prod(_weight_of(change) for change in arm.changes)


def _weight_of(change: Change) -> float:
    if isinstance(change, NetworkChange) and change.name == "width" and change.factor:
        return max(0.3, change.factor**2)
    if isinstance(change, NetworkChange) and change.name == "reference":
        return 3.0
    return 1.0


def _steps(subject: Subject, arm: Arm, rows: int | None) -> int:
    recipe = subject.recipe
    count = rows or subject.data.rows["train"]
    epochs, batch = recipe.epochs, recipe.batch_size
    for change in arm.changes:
        if isinstance(change, NetworkChange) and change.name == "as_delivered":
            return 1  # it is scored, and no more
        if isinstance(change, RecipeChange):
            epochs = change.patch.get("epochs", epochs)
            batch = change.patch.get("batch_size", batch)
        elif isinstance(change, DataChange) and change.share is not None:
            count = max(1, int(count * change.share))
    if borrows(arm.changes):
        count += subject.data.lent
    return epochs * -(-count // batch)


def in_order(
    mends: Sequence[Mend], variants: int, unlikely: Collection[Cause] = ()
) -> list[Mend]:
    """Order the mends: urgent ones first, then each cause's first, second and so on.

    What is left out may follow where the last of its cause helps.

    Args:
        mends: of all causes.
        variants: how many a cause may have that are not urgent.
        unlikely: causes whose mends come after all others, one each, but for evident
            ones and those that only measure.
    """
    ranks: dict[str, int] = {}
    placed = []
    for mend in mends:
        rank = ranks.get(mend.cause, 0)
        ranks[mend.cause] = rank + 1
        late = mend.cause in unlikely and not mend.evident
        is_one_of_few = rank < (1 if late else variants)
        if is_one_of_few or mend.measuring or (mend.urgent and not late):
            placed.append((late, not mend.urgent, rank, mend))
    return [mend for *_, mend in sorted(placed, key=lambda item: item[:3])]
