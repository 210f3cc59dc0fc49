import pytest

from tests.builders_engine import World, make_subject, no_effect
from worker.engine.lab.experiment import Arm, RecipeChange
from worker.engine.planning import Costs
from worker.engine.trainer import LEAST_CONFIRMING, Trainer

SEEDS = tuple(range(12))


def arms(count: int) -> list[Arm]:
    rates = [RecipeChange(patch={"optimizer": {"lr": 10.0**-k}}) for k in range(count)]
    return [Arm(name=f"arm {k}", changes=(rate,)) for k, rate in enumerate(rates)]


def answered(trainer: Trainer, *asked):
    """Train in a world without effects; returns experiments and results."""
    world = World(trainer.subject, base=0.8, effect=no_effect)
    training = trainer.train(*asked)
    ask = next(training)
    with pytest.raises(StopIteration) as end:
        training.send({e.digest(): world.answer(e) for e in ask.experiments})
    return ask.experiments, end.value.value


def test_no_two_rounds_share_a_seed():
    trainer = Trainer(make_subject(seed=3))

    rounds = [trainer.seeds(stage, 32) for stage in ("screen", "confirm", "remedy")]

    assert len({seed for seeds in rounds for seed in seeds}) == 3 * 32


def test_seeds_are_given_up_before_arms_but_not_more_than_a_test_needs():
    trainer = Trainer(make_subject())
    trainer.costs = Costs(one=0.0, each=1e-3)
    wanted = arms(8)
    six = SEEDS[:LEAST_CONFIRMING]

    roomy = trainer.fit(wanted, SEEDS, trainer.cost(wanted, SEEDS))
    tight = trainer.fit(wanted, SEEDS, trainer.cost(wanted, six))
    narrow = trainer.fit(wanted, SEEDS, trainer.cost(wanted[:5], six))

    assert roomy == (wanted, SEEDS)
    assert tight == (wanted, six)
    assert narrow == (wanted[:5], six)


def test_what_limits_an_audit_is_said_once():
    trainer = Trainer(make_subject())

    trainer.limit("No time.")
    trainer.limit("No time.")

    assert trainer.ledger.limits == ["No time."]


def test_a_training_far_beyond_the_budget_is_not_worth_beginning():
    trainer = Trainer(make_subject())
    steps = 40 * 38  # of 1,200 rows in batches of 32
    seconds = {share: share * trainer.left / steps for share in (2, 20)}

    trainer.costs = Costs(one=0.0, each=seconds[2])
    assert trainer.too_slow is None  # from fewer rows, stopped early at worst

    trainer.costs = Costs(one=0.0, each=seconds[20])
    assert "a training takes about" in trainer.too_slow


def test_rows_that_fit_the_budget_are_all_used():
    trainer = Trainer(make_subject())
    trainer.costs = Costs(one=0.0, each=1e-6)

    trainer.limit_effort()

    assert trainer.rows is None
    assert trainer.ledger.limits == []


def test_a_slow_network_learns_from_fewer_rows_and_the_report_says_so():
    trainer = Trainer(make_subject(counts=(4000, 4000, 4000)))
    trainer.costs = Costs(one=0.0, each=1e-3)

    trainer.limit_effort()

    assert trainer.rows is not None
    assert trainer.rows < 12_000
    assert f"{trainer.rows} of 12000" in trainer.ledger.limits[0]


def test_fewer_rows_leave_the_last_batch_as_full_as_it_is():
    trainer = Trainer(make_subject(counts=(4000, 4000, 4003)))
    trainer.costs = Costs(one=0.0, each=1e-3)

    trainer.limit_effort()

    batch = trainer.subject.recipe.batch_size
    assert trainer.rows is not None
    assert trainer.rows % batch == 12_003 % batch != 0


@pytest.mark.parametrize("budget", ["quick", "standard"])
def test_no_experiment_may_exceed_the_budget_by_more_than_a_fifth(budget):
    trainer = Trainer(make_subject(budget=budget))

    first, _ = answered(trainer, "screen", "?", arms(1), SEEDS)

    assert all(e.max_seconds <= 1.2 * trainer.effort.seconds for e in first)
    left = 1.2 * trainer.effort.seconds - trainer.ledger.seconds
    assert trainer.at_most("remedy") <= left
    assert trainer.at_most("confirm") <= left - 0.15 * trainer.effort.seconds + 1e-9


def test_rows_are_given_up_until_what_follows_the_first_look_fits_too():
    trainer = Trainer(make_subject(counts=(4000, 4000, 4000)))
    one = trainer.cost(arms(1), SEEDS[:1]) / trainer.costs.each
    dozen = 12 / 0.42  # trainings of the budget, of which a dozen just fits the screen
    trainer.costs = Costs(one=0.0, each=trainer.left / dozen / one)

    trainer.limit_effort()

    assert trainer.rows is not None
    all_of_it = trainer.cost(arms(12 + 24), SEEDS[:1])
    assert all_of_it == pytest.approx(0.9 * trainer.left, rel=0.02)
