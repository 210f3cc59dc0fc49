"""Subjects, and a world in which every change has a known effect."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from service.contract.causes import Cause
from service.contract.recipe import Loss, Optimizer, Recipe
from worker.engine.auditor import advance
from worker.engine.lab.experiment import (
    Arm,
    ArmOutcome,
    Experiment,
    Measurement,
    MeasurementOutcome,
    Outcome,
    Training,
    TrainingOutcome,
    TrialOutcome,
    pack_mask,
)
from worker.engine.ledger import Learned, Ledger, Round
from worker.engine.planning import Costs
from worker.engine.recipe import complete
from worker.engine.splits import spared_rows
from worker.engine.subject import DataShape, NetworkShape, Subject

Effect = Callable[[Arm], float]


HEADER = {
    "audit_id": "aud_x", "model": {}, "dataset": {}, "device": "cpu", "torch": "2",
    "seed": 0,
}  # fmt: skip


def make_subject(  # noqa: PLR0913 - a builder names everything that a test may set
    *,
    recipe: Recipe | None = None,
    kind: str = "table",
    counts: tuple[int, ...] = (400, 400, 400),
    decide_rows: int = 600,
    final_rows: int = 300,
    network: NetworkShape | None = None,
    budget: str = "standard",
    seed: int = 0,
    wanted: Iterable[Cause] = Cause,
    may_borrow: bool = False,
) -> Subject:
    """A small multilayer perceptron on a table, fully described."""
    given = recipe or Recipe(
        optimizer=Optimizer(
            name="adam", lr=1e-3, momentum=0.9, weight_decay=0.0, eps=1e-8
        ),
        loss=Loss(name="cross_entropy", label_smoothing=0.0),
        epochs=40,
        batch_size=32,
        sampler="shuffle",
        normalization="none",
        seed=0,
    )
    done, assumed = complete(
        given, fitting_loss="cross_entropy", train_rows=sum(counts)
    )
    labels = {
        "decide": np.arange(decide_rows) % len(counts),
        "final": np.arange(final_rows) % len(counts),
    }
    if may_borrow:
        labels["train"] = np.repeat(np.arange(len(counts)), counts)
    return Subject(
        network=network
        or NetworkShape(
            parameters=2000,
            layer_kinds=("linear", "activation", "linear"),
            activations=("relu",),
            output_activation="none",
            outputs=len(counts),
            smallest_width=32,
        ),
        data=DataShape(
            kind=kind,
            sample_shape=(10,),
            dtype="float32",
            rows={"train": sum(counts), "decide": decide_rows, "final": final_rows},
            class_names=tuple(f"class {k}" for k in range(len(counts))),
            class_counts=counts,
        ),
        given=given,
        recipe=done,
        assumed=assumed,
        head_kind="logits",
        fitting_loss="cross_entropy",
        labels=labels,
        wanted=frozenset(wanted),
        seed=seed,
        budget=budget,
        budget_seconds=100.0,
    )


class World:
    """Answers experiments: an arm's accuracy is `base + effect(arm)`, plus noise.

    Args:
        base: accuracy of the baseline.
        effect: true gain of an arm's changes.
        spread: standard deviation over seeds that pairing does not remove.
        measures: values of probes; others are empty.
        on_spared: what the accuracy on training rows that a seed left out differs by.
        signs: what an arm's training shows.
        step_seconds: what an optimiser step of one member takes; None: next to nothing.
    """

    def __init__(  # noqa: PLR0913 - a builder names everything that a test may set
        self,
        subject: Subject,
        *,
        base: float,
        effect: Effect,
        spread: float = 0.01,
        measures: dict[str, dict] | None = None,
        noise_seed: int = 0,
        on_spared: float = 0.0,
        signs: Callable[[Arm], dict[str, float | None]] = lambda _: {},
        step_seconds: float | None = None,
    ) -> None:
        self.subject = subject
        self.base = base
        self.effect = effect
        self.spread = spread
        self.on_spared = on_spared
        self.signs = signs
        self.step_seconds = step_seconds
        cost = {"1": 1e-4, "16": 3e-4}
        if step_seconds is not None:
            cost = {"1": step_seconds, "16": 16 * step_seconds}
        self.measures = {"cost": {"step_seconds": cost}, **(measures or {})}
        self.rng = np.random.default_rng(noise_seed)
        self.difficulty = {
            split: self.rng.uniform(size=len(labels))
            for split, labels in subject.labels.items()
        }
        self.trained: list[Training] = []
        self.outcomes: dict[str, Outcome] = {}

    def answer(self, experiment: Experiment) -> Outcome:
        if isinstance(experiment, Measurement):
            return MeasurementOutcome(
                values=self.measures.get(experiment.name, {}), seconds=0.1
            )
        self.trained.append(experiment)
        arms = tuple(
            ArmOutcome(
                name=arm.name,
                trials=tuple(
                    self._trial(arm, seed, experiment) for seed in experiment.seeds
                ),
            )
            for arm in experiment.arms
        )
        return TrainingOutcome(
            arms=arms,
            seconds=self._seconds(experiment),
            member_steps=100,
            rows=100,
            kept_seed=None,
        )

    def _seconds(self, training: Training) -> float:
        if self.step_seconds is None:
            return 0.5
        return Costs(one=0.0, each=self.step_seconds).of(self.subject, training)

    def _trial(self, arm: Arm, seed: int, training: Training) -> TrialOutcome:
        true = self.base + self.effect(arm) + self.rng.normal(0, self.spread)
        correct = self._hits(self.difficulty[training.split], true)
        share = float(correct.mean())
        spared = None
        if training.folds:
            parts = spared_rows(self.subject.labels["train"], training.folds)
            rows = self.difficulty["train"][parts[seed % training.folds]]
            spared = pack_mask(self._hits(rows, true + self.on_spared))
        return TrialOutcome(
            seed=seed,
            correct=pack_mask(correct.tolist()),
            spared=spared,
            accuracy=share,
            balanced_accuracy=share,
            log_loss=1 - share,
            train_accuracy=min(1.0, share + 0.02),
            train_balanced_accuracy=min(1.0, share + 0.02),
            train_loss=0.1,
            signs=self.signs(arm),
        )

    def _hits(self, rows: np.ndarray, true: float) -> np.ndarray:
        # Rows near the border differ from training to training, as in life.
        blur = rows + self.rng.normal(0, 0.03, len(rows))
        return blur < np.clip(true, 0, 1)

    def through(self, rounds: Round[Any]) -> Any:
        """Answer what rounds ask for; returns what they return."""
        answers = None
        try:
            while True:
                ask = rounds.send(answers)
                answers = {e.digest(): self.answer(e) for e in ask.experiments}
        except StopIteration as end:
            return end.value

    def audit(self) -> Learned:
        """Run all rounds."""
        for _ in range(50):
            step = advance(self.subject, self.outcomes)
            if step.learned is not None:
                return step.learned
            for experiment in step.experiments:
                self.outcomes[experiment.digest()] = self.answer(experiment)
        raise AssertionError("the audit does not end")


def no_effect(_arm: Arm) -> float:
    return 0.0


def make_learned(**known: Any) -> Learned:
    """What rounds may have yielded, of which a test names what it is about."""
    usual = {"measures": {}, "obstacles": {}, "mends": {}, "signal": True}
    return Learned(**{**usual, "ledger": Ledger(), **known})
