"""Which repaired model comes back where the delivery was at fault."""

import pytest

from service.contract.causes import Cause
from service.contract.report import Evidence, Finding, Recommendation, Remedy
from tests.builders_engine import HEADER, World, make_subject
from worker.engine.check import AS_IN_TRAINING
from worker.engine.conclusion import conclude
from worker.engine.lab.experiment import (
    Arm,
    Experiment,
    NetworkChange,
    Outcome,
    Training,
    pack_mask,
)
from worker.engine.mended_delivery import NAME
from worker.engine.prescription import with_the_delivery

AS_DELIVERED = NetworkChange(name="as_delivered")
LEFT_ON = {
    "repeat": {"changed": 0.2, "difference": 1.0},
    "varies": True,
    "gain": {"value": 0.2, "low": 0.15, "high": 0.25, "standard_error": 0.02},
    "baked_training": True,
}


class Delivered(World):
    """Keeps what it is asked to keep; delivered weights reach what they are worth."""

    def __init__(self, *, weights: float, anew: float, steps: float | None = None):
        def effect(arm: Arm) -> float:
            is_kept = AS_DELIVERED in arm.changes
            return weights - anew if is_kept else 0.0

        super().__init__(
            make_subject(), base=anew, effect=effect, step_seconds=steps, spread=0.0
        )
        rows = self.difficulty
        hits = {split: pack_mask(rows[split] < weights) for split in rows}
        as_it_runs = {split: pack_mask(rows[split] < 0.5) for split in rows}
        self.measures["determinism"] = LEFT_ON
        self.measures["delivered"] = {
            "correct": hits,
            "balanced_accuracy": weights,
            "as_it_runs": {"correct": as_it_runs},
        }

    def answer(self, experiment: Experiment) -> Outcome:
        outcome = super().answer(experiment)
        if not isinstance(experiment, Training) or experiment.keep is None:
            return outcome
        [arm] = outcome.arms
        return outcome.model_copy(
            update={
                "file": f"{experiment.keep}.pt",
                "kept_seed": experiment.seeds[0],
                "kept_level": arm.trials[0].balanced_accuracy,
            }
        )


def remedy_in(world: World):
    report = conclude(world.subject, world.audit(), HEADER)
    assert report.primary_cause is Cause.TRAINING_MODE_LEFT_ON
    [finding] = [f for f in report.findings if f.cause == report.primary_cause]
    return report.remedy, finding.recommendation.text


def test_good_weights_come_back_in_evaluation_mode():
    remedy, advice = remedy_in(Delivered(weights=0.7, anew=0.6))

    assert remedy.model == f"{NAME}.pt"
    assert remedy.steps == [advice]
    assert remedy.gain.value == pytest.approx(0.2, abs=0.07)
    assert remedy.changes == [{"kind": "network", "name": "as_delivered"}]


def test_what_training_makes_hardly_better_is_not_given():
    remedy, _ = remedy_in(Delivered(weights=0.7, anew=0.71))

    assert remedy.model == f"{NAME}.pt"


def test_they_come_back_where_there_is_no_time_to_train():
    world = Delivered(weights=0.7, anew=0.6, steps=5.0)

    remedy, _ = remedy_in(world)

    assert [training.keep for training in world.trained] == [NAME]
    assert remedy.model == f"{NAME}.pt"


def test_what_training_makes_better_comes_back_trained():
    remedy, _ = remedy_in(Delivered(weights=0.6, anew=0.8))

    assert remedy.model != f"{NAME}.pt"
    assert remedy.steps[-1] == "Export it in evaluation mode."


def test_nothing_is_mended_where_the_delivery_is_sound():
    world = Delivered(weights=0.7, anew=0.7)
    del world.measures["determinism"]

    world.audit()

    assert NAME not in [training.keep for training in world.trained]


@pytest.mark.parametrize("kind", [AS_IN_TRAINING, "transformations"])
@pytest.mark.parametrize("steps", [[], ["Raise the learning rate."]])
def test_what_held_out_inputs_need_is_said_beside_a_model_trained_anew(kind, steps):
    """Its scores were those of inputs that came in the other form."""
    finding = Finding(
        cause=Cause.PREPROCESSING_MISMATCH, group="deployment", verdict="found",
        summary="", docs="", evidence=[Evidence(kind=kind, statement="")],
        recommendation=Recommendation(text="Apply `divide_255`."),
    )  # fmt: skip
    remedy = Remedy.model_construct(steps=steps)

    told = with_the_delivery(remedy, [finding]).steps[-1]

    assert ("Apply `divide_255`." in told) is (not steps or kind == AS_IN_TRAINING)
    assert ("without that" in told) is (bool(steps) and kind == AS_IN_TRAINING)
