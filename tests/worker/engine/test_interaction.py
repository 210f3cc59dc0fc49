"""What is tried beside the best mend first, where there is no time for all."""

import pytest

from service.contract.causes import Cause
from tests.builders_engine import World, make_subject, no_effect
from tests.worker.engine.test_results import trained
from worker.engine.check import Mend
from worker.engine.interaction import Interaction
from worker.engine.lab.experiment import DataChange, NetworkChange, RecipeChange
from worker.engine.trainer import Trainer

RATE = Mend(
    Cause.LEARNING_RATE_TOO_LOW,
    "lr",
    "",
    (RecipeChange(patch={"optimizer": {"lr": 0.1}}),),
)
SMALLER = Mend(
    Cause.EXCESS_CAPACITY, "narrow", "", (NetworkChange(name="width", factor=0.5),)
)
REPAIRED = Mend(
    Cause.CORRUPTED_INPUTS,
    "repaired",
    "",
    (DataChange(name="repair_inputs"),),
    urgent=True,
    evident=True,
)


@pytest.mark.parametrize(
    ("hits", "first"), [(38, "repaired"), (10, "narrow")], ids=["alike", "far worse"]
)
def test_what_data_speak_for_is_added_first(hits: int, first: str):
    """A slow rate hides what clean inputs are worth."""
    world = World(make_subject(), base=0.5, effect=no_effect)
    screen = trained({"baseline": 40, "lr": 60, "narrow": 43, "repaired": hits}, (0, 1))
    trainer = Trainer(world.subject)
    best = {mend.cause: mend for mend in (RATE, SMALLER, REPAIRED)}
    mends = {cause: [mend] for cause, mend in best.items()}

    adding = Interaction(trainer, screen)._add((RATE,), mends, best)
    ask = next(adding)

    added = [arm.name for training in ask.experiments for arm in training.arms]
    assert first in added[0]
