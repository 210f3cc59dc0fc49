"""What is confirmed first where time is short."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from service.contract.causes import Cause
from tests.builders_engine import make_learned, make_subject
from tests.worker.engine.test_results import trained
from worker.engine.catalog import CATALOG
from worker.engine.check import Mend, judge_gain
from worker.engine.choices import gain_of, shares_of_error
from worker.engine.combination import name
from worker.engine.confirmation import Confirmation, _whole_groups
from worker.engine.lab.experiment import Arm, DataChange, NetworkChange, RecipeChange
from worker.engine.planning import Costs
from worker.engine.results import BASELINE, Results
from worker.engine.stats.decisions import Floors
from worker.engine.stats.pairs import Rows
from worker.engine.trainer import Trainer
from worker.engine.verdicts import case_for, weigh

SEEDS = tuple(range(100, 108))
FAR_TOO_DEAR = 3.2  # times the time left, so that no few seeds of it fit either
SEEDS_CONFIRMING = Trainer(make_subject()).seeds("confirm", 8)


def confirmation(seconds_a_step: float) -> tuple[Confirmation, list[Arm], Arm]:
    """A combination's arms, and one that costs twenty times as much."""
    trainer = Trainer(make_subject())
    trainer.costs = Costs(one=0.0, each=seconds_a_step)
    core = [
        Arm(name=BASELINE),
        Arm(name="lr", changes=(RecipeChange(patch={"optimizer": {"lr": 0.1}}),)),
    ]
    dear = Arm(name="long", changes=(RecipeChange(patch={"epochs": 40 * 20}),))
    nothing = Results(Rows.of(np.zeros(1, np.int64)), {})
    return Confirmation(trainer, nothing, {}), core, dear


def mend_of(cause: Cause, key: str) -> Mend:
    change = RecipeChange(patch={"tried": key})
    return Mend(cause=cause, key=key, text=key, changes=(change,))


def test_a_learning_curve_of_a_subsample_is_not_measured_better():
    trainer = Trainer(make_subject())
    half = Mend(
        cause=Cause.INSUFFICIENT_DATA,
        key="subset=0.5",
        text="Collect more samples",
        changes=(DataChange(name="subset", share=0.5),),
        measuring=True,
    )
    screen = trained({"subset=0.5": 50, BASELINE: 80}, (0, 1))
    held = Confirmation(trainer, screen, {Cause.INSUFFICIENT_DATA: [half]})

    assert held._worth_measuring(()) == [half]
    trainer.rows = 500
    assert held._worth_measuring(()) == []


def test_evident_mends_are_confirmed_before_a_learning_curve_is_measured():
    """Where time is short the last are given up first."""
    chosen = mend_of(Cause.INSUFFICIENT_TRAINING, "epochs=80")
    evident = replace(mend_of(Cause.LABEL_NOISE, "suspects dropped"), evident=True)
    other = mend_of(Cause.EXCESS_REGULARIZATION, "no dropout")
    half = replace(mend_of(Cause.INSUFFICIENT_DATA, "subset=0.5"), measuring=True)
    screen = trained({BASELINE: 60, evident.key: 70, other.key: 70}, (0, 1))
    held = Confirmation(Trainer(make_subject()), screen, {})

    arms = [arm.name for arm in held._arms((chosen,), [evident, other], [half])]

    assert arms.index(evident.key) < arms.index(name([chosen, half]))
    assert arms.index(name([chosen, half])) < arms.index(other.key)


def test_a_learning_curve_is_trained_whole_or_not_at_all():
    half, quarter = (
        replace(mend_of(Cause.INSUFFICIENT_DATA, f"subset={share}"), measuring=True)
        for share in (0.5, 0.25)
    )
    held, core, _ = confirmation(1e-9)
    [both] = held._told_together((), [half, quarter])
    one = Arm(name=half.key)

    assert both == {half.key, quarter.key}
    assert _whole_groups([*core, one], [both]) == (core, [one])
    assert _whole_groups([*core, one, Arm(name=quarter.key)], [both])[1] == []


def test_a_costly_arm_waits_where_the_combination_may_need_its_time():
    probe, core, dear = confirmation(1e-9)
    unit = probe.trainer.cost(core, SEEDS) / 1e-9
    # The combination with four times the seeds takes half of the budget.
    each = 0.5 * probe.trainer.left / (4 * unit)
    short, core, dear = confirmation(each)

    at_once, late = short._postponed([*core, dear], core, SEEDS)

    assert at_once == core
    assert late == [dear]


def test_nothing_waits_where_there_is_time_for_all():
    roomy, core, dear = confirmation(1e-9)

    at_once, late = roomy._postponed([*core, dear], core, SEEDS)

    assert at_once == [*core, dear]
    assert late == []


def test_an_arm_of_another_network_can_wait_too():
    roomy, core, _ = confirmation(1e-9)
    wide = Arm(name="wide", changes=(NetworkChange(name="width", factor=4.0),))
    unit = roomy.trainer.cost(core, SEEDS) / 1e-9
    short, core, _ = confirmation(0.2 * roomy.trainer.left / unit)

    at_once, late = short._postponed([*core, wide], core, SEEDS)

    assert at_once == core
    assert late == [wide]


@pytest.mark.parametrize(
    ("tried", "kept"),
    [
        # Without the rate there is nothing; without the long training nobody knows.
        ({"dropped + long": 40}, ["dropped", "lr"]),
        ({"dropped + long": 40, "lr + long": 75, "lr + dropped": 60}, ["long", "lr"]),
        (
            {"dropped + long": 40, "lr + long": 41, "lr + dropped": 41},
            ["dropped", "long", "lr"],
        ),
    ],
)
def test_where_time_is_short_what_is_known_to_be_needed_is_confirmed(tried, kept):
    rate = Mend(
        Cause.LEARNING_RATE_TOO_LOW, "lr", "", (RecipeChange(patch={"lr": 0.1}),)
    )
    without = NetworkChange(name="dropout", p=0.0)
    dropped = Mend(Cause.EXCESS_REGULARIZATION, "dropped", "", (without,))
    long = Mend(
        Cause.INSUFFICIENT_TRAINING, "long", "", (RecipeChange(patch={"epochs": 800}),)
    )
    mends = (rate, dropped, long)
    whole = {"baseline": 40, name(mends): 80}
    arms = {
        name([m for m in mends if m.key in key.split(" + ")]): hits
        for key, hits in tried.items()
    }
    short, _, _ = confirmation(1e-9)
    short.screen = trained({**whole, **arms}, (0, 1))
    unit = short.trainer.cost(short._arms_of(mends), SEEDS_CONFIRMING[:6]) / 1e-9
    short.trainer.costs = Costs(one=0.0, each=FAR_TOO_DEAR * short.trainer.left / unit)

    chosen = short.affordable(mends)

    assert sorted(m.key for m in chosen) == kept


def rate_and_length() -> tuple[Mend, Mend, Mend]:
    """A rate that is needed beside a long training, and what is not."""
    patches = [{"optimizer": {"lr": 0.1}}, {"epochs": 800}]
    rate, long = (RecipeChange(patch=patch) for patch in patches)
    raw = NetworkChange(name="output")
    return (
        Mend(Cause.UNSUITABLE_ACTIVATION, "raw", "", (raw,)),
        Mend(Cause.LEARNING_RATE_TOO_LOW, "lr", "", (rate,)),
        Mend(Cause.INSUFFICIENT_TRAINING, "long", "", (long,)),
    )


def test_what_was_not_tried_is_weighed_by_what_it_holds_and_what_holds_it():
    """The dearest is not left out where the others failed without it in company."""
    raw, rate, long = together = rate_and_length()
    short, _, _ = confirmation(1e-9)
    hits = {
        "baseline": 40,
        "long": 65,
        "lr": 43,
        name(together): 80,
        "raw + standardize + lr": 43,
        "raw + standardize + long": 70,
        "standardize + lr + long": 80,
    }
    short.screen = trained(hits, (0, 1))
    unit = short.trainer.cost(short._arms_of(together), SEEDS_CONFIRMING[:6]) / 1e-9
    short.trainer.costs = Costs(one=0.0, each=0.8 * short.trainer.left / unit)

    assert short._hoped((raw, rate), together) == pytest.approx(0.03)
    assert short._hoped((rate, long), together) == pytest.approx(0.325)
    assert short.affordable(together) == (rate, long)


@pytest.mark.parametrize(("without_rate", "kept"), [(45, 3), (78, 2)])
def test_what_is_missed_much_is_confirmed_with_the_rest_from_few_seeds(
    without_rate, kept
):
    raw, rate, long = together = rate_and_length()
    short, _, _ = confirmation(1e-9)
    hits = {
        "baseline": 40,
        name(together): 80,
        name([raw, long]): without_rate,
        name([rate, long]): 50,
        name([raw, rate]): 50,
    }
    short.screen = trained(hits, (0, 1))
    unit = short.trainer.cost(short._arms_of(together), SEEDS_CONFIRMING[:6]) / 1e-9
    short.trainer.costs = Costs(one=0.0, each=0.8 * short.trainer.left / unit)

    chosen = short.affordable(together)
    arms = [arm.name for arm in short._arms_of(chosen)]

    assert len(chosen) == kept
    assert short.is_brief is (kept == len(together))
    assert ("raw" in arms) is not short.is_brief
    assert short.trainer.may_confirm(short._arms_of(chosen))


@pytest.mark.parametrize(("all_at_once", "taken"), [(80, True), (61, False)])
def test_the_repaired_model_may_hold_what_there_was_no_time_to_confirm(
    all_at_once, taken
):
    raw, rate, long = together = rate_and_length()
    settled, _, _ = confirmation(1e-9)
    settled.screen = trained(
        {"baseline": 40, "lr": 60, name(together): all_at_once}, (0, 1)
    )

    assert settled.as_hoped(together, (rate,)) == (together if taken else (rate,))
    assert settled.as_hoped(together, ()) == ()
    assert settled.as_hoped((raw, long), (rate,)) == (rate,)


def test_the_repaired_model_is_made_of_the_best_that_was_confirmed():
    raw, rate, long = rate_and_length()
    settled, _, _ = confirmation(1e-9)
    hits = {
        "baseline": 40,
        "lr": 50,
        name([raw, rate]): 50,
        name([raw, rate, long]): 80,
    }
    confirm = trained(hits, tuple(range(8)))
    best = {mend.cause: mend for mend in (raw, rate, long)}

    chosen = settled.enriched(confirm, (raw, rate), (rate,), best)

    assert name(chosen) == name([raw, rate, long])


@pytest.mark.parametrize(("by_rate", "named"), [(79, "lr"), (60, "adam")])
def test_an_optimiser_no_better_than_the_given_one_at_its_rate_gives_way(
    by_rate, named
):
    """The rate gains more than half alone; the other optimiser hides it."""
    _, rate, long = rate_and_length()
    patch = {"optimizer": {"name": "adam", "lr": 0.001}}
    adam = Mend(
        Cause.UNSUITABLE_OPTIMIZER, "adam", "", (RecipeChange(patch=patch),), rival=rate
    )
    wide = Mend(Cause.INSUFFICIENT_CAPACITY, "wide", "", (NetworkChange(name="width"),))
    together = (long, adam)
    hits = {
        "baseline": 10,
        "long": 24,
        "adam": 46,
        "lr": 60,
        "wide": 12,
        name(together): 78,
        name([long, rate]): by_rate,
        name([*together, wide]): 87,
    }
    confirm = trained(hits, tuple(range(8)))
    best = {m.cause: m for m in (long, adam, rate, wide)}
    mends = {cause: [mend] for cause, mend in best.items()}
    settling, _, _ = confirmation(1e-9)

    chosen = settling.settle(confirm, together, best)
    repaired = settling.enriched(confirm, together, chosen, best)
    learned = make_learned(
        mends=mends,
        screen=confirm,
        confirm=confirm,
        together=together,
        chosen=chosen,
        best=best,
    )
    trials = weigh(learned, Floors())

    assert {m.key for m in chosen} == {"long", named}
    assert name(repaired) == name([*together, wide])
    if named == "lr":
        assert trials[rate.cause].role == "primary"
        assert trials[rate.cause].on_top is not None
        assert trials[rate.cause].on_top.value == pytest.approx(0.55, abs=0.02)


def test_the_repaired_model_may_be_made_by_another_mend_that_was_confirmed():
    raw, rate, long = rate_and_length()
    settled, _, _ = confirmation(1e-9)
    best = {mend.cause: mend for mend in (raw, rate, long)}

    for hits, expected in ((75, long), (62, rate)):
        confirm = trained({"baseline": 40, "lr": 60, "long": hits}, tuple(range(8)))
        assert settled.enriched(confirm, (rate,), (rate,), best) == (expected,)


@pytest.mark.parametrize(("alone", "kept"), [(75, "lr=0.005"), (60, "lr=0.001")])
def test_what_is_left_of_a_combination_is_the_best_answer_without_the_rest(alone, kept):
    """The rate that went best with ten times the epochs is too low without them."""
    rates = [
        Mend(
            Cause.LEARNING_RATE_TOO_HIGH,
            f"lr={rate}",
            "",
            (RecipeChange(patch={"optimizer": {"lr": rate}}),),
        )
        for rate in (0.001, 0.005)
    ]
    long = Mend(
        Cause.INSUFFICIENT_TRAINING, "long", "", (RecipeChange(patch={"epochs": 800}),)
    )
    together = (rates[0], long)
    hits = {"lr=0.001": 65, "long": 50, "lr=0.005": alone, name(together): 80}
    short, _, _ = confirmation(1e-9)
    short.mends = {rates[0].cause: rates, long.cause: [long]}
    short.screen = trained({"baseline": 40, **hits}, (0, 1))
    unit = short.trainer.cost(short._arms_of(together), SEEDS_CONFIRMING[:6]) / 1e-9
    short.trainer.costs = Costs(one=0.0, each=FAR_TOO_DEAR * short.trainer.left / unit)

    assert [mend.key for mend in short.affordable(together)] == [kept]


@pytest.mark.parametrize(
    ("ahead", "evident", "kept"),
    [(1, False, "raw"), (20, False, "long"), (1, True, "long")],
)
def test_of_two_that_do_as_well_the_likely_or_cheap_one_is_confirmed(
    ahead, evident, kept
):
    """From as many seconds it gets more seeds, which tell more."""
    raw, _, long = rate_and_length()
    long = replace(long, evident=evident)
    together = (raw, long)
    hits = {"raw": 66, "long": 66 + ahead, name(together): 71 + ahead}
    short, _, _ = confirmation(1e-9)
    short.screen = trained({"baseline": 40, **hits}, (0, 1))
    unit = short.trainer.cost(short._arms_of(together), SEEDS_CONFIRMING[:6]) / 1e-9
    short.trainer.costs = Costs(one=0.0, each=0.8 * short.trainer.left / unit)

    assert [mend.key for mend in short.affordable(together)] == [kept]


def test_what_the_report_could_not_prove_does_not_become_the_remedy():
    settling, _, _ = confirmation(1e-9)
    confirm = trained({"baseline": 50, "tanh": 55, "balanced": 54}, tuple(range(8)))
    strange = Mend(Cause.UNSUITABLE_ACTIVATION, "tanh", "Use tanh", ())
    evident = Mend(Cause.CLASS_IMBALANCE, "balanced", "Balance", (), evident=True)
    tried = {strange.cause: strange, evident.cause: evident}
    others = {
        cause: Mend(cause, f"not confirmed {cause}", "", ())
        for cause in Cause
        if cause not in tried
    }

    few = settling.settle(confirm, (strange,), tried)
    many = settling.settle(confirm, (strange,), {**tried, **others})

    assert gain_of(confirm, evident).low > settling.floors.proven
    assert few == (evident,)
    assert many == (strange,)


def test_an_evident_cause_needs_less_to_be_proven_than_ten_others():
    settling, _, _ = confirmation(1e-9)
    confirm = trained({"baseline": 50, "balanced": 54}, tuple(range(8)))
    plain = Mend(Cause.CLASS_IMBALANCE, "balanced", "Balance", ())
    gain = gain_of(confirm, plain)

    def is_proven(mend: Mend) -> bool:
        shares = shares_of_error({mend.cause: [mend]}, Cause)
        return settling._is_proven(gain, [mend], shares)

    assert is_proven(replace(plain, evident=True))
    assert not is_proven(plain)


@pytest.mark.parametrize(("together", "kept"), [(80, ["raw"]), (53, [])])
def test_what_is_proven_beside_a_mend_that_fell_becomes_the_remedy(together, kept):
    settling, _, _ = confirmation(1e-9)
    arms = {"baseline": 50, "balanced": 50, "raw": 53, "raw + balanced": together}
    confirm = trained(arms, tuple(range(4)))
    balanced = Mend(Cause.CLASS_IMBALANCE, "balanced", "Balance", ())
    raw = Mend(Cause.UNSUITABLE_ACTIVATION, "raw", "Take it off", ())
    best = {balanced.cause: balanced, raw.cause: raw}

    settled = settling.settle(confirm, (balanced,), best)

    assert not settling._is_proven(
        gain_of(confirm, raw), [raw], shares_of_error({}, best)
    )
    assert [mend.key for mend in settled] == kept
    del confirm.arms["balanced"]  # where it could not be trained
    assert settling.settle(confirm, (balanced,), best) == ()


@pytest.mark.parametrize(("alone", "kept"), [(80, ["raw"]), (70, ["raw", "long"])])
def test_of_mends_that_stand_in_for_each_other_as_many_stay_as_are_needed(alone, kept):
    """None of the three is missed, but all of them are."""
    raw = Mend(Cause.UNSUITABLE_ACTIVATION, "raw", "", (), evident=True)
    long = Mend(Cause.INSUFFICIENT_TRAINING, "long", "", (), evident=True)
    balanced = Mend(Cause.CLASS_IMBALANCE, "balanced", "", (), evident=True)
    mends = (balanced, long, raw)
    arms = {"baseline": 60, name(mends): 80}
    arms |= {mend.key: alone for mend in mends}
    arms |= {name([m for m in mends if m != left]): 80 for left in mends}
    settling, _, _ = confirmation(1e-9)

    confirm = trained(arms, tuple(range(4)))
    settled = settling.settle(confirm, mends, {m.cause: m for m in mends})

    assert sorted(mend.key for mend in settled) == sorted(kept)


@pytest.mark.parametrize(("together", "open_"), [(54, True), (50, False), (90, False)])
def test_a_combination_whose_parts_do_nothing_alone_is_asked_until_it_is_decided(
    together, open_
):
    raw = Mend(Cause.UNSUITABLE_ACTIVATION, "raw", "", ())
    balanced = Mend(Cause.CLASS_IMBALANCE, "balanced", "", ())
    pair = (raw, balanced)
    arms = {"baseline": 50, "raw": 50, "balanced": 50, name(pair): together}
    asking, _, _ = confirmation(1e-9)

    first = trained(arms, (0, 1, 2))
    five = [raw.cause, *list(Cause)[:4]]
    shares = shares_of_error({}, five)

    assert asking._is_undecided(first, pair, pair, shares) is open_


@pytest.mark.parametrize(("beside", "asked"), [(90, False), (99, True)])
def test_what_adds_nothing_to_a_proven_mend_is_not_asked_again(beside, asked):
    confirming, _, _ = confirmation(1e-9)
    labels = Mend(Cause.LABEL_NOISE, "dropped", "Drop", ())
    slower = Mend(Cause.LEARNING_RATE_TOO_HIGH, "lr=0.1", "Lower", ())
    both = "lr=0.1 + dropped"
    first = trained(
        {"baseline": 50, "dropped": 90, "lr=0.1": 53, both: beside}, tuple(range(3))
    )
    shares = shares_of_error({}, [labels.cause, slower.cause])
    confirming.screen = first
    arms = confirming._still_asked(
        confirming._arms((labels,), [labels, slower], ()),
        (labels,),
        [m for m in [slower] if not confirming._adds_nothing(first, (labels,), m)],
        (),
        (),
    )

    assert confirming._is_mended(first, (labels,), shares)
    assert {"baseline", "dropped"} <= {arm.name for arm in arms}
    assert (both in {arm.name for arm in arms}) is asked


@pytest.mark.parametrize(("alone", "idle"), [(68, False), (56, True)])
def test_a_likelier_mend_that_is_nearly_as_good_stays_in_question(alone, idle):
    confirming, _, _ = confirmation(1e-9)
    strange = Mend(Cause.UNSUITABLE_ACTIVATION, "tanh", "Use tanh", ())
    evident = Mend(Cause.CLASS_IMBALANCE, "balanced", "Balance", (), evident=True)
    arms = {"baseline": 50, "tanh": 72, "balanced": alone, "tanh + balanced": 70}
    results = trained(arms, tuple(range(3)))

    assert confirming._adds_nothing(results, (strange,), evident) is idle
    del results.arms["balanced"]  # where there was no time to train it alone
    assert confirming._adds_nothing(results, (strange,), evident)


def measured_beside_a_wide_network() -> tuple[Confirmation, Results, Mend, list[Mend]]:
    """A combination, and two subsets that only its arms were confirmed with."""
    measuring, _, _ = confirmation(1e-9)
    measuring.screen = trained(
        {"baseline": 50, "wide": 55, "half": 40, "quarter": 30}, tuple(range(3))
    )
    confirm = trained({"baseline": 50, "wide": 50, "wide + half": 40}, tuple(range(8)))
    wide = Mend(Cause.INSUFFICIENT_CAPACITY, "wide", "Widen", ())
    subsets = [
        Mend(Cause.INSUFFICIENT_DATA, key, "Collect more", (), measuring=True)
        for key in ("half", "quarter")
    ]
    return measuring, confirm, wide, subsets


def test_where_the_combination_fell_the_learning_curve_is_measured_as_it_is():
    measuring, confirm, wide, subsets = measured_beside_a_wide_network()
    measuring.mends = {wide.cause: [wide], Cause.INSUFFICIENT_DATA: subsets}

    ask = next(measuring.measure_alone(confirm, (wide,), ()))

    asked = [arm.name for training in ask.experiments for arm in training.arms]
    assert asked == ["half", "quarter"]
    assert {training.seeds for training in ask.experiments} == {SEEDS_CONFIRMING}


def test_where_the_combination_stands_nothing_is_measured_twice():
    measuring, confirm, wide, subsets = measured_beside_a_wide_network()
    measuring.mends = {wide.cause: [wide], Cause.INSUFFICIENT_DATA: subsets}

    assert list(measuring.measure_alone(confirm, (wide,), (wide,))) == []


@pytest.mark.parametrize(
    ("beside", "verdict", "says"),
    [
        (90, "not_found", "once “label noise” is mended"),
        (96, "inconclusive", "too close"),
    ],
)
def test_what_adds_nothing_beside_a_proven_mend_is_not_left_open(beside, verdict, says):
    labels = Mend(Cause.LABEL_NOISE, "dropped", "Drop", ())
    slower = Mend(Cause.LEARNING_RATE_TOO_HIGH, "lr=0.1", "Lower", ())
    arms = {"baseline": 40, "dropped": 90, "lr=0.1": 43, "lr=0.1 + dropped": beside}
    results = trained(arms, tuple(range(3)))
    learned = make_learned(
        screen=results,
        confirm=results,
        together=(labels,),
        chosen=(labels,),
        best={labels.cause: labels, slower.cause: slower},
    )

    trials = weigh(learned, Floors())
    trial = trials[slower.cause]
    check = next(one for one in CATALOG if one.cause is slower.cause)
    case = case_for(slower.cause, learned, trials, delivered=0.4)

    assert trials[labels.cause].role == "primary"
    assert trial.decision == verdict
    finding = judge_gain(check, case, says="It is too fast")
    assert finding.verdict == verdict
    assert says in finding.summary


def test_what_a_broken_baseline_left_no_time_for_is_measured_once_it_is_mended():
    measuring, _, wide, subsets = measured_beside_a_wide_network()
    measuring.screen = trained({"baseline": 50, "wide": 60}, (0, 1))
    measuring.mends = {wide.cause: [wide], Cause.INSUFFICIENT_DATA: subsets}

    assert measuring._worth_measuring((wide,)) == subsets
    assert measuring._worth_measuring(()) == []


@pytest.mark.parametrize("are_few", [True, False])
def test_few_samples_have_their_learning_curve_confirmed_beside_what_is_mended(are_few):
    measuring, _, wide, subsets = measured_beside_a_wide_network()
    subsets = [replace(m, evident=are_few) for m in subsets]
    measuring.mends = {wide.cause: [wide], Cause.INSUFFICIENT_DATA: subsets}
    two = measuring.trainer.cost(measuring._arms_of((wide,)), SEEDS_CONFIRMING[:6])
    allowed = measuring.trainer.allowance("confirm")
    measuring.trainer.costs = Costs(one=0.0, each=0.9 * allowed / two * 1e-9)

    ask = next(measuring.confirm((wide,), {wide.cause: wide}))

    asked = {arm.name for training in ask.experiments for arm in training.arms}
    both = {"wide + half", "wide + quarter"}
    assert asked == {BASELINE, "wide"} | (both if are_few else set())


@pytest.mark.parametrize(("without_loss", "kept"), [(82, "loss"), (84, "scaled")])
def test_of_two_that_stand_in_for_each_other_the_evident_one_stays(without_loss, kept):
    """Unless leaving it out does better by what counts."""
    loss = Mend(Cause.UNSUITABLE_LOSS, "loss", "", (), evident=True)
    scaled = Mend(Cause.UNSCALED_INPUTS, "scaled", "", ())
    settling, _, _ = confirmation(1e-9)
    arms = {"baseline": 60, "loss + scaled": 80, "loss": 80, "scaled": without_loss}

    confirm = trained(arms, tuple(range(4)))
    settled = settling._without_the_idlest(confirm, (loss, scaled))

    assert [mend.key for mend in settled or ()] == [kept]


@pytest.mark.parametrize(("time_for", "count"), [(8, 16), (4, 12), (3, 11), (1, 11)])
def test_an_open_gain_gets_as_many_more_seeds_as_there_is_time_for(time_for, count):
    asking, core, _ = confirmation(1e-9)
    unit = asking.trainer.cost(core, SEEDS[:time_for]) / 1e-9
    asking.trainer.costs = Costs(one=0.0, each=0.49 * asking.trainer.left / unit)

    assert len(asking._more(core, 8)) == count


def test_once_something_helps_time_is_kept_for_the_repaired_model():
    asking, core, _ = confirmation(1e-9)
    unit = asking.trainer.cost(core, SEEDS) / 1e-9
    asking.trainer.costs = Costs(one=0.0, each=0.49 * asking.trainer.left / unit)

    assert len(asking._more(core, 8)) == 16
    assert len(asking._more(core, 8, 0.6 * asking.trainer.left)) == 12
    assert asking._within_time(core, SEEDS, 0.6 * asking.trainer.left) == core[:1]


def test_what_is_decided_is_not_trained_again_beside_what_is_open():
    """A proven mend, another that is open, and what tells of the two together."""
    asking, _, _ = confirmation(1e-9)
    labels = Mend(Cause.LABEL_NOISE, "dropped", "Drop", ())
    slower = Mend(Cause.LEARNING_RATE_TOO_HIGH, "lr=0.1", "Lower", ())
    dropout = Mend(Cause.INSUFFICIENT_REGULARIZATION, "dropout", "Add", ())
    both = trained_by_name([Arm(name=BASELINE)], (0, 1)).arms
    asking.screen = Results(Rows.of(np.zeros(100, np.int64)), both)
    half = replace(mend_of(Cause.INSUFFICIENT_DATA, "subset=0.5"), measuring=True)
    arms = asking._arms((labels,), [labels, slower, dropout], [half])

    asked = {arm.name for arm in asking._still_asked(arms, (labels,), [slower], [], [])}

    open_beside = name([labels, slower])
    assert asked == {BASELINE, "dropped", "lr=0.1", open_beside}
    kept = asking._still_asked(arms, (labels,), [slower], [], [half])
    assert {arm.name for arm in kept} - asked == {name([labels, half])}


@pytest.mark.parametrize(("rate_alone", "is_open"), [(76, True), (50, False)])
def test_a_part_that_is_not_proven_beside_one_that_is_stays_in_question(
    rate_alone, is_open
):
    """Leaving it out costs four of eighty: too few rows to tell from eight seeds."""
    asking, _, _ = confirmation(1e-9)
    rate = mend_of(Cause.LEARNING_RATE_TOO_LOW, "lr")
    longer = mend_of(Cause.INSUFFICIENT_TRAINING, "longer")
    pair = (rate, longer)
    hits = {BASELINE: 50, "lr": rate_alone, "longer": 50, name(pair): 80}
    results = trained(hits, tuple(range(8)))
    shares = shares_of_error({}, [mend.cause for mend in pair])

    assert asking._any_part_proven(results, pair, shares)
    assert asking._open_parts(results, pair, shares) == ([longer] if is_open else [])
    arms = [Arm(name=arm) for arm in hits]
    asked = asking._still_asked(arms, pair, [], [longer] if is_open else [], [])
    assert ("lr" in {arm.name for arm in asked}) is is_open
    assert "longer" not in {arm.name for arm in asked}


def levels_of(arm: str) -> int:
    """What arms hit of a hundred: two mends are needed, a third stands in for each.

    A fourth does nothing.
    """
    made = set(arm.split(" + "))
    if {"standardize", "no decay"} <= made:
        return 80
    return 74 if "wider" in made and made & {"standardize", "no decay"} else 50


def trained_by_name(arms: Sequence[Arm], seeds: tuple[int, ...]) -> Results:
    return trained({arm.name: levels_of(arm.name) for arm in arms}, seeds)


@pytest.mark.parametrize("time", ["enough", "none"])
def test_what_is_needed_of_a_combination_is_told_without_what_stands_in_for_it(time):
    scaled = mend_of(Cause.UNSCALED_INPUTS, "standardize")
    decay = mend_of(Cause.EXCESS_REGULARIZATION, "no decay")
    wider = mend_of(Cause.INSUFFICIENT_CAPACITY, "wider")
    longer = mend_of(Cause.INSUFFICIENT_TRAINING, "longer")
    together = (scaled, decay, wider, longer)
    best = {mend.cause: mend for mend in together}
    held, _, _ = confirmation(1e-9 if time == "enough" else 1e9)
    asked = []

    def train(_stage, _question, arms, seeds):
        asked.append({arm.name for arm in arms})
        yield
        return trained_by_name(arms, tuple(range(len(seeds))))

    held.trainer.train = train
    alone = [Arm(name=BASELINE), *(Arm(name=mend.key) for mend in together)]
    held.screen = trained_by_name(alone, (0, 1))
    first = trained_by_name(held._arms_of(together), tuple(range(8)))
    confirm, narrowed = outcome_of(held.narrow(first, together, best))
    chosen = held.settle(confirm, narrowed, best)
    learned = make_learned(
        mends={cause: [mend] for cause, mend in best.items()},
        screen=held.screen,
        confirm=confirm,
        together=together,
        narrowed=narrowed,
        chosen=chosen,
        best=best,
    )
    found = {c for c, t in weigh(learned, Floors()).items() if t.decision == "found"}

    if time == "enough":
        pairs = combinations((scaled, decay, longer), 2)
        assert asked == [{name(pair) for pair in pairs}]
        assert narrowed == chosen == (scaled, decay)
        assert found == {scaled.cause, decay.cause}
    else:
        assert asked == []
        assert found == set()


def outcome_of(rounds):
    """What rounds return once all that they ask for was answered."""
    try:
        while True:
            next(rounds)
    except StopIteration as end:
        return end.value
