"""Which of several mends the screen speaks for."""

from dataclasses import replace

import pytest

from service.contract.causes import Cause
from tests.worker.engine.test_results import trained
from worker.engine.check import Mend
from worker.engine.choices import best_of_each, between, with_rivals
from worker.engine.lab.experiment import NetworkChange, RecipeChange

LOWER, HIGHER = Cause.LEARNING_RATE_TOO_HIGH, Cause.LEARNING_RATE_TOO_LOW


def rate(cause: Cause, value: float) -> Mend:
    change = RecipeChange(patch={"optimizer": {"lr": value}})
    return Mend(cause, f"lr={value:g}", "Change it", (change,))


def chosen(hits: dict[float, int], given: float, of: Cause = LOWER) -> Mend:
    screen = trained(
        {"baseline": hits[given]}
        | {f"lr={value:g}": many for value, many in hits.items() if value != given},
        (0, 1, 2),
    )
    mends = {
        LOWER: [rate(LOWER, value) for value in hits if value < given],
        HIGHER: [rate(HIGHER, value) for value in hits if value > given],
    }
    best = best_of_each(screen, mends)
    return best[of]


def test_of_rates_that_do_as_well_the_one_amid_its_like_is_taken():
    hits = {0.03: 60, 0.1: 84, 0.15: 85, 0.3: 86, 0.5: 40}

    assert chosen(hits, given=0.5).key == "lr=0.15"


def test_the_last_rate_that_was_tried_is_not_steady():
    """Nobody knows whether the next one would fail."""
    hits = {0.005: 51, 0.015: 59, 0.05: 81, 0.15: 80}

    assert chosen(hits, given=0.005, of=HIGHER).key == "lr=0.05"


def test_a_rate_that_is_clearly_best_is_taken_wherever_it_lies():
    hits = {0.01: 50, 0.03: 60, 0.1: 70, 0.3: 86, 0.5: 40}

    assert chosen(hits, given=0.5).key == "lr=0.3"


def test_a_rate_is_taken_where_none_gains():
    hits = {0.01: 50, 0.1: 60, 0.5: 86}

    assert chosen(hits, given=0.5).key == "lr=0.1"


def test_rates_between_the_given_and_the_chosen_one_start_at_the_given_one():
    higher = [rate(HIGHER, 10.0**k) for k in range(-2, 3)]
    lower = [rate(LOWER, 10.0**k) for k in range(-6, -3)]

    assert [m.key for m in between(higher, higher[-1])] == ["lr=0.01", "lr=1"]
    assert [m.key for m in between(higher, higher[2])] == ["lr=0.01", "lr=0.1"]
    assert [m.key for m in between(lower, lower[0])] == ["lr=0.0001", "lr=1e-05"]
    assert between(lower, lower[-1]) == []


def length(hits: dict[int, int], given: int) -> str:
    cause = Cause.INSUFFICIENT_TRAINING
    longer = [
        Mend(cause, f"epochs={n}", "Go on", (RecipeChange(patch={"epochs": n}),))
        for n in hits
        if n > given
    ]
    screen = trained(
        {"baseline": hits[given]}
        | {m.key: hits[n] for m, n in zip(longer, sorted(hits)[1:], strict=True)},
        (0, 1, 2),
    )
    return best_of_each(screen, {cause: longer})[cause].key


def test_of_lengths_that_do_as_well_the_one_amid_its_like_is_taken():
    assert length({4: 70, 8: 81, 16: 80, 48: 80, 156: 80}, given=4) == "epochs=16"


@pytest.mark.parametrize(("before", "taken"), [(89, "epochs=48"), (83, "epochs=156")])
def test_the_longest_is_taken_only_where_it_does_better(before, taken):
    hits = {4: 70, 8: 75, 16: 80, 48: before, 156: 90}

    assert length(hits, given=4) == taken


def test_the_shortest_length_is_taken_where_longer_ones_lose():
    assert length({4: 70, 8: 85, 16: 78, 48: 70}, given=4) == "epochs=8"


@pytest.mark.parametrize(("bare", "taken"), [(79, "raw output"), (65, "tanh")])
def test_an_evident_answer_does_not_lose_by_a_hair(bare, taken):
    cause = Cause.UNSUITABLE_ACTIVATION
    raw = Mend(cause, "raw output", "Take it off", (), evident=True)
    other = Mend(cause, "tanh", "Use tanh", ())
    screen = trained({"baseline": 50, "raw output": bare, "tanh": 80}, (0, 1, 2))

    assert best_of_each(screen, {cause: [raw, other]})[cause].key == taken


@pytest.mark.parametrize(("hits", "taken"), [(85, "no schedule"), (62, "lr=0.1")])
def test_a_rate_that_is_kept_to_the_end_stands_beside_the_sweep(hits, taken):
    change = RecipeChange(patch={"schedule": None})
    kept = Mend(HIGHER, "no schedule", "Keep it", (change,), evident=True)
    rates = [rate(HIGHER, 0.01), rate(HIGHER, 0.1)]
    screen = trained(
        {"baseline": 60, "no schedule": hits, "lr=0.01": 70, "lr=0.1": 84}, (0, 1, 2)
    )

    best = best_of_each(screen, {HIGHER: [kept, *rates]})

    assert best[HIGHER].key == taken
    assert between([kept, *rates], rates[1]) == [rates[0]]
    assert between([kept, *rates], kept) == []


@pytest.mark.parametrize("evident", [False, True])
def test_layers_of_another_shape_compete_with_more_of_the_given_ones(evident):
    wide, wider, other = (
        Mend(cause, key, "Mend it", (NetworkChange(name="width", factor=2.0),))
        for cause, key in (
            (Cause.INSUFFICIENT_CAPACITY, "width×2"),
            (Cause.INSUFFICIENT_CAPACITY, "width×4"),
            (Cause.UNSUITABLE_LAYERS, "conv reference"),
        )
    )
    other = replace(other, evident=evident)
    levels = {"baseline": 50, "width×2": 55, "width×4": 60, "conv reference": 70}
    mends = {wide.cause: [wide, wider], other.cause: [other]}

    found = with_rivals(trained(levels, (1, 2)), mends)

    [competing] = found[Cause.UNSUITABLE_LAYERS]
    assert competing.rival == (None if evident else wider)
    levels |= {"width×2": 40, "width×4": 45}  # more of the given ones do no good
    alone = with_rivals(trained(levels, (1, 2)), mends)[Cause.UNSUITABLE_LAYERS]
    assert alone[0].rival is None
