"""Which of several mends the screen speaks for."""

from service.contract.causes import Cause
from tests.worker.engine.test_results import trained
from worker.engine.check import Mend
from worker.engine.choices import best_of_each
from worker.engine.lab.experiment import RecipeChange

LOWER, HIGHER = Cause.LEARNING_RATE_TOO_HIGH, Cause.LEARNING_RATE_TOO_LOW


def rate(cause: Cause, value: float) -> Mend:
    change = RecipeChange(patch={"optimizer": {"lr": value}})
    return Mend(cause, f"lr={value:g}", "Change it", (change,))


def chosen(hits: dict[float, int], given: float) -> Mend:
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
    return best[LOWER]


def test_of_rates_that_do_as_well_the_one_amid_its_like_is_taken():
    hits = {0.03: 60, 0.1: 84, 0.15: 85, 0.3: 86, 0.5: 40}

    assert chosen(hits, given=0.5).key == "lr=0.15"


def test_a_rate_that_is_clearly_best_is_taken_wherever_it_lies():
    hits = {0.01: 50, 0.03: 60, 0.1: 70, 0.3: 86, 0.5: 40}

    assert chosen(hits, given=0.5).key == "lr=0.3"


def test_a_rate_is_taken_where_none_gains():
    hits = {0.01: 50, 0.1: 60, 0.5: 86}

    assert chosen(hits, given=0.5).key == "lr=0.1"
