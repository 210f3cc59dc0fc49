"""What the delivered scores put first where not everything can be tried."""

import pytest

from service.contract.causes import Cause
from service.contract.recipe import Optimizer, Recipe
from tests.builders_engine import make_subject
from worker.engine.auditor import propose
from worker.engine.catalog import CATALOG
from worker.engine.choices import RATES
from worker.engine.lab.experiment import Arm
from worker.engine.planning import Costs, in_order
from worker.engine.screening import screen_mends
from worker.engine.symptoms import missing_by_far, unlikely_causes
from worker.engine.trainer import Trainer

WATCHED = (
    Cause.INSUFFICIENT_REGULARIZATION,
    Cause.EXCESS_CAPACITY,
    Cause.INSUFFICIENT_DATA,
)


def scores(train: float, gap: float) -> dict[str, dict]:
    return {
        "delivered": {
            "balanced_accuracy": train - gap,
            "train_balanced_accuracy": train,
            "gap": gap,
        }
    }


def test_a_network_that_misses_its_own_training_data_is_not_overfitted():
    unlikely = unlikely_causes(scores(train=0.3, gap=0.0))

    assert Cause.EXCESS_CAPACITY in unlikely
    assert Cause.INSUFFICIENT_REGULARIZATION in unlikely
    assert Cause.LEARNING_RATE_TOO_HIGH not in unlikely
    assert Cause.INSUFFICIENT_CAPACITY not in unlikely


def test_a_network_that_knows_its_training_data_by_heart_is_not_too_small():
    unlikely = unlikely_causes(scores(train=1.0, gap=0.2))

    assert Cause.INSUFFICIENT_CAPACITY in unlikely
    assert Cause.INSUFFICIENT_REGULARIZATION not in unlikely


def test_without_scores_nothing_is_unlikely():
    assert unlikely_causes({}) == frozenset()


def test_trainings_by_the_recipe_speak_before_a_model_that_delivery_may_have_spoilt():
    spoilt = scores(train=0.3, gap=0.0)
    retrained = {"train_balanced_accuracy": 1.0, "gap": 0.2}

    unlikely = unlikely_causes(spoilt, retrained)

    assert Cause.INSUFFICIENT_CAPACITY in unlikely
    assert Cause.INSUFFICIENT_REGULARIZATION not in unlikely


def test_unlikely_mends_come_last():
    subject = make_subject()
    mends, _ = propose(subject, CATALOG, scores(train=0.3, gap=0.0))
    unlikely = unlikely_causes(scores(train=0.3, gap=0.0))

    ordered = in_order([m for some in mends.values() for m in some], 6, unlikely)

    late = [m.cause in unlikely for m in ordered if not m.evident]
    assert late == sorted(late)
    assert True in late


def test_a_cause_that_scores_speak_against_gets_one_mend_unless_they_only_measure():
    mends, _ = propose(make_subject(), CATALOG, scores(train=0.3, gap=0.0))
    everything = [m for some in mends.values() for m in some]
    unlikely = unlikely_causes(scores(train=0.3, gap=0.0))

    counts = {}
    for speaks in (frozenset(), unlikely):
        ordered = in_order(everything, 3, speaks)
        counts[speaks] = [sum(m.cause is cause for m in ordered) for cause in WATCHED]

    assert counts[frozenset()] == [3, 3, 2]
    assert counts[unlikely] == [1, 1, 2]


@pytest.mark.parametrize(
    ("settings", "never"),
    [
        ({"train": 0.3, "gap": 0.0}, ("width÷", "dropout", "weight_decay")),
        ({"train": 1.0, "gap": 0.3}, ("width×", "epochs=160")),
    ],
)
def test_a_short_budget_is_not_filled_with_what_the_scores_speak_against(
    settings, never
):
    measures = scores(**settings)
    trainer = Trainer(make_subject())
    mends, _ = propose(trainer.subject, CATALOG, measures)
    one = trainer.cost([Arm(name="baseline")], trainer.screening_seeds)
    trainer.costs = Costs(one=0.0, each=1e-3 * trainer.allowance("screen") / one / 7)

    ask = next(screen_mends(trainer, mends, 0.0, unlikely_causes(measures)))

    tried = {arm.name for training in ask.experiments for arm in training.arms}
    assert len(tried) > 2
    assert not [name for name in tried if name.startswith(never)]


def test_a_first_look_takes_fewer_seeds_before_fewer_rows():
    seeds = {}
    for each in (1e-5, 2e-3, 2e-2):
        trainer = Trainer(make_subject(counts=(4000, 4000, 4000)))
        trainer.costs = Costs(one=0.0, each=each)
        trainer.limit_effort()
        seeds[each] = (len(trainer.screening_seeds), trainer.rows is None)

    assert seeds[1e-5] == (3, True)
    assert seeds[2e-2] == (1, False)


@pytest.mark.parametrize(
    ("spread", "missing", "seeds"), [(0.005, 0.0, 2), (0.03, 0.0, 3), (0.005, 0.6, 3)]
)
def test_a_recipe_that_yields_the_same_from_every_seed_is_looked_at_from_fewer(
    spread, missing, seeds
):
    trainer = Trainer(make_subject())
    trainer.missing = missing

    trainer.limit_seeds(spread)

    assert len(trainer.screening_seeds) == seeds


def test_seeds_are_given_up_only_as_far_as_needed():
    trainer = Trainer(make_subject(counts=(4000, 4000, 4000)))
    arms = 12 * 375 * trainer.subject.recipe.epochs * 1.2  # member steps of a dozen
    trainer.costs = Costs(one=0.0, each=trainer.allowance("screen") / arms / 2.5)

    trainer.limit_effort()

    assert len(trainer.screening_seeds) == 2
    assert trainer.rows is None


def test_few_rows_and_a_wide_gap_have_the_learning_curve_measured_early():
    few, many = make_subject(counts=(15, 15, 15)), make_subject()
    wide = scores(train=1.0, gap=0.3)

    for subject, measures, urgent in (
        (few, wide, True),
        (few, scores(train=0.9, gap=0.0), False),
        (many, wide, False),
    ):
        mends, _ = propose(subject, CATALOG, measures)
        curve = mends[Cause.INSUFFICIENT_DATA]
        assert curve
        assert all(mend.urgent is urgent for mend in curve)
        assert all(mend.evident is (subject is few) for mend in curve)


def reference(reached: float, delivered: float) -> dict[str, dict[str, object]]:
    return {
        "signal": {"balanced_accuracy": {"value": reached}, "chance": 0.1},
        "delivered": {"balanced_accuracy": delivered},
    }


@pytest.mark.parametrize(
    ("reached", "delivered", "missing"),
    [(0.8, 0.1, 0.7), (0.8, 0.6, 0), (0.25, 0.1, 0), (0.8, 0.46, 0)],
)
def test_a_model_that_knows_less_than_half_of_what_a_cheap_learner_does_is_far_off(
    reached, delivered, missing
):
    assert missing_by_far(reference(reached, delivered)) == pytest.approx(missing)
    assert missing_by_far({"delivered": {"balanced_accuracy": delivered}}) == 0


def test_what_falls_far_short_is_looked_at_widely_from_fewer_rows():
    rows = {}
    for missing in (0.0, 0.5):
        trainer = Trainer(make_subject(counts=(4000, 4000, 4000)))
        trainer.costs = Costs(one=0.0, each=2e-3)
        trainer.arms, trainer.missing = 40, missing
        trainer.limit_effort()
        rows[missing] = trainer.rows

    assert rows[0.5] < rows[0.0]


@pytest.mark.parametrize("given", [1e-5, 10.0])
def test_a_strange_rate_is_first_tried_near_the_customary_one(given):
    recipe = Recipe(optimizer=Optimizer(name="sgd", lr=given), epochs=10)
    subject = make_subject(recipe=recipe)

    mends, _ = propose(subject, CATALOG, {})

    rates = [m for cause in RATES for m in mends[cause]]
    first = [m.patch["optimizer"]["lr"] for m in rates if m.urgent]
    assert 0.1 in first
    assert all(0.01 <= rate <= 1.0 for rate in first)
    assert len(first) < len(rates)
