"""How far a repaired model is taken."""

from dataclasses import replace
from itertools import cycle

import numpy as np
import pytest

from service.contract.causes import Cause
from tests.builders_engine import World, make_subject, no_effect
from tests.worker.engine.test_results import trained
from worker.engine.check import Mend
from worker.engine.lab.experiment import (
    Arm,
    DataChange,
    NetworkChange,
    RecipeChange,
    pack_mask,
)
from worker.engine.planning import Costs
from worker.engine.refinement import refine, variations
from worker.engine.trainer import Trainer

LOW, CAPACITY = Cause.LEARNING_RATE_TOO_LOW, Cause.INSUFFICIENT_CAPACITY
OPTIMIZER = Cause.UNSUITABLE_OPTIMIZER


def rate(value: float) -> Mend:
    change = RecipeChange(patch={"optimizer": {"lr": value}})
    return Mend(LOW, f"lr={value:g}", "Raise it", (change,))


def width(factor: float) -> Mend:
    change = NetworkChange(name="width", factor=factor)
    return Mend(CAPACITY, f"width×{factor:g}", "Widen it", (change,))


def widths(arm: Arm) -> float:
    return max([c.factor for c in arm.changes if c.kind == "network"], default=1.0)


def refined(
    effect,
    repaired: tuple[Mend, ...],
    others: tuple[Mend, ...] = (),
    screened: dict[str, int] | None = None,
    spread: float = 0.01,
    *,
    anew: bool = False,
) -> tuple[World, list[str]]:
    world = World(make_subject(), base=0.6, effect=effect, spread=spread)
    screen = trained({"baseline": 60, **(screened or {})}, (0, 1, 2))
    trainer = Trainer(world.subject)
    trainer.costs = Costs(one=0.0, each=1e-7)
    mends = {other.cause: (other,) for other in others}
    refined = world.through(refine(trainer, repaired, mends, screen, anew=anew))
    return world, [mend.key for mend in refined]


def test_a_knob_is_turned_as_long_as_that_pays():
    def effect(arm):
        return min(0.3, 0.02 * widths(arm))

    _, keys = refined(effect, (rate(0.01), width(4.0)))

    assert keys == ["lr=0.01", "width×16"]


def test_what_does_not_pay_is_left_as_it_was_proven():
    world, keys = refined(no_effect, (rate(0.01),))

    assert keys == ["lr=0.01"]
    assert {t.split for t in world.trained} == {"decide"}


@pytest.mark.parametrize(
    ("speaks", "harm", "is_mended"),
    [
        ({"evident": True}, 0.0, True),
        ({"evident": False}, 0.0, False),
        ({"evident": True, "natural": True}, 0.0, False),
        ({"evident": True, "natural": True}, -0.05, True),
        ({"evident": True}, 0.05, False),
    ],
)
def test_what_is_plainly_amiss_is_mended_where_that_does_no_harm(
    speaks, harm, is_mended
):
    """A loss that does not fit the outputs, say, however well training copes."""
    loss = RecipeChange(patch={"loss": {"name": "focal"}})
    other = Mend(Cause.UNSUITABLE_LOSS, "loss", "Use it", (loss,), sane=True, **speaks)

    def effect(arm):
        return -harm if loss in arm.changes else 0.0

    _, keys = refined(effect, (rate(0.01),), (other,), spread=0.001)

    assert ("loss" in keys) is is_mended


def test_nothing_is_refined_where_nothing_was_mended_or_on_a_part_of_the_rows():
    trainer = Trainer(make_subject())
    trainer.rows = 100
    screen = trained({"baseline": 60}, (0, 1, 2))

    for repaired in ((), (rate(0.01),)):
        with pytest.raises(StopIteration) as end:
            next(refine(trainer, repaired, {}, screen, anew=bool(repaired)))
        assert end.value.value == repaired


def test_what_is_trained_anew_is_given_what_is_plainly_amiss_and_nothing_else():
    loss = RecipeChange(patch={"loss": {"name": "bce"}})
    other = Mend(
        Cause.UNSUITABLE_LOSS, "loss", "Use it", (loss,), sane=True, evident=True
    )

    world, keys = refined(no_effect, (), (other,), spread=0.001, anew=True)

    assert keys == ["loss"]
    assert {a.name for e in world.trained for a in e.arms} == {"baseline", "loss"}


def test_a_lower_rate_takes_the_place_of_the_one_that_was_found():
    options = list(variations(make_subject(), (rate(0.01),)))

    keys = {mend.key for option in options for mend in option}
    assert {"lr=0.03", "lr=0.0033", "width×2", "epochs=80", "standardize"} <= keys
    assert all(sum(m.key.startswith("lr=") for m in option) == 1 for option in options)


def test_another_optimiser_keeps_its_settings_at_another_rate():
    patch = {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9}}
    other = Mend(OPTIMIZER, "sgd", "Use it", (RecipeChange(patch=patch),))

    options = variations(make_subject(), (other,))

    patches = [
        mend.patch["optimizer"]
        for option in options
        for mend in option
        if mend.cause is OPTIMIZER and mend != other
    ]
    assert patches == [
        {"name": "sgd", "lr": lr, "momentum": 0.9} for lr in (0.3, 0.033)
    ]


def test_labels_that_are_left_are_smoothed_where_that_pays():
    dropped = Mend(
        Cause.LABEL_NOISE,
        "suspects dropped",
        "Review the labels",
        (DataChange(name="drop", mask=pack_mask(np.zeros(8, dtype=np.bool_))),),
    )

    def effect(arm):
        patches = [c.patch for c in arm.changes if c.kind == "recipe"]
        return 0.05 if {"loss": {"label_smoothing": 0.2}} in patches else 0.0

    _, keys = refined(effect, (dropped,))

    assert keys == ["suspects dropped, labels smoothed"]


def activation(to: str) -> Mend:
    change = NetworkChange(name="activation", to=to)
    return Mend(Cause.UNSUITABLE_ACTIVATION, f"activation={to}", "Use it", (change,))


def leaky_is_better(arm: Arm) -> float:
    return 0.02 if any(getattr(c, "to", "") == "leaky_relu" for c in arm.changes) else 0


def test_answers_that_screened_alike_are_compared_once_more():
    hits = {"activation=tanh": 71, "activation=leaky_relu": 70}

    _, keys = refined(
        leaky_is_better, (activation("tanh"),), (activation("leaky_relu"),), hits
    )

    assert keys == ["activation=leaky_relu"]


def test_an_answer_that_screened_worse_is_not_trained_again():
    hits = {"activation=tanh": 71, "activation=leaky_relu": 62}

    world, keys = refined(
        leaky_is_better, (activation("tanh"),), (activation("leaky_relu"),), hits
    )

    assert keys == ["activation=tanh"]
    assert not any("leaky" in arm.name for t in world.trained for arm in t.arms)


def test_what_a_sane_recipe_holds_is_added_where_that_pays():
    sane = replace(activation("leaky_relu"), sane=True)

    _, keys = refined(leaky_is_better, (rate(0.01),), (sane,))

    assert keys == ["lr=0.01", "activation=leaky_relu"]


@pytest.mark.parametrize(
    ("by_turns", "kept"), [((0.0, 0.3), ["width×2"]), ((-0.15, 0.25), [])]
)
def test_more_seeds_are_asked_where_few_cannot_tell(by_turns, kept):
    turns = cycle(by_turns)

    def effect(arm):
        return next(turns) if widths(arm) == 2.0 else 0.0

    world, keys = refined(effect, (rate(0.01),), spread=0.0)

    assert {len(t.seeds) for t in world.trained if "more seeds" in t.question} == {8}
    assert keys == ["lr=0.01", *kept]
