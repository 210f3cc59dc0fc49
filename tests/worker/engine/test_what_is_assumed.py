"""What is said of a recipe that was guessed, and makes worse models."""

import numpy as np
import pytest

from service.contract.causes import Cause
from service.contract.recipe import Loss, Optimizer, Recipe
from service.contract.report import Report
from tests.builders_engine import HEADER, World, make_subject
from worker.engine.conclusion import conclude
from worker.engine.lab.experiment import Arm, RecipeChange, pack_mask

TOLD = Recipe(
    optimizer=Optimizer(name="adam", lr=1e-3),
    loss=Loss(name="cross_entropy"),
    epochs=15,
    batch_size=32,
)


def longer(arm: Arm) -> float:
    epochs = [
        change.patch.get("epochs", 0)
        for change in arm.changes
        if isinstance(change, RecipeChange)
    ]
    return 0.15 if max(epochs, default=0) > 30 else 0.0


def reported(recipe: Recipe, delivered: float) -> Report:
    """Audit a model of some balanced accuracy, whose recipe yields .75."""
    world = World(make_subject(recipe=recipe), base=0.75, effect=longer)
    rows = world.difficulty
    world.measures["delivered"] = {
        "balanced_accuracy": delivered,
        "correct": {split: pack_mask(rows[split] < delivered) for split in rows},
    }

    return conclude(world.subject, world.audit(), HEADER)


@pytest.mark.parametrize(
    ("recipe", "delivered", "verdict"),
    [
        (Recipe(epochs=15), 0.95, "inconclusive"),
        (Recipe(epochs=15), 0.75, "found"),
        (TOLD, 0.95, "found"),
    ],
    ids=["worse than delivered", "as delivered", "all told"],
)
def test_gains_that_make_a_wrong_guess_good_are_left_open(recipe, delivered, verdict):
    report = reported(recipe, delivered)

    [finding] = [f for f in report.findings if f.cause is Cause.INSUFFICIENT_TRAINING]
    expected = {verdict, "suspected"} if verdict == "found" else {verdict}
    assert finding.verdict in expected
    assert ("of which we assumed" in finding.summary) == (verdict == "inconclusive")
    assert np.isfinite(finding.gain.value)


@pytest.mark.parametrize(
    ("delivered", "verdict"), [(0.92, "suspected"), (0.8, "found")]
)
def test_what_is_wrong_with_another_recipe_is_no_fault_of_the_model(delivered, verdict):
    """Told in full, it yields far worse, and once mended no better."""
    report = reported(TOLD, delivered)

    [finding] = [f for f in report.findings if f.cause is Cause.INSUFFICIENT_TRAINING]
    assert finding.verdict == verdict
    assert ("trained by another one" in finding.summary) is (verdict == "suspected")
    primary = Cause.INSUFFICIENT_TRAINING if verdict == "found" else None
    assert report.primary_cause is primary
