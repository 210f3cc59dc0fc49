from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from service.contract.causes import BY_CAUSE, Cause
from service.contract.report import Evidence, Finding, Gain, Remedy
from tests.builders_engine import World, make_learned, make_subject, no_effect
from tests.worker.engine.test_results import trained
from worker.engine.catalog import CATALOG
from worker.engine.check import (
    AS_IN_TRAINING,
    Mend,
    Trial,
    found_in_delivery,
    seen_of_gains,
)
from worker.engine.conclusion import (
    _doubted,
    _is_explained,
    _primary,
    _trained_in_full,
    conclude,
)
from worker.engine.judging import judge_all
from worker.engine.lab.experiment import Arm, RecipeChange, pack_mask
from worker.engine.ledger import (
    NOT_REACHED,
    Learned,
    Ledger,
    LeftOut,
    Unconfirmed,
    Untried,
)
from worker.engine.prescription import (
    is_better,
    is_worth_giving,
    with_the_delivery,
)
from worker.engine.stats.pairs import PairedGain
from worker.engine.transcript import limits_of
from worker.engine.verdicts import retrained
from worker.engine.wording import FULL_LENGTH

HEADER = {
    "audit_id": "aud_x",
    "model": {},
    "dataset": {},
    "device": "cpu",
    "torch": "2",
    "seed": 0,
}


def finding(cause: Cause, value: float | None, verdict: str = "found") -> Finding:
    entry = BY_CAUSE[cause]
    gain = None
    if value is not None:
        gain = Gain(value=value, low=value - 0.01, high=value + 0.01, seeds=8)
    return Finding(
        cause=cause,
        group=entry.group,
        verdict=verdict,
        summary="…",
        gain=gain,
        docs=entry.docs,
    )


def primary_trial(cause: Cause, value: float) -> dict[Cause, Trial]:
    mend = Mend(cause, "k", "Mend it", (RecipeChange(patch={"epochs": 2}),))
    pair = PairedGain(value=value, error=0.01, degrees=50, seeds=8)
    return {cause: Trial(mend, pair, confirmed=True, decision="found", role="primary")}


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ({}, Cause.LEARNING_RATE_TOO_LOW),
        ({Cause.INSUFFICIENT_DATA: 0.2}, Cause.INSUFFICIENT_DATA),
        ({Cause.INSUFFICIENT_DATA: 0.05}, Cause.LEARNING_RATE_TOO_LOW),
        ({Cause.LABEL_ORDER_MISMATCH: 0.6}, Cause.LABEL_ORDER_MISMATCH),
        ({Cause.PREPROCESSING_MISMATCH: 0.095}, Cause.PREPROCESSING_MISMATCH),
        ({Cause.TRAINING_MODE_LEFT_ON: 0.03}, Cause.LEARNING_RATE_TOO_LOW),
        ({Cause.DISTRIBUTION_SHIFT: 0.2}, Cause.DISTRIBUTION_SHIFT),
        ({Cause.DISTRIBUTION_SHIFT: None}, Cause.LEARNING_RATE_TOO_LOW),
        ({Cause.NO_LEARNABLE_SIGNAL: None}, Cause.NO_LEARNABLE_SIGNAL),
    ],
)
def test_the_primary_cause_is_the_one_that_costs_most(others, expected):
    trained = Cause.LEARNING_RATE_TOO_LOW
    findings = [finding(trained, 0.1), *(finding(c, v) for c, v in others.items())]

    assert _primary(findings, primary_trial(trained, 0.1)) is expected


@pytest.mark.parametrize(
    ("flattered", "expected"),
    [(0.13, Cause.SPLIT_LEAKAGE), (0.05, Cause.LEARNING_RATE_TOO_LOW)],
)
def test_a_leak_that_flatters_more_than_any_mend_brings_comes_first(
    flattered, expected
):
    trained = Cause.LEARNING_RATE_TOO_LOW
    twins = Evidence(kind="twins", statement="", values={"inflation": flattered})
    leak = finding(Cause.SPLIT_LEAKAGE, None)
    leak = leak.model_copy(update={"evidence": [twins]})
    findings = [finding(trained, 0.1), leak]

    assert _primary(findings, primary_trial(trained, 0.1)) is expected


def test_a_healthy_report_names_no_primary_cause_and_every_cause_once():
    subject = make_subject()
    world = World(subject, base=0.9, effect=no_effect)

    report = conclude(subject, world.audit(), HEADER)

    assert report.primary_cause is None
    assert sorted(f.cause for f in report.findings) == sorted(Cause)
    assert report.remedy is None


def test_causes_that_were_not_asked_for_say_so():
    subject = make_subject(wanted=[Cause.LEARNING_RATE_TOO_LOW])
    world = World(subject, base=0.9, effect=no_effect)

    report = conclude(subject, world.audit(), HEADER)

    verdicts = {f.cause: f.verdict for f in report.findings}
    assert verdicts[Cause.LEARNING_RATE_TOO_LOW] in ("not_found", "inconclusive")
    assert verdicts[Cause.CLASS_IMBALANCE] == "not_applicable"


def test_a_check_that_crashes_is_reported_as_crashed_and_never_as_clear():
    class Broken:
        cause = Cause.UNSCALED_INPUTS

        def obstacle(self, subject):
            return None

        def mends(self, subject, measures):
            return []

        def judge(self, subject, case):
            raise ZeroDivisionError("planted")

    subject = make_subject()
    checks = [Broken(), *(c for c in CATALOG if c.cause != Cause.UNSCALED_INPUTS)]
    learned = World(subject, base=0.9, effect=no_effect).audit()

    report = conclude(subject, learned, HEADER, checks)

    broken = next(f for f in report.findings if f.cause is Cause.UNSCALED_INPUTS)
    assert broken.check == "crashed"
    assert broken.verdict == "inconclusive"
    assert sum(f.check == "crashed" for f in report.findings) == 1


def test_experiments_of_a_report_can_be_told_apart_and_found_again():
    subject = make_subject()

    def effect(arm):
        return 0.2 * bool(arm.changes)

    report = conclude(subject, World(subject, base=0.7, effect=effect).audit(), HEADER)

    known = {experiment.id for experiment in report.experiments}
    assert len(known) == len(report.experiments)
    for entry in report.findings:
        assert set(entry.experiments) <= known


def test_no_repaired_model_is_given_where_nothing_can_be_learned():
    subject = make_subject()
    reached = {"value": 0.33, "low": 0.29, "high": 0.37}
    signal = {
        "signal": {
            "p_value": 0.5,
            "best": "trees",
            "chance": 1 / 3,
            "balanced_accuracy": reached,
        }
    }

    def effect(arm):
        return 0.04 * bool(arm.changes)

    world = World(subject, base=1 / 3, effect=effect, measures=signal)

    report = conclude(subject, world.audit(), HEADER)

    assert report.primary_cause is Cause.NO_LEARNABLE_SIGNAL
    assert report.remedy is None


def test_a_repaired_model_is_given_where_a_fault_was_proven():
    subject = make_subject()

    def effect(arm):
        return 0.2 * bool(arm.changes)

    delivered = pack_mask([i % 2 == 0 for i in range(300)])
    decide = pack_mask([i % 2 == 0 for i in range(600)])
    masks = {"delivered": {"correct": {"final": delivered, "decide": decide}}}
    world = World(subject, base=0.7, effect=effect, measures=masks)

    report = conclude(subject, world.audit(), HEADER)

    assert report.remedy is not None
    assert report.remedy.gain is not None
    assert report.remedy.gain.value > 0


@pytest.mark.parametrize(("more", "is_explained"), [(0.01, True), (0.04, False)])
def test_what_comes_on_top_of_another_mend_is_not_explained_by_it(more, is_explained):
    cause = Cause.CLASS_IMBALANCE
    trial = primary_trial(cause, 0.05)[cause]
    on_top = PairedGain(value=more, error=0.01, degrees=100, seeds=8)

    assert _is_explained(replace(trial, on_top=on_top)) is is_explained
    assert not _is_explained(trial)  # where it was not measured
    assert _is_explained(replace(trial, instead=True))


def test_of_two_rates_that_gain_as_much_either_is_said_to_be_enough():
    subject = make_subject()

    def effect(arm):
        patches = [c.patch for c in arm.changes if isinstance(c, RecipeChange)]
        return 0.2 * any("optimizer" in patch for patch in patches)

    report = conclude(subject, World(subject, base=0.7, effect=effect).audit(), HEADER)

    other = next(f for f in report.findings if f.cause == Cause.LEARNING_RATE_TOO_LOW)
    assert report.primary_cause is Cause.LEARNING_RATE_TOO_HIGH
    assert Cause.LEARNING_RATE_TOO_LOW in report.equivalent
    assert "either this or mending “learning rate too high” is enough" in other.summary


def test_the_steps_of_the_repaired_model_hold_what_mends_the_delivery():
    score = {"value": 0.9, "low": 0.8, "high": 1.0}
    remedy = Remedy(
        recipe=make_subject().given,
        steps=["Train anew."],
        changes=[],
        after={"accuracy": score, "balanced_accuracy": score},
        judged_on="rows",
    )
    left_on = finding(Cause.TRAINING_MODE_LEFT_ON, 0.1)
    order = finding(Cause.LABEL_ORDER_MISMATCH, 0.1)
    suspected = order.model_copy(update={"verdict": "suspected"})

    seen = with_the_delivery(remedy, [left_on, suspected])

    assert seen.steps == ["Train anew.", "Export it in evaluation mode."]


@pytest.mark.parametrize(
    ("given", "verdict", "first"),
    [
        ("Weight the loss.", "found", "Train anew by the recipe so changed"),
        ("Weight the loss.", "suspected", "Weight the loss."),
        ("Train anew by the same recipe.", "found", "Train anew by the same recipe."),
    ],
)
def test_weights_that_are_no_good_are_trained_anew_whatever_else_is_changed(
    given, verdict, first
):
    score = {"value": 0.9, "low": 0.8, "high": 1.0}
    remedy = Remedy(
        recipe=make_subject().given,
        steps=[given],
        changes=[],
        after={"accuracy": score, "balanced_accuracy": score},
        judged_on="rows",
    )
    weights = finding(Cause.DEGENERATE_WEIGHTS, 0.3)

    seen = with_the_delivery(remedy, [weights.model_copy(update={"verdict": verdict})])

    assert seen.steps[0].startswith(first)
    assert seen.steps.count(given) == 1


def test_what_is_delivered_is_judged_in_the_mode_in_which_it_runs():
    """A caller gets what training mode yields, whatever it would in evaluation mode."""
    subject = make_subject()

    def scores(hits: int) -> dict:
        share = {"value": hits / 300, "low": 0, "high": 1}
        one = {
            "split": "val",
            "n": 300,
            "accuracy": share,
            "balanced_accuracy": share,
            "macro_f1": share,
            "log_loss": share,
            "ece": share,
            "per_class": [],
            "confusion": [],
        }
        return {"train": one, "held_out": one}

    def masks(every: int) -> dict:
        return {
            "final": pack_mask([i % every != 0 for i in range(300)]),
            "decide": pack_mask([i % every != 0 for i in range(600)]),
        }

    evaluated = {"scores": scores(240), "correct": masks(5)}
    own = {"scores": scores(150), "correct": masks(2)}
    measures = {"delivered": {**evaluated, "as_it_runs": own}}
    world = World(
        subject,
        base=0.7,
        effect=lambda arm: 0.25 * bool(arm.changes),
        measures=measures,
    )

    report = conclude(subject, world.audit(), HEADER)

    assert report.performance.eval.accuracy.value == pytest.approx(0.5)
    assert report.performance.train.accuracy.value == pytest.approx(0.5)
    assert report.remedy.before.accuracy.value == pytest.approx(0.5)


class OnFewRows(World):
    """A world in which something else may help on all rows than on few."""

    def _trial(self, arm, seed, training):
        kept = self.effect
        if training.rows is None:
            self.effect = self.on_all_rows
        try:
            return super()._trial(arm, seed, training)
        finally:
            self.effect = kept

    on_all_rows = staticmethod(no_effect)


def higher_rates_help(arm: Arm) -> float:
    patches = [c.patch for c in arm.changes if isinstance(c, RecipeChange)]
    rates = [(p.get("optimizer") or {}).get("lr", 0.0) for p in patches]
    return 0.15 if max(rates, default=0.0) > 1e-3 else 0.0


@pytest.mark.parametrize(
    ("on_all_rows", "verdict"), [(no_effect, "suspected"), (higher_rates_help, "found")]
)
def test_what_a_part_of_the_rows_shows_must_be_borne_out_by_all(on_all_rows, verdict):
    subject = make_subject(counts=(4000, 4000, 4000), decide_rows=3000)
    rng = np.random.default_rng(0)
    masks = {
        split: pack_mask(rng.uniform(size=len(labels)) < 0.7)
        for split, labels in subject.labels.items()
    }
    measures = {
        "cost": {"step_seconds": {"1": 3e-4, "16": 3e-3}},
        "delivered": {"correct": masks, "balanced_accuracy": 0.7},
    }
    world = OnFewRows(subject, base=0.7, effect=higher_rates_help, measures=measures)
    world.on_all_rows = on_all_rows

    report = conclude(subject, world.audit(), HEADER)

    assert any("4000" in limit or "12000" in limit for limit in report.limits)
    by_cause = {f.cause: f for f in report.findings}
    assert by_cause[Cause.LEARNING_RATE_TOO_LOW].verdict == verdict
    assert by_cause[Cause.INSUFFICIENT_DATA].verdict == "inconclusive"


@pytest.mark.parametrize(
    ("at_full_length", "verdict"), [(0.95, "inconclusive"), (0.65, "suspected")]
)
def test_what_only_shortens_a_training_on_a_subsample_is_no_suspect(
    at_full_length, verdict
):
    """The recipe itself, trained for as many updates as by the user, needs no mend."""
    cause = Cause.UNSCALED_INPUTS
    found = finding(cause, 0.08)
    trials = primary_trial(cause, 0.08)
    hits = {"baseline": 60, "k": 70, FULL_LENGTH: round(100 * at_full_length)}
    learned = SimpleNamespace(subsample=456, screen=trained(hits, (0, 1)))

    doubted = _doubted(found, "All rows do not bear it out.", trials, learned)

    assert doubted.verdict == verdict
    assert ("as many updates as all rows take" in doubted.summary) is (
        verdict == "inconclusive"
    )


def test_what_was_gained_over_a_training_in_full_is_not_held_against_it_again():
    cause = Cause.LEARNING_RATE_TOO_LOW
    found, trials = finding(cause, 0.13), primary_trial(cause, 0.13)
    trials[cause] = replace(trials[cause], over=FULL_LENGTH)
    hits = {"baseline": 35, "k": 70, FULL_LENGTH: 55}
    learned = SimpleNamespace(subsample=456, screen=trained(hits, (0, 1)))

    assert _doubted(found, None, trials, learned) == found


def test_short_trainings_say_nothing_of_a_model_that_was_trained_in_full():
    cause = Cause.INSUFFICIENT_CAPACITY
    found, trials = finding(cause, 0.05), primary_trial(cause, 0.05)
    hits = {"baseline": 60, "k": 70, FULL_LENGTH: 69}
    learned = SimpleNamespace(subsample=456, screen=trained(hits, (0, 1)))
    without = SimpleNamespace(subsample=None, screen=learned.screen)

    assert _doubted(found, None, trials, learned).verdict == "inconclusive"
    assert _trained_in_full(learned, 0.72)
    assert not _trained_in_full(learned, 0.6)  # less than the recipe yields in full
    assert not _trained_in_full(without, 0.72)
    dear = SimpleNamespace(
        subsample=456, screen=trained(hits | {FULL_LENGTH: 60}, (0, 1))
    )
    assert _doubted(found, None, trials, dear).verdict == "found"
    # Of two that help only together neither does anything alone, nor do more updates.
    none = SimpleNamespace(
        subsample=456, screen=trained({"baseline": 60, "k": 60, FULL_LENGTH: 60}, (0,))
    )
    alone, together = primary_trial(cause, 0.0)[cause], primary_trial(cause, 0.8)[cause]
    pair = {cause: replace(alone, on_top=together.gain)}
    assert _doubted(finding(cause, 0.8), None, pair, none).verdict == "found"


@pytest.mark.parametrize(("delivered", "verdict"), [(0.7, "found"), (0.9, "suspected")])
def test_what_rows_that_nothing_looked_at_deny_is_only_suspected(delivered, verdict):
    subject = make_subject(decide_rows=3000)
    rng = np.random.default_rng(0)
    masks = {
        split: pack_mask(rng.uniform(size=len(labels)) < delivered)
        for split, labels in subject.labels.items()
    }
    measures = {"delivered": {"correct": masks, "balanced_accuracy": delivered}}
    world = World(subject, base=0.7, effect=higher_rates_help, measures=measures)

    report = conclude(subject, world.audit(), HEADER)

    rate = next(f for f in report.findings if f.cause is Cause.LEARNING_RATE_TOO_LOW)
    assert rate.verdict == verdict
    assert ("no better than the delivered one" in rate.summary) is (delivered > 0.85)
    assert (report.remedy is None) is (verdict == "suspected")


@pytest.mark.parametrize(("lucky", "verdict"), [(12, "found"), (3000, "suspected")])
def test_few_rows_that_deny_a_gain_are_weighed_against_many_that_show_it(
    lucky, verdict
):
    """Where the delivered model is right in all of the last rows, by luck or not."""
    subject = make_subject(decide_rows=600, final_rows=lucky)
    rng = np.random.default_rng(0)
    decide = pack_mask(rng.uniform(size=600) < 0.7)
    correct = {"decide": decide, "final": pack_mask([True] * lucky)}
    measures = {"delivered": {"correct": correct, "balanced_accuracy": 0.7}}
    world = World(subject, base=0.7, effect=higher_rates_help, measures=measures)

    report = conclude(subject, world.audit(), HEADER)

    rate = next(f for f in report.findings if f.cause is Cause.LEARNING_RATE_TOO_LOW)
    assert rate.verdict == verdict
    assert (report.remedy is None) is (verdict == "suspected")


@pytest.mark.parametrize(("trained", "verdict"), [(0.6, "suspected"), (0.75, "found")])
def test_data_in_another_form_than_the_models_speak_of_no_fault_in_training(
    trained, verdict
):
    def effect(arm):
        patches = [c.patch for c in arm.changes if isinstance(c, RecipeChange)]
        return trained * any(p.get("normalization") for p in patches)

    subject = make_subject(decide_rows=2_500)
    flags = pack_mask(np.arange(2_500) % 10 == 0)
    measures = {
        "preprocessing": {
            "best": "scale_to_unit",
            "gain": {"value": 0.7, "standard_error": 0.005},
        },
        "delivered": {"balanced_accuracy": 0.1, "correct": {"decide": flags}},
    }
    world = World(subject, base=0.1, effect=effect, measures=measures)

    report = conclude(subject, world.audit(), HEADER)

    scale = next(f for f in report.findings if f.cause is Cause.UNSCALED_INPUTS)
    assert scale.verdict == verdict
    assert (scale.severity == "minor") is (verdict == "suspected")
    assert report.primary_cause is Cause.PREPROCESSING_MISMATCH
    explained = report.explained_by.get(Cause.UNSCALED_INPUTS)
    assert (explained is Cause.PREPROCESSING_MISMATCH) is (verdict == "suspected")


def test_limits_name_no_arm_and_no_cause_by_its_identifier():
    rate, wide = (
        Mend(cause, key, text, ())
        for cause, key, text in (
            (Cause.LEARNING_RATE_TOO_HIGH, "lr=0.0009", "Lower the rate to 0.0009"),
            (Cause.INSUFFICIENT_CAPACITY, "width×4, lr÷3", "Make it 4 times wider"),
        )
    )
    both = "lr=0.0009 + width×4, lr÷3"
    remarks = [
        Untried(FULL_LENGTH),
        Untried("width×4, lr÷3|control"),
        Untried(both),
        Unconfirmed(both, "lr=0.0009"),
        LeftOut("lr=0.0009", "the network fails in training: no"),
        "signal was looked for in 4000 training rows",
        "class_names was not given.",
        "A training was stopped by the budget at 67% of its updates.",
        "A training was stopped by the budget at 0% of its updates.",
        "The repaired model prepares its inputs by itself.",
    ]
    learned = Learned(
        measures={},
        obstacles={},
        mends={mend.cause: [mend] for mend in (rate, wide)},
        ledger=Ledger(limits=remarks),
        signal=True,
        skipped={
            Cause.EXCESS_CAPACITY: NOT_REACHED,
            Cause.INSUFFICIENT_DATA: NOT_REACHED,
            Cause.LABEL_NOISE: "nothing is left to gain",  # said once for all
        },
    )

    limits = limits_of(learned, has_remedy=False)

    assert limits == [
        (
            "Of these changes (lower the rate to 0.0009; make it 4 times wider) there "
            "was no time to confirm more than: lower the rate to 0.0009."
        ),
        (
            "This was left out (lower the rate to 0.0009): the network fails in "
            "training: no."
        ),
        "Signal was looked for in 4000 training rows.",
        "class_names was not given.",
        (
            "There was no time to try: the recipe as it is, with as many updates as "
            "all rows would give; what to compare “make it 4 times wider” with."
        ),
        (
            "There was no time to try together: lower the rate to 0.0009; make it 4 "
            "times wider."
        ),
        (
            "Not tried: excess capacity and insufficient data (not reached within the "
            "budget)."
        ),
        "Trainings were stopped by the budget, at 0 and 67 % of their updates.",
    ]
    assert remarks[-1] in limits_of(learned, has_remedy=True)
    half = Mend(Cause.INSUFFICIENT_DATA, "subset=0.5", "Collect more", ())
    later = replace(
        learned,
        mends={**learned.mends, Cause.INSUFFICIENT_DATA: [half]},
        confirm=trained({"baseline": 60, f"lr=0.0009 + {half.key}": 50}, (100, 101)),
    )
    [unreached] = [
        limit for limit in limits_of(later, has_remedy=False) if "Not tried" in limit
    ]
    assert "excess capacity (" in unreached
    learned.ledger.limits.append(Untried(f"{both} + batches"))
    assert (
        "There was no time to try 2 combinations of these changes: lower the rate to "
        "0.0009; make it 4 times wider; batches."
    ) in limits_of(learned, has_remedy=False)


@pytest.mark.parametrize(("subsample", "brings"), [(456, 0.3), (None, 0.1)])
def test_what_the_recipe_yields_anew_is_told_by_as_many_updates(subsample, brings):
    """A part of the rows makes fewer updates, and less of any recipe."""
    held_out = pack_mask(np.arange(100) < 50)
    learned = SimpleNamespace(
        subsample=subsample,
        screen=trained({"baseline": 60, FULL_LENGTH: 80}, (0,)),
        confirm=trained({"baseline": 60}, (0,)),
        measures={"delivered": {"correct": {"decide": held_out}}},
    )

    anew = retrained(learned)

    assert anew is not None
    assert anew.value == pytest.approx(brings)


SEEDS = tuple(range(4))


@pytest.mark.parametrize(
    ("delivered", "mended", "wrong", "expected"),
    [
        (61, 64, 0.0, True),  # a usual training by the recipe, which is mended
        (58, 59, 0.0, False),  # by little
        (58, 60, 0.25, True),  # of which wrong held-out labels show half
        (75, 66, 0.0, False),  # better than the recipe yields
    ],
)
def test_last_rows_that_show_nothing_are_weighed_against_what_decided(
    delivered, mended, wrong, expected
):
    """The recipe yields 56 of 100 rows; the last ones are too few to tell."""
    mend = Mend(Cause.LABEL_NOISE, "mend", "Mend it", (RecipeChange(patch={}),))
    mask = pack_mask(np.arange(100) < delivered)
    noise = {"held_out": {"low": wrong, "shown": 1 - 2 * wrong}}
    learned = make_learned(
        measures={"delivered": {"correct": {"decide": mask}}, "noise": noise},
        confirm=trained({"baseline": 50, "mend": mended - 6}, SEEDS),
        chosen=(mend,),
    )
    last = Gain(value=-0.005, low=-0.085, high=0.075, seeds=0)

    assert is_better(learned, Remedy.model_construct(gain=last)) is expected


@pytest.mark.parametrize(("wrong", "shown"), [(0.05, 1.0), (0.2, 0.6), (0.49, 0.25)])
def test_what_held_out_labels_show_of_a_gain_is_known_where_many_are_wrong(
    wrong, shown
):
    noise = {"held_out": {"low": wrong, "shown": 1 - 2 * wrong}}

    assert seen_of_gains({"noise": noise}) == pytest.approx(shown)
    assert seen_of_gains({}) == seen_of_gains({"noise": {"held_out": None}}) == 1.0


@pytest.mark.parametrize(
    ("delivered", "form", "order", "both"),
    [
        (0.1, 0.83, 0.82, False),
        (0.1, 0.83, 0.12, True),
        (0.2, 0.64, 0.48, False),  # the other form leaves .16
        (0.7, 0.13, 0.125, True),  # there is room for both
    ],
)
def test_of_two_faults_of_the_delivery_that_undo_each_other_one_is_named(
    delivered, form, order, both
):
    """Warm and cool classes change places where the colours do."""

    def found_with(cause, value):
        pair = PairedGain(value=value, error=0.01, degrees=100, seeds=0)
        return found_in_delivery(
            cause, pair, summary="It is so.", text="Mend it.", evidence=[], method=""
        )

    class Found:
        def __init__(self, cause, value):
            self.cause, self.value = cause, value

        def judge(self, subject, case):
            return found_with(self.cause, self.value)

    checks = [
        Found(Cause.LABEL_ORDER_MISMATCH, order),
        Found(Cause.PREPROCESSING_MISMATCH, form),
    ]
    measures = {"delivered": {"balanced_accuracy": delivered}}
    learned = make_learned(
        measures=measures, obstacles={}, mends={}, ledger=Ledger(), signal=True
    )

    findings, _ = judge_all(make_subject(), learned, checks)

    assert [f.verdict for f in findings] == ["found" if both else "suspected", "found"]
    assert ("mend one of them" in findings[0].summary) is not both


@pytest.mark.parametrize(
    ("form", "verdict", "told", "taken"),
    [
        (0.73, "found", {}, "suspected"),  # it wins back all that the move costs
        (0.3, "found", {}, "found"),
        (0.3, "found", {"as_given": 1.0, "in_form": 0.5}, "suspected"),
        (0.73, "suspected", {"as_given": 1.0, "in_form": 0.5}, "found"),  # a drift
    ],
)
def test_a_move_that_is_another_form_is_explained_by_it(form, verdict, told, taken):
    def finding(cause, value, verdict):
        pair = PairedGain(value=value, error=0.01, degrees=100, seeds=0)
        return found_in_delivery(
            cause, pair, summary="It is so.", text="Mend it.", evidence=[], method="",
            verdict=verdict,
        )  # fmt: skip

    class Says:
        def __init__(self, cause, value, verdict="found"):
            self.cause, self.value, self.verdict = cause, value, verdict

        def judge(self, subject, case):
            return finding(self.cause, self.value, self.verdict)

    checks = [
        Says(Cause.DISTRIBUTION_SHIFT, 0.74),
        Says(Cause.PREPROCESSING_MISMATCH, form, verdict),
    ]
    measures = {
        "delivered": {"balanced_accuracy": 0.1},
        "preprocessing": {"told_apart": told},
    }
    learned = make_learned(
        measures=measures, obstacles={}, mends={}, ledger=Ledger(), signal=True
    )

    report = conclude(make_subject(), learned, HEADER, checks)

    shift = next(f for f in report.findings if f.cause == Cause.DISTRIBUTION_SHIFT)
    is_form = taken == "suspected"
    assert shift.verdict == taken
    assert any("Audit again" in limit for limit in report.limits) is bool(told)
    assert ("their form" in shift.summary) is is_form
    explained = {Cause.DISTRIBUTION_SHIFT: Cause.PREPROCESSING_MISMATCH}
    assert report.explained_by == (explained if is_form else {})
    expected = Cause.PREPROCESSING_MISMATCH if is_form else Cause.DISTRIBUTION_SHIFT
    assert report.primary_cause == expected


@pytest.mark.parametrize(
    ("causes", "given"),
    [
        ([Cause.SPLIT_LEAKAGE], False),
        ([Cause.DISTRIBUTION_SHIFT, Cause.SPLIT_LEAKAGE], False),
        ([Cause.SPLIT_LEAKAGE, Cause.LABEL_NOISE], True),
        ([], False),
    ],
)
def test_faults_of_the_data_alone_are_no_ground_for_another_model(causes, given):
    findings = [
        Finding(cause=c, group="data", verdict="found", summary="", docs="")
        for c in causes
    ]
    remedy = Remedy.model_construct(gain=Gain(value=0.4, low=0.1, high=0.7, seeds=0))

    assert is_worth_giving(make_learned(), remedy, findings, None) is given


@pytest.mark.parametrize("kind", [AS_IN_TRAINING, "transformations"])
def test_held_out_inputs_in_another_form_lead_whatever_training_shows(kind):
    form = Finding(
        cause=Cause.PREPROCESSING_MISMATCH, group="deployment", verdict="found",
        summary="", docs="", gain=Gain(value=0.1, low=0.05, high=0.15, seeds=0),
        evidence=[Evidence(kind=kind, statement="")],
    )  # fmt: skip
    gain = PairedGain(value=0.2, error=0.01, degrees=50, seeds=8)
    mend = Mend(Cause.UNSUITABLE_LAYERS, "mend", "Mend it", (RecipeChange(patch={}),))
    trial = Trial(mend, gain, confirmed=True, decision="found", role="primary")
    layers = form.model_copy(
        update={
            "cause": mend.cause,
            "gain": Gain(value=0.2, low=0.1, high=0.3, seeds=8),
        }
    )

    primary = _primary([layers, form], {mend.cause: trial})

    expected = form if kind == AS_IN_TRAINING else layers
    assert primary == expected.cause
