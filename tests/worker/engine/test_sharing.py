"""Stacks cut into pieces that workers share."""

from dataclasses import replace

import pytest

from tests.builders_engine import World, make_subject, no_effect
from worker.engine.lab.experiment import (
    Arm,
    ArmOutcome,
    RecipeChange,
    Training,
    TrainingOutcome,
)
from worker.engine.planning import Costs
from worker.engine.sharing import LARGEST_STACK, LOST, MOST_PIECES, cut
from worker.engine.trainer import Trainer

STEPS = 40 * 38  # of a training of 1,200 rows in batches of 32
SEEDS = tuple(range(8))


def arms(count: int) -> list[Arm]:
    rates = [RecipeChange(patch={"optimizer": {"lr": 10.0**-k}}) for k in range(count)]
    return [Arm(name=f"arm {k}", changes=(rate,)) for k, rate in enumerate(rates)]


def longer(epochs: int) -> Arm:
    return Arm(name=f"{epochs}", changes=(RecipeChange(patch={"epochs": epochs}),))


def training(of_arms, seeds=SEEDS, seconds: float | None = None) -> Training:
    return Training(
        round="confirm",
        question="?",
        arms=tuple(of_arms),
        seeds=tuple(seeds),
        max_seconds=seconds,
    )


def trials(pieces):
    return sorted((a.name, seed) for p in pieces for a in p.arms for seed in p.seeds)


def dear(seconds: float) -> Costs:
    """A member's training takes so many seconds; company costs nothing more."""
    return Costs(one=0.0, each=seconds / STEPS)


def test_a_dear_stack_is_cut_by_seeds_so_that_a_piece_holds_every_arm():
    whole = training(arms(2), seconds=80.0)

    pieces = cut(make_subject(), whole, dear(10.0)).pieces

    assert len(pieces) == MOST_PIECES
    assert all(piece.arms == whole.arms for piece in pieces)
    assert [piece.seeds for piece in pieces] == [(seed,) for seed in SEEDS]
    assert sum(piece.max_seconds for piece in pieces) == pytest.approx(80.0)


def test_what_is_too_short_to_share_stays_whole():
    whole = training(arms(2))

    assert cut(make_subject(), whole, dear(0.1)).pieces == (whole,)


def test_what_company_makes_cheap_stays_whole():
    """Most of a small network's step is paid once, however many train beside it."""
    subject, whole = make_subject(), training(arms(2))
    costs = Costs(one=10.0 / STEPS, each=0.1 / STEPS)

    assert cut(subject, whole, costs).pieces == (whole,)


def test_cutting_costs_one_worker_little_more():
    subject, whole = make_subject(), training(arms(3))
    costs = Costs(one=0.5 / STEPS, each=1.0 / STEPS)

    pieces = cut(subject, whole, costs).pieces

    apart = sum(costs.of(subject, piece) for piece in pieces)
    assert len(pieces) > 2
    assert apart < (1 + LOST) * costs.of(subject, whole)


def test_what_is_little_of_the_budget_may_be_lost_to_a_cut():
    """Else two arms of a dear network, from one seed, leave all other workers idle."""
    whole = training(arms(2), seeds=(0,))
    costs = Costs(one=0.4 / STEPS, each=1.1 / STEPS)  # a seventh of it is lost
    subject = make_subject()

    roomy = cut(replace(subject, budget_seconds=100.0), whole, costs).pieces
    tight = cut(replace(subject, budget_seconds=10.0), whole, costs).pieces

    assert len(roomy) == 2
    assert len(tight) == 1


def test_arms_are_dealt_out_where_seeds_are_too_few():
    whole = training(arms(6), seeds=(3,), seconds=60.0)

    pieces = cut(make_subject(), whole, dear(10.0)).pieces

    assert len(pieces) == 6
    assert trials(pieces) == trials([whole])
    assert [piece.max_seconds for piece in pieces] == pytest.approx([10.0] * 6)


def test_arms_that_go_one_way_are_not_parted():
    """They cost one training, from which the shorter ones are read off."""
    ways = [longer(40), longer(80), longer(160)]
    whole = training([*ways, *arms(3)], seeds=(0,), seconds=70.0)

    pieces = cut(make_subject(), whole, dear(10.0)).pieces

    held = [{arm.name for arm in piece.arms} for piece in pieces]
    assert {"40", "80", "160"} in held
    longest = held.index({"40", "80", "160"})
    # Four times as long as each of three others.
    assert pieces[longest].max_seconds == pytest.approx(40.0)


def test_long_ways_stay_beside_long_ones():
    """What a stack pays however few its members are, two of them would pay twice."""
    subject = make_subject()
    rate = RecipeChange(patch={"optimizer": {"lr": 0.5}})
    other = Arm(name="other", changes=(rate, RecipeChange(patch={"epochs": 160})))
    whole = training([*arms(8), longer(160), other], seeds=(0,))
    costs = Costs(one=1.0 / STEPS, each=2.0 / STEPS)

    pieces = cut(subject, whole, costs).pieces

    held = [{arm.name for arm in piece.arms} for piece in pieces]
    assert len(pieces) > 1
    assert {"160", "other"} in held
    apart = sum(costs.of(subject, piece) for piece in pieces)
    assert apart <= (1 + LOST) * costs.of(subject, whole)


@pytest.mark.parametrize(("count", "seeds"), [(30, 3), (9, 12), (60, 1)])
def test_no_piece_is_too_large_whatever_it_is_cut_from(count, seeds):
    pieces = cut(make_subject(), training(arms(count), range(seeds)), dear(1e-6)).pieces

    assert all(len(p.arms) * len(p.seeds) <= LARGEST_STACK for p in pieces)


def test_large_stacks_are_cut_however_cheap_they_are():
    whole = training(arms(9), seeds=tuple(range(12)))

    pieces = cut(make_subject(), whole, dear(1e-6)).pieces

    assert all(len(p.arms) * len(p.seeds) <= LARGEST_STACK for p in pieces)
    assert trials(pieces) == trials([whole])


def test_the_report_knows_one_experiment():
    subject = make_subject()
    trainer = Trainer(subject)
    trainer.costs = dear(10.0)
    world = World(subject, base=0.8, effect=no_effect)
    rounds = trainer.train("confirm", "?", arms(2), SEEDS)
    ask = next(rounds)

    answers = {e.digest(): world.answer(e) for e in ask.experiments}
    with pytest.raises(StopIteration) as end:
        rounds.send(answers)

    results = end.value.value
    assert len(ask.experiments) == MOST_PIECES
    [entry] = trainer.ledger.entries
    assert entry.experiment.seeds == SEEDS
    assert [t.seed for t in entry.outcome.arms[0].trials] == list(SEEDS)
    assert entry.outcome.seconds == sum(out.seconds for out in answers.values())
    assert results.gain("arm 1", over="arm 0").seeds == len(SEEDS)


def never_ran(piece: Training) -> TrainingOutcome:
    failed = tuple(ArmOutcome(name=a.name, failure="cancelled") for a in piece.arms)
    return TrainingOutcome(arms=failed, seconds=0, member_steps=0, rows=0)


def out_of_memory(piece: Training, outcome: TrainingOutcome) -> TrainingOutcome:
    failed = ArmOutcome(name=piece.arms[0].name, failure="no memory")
    return outcome.model_copy(update={"arms": (failed, *outcome.arms[1:])})


def test_of_a_cancelled_audit_the_seeds_that_ran_stay():
    subject = make_subject()
    parts = cut(subject, training(arms(2)), dear(10.0))
    world = World(subject, base=0.8, effect=no_effect)
    answers = {p.digest(): world.answer(p) for p in parts.pieces}
    answers |= {p.digest(): never_ran(p) for p in parts.pieces if p.seeds[0] >= 5}

    whole, outcome = parts.joined(answers)

    assert whole.seeds == SEEDS[:5]
    assert all(arm.failure is None for arm in outcome.arms)
    assert all(len(arm.trials) == 5 for arm in outcome.arms)


def test_an_arm_that_failed_in_a_piece_failed():
    subject = make_subject()
    parts = cut(subject, training(arms(2)), dear(10.0))
    world = World(subject, base=0.8, effect=no_effect)
    answers = {p.digest(): world.answer(p) for p in parts.pieces}
    third = parts.pieces[2]
    answers[third.digest()] = out_of_memory(third, answers[third.digest()])

    whole, outcome = parts.joined(answers)

    assert whole.seeds == SEEDS
    assert [arm.failure for arm in outcome.arms] == ["no memory", None]


def test_the_best_of_the_models_that_pieces_keep_is_kept():
    subject = make_subject()
    parts = cut(subject, training(arms(1)), dear(10.0))
    world = World(subject, base=0.8, effect=no_effect)
    levels = [0.7, 0.9, None, 0.8, 0.9, 0.6, 0.5, 0.4]
    answers = {
        piece.digest(): world.answer(piece).model_copy(
            update={
                "file": level and f"of seed {seed}",
                "kept_seed": level and seed,
                "kept_level": level,
            }
        )
        for piece, seed, level in zip(parts.pieces, SEEDS, levels, strict=True)
    }

    _, outcome = parts.joined(answers)

    assert (outcome.file, outcome.kept_seed) == ("of seed 1", 1)
    assert outcome.kept_level == 0.9
