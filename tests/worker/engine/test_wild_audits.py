"""Audits in worlds drawn by chance: whatever fails or takes long, a report comes out.

Effects, pairs that interact, arms that fail, seconds that trainings take, recipes,
networks and budgets are all random. What must hold is what holds of every report.
"""

import random

import pytest

from service.contract.recipe import Loss, Optimizer, Recipe
from service.contract.report import Report
from tests.builders_engine import HEADER, World, make_subject
from worker.engine.conclusion import conclude
from worker.engine.lab.experiment import Arm, ArmOutcome, Outcome, TrainingOutcome
from worker.engine.ledger import Learned
from worker.engine.subject import NetworkShape, Subject

BROKE = (60, 114, 418)  # a part of a combination that there was no time to try alone


class Wild(World):
    """A world in which every change has an effect of its own, and much goes wrong."""

    def __init__(self, rng: random.Random, subject: Subject, **given) -> None:
        self._rng = rng
        self._failing = rng.choice([0.0, 0.0, 0.05, 0.2, 0.5])
        self._slowest = rng.choice([0.5, 2.0, 8.0, 25.0])
        self._known: dict[tuple[str, ...], float] = {}
        super().__init__(subject, effect=self._effect, **given)

    def answer(self, experiment) -> Outcome:
        outcome = super().answer(experiment)
        if not isinstance(outcome, TrainingOutcome):
            return outcome
        arms = tuple(
            ArmOutcome(name=arm.name, failure="it broke")
            if self._rng.random() < self._failing and arm.name != "baseline"
            else arm
            for arm in outcome.arms
        )
        seconds = self._rng.random() * self._slowest
        return outcome.model_copy(update={"arms": arms, "seconds": seconds})

    def _effect(self, arm: Arm) -> float:
        changes = sorted(change.model_dump_json() for change in arm.changes)
        pairs = [(a, b) for a in changes for b in changes if a < b]
        alone = [self._of((one,), [0, 0, 0, 0, 0.05, 0.2, -0.1]) for one in changes]
        return sum(alone) + sum(self._of(p, [0, 0, 0, 0.2, -0.2]) for p in pairs)

    def _of(self, key: tuple[str, ...], options: list[float]) -> float:
        return self._known.setdefault(key, self._rng.choice(options))


def audited(seed: int, *, far_short: bool = False) -> tuple[Learned, Report]:
    """Draw a world and audit it; `far_short`: a cheap learner does far better."""
    rng = random.Random(seed)  # noqa: S311 - no secrets here
    rows = rng.choice([20, 100, 400, 4000])
    counts = tuple(
        rng.choice([rows, rows, rows // 10]) for _ in range(rng.choice([2, 3, 10]))
    )
    recipe = Recipe(
        optimizer=Optimizer(
            name=rng.choice(["sgd", "adam", "rmsprop", "adagrad"]),
            lr=10 ** rng.uniform(-6, 1),
            weight_decay=rng.choice([0.0, 0.0, 0.5]),
        ),
        loss=Loss(name=rng.choice(["cross_entropy", "cross_entropy", "mse", "nll"])),
        epochs=rng.choice([1, 5, 40, 200]),
        batch_size=rng.choice([8, 32, 2000]),
        normalization=rng.choice(["none", "standardize"]),
    )
    network = NetworkShape(
        parameters=rng.choice([50, 2000, 1_000_000]),
        layer_kinds=("linear", "activation", "linear"),
        activations=rng.choice([(), ("relu",), ("sigmoid",) * 6]),
        output_activation=rng.choice(["none", "softmax", "log_softmax"]),
        outputs=len(counts),
        smallest_width=rng.choice([2, 32]),
        dropout=rng.choice([0.0, 0.5]),
        linear_stack=rng.random() < 0.3,
    )
    subject = make_subject(
        recipe=recipe,
        counts=counts,
        decide_rows=rng.choice([40, 300, 600]),
        network=network,
        budget=rng.choice(["quick", "standard", "thorough"]),
        may_borrow=rng.random() < 0.5,
        seed=seed,
    )
    step = 10 ** rng.uniform(-5, 0)
    many = step * rng.choice([1, 3, 16])
    cost = {"step_seconds": {"1": step, "16": many}}
    base = rng.choice([0.3, 0.7, 0.95])
    measures = {"cost": cost}
    if far_short:
        measures["signal"] = {"balanced_accuracy": {"value": 0.95}, "chance": 0.1}
        measures["delivered"] = {"balanced_accuracy": 0.1}
    world = Wild(rng, subject, base=base, measures=measures)
    learned = world.audit()
    return learned, conclude(subject, learned, HEADER)


@pytest.mark.parametrize(
    ("seed", "far_short"),
    [
        *((seed, False) for seed in (*range(24), *BROKE)),
        *((seed, True) for seed in range(24)),
    ],
)
def test_a_report_comes_out_and_agrees_with_itself(seed: int, far_short: bool) -> None:  # noqa: FBT001
    learned, report = audited(seed, far_short=far_short)

    again = Report.model_validate_json(report.model_dump_json())
    assert again == report
    assert not any(finding.check == "crashed" for finding in report.findings)
    found = [f for f in report.findings if f.verdict == "found"]
    assert (report.primary_cause in {f.cause for f in found}) == bool(found)
    ran = {entry.identity for entry in learned.ledger.entries}
    for finding in found:
        assert set(finding.experiments) <= ran
        assert finding.gain is None or finding.gain.value > 0
