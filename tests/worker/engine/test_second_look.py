"""The mended network doubts the labels once more."""

import numpy as np
import pytest

from service.contract.causes import Cause
from service.contract.recipe import Loss, Recipe
from tests.builders_engine import World, make_subject
from worker.engine.check import Mend
from worker.engine.doubted_labels import SECOND_LOOK
from worker.engine.lab.experiment import Arm, DataChange, RecipeChange, pack_mask
from worker.engine.planning import Costs
from worker.engine.second_look import look_at_labels_again
from worker.engine.trainer import Trainer

SMOOTHED = RecipeChange(patch={"loss": {"label_smoothing": 0.2}})


def mask(every: int) -> str:
    return pack_mask(np.arange(1200) % every == 0)


FIRST, AGAIN = mask(5), mask(6)
FOUND = {
    "rate": {"value": 1 / 6},
    "mask": AGAIN,
    "unsure_mask": mask(60),
    "sure_mask": mask(12),
    "corrections": [1] * 100,
}
SUSPECTS = Mend(
    Cause.LABEL_NOISE,
    "suspects dropped",
    "Review the labels",
    (DataChange(name="drop", mask=FIRST),),
)
RATE = Mend(
    Cause.LEARNING_RATE_TOO_LOW,
    "lr=0.01",
    "Raise it",
    (RecipeChange(patch={"optimizer": {"lr": 0.01}}),),
)


class Asked(World):
    """A world that remembers what was measured."""

    def answer(self, experiment):
        if experiment.kind == "measurement":
            self.measured.append(experiment)
        return super().answer(experiment)


def looked(repaired: tuple[Mend, ...], found=FOUND, loss="cross_entropy", step=1e-7):
    """Look again; returns what was asked and what was found."""
    recipe = Recipe(loss=Loss(name=loss), epochs=40, batch_size=32)
    subject = make_subject(recipe=recipe)
    world = Asked(
        subject, base=0.6, effect=lambda _: 0.0, measures={SECOND_LOOK: found}
    )
    world.measured = []
    trainer = Trainer(subject)
    trainer.costs = Costs(one=0.0, each=step)
    measures = {"noise": {"mask": FIRST}}
    again = world.through(look_at_labels_again(trainer, repaired, measures))
    return world.measured, again


def test_the_network_that_doubts_is_mended_and_learns_without_the_suspects():
    [asked], again = looked((SUSPECTS, RATE))

    changes = asked.settings["changes"]
    assert {"kind": "data", "name": "drop", "mask": FIRST} in changes
    assert [c["patch"] for c in changes if c["kind"] == "recipe"] == [
        RATE.changes[0].patch,
        SMOOTHED.patch,
    ]
    assert asked.settings["mask"] == FIRST
    assert {seed % 5 for seed in asked.settings["seeds"]} == set(range(5))
    assert again.values["mask"] == AGAIN


def test_suspects_of_the_second_look_are_corrected_or_dropped():
    _, again = looked((SUSPECTS,))

    changes = {mend.key: mend.changes for mend in again.answers}
    dropped = (DataChange(name="drop", mask=AGAIN),)
    corrected = (
        DataChange(name="relabel", mask=mask(12), labels=(1,) * 100),
        DataChange(name="drop", mask=mask(60)),
    )
    assert list(changes.values()) == [
        (*corrected, SMOOTHED),
        corrected,
        (*dropped, SMOOTHED),
        dropped,
    ]
    assert all(mend.cause is Cause.LABEL_NOISE for mend in again.answers)
    assert all("17 %" in mend.text for mend in again.answers)


def test_what_is_smoothed_already_is_not_smoothed_twice():
    smoothed = Mend(
        Cause.LABEL_NOISE,
        "suspects dropped, labels smoothed",
        "Review and smooth",
        (*SUSPECTS.changes, SMOOTHED),
    )

    [asked], again = looked((smoothed,))

    patches = [c["patch"] for c in asked.settings["changes"] if c["kind"] == "recipe"]
    assert patches == [SMOOTHED.patch]
    assert sum(SMOOTHED in mend.changes for mend in again.answers) == 2


def test_a_loss_that_cannot_smooth_does_not():
    [asked], again = looked((SUSPECTS,), loss="nll")

    assert all(change["kind"] == "data" for change in asked.settings["changes"])
    assert [mend.key for mend in again.answers] == [
        "suspects of a second look corrected",
        "suspects of a second look dropped",
    ]


@pytest.mark.parametrize(
    ("repaired", "step", "looks"),
    [
        ((SUSPECTS,), 1e-7, 10),
        ((SUSPECTS,), 0.9e-3, 5),  # of 1,520 steps each, ten would take too long
        ((SUSPECTS,), 1e-2, 0),
        ((RATE,), 1e-7, 0),
        ((), 1e-7, 0),
    ],
)
def test_labels_are_looked_at_as_often_as_there_is_time_for(repaired, step, looks):
    asked, again = looked(repaired, step=step)

    assert [len(a.settings["seeds"]) for a in asked] == ([looks] if looks else [])
    assert bool(again.answers) is bool(looks)


def test_a_network_that_knows_nothing_doubts_nothing():
    _, again = looked((SUSPECTS,), found={})

    assert again.values == {}
    assert again.answers == ()


def test_the_better_answer_is_what_the_repaired_model_is_given():
    flags = np.arange(1200) % 5 == 0
    noise = {
        "rate": {"value": 0.2, "low": 0.17},
        "mask": pack_mask(flags),
        "random_mask": pack_mask(np.roll(flags, 1)),
    }

    def effect(arm: Arm) -> float:
        masks = [c.mask for c in arm.changes if c.kind == "data"]
        if AGAIN in masks:
            return 0.2
        return 0.12 if pack_mask(flags) in masks else 0.0

    world = World(
        make_subject(),
        base=0.6,
        effect=effect,
        measures={"noise": noise, SECOND_LOOK: FOUND},
    )

    learned = world.audit()

    [mend] = learned.repaired
    assert mend.key.startswith("suspects of a second look dropped")
    assert learned.measures[SECOND_LOOK]["mask"] == AGAIN
    assert next(m.key for m in learned.chosen).startswith("suspects dropped")
