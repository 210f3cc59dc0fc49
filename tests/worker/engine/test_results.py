from dataclasses import replace

import numpy as np
import pytest

from service.contract.causes import Cause
from tests.builders_engine import make_learned
from worker.engine.check import Mend
from worker.engine.combination import first_to_name
from worker.engine.lab.experiment import (
    Arm,
    ArmOutcome,
    DataChange,
    NetworkChange,
    RecipeChange,
    Training,
    TrainingOutcome,
    TrialOutcome,
    pack_mask,
)
from worker.engine.results import (
    Results,
    collect,
    seen_to_relapse,
    share_of_relapses,
)
from worker.engine.shown import ShownInOtherForm
from worker.engine.splits import lent_rows
from worker.engine.stats.pairs import Rows, most_to_gain
from worker.engine.sweeps import SHUFFLED
from worker.engine.verdicts import relapses

LABELS = np.arange(100) % 2


def trial(seed: int, hits: np.ndarray) -> TrialOutcome:
    return TrialOutcome(
        seed=seed,
        correct=pack_mask(hits),
        accuracy=0.5,
        balanced_accuracy=0.5,
        log_loss=1.0,
        train_accuracy=0.5,
        train_balanced_accuracy=0.5,
        train_loss=1.0,
    )


def trained(hits_by_arm: dict[str, float], seeds: tuple[int, ...]) -> Results:
    """Arms that hit so many of a hundred rows, a few more with each seed."""
    arms = tuple(Arm(name=name) for name in hits_by_arm)
    training = Training(round="", question="", arms=arms, seeds=seeds)
    outcomes = tuple(
        ArmOutcome(
            name=name,
            trials=tuple(
                trial(seed, np.arange(100) < hits + 4 * seed) for seed in seeds
            ),
        )
        for name, hits in hits_by_arm.items()
    )
    outcome = TrainingOutcome(arms=outcomes, seconds=1, member_steps=1, rows=1)
    return collect([("exp_001", training, outcome)], LABELS)


def test_an_arm_that_was_given_up_is_compared_over_the_seeds_it_has():
    first = trained({"baseline": 50, "good": 60, "dear": 70}, (0, 1))
    more = trained({"baseline": 50, "good": 60}, (2, 3))

    results = first.joined(more)

    assert results.gain("good").seeds == 4
    assert results.gain("dear").seeds == 2
    assert results.gain("dear").value == pytest.approx(0.2)
    assert results.gain("dear", over="good").value == pytest.approx(0.1)
    assert results.accuracy("dear") == pytest.approx(0.72)


def rate() -> Mend:
    change = RecipeChange(patch={"optimizer": {"lr": 0.01}})
    return Mend(Cause.LEARNING_RATE_TOO_HIGH, "lr=0.01", "Lower it", (change,))


def activation(*, evident: bool) -> Mend:
    change = NetworkChange(name="activation", to="tanh")
    cause = Cause.UNSUITABLE_ACTIVATION
    return Mend(cause, "activation=tanh", "Use tanh", (change,), evident=evident)


@pytest.mark.parametrize(
    ("evident", "expected"),
    [(True, Cause.UNSUITABLE_ACTIVATION), (False, Cause.LEARNING_RATE_TOO_HIGH)],
)
def test_an_activation_that_nothing_speaks_against_is_named_last(evident, expected):
    gains = [(activation(evident=evident), 0.40), (rate(), 0.39)]

    assert first_to_name(gains).cause is expected


def test_gains_that_their_errors_do_not_tell_apart_are_equals():
    gains = [(activation(evident=False), 0.40), (rate(), 0.34)]

    assert first_to_name(gains).cause is Cause.UNSUITABLE_ACTIVATION
    assert first_to_name(gains, [0.05, 0.05]).cause is Cause.LEARNING_RATE_TOO_HIGH


def test_sorted_rows_are_named_before_a_training_that_is_as_short_for_them():
    shuffle = Mend(
        Cause.UNSUITABLE_OPTIMIZER,
        SHUFFLED,
        "Draw rows in a random order",
        (RecipeChange(patch={"sampler": "shuffle"}),),
        evident=True,
    )
    longer = Mend(
        Cause.INSUFFICIENT_TRAINING,
        "epochs=40",
        "Train for longer",
        (RecipeChange(patch={"epochs": 40}),),
        evident=True,
    )

    assert first_to_name([(longer, 0.26), (shuffle, 0.254)]) is shuffle
    assert first_to_name([(longer, 0.26), (shuffle, 0.1)]) is longer


def test_trainings_that_end_as_badly_as_the_delivered_weights_are_counted():
    results = trained({"baseline": 50}, (0, 1, 2, 3))  # 50, 54, 58, 62 of 100
    delivered = pack_mask(np.arange(100) < 55)

    assert share_of_relapses(results, delivered, within=0.0) == 0.5
    assert share_of_relapses(results, delivered, within=0.04) == 0.75


def test_a_few_seeds_that_differ_much_predict_relapses_that_they_do_not_show():
    unsteady = trained({"baseline": 60}, seeds=(0, 2, 4, 6))  # .60 to .84
    within_reach = pack_mask(np.arange(100) < 55)
    out_of_reach = pack_mask(np.arange(100) < 5)

    assert 0.05 < share_of_relapses(unsteady, within_reach, within=0.0) < 0.25
    assert share_of_relapses(unsteady, out_of_reach, within=0.0) < 0.02


@pytest.mark.parametrize(("level", "expected"), [(0.53, True), (0.49, False)])
def test_one_training_that_fits_better_does_not_speak_for_all(level, expected):
    shown = ShownInOtherForm((0.33,) * 8, (0.333,) * 7 + (0.437,))

    assert shown.fits_less_than(level) is expected


def test_relapses_of_an_earlier_round_count_beside_those_of_fresh_seeds():
    """Eight lucky trainings in a row do not vouch for a recipe seen to fail before."""
    mask = pack_mask(np.arange(100) < 65)
    steady = trained({"baseline": 80}, (0, 1, 2, 3))
    failing = trained({"baseline": 50}, (0, 1, 2, 3))  # 50, 54, 58, 62
    rounds = [(steady, mask, "baseline"), (failing, mask, "baseline")]
    learned = make_learned(
        measures={"delivered": {"correct": {"decide": mask}}},
        confirm=steady,
    )

    assert seen_to_relapse(rounds[:1], within=0.0) == 0.0
    assert seen_to_relapse(rounds, within=0.0) == 0.5
    assert relapses(learned)(0.0) < 0.05
    assert relapses(replace(learned, screen=failing))(0.0) >= 0.5


def test_one_seed_does_not_vouch_for_a_recipe_whose_runs_differ():
    def relapses(delivered: int, *seeds: int) -> float:
        results = trained({"baseline": 80}, seeds)
        mask = pack_mask(np.arange(100) < delivered)
        return share_of_relapses(results, mask, within=0.01)

    assert relapses(50, 0) > 0.05  # 30 points by one training
    assert relapses(20, 0) < 0.05  # 60 are beyond what seeds do
    assert relapses(50, 0, 1) < relapses(50, 0)


def test_what_is_left_to_gain_is_bounded_by_the_rows_that_show_it():
    labels = np.arange(400) % 4
    perfect = np.ones((3, 400), np.bool_)
    missed = perfect.copy()
    missed[:, :20] = False

    def room(hits, y, level=0.9):
        return most_to_gain(hits, Rows.of(y), level=level)

    # Clopper and Pearson: none of 400 wrong, 1 - .1^(1/400).
    assert room(perfect, labels) == pytest.approx(1 - 0.1 ** (1 / 400))
    assert 0.05 < room(missed, labels) < 0.075
    assert room(perfect, labels, level=0.99) > room(perfect, labels)
    # Four rows of a rare class say little of it.
    rare = np.where(np.arange(400) < 4, 1, 0)
    assert room(perfect, rare) > 0.1


def test_the_bound_on_what_is_left_holds_as_often_as_it_says():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [200, 60, 40])
    wrong = np.array([0.01, 0.03, 0.05])
    held = [
        most_to_gain(rng.random((1, 300)) > wrong[labels], Rows.of(labels), level=0.9)
        >= wrong.mean()
        for _ in range(400)
    ]

    assert np.mean(held) > 0.87


def test_rows_that_were_lent_to_an_arm_do_not_score_it():
    lend = Arm(name="lent", changes=(DataChange(name="lend"),))
    seeds, train = (0, 1, 2, 3), np.arange(40) % 2
    ways = lent_rows(LABELS, len(train))
    training = Training(
        round="", question="", arms=(Arm(name="baseline"), lend), seeds=seeds
    )

    half = np.arange(100) % 4 < 2
    outcomes = (
        ArmOutcome(name="baseline", trials=tuple(trial(s, half) for s in seeds)),
        # It hits all rows that were lent to it, and the others as the baseline does.
        ArmOutcome(
            name="lent", trials=tuple(trial(s, half | ~ways[s % 4][1]) for s in seeds)
        ),
    )
    outcome = TrainingOutcome(arms=outcomes, seconds=1, member_steps=1, rows=1)

    results = collect([("exp_001", training, outcome)], LABELS, train)

    assert results.gain("lent").value == pytest.approx(0.0)
    assert results.accuracy("lent") == pytest.approx(0.5, abs=0.03)
    assert results.accuracy("baseline") == pytest.approx(0.5)
    assert results.joined(results).gain("lent").value == pytest.approx(0.0)
    assert collect([("exp_001", training, outcome)], LABELS).failures["lent"]


def test_an_arm_with_the_first_seeds_alone_is_scored_on_what_these_left_out():
    """As where an audit was cancelled between two workers' shares of a training."""
    train = np.arange(50) % 2
    outcomes = []
    for name, seeds in (("baseline", (0, 1)), ("lr=0.1", (0, 1, 2))):
        training = Training(
            round="", question="", arms=(Arm(name=name),), seeds=seeds, folds=5
        )
        trials = tuple(
            trial(s, LABELS == 0).model_copy(update={"spared": pack_mask([True] * 10)})
            for s in seeds
        )
        arm = ArmOutcome(name=name, trials=trials)
        outcome = TrainingOutcome(arms=(arm,), seconds=1, member_steps=1, rows=1)
        outcomes.append(("exp_001", training, outcome))

    results = collect(outcomes, LABELS, train)

    correct, seen = results.on_spared()
    assert correct.shape == seen.shape == (2, 50)
    assert results.on_spared("lr=0.1")[0].shape == (3, 50)
    assert bool((correct == seen).all())
