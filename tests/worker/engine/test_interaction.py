"""What is tried beside the best mend first, where there is no time for all."""

import pytest

from service.contract.causes import Cause
from tests.builders_engine import World, make_subject, no_effect
from tests.worker.engine.test_results import trained
from worker.engine.check import Mend
from worker.engine.interaction import Interaction
from worker.engine.lab.experiment import Arm, DataChange, NetworkChange, RecipeChange
from worker.engine.planning import Costs
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

    assert first in asked(adding)[0]


@pytest.mark.parametrize(("share", "is_tried"), [(0.5, True), (1.2, False)])
def test_nothing_is_added_that_there_would_be_no_time_to_confirm(share, is_tried):
    """Three pairs of the whole, of each part and of what they are compared to."""
    trainer = Trainer(make_subject())
    screen = trained({"baseline": 40, "lr": 60, "narrow": 43}, (0, 1))
    best = {mend.cause: mend for mend in (RATE, SMALLER)}
    mends = {cause: [mend] for cause, mend in best.items()}
    changes = ((), RATE.changes, SMALLER.changes, RATE.changes + SMALLER.changes)
    arms = [Arm(name=str(k), changes=made) for k, made in enumerate(changes)]
    trainer.costs = Costs(one=0.0, each=1.0)
    three = trainer.cost(arms, trainer.seeds("confirm", 3))
    trainer.costs = Costs(one=0.0, each=share * trainer.left / three)

    adding = Interaction(trainer, screen)._add((RATE,), mends, best)

    assert bool([*asked(adding)]) is is_tried


@pytest.mark.parametrize(
    ("gains", "missing", "keeps"), [(20, 0.0, True), (20, 0.8, False), (0, 0.0, False)]
)
def test_time_is_kept_to_confirm_the_best_single_mend(gains, missing, keeps):
    """Unless it leaves most to be mended, so that others are needed beside it."""
    trainer = Trainer(make_subject())
    trainer.missing = missing
    screen = trained({"baseline": 40, "lr": 40 + gains}, (0, 1))
    unit = trainer.cost([Arm(name="baseline")], trainer.seeds("confirm", 6)) / 1e-3
    trainer.costs = Costs(one=0.0, each=trainer.left / unit / 5)
    interaction = Interaction(trainer, screen)
    before = interaction._allowance

    [*interaction.follow({RATE.cause: [RATE]})]

    assert (interaction.kept > 0.8 * trainer.left) is keeps
    assert (interaction._allowance < 0.6 * before) is keeps


@pytest.mark.parametrize("further", ["activation", "output"])
def test_only_more_of_what_helped_is_tried_further(further):
    """Another activation is not more of a last one removed."""
    cause = Cause.UNSUITABLE_ACTIVATION
    raw = Mend(cause, "raw", "", (NetworkChange(name="output"),))
    more = Mend(cause, "more", "", (NetworkChange(name=further, to="last"),))
    trainer = Trainer(make_subject())
    trainer.costs = Costs(one=0.0, each=1e-9)
    screen = trained({"baseline": 40, "raw": 60}, (0, 1, 2))

    following = Interaction(trainer, screen).follow({cause: [raw, more]})

    assert asked(following) == (["more"] if further == "output" else [])


@pytest.mark.parametrize(
    ("other", "share", "goes_on"),
    [(80, 0.15, False), (60, 0.15, True), (80, 0.01, True)],
    ids=["far behind", "near", "cheap"],
)
def test_a_dear_sweep_is_followed_only_near_the_best(other, share, goes_on):
    wide = Mend(Cause.INSUFFICIENT_CAPACITY, "wide", "", (NetworkChange(name="width"),))
    further = Mend(
        RATE.cause, "lr=1", "", (RecipeChange(patch={"optimizer": {"lr": 1.0}}),)
    )
    trainer = Trainer(make_subject())
    trainer.missing = 0.8  # so that no time is kept for the best by itself
    screen = trained({"baseline": 40, "lr": 55, "wide": other}, (0, 1))
    one = trainer.cost([Arm(name="lr=1")], trainer.screening_seeds) / 1e-3
    trainer.costs = Costs(one=0.0, each=share * trainer.left / one)
    mends = {RATE.cause: [RATE, further], wide.cause: [wide]}

    following = Interaction(trainer, screen).follow(mends)

    assert set(asked(following)) == ({"lr=1"} if goes_on else set())


def asked(rounds):
    """The names of the arms that rounds ask for first, if any."""
    ask = next(rounds, None)
    return [] if ask is None else [a.name for t in ask.experiments for a in t.arms]
