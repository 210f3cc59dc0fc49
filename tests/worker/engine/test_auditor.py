from dataclasses import replace

import numpy as np
import pytest

from service.contract.causes import Cause
from service.contract.recipe import Loss, Optimizer, Recipe
from tests.builders_engine import HEADER, World, make_learned, make_subject, no_effect
from tests.worker.engine.test_results import trained
from worker.engine.auditor import CANCELLED, NOT_RUN, advance
from worker.engine.catalog import CATALOG
from worker.engine.check import Mend, Trial
from worker.engine.checks.insufficient_capacity import InsufficientCapacity
from worker.engine.checks.insufficient_data import InsufficientData
from worker.engine.checks.learning_rate_too_low import LearningRateTooLow
from worker.engine.combination import name
from worker.engine.conclusion import conclude
from worker.engine.lab.experiment import (
    Arm,
    ArmOutcome,
    DataChange,
    RecipeChange,
    TrainingOutcome,
    borrows,
    pack_mask,
)
from worker.engine.ledger import LeftOut
from worker.engine.stats.decisions import Floors
from worker.engine.stats.pairs import PairedGain
from worker.engine.verdicts import _with_roles, case_for, lead_of, weigh


def patches(arm: Arm, *path: str):
    """What an arm's recipe changes say about a field; None where they say nothing."""
    for change in arm.changes:
        if isinstance(change, RecipeChange):
            value = change.patch
            for key in path:
                value = value.get(key) if isinstance(value, dict) else None
            if value is not None:
                return value
    return None


def swaps(arm: Arm, name: str, to: str | None = None) -> bool:
    """Whether an arm changes the network by this operation."""
    return any(
        change.kind == "network"
        and change.name == name
        and (to is None or change.to == to)
        for change in arm.changes
    )


def proven(cause: Cause, alone: float, on_top: float | None) -> Trial:
    """A mend that gains so much by itself, and so much beside the others."""
    mend = Mend(cause, cause.value, "Mend it", (), evident=True)
    pair = PairedGain(value=alone, error=0.02, degrees=100, seeds=8)
    more = on_top and replace(pair, value=on_top)
    return Trial(mend, pair, confirmed=True, decision="found", on_top=more)


def found(learned):
    trials = weigh(learned, Floors())
    return {c for c, t in trials.items() if t.role in ("primary", "component")}


def test_a_healthy_subject_is_screened_and_left_alone():
    world = World(make_subject(), base=0.9, effect=no_effect)

    learned = world.audit()

    assert found(learned) == set()
    assert learned.remedy is None
    assert not any(training.keep for training in world.trained)


def test_evident_causes_are_allowed_five_times_the_error_of_others():
    unequal = make_subject(counts=(800, 300, 100))
    learned = World(unequal, base=0.9, effect=no_effect).audit()

    trials = weigh(learned, Floors())

    shares = {cause: trial.weight for cause, trial in trials.items()}
    evident = {c for c in shares if any(m.evident for m in learned.mends[c])}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert Cause.CLASS_IMBALANCE in evident
    assert {round(shares[c] / min(shares.values()), 9) for c in evident} == {5.0}


def test_a_single_fault_is_named_confirmed_and_repaired():
    def effect(arm):
        return 0.2 if (patches(arm, "optimizer", "lr") or 0) >= 0.01 else 0.0

    world = World(make_subject(), base=0.7, effect=effect)

    learned = world.audit()

    trials = weigh(learned, Floors())
    assert trials[Cause.LEARNING_RATE_TOO_LOW].role == "primary"
    assert trials[Cause.LEARNING_RATE_TOO_LOW].gain.value == pytest.approx(
        0.2, abs=0.03
    )
    assert trials[Cause.LEARNING_RATE_TOO_LOW].confirmed
    assert learned.remedy is not None


def test_where_no_training_fits_the_budget_none_is_begun_and_that_is_said():
    subject = make_subject()
    slow = {"cost": {"step_seconds": {"1": 5.0}}}
    world = World(subject, base=0.7, effect=no_effect, measures=slow)

    learned = world.audit()

    assert world.trained == []
    assert "could not be trained anew: a training takes" in learned.ledger.limits[-1]
    trials = weigh(learned, Floors())
    report = conclude(subject, learned, HEADER)
    verdicts = {finding.cause: finding.verdict for finding in report.findings}
    assert not any(trial.role == "primary" for trial in trials.values())
    assert verdicts[Cause.LEARNING_RATE_TOO_LOW] == "inconclusive"
    assert report.primary_cause is None


def test_confirmation_uses_seeds_that_the_screen_never_saw():
    world = World(make_subject(), base=0.7, effect=lambda arm: 0.2 * bool(arm.changes))

    world.audit()

    screened = {s for t in world.trained if t.round == "screen" for s in t.seeds}
    confirmed = {s for t in world.trained if t.round == "confirm" for s in t.seeds}
    assert confirmed
    assert not screened & confirmed


def test_the_remedy_is_judged_on_the_split_that_no_decision_saw():
    world = World(make_subject(), base=0.7, effect=lambda arm: 0.2 * bool(arm.changes))

    world.audit()

    splits = {t.round: t.split for t in world.trained}
    assert splits["screen"] == splits["confirm"] == "decide"
    assert splits["remedy"] == "final"


def test_two_faults_that_hide_each_other_are_both_named():
    def effect(arm):
        fast = (patches(arm, "optimizer", "lr") or 0) >= 1e-3
        scaled = patches(arm, "normalization") == "standardize"
        return 0.3 if fast and scaled else 0.0

    recipe = make_subject().given
    slow = recipe.model_copy(
        update={"optimizer": recipe.optimizer.model_copy(update={"lr": 1e-5})}
    )
    world = World(make_subject(recipe=slow), base=0.6, effect=effect)

    learned = world.audit()

    assert found(learned) == {Cause.LEARNING_RATE_TOO_LOW, Cause.UNSCALED_INPUTS}


def test_a_second_fault_that_adds_to_the_first_is_named_too():
    def effect(arm):
        fast = (patches(arm, "optimizer", "lr") or 0) >= 0.01
        scaled = patches(arm, "normalization") == "standardize"
        return 0.15 * fast + 0.12 * scaled

    world = World(make_subject(), base=0.6, effect=effect)

    assert found(world.audit()) == {
        Cause.LEARNING_RATE_TOO_LOW,
        Cause.UNSCALED_INPUTS,
    }


def test_a_cause_whose_gain_vanishes_is_explained_by_the_other():
    def effect(arm):
        fast = (patches(arm, "optimizer", "lr") or 0) >= 0.01
        longer = (patches(arm, "epochs") or 0) > 40
        return 0.2 * fast or 0.12 * longer

    world = World(make_subject(), base=0.6, effect=effect)

    trials = weigh(world.audit(), Floors())

    assert trials[Cause.LEARNING_RATE_TOO_LOW].role == "primary"
    assert trials[Cause.INSUFFICIENT_TRAINING].role == "explained"
    assert (
        trials[Cause.INSUFFICIENT_TRAINING].explained_by is Cause.LEARNING_RATE_TOO_LOW
    )


@pytest.mark.parametrize(
    ("beside", "lead"),
    [
        ((0.026, 0.062), Cause.CLASS_IMBALANCE),
        ((0.06, 0.062), Cause.INSUFFICIENT_TRAINING),  # the cheaper of equals
        ((None, None), Cause.INSUFFICIENT_TRAINING),
        ((0.005, 0.005), Cause.INSUFFICIENT_TRAINING),
    ],
)
def test_what_is_missed_beside_the_others_leads(beside, lead):
    found = {
        Cause.INSUFFICIENT_TRAINING: proven(
            Cause.INSUFFICIENT_TRAINING, 0.28, beside[0]
        ),
        Cause.CLASS_IMBALANCE: proven(Cause.CLASS_IMBALANCE, 0.3, beside[1]),
    }

    assert lead_of(found, Floors()) is lead


@pytest.mark.parametrize(
    ("beside", "role"), [(0.032, "explained"), (0.09, "component"), (None, "component")]
)
def test_what_the_others_make_good_is_not_named_beside_them(beside, role):
    """Scaled inputs help behind two softmaxes; behind one there is little left."""
    trials = {
        Cause.UNSUITABLE_LOSS: proven(Cause.UNSUITABLE_LOSS, 0.52, 0.18),
        Cause.UNSCALED_INPUTS: proven(Cause.UNSCALED_INPUTS, 0.38, beside),
    }
    learned = make_learned(
        screen=trained({"baseline": 40, "loss": 92}, (0,)),
        chosen=tuple(trial.mend for trial in trials.values()),
    )

    roles = _with_roles(learned, trials, Floors(), frozenset())

    assert roles[Cause.UNSUITABLE_LOSS].role == "primary"
    assert roles[Cause.UNSCALED_INPUTS].role == role
    assert bool(roles[Cause.UNSCALED_INPUTS].explained_by) is (role == "explained")


def test_likely_mends_that_help_together_are_preferred_to_a_larger_network():
    recipe = make_subject().given
    slow = recipe.model_copy(
        update={"optimizer": recipe.optimizer.model_copy(update={"lr": 1e-5})}
    )

    def effect(arm):
        fast = (patches(arm, "optimizer", "lr") or 0) >= 1e-3
        tanh, wide = swaps(arm, "activation", "tanh"), swaps(arm, "width")
        if wide:
            return 0.36 if fast else 0.28
        return 0.36 if fast and tanh else 0.12 * (fast or tanh)

    subject = make_subject(recipe=slow)
    network = replace(subject.network, activations=("sigmoid",))
    world = World(replace(subject, network=network), base=0.6, effect=effect)

    assert found(world.audit()) == {
        Cause.LEARNING_RATE_TOO_LOW,
        Cause.UNSUITABLE_ACTIVATION,
    }


def test_a_wrong_loss_is_named_where_a_high_rate_only_makes_up_for_it():
    def effect(arm):
        rate = patches(arm, "optimizer", "lr") or 0.01
        if patches(arm, "loss", "name") == "bce":
            return {0.01: 0.05, 0.03: 0.12, 0.1: 0.13}.get(rate, -0.2)
        return min(0.1, 0.04 * np.log10(rate / 0.01))

    recipe = make_subject().given
    sgd = Optimizer(name="sgd", lr=0.01, momentum=0.0, weight_decay=0.0)
    loss = recipe.loss.model_copy(update={"name": "bce_with_logits"})
    wrong = recipe.model_copy(update={"optimizer": sgd, "loss": loss})
    subject = make_subject(recipe=wrong, counts=(600, 600))
    network = replace(subject.network, outputs=1, output_activation="sigmoid")
    subject = replace(subject, network=network, head_kind="sigmoid")

    learned = World(subject, base=0.8, effect=effect).audit()

    assert Cause.UNSUITABLE_LOSS in found(learned)


def test_a_likely_mend_takes_the_place_of_another_beside_which_it_does_as_well():
    def effect(arm):
        longer = (patches(arm, "epochs") or 0) > 40
        tanh, wide = swaps(arm, "activation", "tanh"), swaps(arm, "width")
        if wide or tanh:
            return (0.36 if longer else 0.26 if wide else 0.14) - 0.01 * tanh
        return 0.1 * longer

    subject = make_subject()
    network = replace(subject.network, activations=("sigmoid",))
    world = World(replace(subject, network=network), base=0.6, effect=effect)

    assert found(world.audit()) == {
        Cause.INSUFFICIENT_TRAINING,
        Cause.UNSUITABLE_ACTIVATION,
    }


def test_a_wider_network_leaves_the_rate_to_a_mend_of_the_rate():
    """Alone it takes a third of the rate, as wide ones do; a rate is far off here."""

    def effect(arm):
        rate = patches(arm, "optimizer", "lr") or 0.5
        strange = swaps(arm, "activation", "leaky_relu")
        if swaps(arm, "width"):
            return 0.85 if rate < 0.1 else 0.8 if strange else 0.3 if rate < 0.5 else 0
        return 0.5 if strange else 0.25 if rate < 0.1 else 0.05

    recipe = make_subject().given
    wild = recipe.model_copy(
        update={"optimizer": recipe.optimizer.model_copy(update={"lr": 0.5})}
    )
    world = World(make_subject(recipe=wild), base=0.1, effect=effect)

    learned = world.audit()

    assert found(learned) == {
        Cause.LEARNING_RATE_TOO_HIGH,
        Cause.INSUFFICIENT_CAPACITY,
    }


def test_an_audit_goes_on_from_any_outcomes_with_the_same_experiments():
    world = World(make_subject(), base=0.7, effect=lambda arm: 0.2 * bool(arm.changes))
    outcomes = {}
    first = advance(world.subject, outcomes)
    half = first.experiments[: len(first.experiments) // 2]
    outcomes |= {e.digest(): world.answer(e) for e in half}

    again = advance(world.subject, outcomes)

    assert [e.digest() for e in again.experiments] == [
        e.digest() for e in first.experiments[len(half) :]
    ]


def test_a_check_that_crashes_does_not_take_the_others_along():
    class Broken:
        cause = Cause.UNSCALED_INPUTS

        def obstacle(self, subject):
            return None

        def mends(self, subject, measures):
            raise ZeroDivisionError("planted")

    checks = [Broken(), *(c for c in CATALOG if c.cause != Cause.UNSCALED_INPUTS)]
    world = World(make_subject(), base=0.9, effect=no_effect)
    outcomes = {
        e.digest(): world.answer(e)
        for e in advance(world.subject, {}, checks).experiments
    }
    step = advance(world.subject, outcomes, checks)
    outcomes |= {e.digest(): world.answer(e) for e in step.experiments}

    step = advance(world.subject, outcomes, checks)

    assert step.experiments
    assert step.stage == "screen"


@pytest.mark.slow
def test_false_alarms_are_held_to_five_percent_an_audit():
    alarms = sum(
        bool(
            found(
                World(
                    make_subject(seed=seed, decide_rows=300),
                    base=0.85,
                    effect=no_effect,
                    spread=0.02,
                    noise_seed=seed,
                ).audit()
            )
        )
        for seed in range(120)
    )

    assert alarms <= 6  # 5 % of 120


def test_the_initialisation_that_reproduces_the_delivered_model_is_kept():
    def effect(arm):
        schemes = [getattr(c, "to", None) for c in arm.changes if c.kind == "network"]
        return -0.5 if "he" in schemes else 0.0

    delivered = {"delivered": {"balanced_accuracy": 0.41}}
    world = World(make_subject(), base=0.9, effect=effect, measures=delivered)

    learned = world.audit()

    later = [t for t in world.trained if "initialization" not in t.arms[0].name]
    assert later
    assert all(arm.changes[0].to == "he" for training in later for arm in training.arms)
    assert any("'he'" in limit for limit in learned.ledger.limits)


@pytest.mark.parametrize(
    ("distances", "kept"),
    [
        ({"default": 0.5, "he": 0.02, "glorot": 0.3}, "he"),
        ({"default": 0.5, "he": 0.3, "glorot": 0.2}, "glorot"),
        ({"default": 0.02, "he": 0.5, "glorot": 0.3}, None),  # whatever its accuracy
        ({"default": 0.35, "he": 0.2, "glorot": 0.6}, "he"),  # by accuracy: too alike
        ({"default": 0.9, "he": 3.0, "glorot": 0.4}, "he"),  # by accuracy: all far off
        ({}, "he"),  # by accuracy: nothing to compare
    ],
)
def test_the_sizes_of_layers_tell_the_initialisation(
    distances: dict[str, float], kept: str | None
):
    def scheme(arm):
        return next((c.to for c in arm.changes if c.kind == "network"), None)

    world = World(
        make_subject(),
        base=0.9,
        effect=lambda arm: -0.5 if scheme(arm) == "he" else 0.0,
        measures={"delivered": {"balanced_accuracy": 0.41}},
        signs=lambda arm: {"size_distance": distances.get(scheme(arm))},
    )

    world.audit()

    later = [t for t in world.trained if "initialization" not in t.arms[0].name]
    starts = {scheme(arm) for t in later for arm in t.arms if arm.name == "baseline"}
    assert starts == {kept}


@pytest.mark.parametrize(("delivered", "schemes"), [(0.85, 1), (0.41, 3)])
def test_other_schemes_are_trained_only_where_one_might_come_much_nearer(
    delivered, schemes
):
    world = World(
        make_subject(),
        base=0.9,
        effect=no_effect,
        measures={"delivered": {"balanced_accuracy": delivered}},
        signs=lambda _arm: {"size_distance": 0.02},
    )

    world.audit()

    names = [arm.name for training in world.trained for arm in training.arms]
    assert sum(name.startswith("initialization") for name in names) == schemes


def test_a_loss_that_took_probabilities_as_they_are_is_reproduced_and_named():
    """As torch's nll_loss does after a softmax."""

    def is_plain(arm):
        named = [c for c in arm.changes if c.kind == "recipe" and "loss" in c.patch]
        return bool(named) and named[-1].patch["loss"].get("probabilities") == "plain"

    recipe = make_subject().given
    loss = recipe.loss.model_copy(update={"name": "nll"})
    subject = make_subject(recipe=recipe.model_copy(update={"loss": loss}))
    network = replace(subject.network, output_activation="softmax")
    world = World(
        replace(subject, network=network, head_kind="softmax"),
        base=0.9,
        effect=lambda arm: -0.5 if is_plain(arm) else 0.0,
        measures={"delivered": {"balanced_accuracy": 0.41}},
        signs=lambda arm: {"size_distance": 0.02 if is_plain(arm) else 0.5},
    )

    learned = world.audit()

    assert found(learned) == {Cause.UNSUITABLE_LOSS}
    assert any("probabilities themselves" in limit for limit in learned.ledger.limits)


@pytest.mark.parametrize(
    ("there", "verdict"),
    [
        (0.35, "found"),  # nothing by the recipe does so well in that form
        (0.72, "not_found"),  # whatever the recipe yields does
    ],
)
def test_what_the_recipe_yields_tells_whether_a_form_is_of_the_training(there, verdict):
    """Training on the data as they are yields nothing until they are standardised."""

    def effect(arm):
        if any(c.kind == "data" and c.name == "shown" for c in arm.changes):
            return there - 0.34
        return 0.6 * (patches(arm, "normalization") == "standardize")

    better = {"value": 0.38, "standard_error": 0.02}
    world = World(
        make_subject(counts=(200, 200, 200)),
        base=0.34,
        effect=effect,
        measures={
            "delivered": {"balanced_accuracy": 0.34},
            "preprocessing": {"best": "standardize", "gain": better, "before": 0.34},
        },
    )

    report = conclude(world.subject, world.audit(), HEADER)

    [finding] = [f for f in report.findings if f.cause is Cause.PREPROCESSING_MISMATCH]
    assert finding.verdict == verdict
    assert any(e.kind == "recipe_in_other_form" for e in finding.evidence)


def test_a_dear_network_is_mended_by_what_can_be_taken_apart_in_time():
    """Neither of two mends helps before the other; ten times the epochs are dear."""

    def effect(arm):
        fast = (patches(arm, "optimizer", "lr") or 0) >= 0.001
        scaled = patches(arm, "normalization") == "standardize"
        return 0.5 * (fast and scaled)

    recipe = Recipe(
        optimizer=Optimizer(name="adam", lr=1e-6),
        loss=Loss(name="cross_entropy"),
        epochs=20,
        batch_size=32,
    )
    world = World(
        make_subject(recipe=recipe, counts=(100, 100, 100)),
        base=0.34,
        effect=effect,
        measures={
            "signal": {"balanced_accuracy": {"value": 0.9}, "chance": 1 / 3},
            "delivered": {"balanced_accuracy": 0.34},
            "inputs": {"scale": {"largest_magnitude": 1e4}},
        },
        step_seconds=6e-3,
    )

    learned = world.audit()

    assert found(learned) == {Cause.LEARNING_RATE_TOO_LOW, Cause.UNSCALED_INPUTS}
    assert learned.ledger.seconds < 115


def test_what_stays_open_gets_more_fresh_seeds():
    def effect(arm):
        return 0.06 if (patches(arm, "optimizer", "lr") or 0) >= 0.01 else 0.0

    world = World(make_subject(decide_rows=3000), base=0.8, effect=effect, spread=0.06)

    learned = world.audit()

    seeds = {s for t in world.trained if t.round == "confirm" for s in t.seeds}
    assert len(seeds) > 8
    assert learned.confirm is not None
    assert all(len(ran.correct) == len(seeds) for ran in learned.confirm.arms.values())


def test_an_arm_that_serves_several_mends_is_trained_once():
    subject = make_subject(counts=(4000, 4000, 4000))
    slow = {"cost": {"step_seconds": {"1": 1e-3, "16": 1e-2}}}
    world = World(subject, base=0.8, effect=no_effect, measures=slow)

    world.audit()

    for stage in ("screen", "confirm"):
        trained = [
            arm.name for t in world.trained if t.round == stage for arm in t.arms
        ]
        assert len(trained) == len(set(trained))
    assert any(t.rows for t in world.trained)


def test_training_rows_left_out_in_turn_decide_where_held_out_rows_are_few():
    def effect(arm):
        return 0.07 if (patches(arm, "optimizer", "lr") or 0) >= 0.01 else 0.0

    few = {"decide_rows": 90, "counts": (200, 200, 200)}
    alone = World(make_subject(**few), base=0.8, effect=effect)
    helped = World(make_subject(**few, may_borrow=True), base=0.8, effect=effect)

    wide = weigh(alone.audit(), Floors())[Cause.LEARNING_RATE_TOO_LOW].gain
    narrow = weigh(helped.audit(), Floors())[Cause.LEARNING_RATE_TOO_LOW].gain

    assert narrow.error < 0.7 * wide.error
    assert narrow.value == pytest.approx(0.07, abs=0.03)
    assert all(t.folds is None for t in helped.trained if t.split == "final")


@pytest.mark.parametrize("speaks", [True, False])
def test_beside_a_great_fault_a_small_one_is_named_where_something_speaks_for_it(
    speaks,
):
    flags = np.arange(1200) % 5 == 0
    noise = {
        "rate": {"value": 0.2, "low": 0.17},
        "mask": pack_mask(flags),
        "random_mask": pack_mask(np.roll(flags, 1)),
    }

    def effect(arm):
        if (patches(arm, "optimizer", "lr") or 0) < 0.01:
            return 0.0
        dropped = any(c.kind == "data" and c.mask == noise["mask"] for c in arm.changes)
        added = dropped if speaks else patches(arm, "optimizer", "weight_decay")
        return 0.4 + 0.06 * bool(added)

    world = World(
        make_subject(decide_rows=3000),
        base=0.5,
        effect=effect,
        measures={"noise": noise} if speaks else None,
        spread=0.004,
    )
    learned = world.audit()

    rate = Cause.LEARNING_RATE_TOO_LOW
    assert found(learned) == ({rate, Cause.LABEL_NOISE} if speaks else {rate})


def test_the_repaired_model_also_gets_what_does_it_good_unproven():
    def effect(arm):
        longer = 0.022 * ((patches(arm, "epochs") or 0) > 40)
        return 0.2 * ((patches(arm, "optimizer", "lr") or 0) >= 0.01) + longer

    subject = make_subject(decide_rows=3000)
    world = World(subject, base=0.6, effect=effect, spread=0.002)
    learned = world.audit()

    assert {m.cause for m in learned.chosen} == {Cause.LEARNING_RATE_TOO_LOW}
    assert {m.cause for m in learned.repaired} == {
        Cause.LEARNING_RATE_TOO_LOW,
        Cause.INSUFFICIENT_TRAINING,
    }


def test_another_optimiser_must_beat_the_given_one_at_its_best_rate():
    def effect(arm):
        fast = (patches(arm, "optimizer", "lr") or 0) >= 0.01
        return 0.15 if fast or patches(arm, "optimizer", "name") else 0.0

    world = World(make_subject(decide_rows=1500), base=0.7, effect=effect)

    trials = weigh(world.audit(), Floors())

    assert trials[Cause.LEARNING_RATE_TOO_LOW].role == "primary"
    assert trials[Cause.UNSUITABLE_OPTIMIZER].decision != "found"


def subset_share(arm: Arm) -> float:
    shares = [c.share for c in arm.changes if isinstance(c, DataChange) and c.share]
    return min(shares, default=1.0)


def test_a_lack_of_data_that_another_mend_makes_good_is_not_named():
    def effect(arm):
        fast = (patches(arm, "optimizer", "lr") or 0) >= 0.01
        # As it is, each halving of the data costs; with the rate mended none does.
        return 0.2 if fast else -0.2 * (1 / subset_share(arm) - 1) / 3

    world = World(make_subject(decide_rows=2500), base=0.7, effect=effect)
    learned = world.audit()
    trials = weigh(learned, Floors())

    case = case_for(Cause.INSUFFICIENT_DATA, learned, trials, 0.7)
    finding = InsufficientData().judge(world.subject, case)

    assert case.mended
    assert finding.verdict == "not_found"


@pytest.mark.parametrize("mended", [False, True])
def test_a_lack_of_data_is_proven_by_rows_that_were_lent(mended):
    """Alone, or beside what else is mended; the curve of few rows tells nothing."""

    def effect(arm):
        fast = (patches(arm, "optimizer", "lr") or 0) >= 0.01
        return 0.15 * (fast and mended) + 0.12 * borrows(arm.changes)

    subject = make_subject(counts=(50, 50, 50), decide_rows=1500, may_borrow=True)
    world = World(subject, base=0.6, effect=effect)
    learned = world.audit()
    trials = weigh(learned, Floors())

    case = case_for(Cause.INSUFFICIENT_DATA, learned, trials, 0.6)
    finding = InsufficientData().judge(subject, case)

    assert bool(case.mended) is mended
    assert finding.verdict == "found"
    assert finding.gain.value == pytest.approx(0.12, abs=0.04)
    # The subsets may well be given up: lent rows tell by themselves.
    rest = [m for m in learned.mends[Cause.INSUFFICIENT_DATA] if m.by_itself]
    assert rest
    kept = {k: r for k, r in learned.confirm.arms.items() if "subset" not in k}
    less = replace(learned, confirm=replace(learned.confirm, arms=kept))
    told = case_for(Cause.INSUFFICIENT_DATA, less, trials, 0.6)
    for m in rest:
        whole = name([*learned.together, m])
        assert whole in kept
        gain = told.gains_on_top[m.key] if mended else told.gains[m.key]
        assert gain.seeds == len(learned.confirm.levels(whole))
    if mended:
        assert set(told.gains_on_top) == {m.key for m in rest}


def test_a_learning_curve_beside_what_was_not_borne_out_does_not_count():
    def effect(arm):
        fast = (patches(arm, "optimizer", "lr") or 0) >= 0.01
        return 0.2 if fast else -0.36 * (1 / subset_share(arm) - 1) / 3

    world = World(make_subject(decide_rows=2500), base=0.7, effect=effect)
    learned = replace(world.audit(), chosen=())
    assert learned.together

    case = case_for(Cause.INSUFFICIENT_DATA, learned, {}, 0.7)

    assert not case.mended
    assert not case.gains_on_top
    assert InsufficientData().judge(world.subject, case).verdict == "found"


def test_a_learning_curve_counts_where_what_was_combined_is_not_proven():
    def effect(arm):
        slight = 0.02 * ((patches(arm, "optimizer", "lr") or 0) >= 0.01)
        return slight - 0.36 * (1 / subset_share(arm) - 1) / 3

    world = World(make_subject(decide_rows=2500), base=0.7, effect=effect, spread=0.001)
    learned = world.audit()
    trials = weigh(learned, Floors())
    without = replace(learned, confirm=None)

    case = case_for(Cause.INSUFFICIENT_DATA, without, weigh(without, Floors()), 0.7)

    assert not any(t.role == "primary" for t in trials.values())
    assert not case.mended
    assert InsufficientData().judge(world.subject, case).verdict != "inconclusive"


@pytest.mark.parametrize("reached", [0.8, 0.25])
def test_faults_that_hide_each_other_in_a_narrow_network_show_in_a_wide_one(reached):
    def effect(arm):
        is_mended = swaps(arm, "width") and patches(arm, "normalization")
        return 0.6 if is_mended else 0.0

    measures = {
        "signal": {"balanced_accuracy": {"value": reached}, "chance": 0.1},
        "delivered": {"balanced_accuracy": 0.1},
    }
    world = World(make_subject(), base=0.1, effect=effect, measures=measures)

    learned = world.audit()

    both = {Cause.INSUFFICIENT_CAPACITY, Cause.UNSCALED_INPUTS}
    assert found(learned) == (both if reached == 0.8 else set())


class Untrainable(World):
    """Every training of the network fails."""

    def answer(self, experiment):
        outcome = super().answer(experiment)
        if not isinstance(outcome, TrainingOutcome):
            return outcome
        failed = [
            ArmOutcome(name=arm.name, trials=(), failure="it raised: no")
            for arm in outcome.arms
        ]
        return outcome.model_copy(update={"arms": tuple(failed)})


class FailsWider(World):
    """The network falls over where it is made wider; it has nothing to thin out."""

    def answer(self, experiment):
        outcome = super().answer(experiment)
        if not isinstance(outcome, TrainingOutcome):
            return outcome
        arms = [
            ArmOutcome(name=arm.name, failure="it fell", unforeseen=True)
            if arm.name.startswith("width×")
            else ArmOutcome(name=arm.name, failure="there is nothing to drop")
            if arm.name.startswith("dropout")
            else arm
            for arm in outcome.arms
        ]
        return outcome.model_copy(update={"arms": tuple(arms)})


def test_what_failed_is_told_and_what_cannot_be_is_not():
    measures = {"signal": {"p_value": 0.001}, "delivered": {"balanced_accuracy": 0.5}}
    world = FailsWider(make_subject(), base=0.7, effect=no_effect, measures=measures)

    told = [one for one in world.audit().ledger.limits if isinstance(one, LeftOut)]

    assert told
    assert all(one.arm.startswith("width×") for one in told)
    assert {one.why for one in told} == {"it fell"}


def test_a_network_that_cannot_be_trained_anew_is_reported_as_such():
    measures = {"signal": {"p_value": 0.001}, "delivered": {"balanced_accuracy": 0.5}}
    world = Untrainable(make_subject(), base=0.7, effect=no_effect, measures=measures)

    learned = world.audit()

    assert learned.screen is None
    assert any("it raised: no" in limit for limit in learned.ledger.limits)
    for check in (LearningRateTooLow(), InsufficientCapacity()):
        case = case_for(check.cause, learned, weigh(learned, Floors()), 0.5)
        finding = check.judge(world.subject, case)
        assert finding.verdict == "inconclusive"
        assert "it raised: no" in (finding.reason or "")


def test_an_evident_mend_is_named_where_a_strange_one_alone_does_little_better():
    def effect(arm):
        if patches(arm, "optimizer", "name"):
            return 0.6
        return 0.49 if patches(arm, "normalization") else 0.0

    recipe = Recipe(optimizer=Optimizer(name="sgd", lr=0.1), epochs=40)
    measures = {"inputs": {"scale": {"largest_magnitude": 255.0}}}
    subject = make_subject(recipe=recipe)
    world = World(subject, base=0.1, effect=effect, measures=measures)

    learned = world.audit()

    assert [m.cause for m in learned.together] == [Cause.UNSCALED_INPUTS]
    assert found(learned) >= {Cause.UNSCALED_INPUTS}


def test_a_cancelled_audit_says_what_was_learned_by_then():
    def effect(arm):
        fast = (patches(arm, "optimizer", "lr") or 0) >= 0.01
        scaled = patches(arm, "normalization") == "standardize"
        return 0.18 * fast + 0.08 * scaled

    world = World(make_subject(may_borrow=True), base=0.6, effect=effect)
    world.audit()
    run = list(world.outcomes.items())
    inspected = [o.kind for o in world.outcomes.values()].index("training")
    seen = []

    for count in range(inspected, len(run) + 1):
        known = dict(run[:count])
        step = advance(world.subject, known, is_cancelled=True)
        report = conclude(world.subject, step.learned, HEADER)
        assert len(report.findings) == len(Cause)
        assert [f.reason for f in report.findings if f.check == "crashed"] == []
        assert len(report.experiments) == count
        assert report.limits[0] == CANCELLED
        seen.append(report)

    assert seen[0].primary_cause is None
    lr = next(f for f in seen[0].findings if f.cause == Cause.LEARNING_RATE_TOO_LOW)
    assert (lr.verdict, NOT_RUN in lr.reason) == ("inconclusive", True)
    assert seen[-1].primary_cause is Cause.LEARNING_RATE_TOO_LOW
    assert seen[-2].remedy is None
