from dataclasses import replace

import numpy as np
import pytest
from pydantic import JsonValue

from service.contract.causes import Cause
from service.contract.recipe import Loss, Optimizer, Recipe
from service.contract.report import Evidence
from tests.builders_engine import make_subject
from worker.engine.catalog import CATALOG
from worker.engine.check import (
    AS_IN_TRAINING,
    Case,
    Mend,
    Trial,
    found_in_delivery,
    judge_gain,
    pair_of,
)
from worker.engine.checks.class_imbalance import ClassImbalance
from worker.engine.checks.corrupted_inputs import CorruptedInputs
from worker.engine.checks.degenerate_weights import DegenerateWeights
from worker.engine.checks.distribution_shift import DistributionShift
from worker.engine.checks.insufficient_capacity import InsufficientCapacity
from worker.engine.checks.insufficient_data import LENT, InsufficientData
from worker.engine.checks.insufficient_training import InsufficientTraining
from worker.engine.checks.label_order_mismatch import LabelOrderMismatch
from worker.engine.checks.learning_rate_too_low import LearningRateTooLow
from worker.engine.checks.no_learnable_signal import NoLearnableSignal
from worker.engine.checks.preprocessing_mismatch import PreprocessingMismatch
from worker.engine.checks.split_leakage import SplitLeakage
from worker.engine.checks.training_mode_left_on import TrainingModeLeftOn
from worker.engine.checks.unscaled_inputs import UnscaledInputs
from worker.engine.checks.unsuitable_activation import UnsuitableActivation
from worker.engine.checks.unsuitable_layers import UnsuitableLayers
from worker.engine.checks.unsuitable_loss import UnsuitableLoss
from worker.engine.checks.unsuitable_optimizer import UnsuitableOptimizer
from worker.engine.combination import choose_compatible, compatible, first_to_name
from worker.engine.lab.experiment import UNTOUCHED, NetworkChange, RecipeChange
from worker.engine.mended_delivery import makes_up_for_a_move
from worker.engine.outputs import fits
from worker.engine.stats.pairs import PairedGain
from worker.engine.subject import NetworkShape
from worker.engine.sweeps import rates


def gain(value: float, error: float = 0.01, seeds: int = 8) -> PairedGain:
    return PairedGain(value=value, error=error, degrees=50, seeds=seeds)


def in_delivery(cause: Cause, value: float):
    """A finding of a fault of the delivery that costs `value`."""
    words = {"summary": "", "text": "", "method": ""}
    return found_in_delivery(cause, gain(value), evidence=[], **words)


def in_form(value: float, best: str) -> dict[str, dict]:
    """What the probe `preprocessing` measures where another form gains `value`."""
    return {
        "preprocessing": {
            "gain": {"value": value, "standard_error": 0.01},
            "best": best,
        }
    }


def network(output: str, outputs: int = 3, hidden: tuple[str, ...] = ("relu",)):
    return NetworkShape(
        parameters=1000,
        layer_kinds=("linear", "activation", "linear"),
        activations=hidden,
        output_activation=output,
        outputs=outputs,
        linear_stack=not hidden,
        smallest_width=16,
    )


def with_loss(name: str, output: str, outputs: int = 3):
    recipe = Recipe(
        optimizer=Optimizer(name="sgd", lr=0.1), loss=Loss(name=name), epochs=10
    )
    return make_subject(
        recipe=recipe,
        network=network(output, outputs),
        counts=(300, 300) if outputs == 1 else (300,) * outputs,
    )


def mend(cause: Cause, *changes, evident: bool = False, key: str = "k") -> Mend:
    return Mend(cause=cause, key=key, text="Mend it", changes=changes, evident=evident)


@pytest.mark.parametrize(
    ("loss", "output", "outputs", "expected"),
    [
        ("cross_entropy", "none", 3, True),
        ("cross_entropy", "softmax", 3, False),
        ("nll", "log_softmax", 3, True),
        ("nll", "none", 3, False),
        ("bce", "sigmoid", 1, True),
        ("bce", "relu", 1, False),
        ("bce", "softmax", 1, False),
        ("bce_with_logits", "none", 1, True),
        ("mse", "none", 3, False),
    ],
)
def test_a_loss_fits_what_the_network_returns(loss, output, outputs, expected):
    assert fits(with_loss(loss, output, outputs)) is expected


def test_softmax_before_a_loss_on_logits_is_tried_without_it():
    tried = UnsuitableLoss().mends(with_loss("cross_entropy", "softmax"), {})

    removed = [m for m in tried if any(c.kind == "network" for c in m.changes)]
    assert removed
    assert all(m.evident for m in tried)


def test_a_matrix_of_mistakes_is_tried_without():
    recipe = Recipe(
        loss=Loss(name="cross_entropy", transition_matrix=[[0.6, 0.4], [0, 1]])
    )

    [mend] = UnsuitableLoss().mends(make_subject(recipe=recipe), {})

    assert mend.patch == {"loss": {"transition_matrix": None}}


def test_a_model_that_returns_logits_is_never_told_that_softmax_is_missing():
    subject = with_loss("cross_entropy", "none")

    assert UnsuitableLoss().mends(subject, {}) == []
    assert not any(
        c.kind == "network" and c.name == "output"
        for m in UnsuitableActivation().mends(subject, {})
        for c in m.changes
    )


def test_layers_without_activation_between_them_get_one():
    subject = make_subject(network=network("none", hidden=()))

    first = UnsuitableActivation().mends(subject, {})[0]

    assert first.changes == (NetworkChange(name="activation", to="relu"),)
    assert first.evident


@pytest.mark.parametrize(
    ("loss", "output", "key"),
    [
        ("nll", "log_softmax", "nothing before the output"),
        ("cross_entropy", "softmax", "raw output"),  # which takes off both
    ],
)
def test_a_relu_between_the_last_layer_and_its_softmax_is_taken_away(loss, output, key):
    subject = with_loss(loss, output)
    shape = replace(subject.network, before_output="relu")

    first = UnsuitableActivation().mends(replace(subject, network=shape), {})[0]

    assert first.key == key
    assert first.evident is (loss == "nll")  # else the loss may be to blame


def test_a_rate_far_from_custom_is_compared_with_the_customary_one():
    recipe = Recipe(optimizer=Optimizer(name="sgd", lr=1e-5))
    subject = make_subject(recipe=recipe)

    assert 0.1 in rates(subject, higher=True)
    assert all(rate > 1e-5 for rate in rates(subject, higher=True))
    assert all(rate < 1e-5 for rate in rates(subject, higher=False))


@pytest.mark.parametrize(("momentum", "customary"), [(0.0, 0.1), (0.9, 0.01)])
def test_momentum_lowers_the_customary_rate(momentum, customary):
    optimizer = Optimizer(name="sgd", lr=1e-5, momentum=momentum)
    subject = make_subject(recipe=Recipe(optimizer=optimizer))

    [sane] = [m for m in LearningRateTooLow().mends(subject, {}) if m.sane]

    assert sane.key == f"lr={customary:g}"


def test_a_rate_that_was_not_given_is_not_judged():
    subject = make_subject(recipe=Recipe(epochs=10))

    assert "optimizer.lr" in (LearningRateTooLow().obstacle(subject) or "")


def test_every_check_names_its_own_cause_in_its_mends():
    subject = make_subject(recipe=Recipe(loss=Loss(name="mse"), epochs=10))

    for check in CATALOG:
        for tried in check.mends(subject, {}):
            assert tried.cause is check.cause
            assert tried.changes


def test_of_equals_the_evident_cause_is_named_first():
    plain = mend(Cause.UNSCALED_INPUTS)
    evident = mend(Cause.UNSUITABLE_OPTIMIZER, evident=True)

    assert first_to_name([(plain, 0.5), (evident, 0.45)]) is evident
    assert first_to_name([(plain, 0.5), (evident, 0.1)]) is plain


def test_another_activation_that_nothing_speaks_for_must_be_much_better():
    balanced = mend(Cause.CLASS_IMBALANCE, evident=True)
    tanh = mend(Cause.UNSUITABLE_ACTIVATION)
    sigmoid_given = mend(Cause.UNSUITABLE_ACTIVATION, evident=True)

    assert first_to_name([(tanh, 0.15), (balanced, 0.11)]) is balanced
    assert first_to_name([(tanh, 0.15), (balanced, 0.06)]) is tanh
    assert first_to_name([(sigmoid_given, 0.15), (balanced, 0.11)]) is sigmoid_given


def test_evident_mends_are_weighed_against_the_best_of_them():
    """Beside a far-fetched one, half as good is no reason to name the cheaper."""
    tanh = mend(Cause.UNSUITABLE_ACTIVATION, key="tanh")
    balanced = mend(Cause.CLASS_IMBALANCE, evident=True)
    longer = mend(Cause.INSUFFICIENT_TRAINING, evident=True)

    assert first_to_name([(tanh, 0.32), (balanced, 0.317), (longer, 0.21)]) is balanced
    assert first_to_name([(tanh, 0.32), (balanced, 0.317), (longer, 0.27)]) is longer


def test_mends_that_undo_each_other_do_not_go_together():
    rate = mend(
        Cause.LEARNING_RATE_TOO_LOW, RecipeChange(patch={"optimizer": {"lr": 1.0}})
    )
    other = mend(
        Cause.UNSUITABLE_OPTIMIZER,
        RecipeChange(patch={"optimizer": {"name": "adam", "lr": 1e-3}}),
    )
    longer = mend(Cause.INSUFFICIENT_TRAINING, RecipeChange(patch={"epochs": 80}))

    assert not compatible(rate, other)
    assert choose_compatible([rate, other, longer]) == [rate, longer]


@pytest.mark.parametrize(
    ("trial", "verdict"),
    [
        ({"decision": "found", "role": "primary"}, "found"),
        ({"decision": "found", "role": "component"}, "found"),
        (
            {
                "decision": "found",
                "role": "explained",
                "explained_by": Cause.UNSCALED_INPUTS,
            },
            "suspected",
        ),
        ({"decision": "not_found"}, "not_found"),
        ({"decision": "inconclusive"}, "inconclusive"),
    ],
)
def test_the_verdict_follows_decision_and_role(trial, verdict):
    check = LearningRateTooLow()
    case = Case(
        measures={},
        trial=Trial(
            mend=mend(check.cause, RecipeChange(patch={"epochs": 2})),
            gain=gain(0.1),
            confirmed=True,
            adjusted_p=0.001,
            **trial,
        ),
    )

    finding = judge_gain(check, case, says="It is too low")

    assert finding.verdict == verdict
    assert finding.gain is not None
    acts = verdict in ("found", "suspected")
    assert (finding.recommendation is not None) is acts
    assert (finding.severity != "info") is acts


@pytest.mark.parametrize(
    ("schedule", "evident"),
    [
        (None, None),
        ({"name": "cosine"}, None),
        ({"name": "step", "step_epochs": 4, "gamma": 0.1}, None),  # .38 on average
        ({"name": "step", "step_epochs": 1, "gamma": 0.2}, True),  # .12
        ({"name": "step", "step_epochs": 1, "gamma": 0.6}, False),  # .25
    ],
    ids=str,
)
def test_a_schedule_that_leaves_little_of_the_rate_is_dropped(schedule, evident):
    recipe = Recipe(
        optimizer=Optimizer(name="adam", lr=1e-3),
        loss=Loss(name="cross_entropy"),
        epochs=10,
        schedule=schedule,
    )
    check, subject = LearningRateTooLow(), make_subject(recipe=recipe)

    mends = check.mends(subject, {})

    dropped = [m for m in mends if m.key == "no schedule"]
    assert [m.evident for m in dropped] == ([] if evident is None else [evident])
    if dropped:
        assert dropped[0].patch == {"schedule": None}
        trial = Trial(
            mend=dropped[0],
            gain=gain(0.1),
            confirmed=True,
            decision="found",
            role="primary",
        )
        finding = check.judge(subject, Case(measures={}, trial=trial))
        assert "lowers the learning rate too early" in finding.summary


@pytest.mark.parametrize(("seeds", "most"), [(1, 0.95), (8, 1.0)])
def test_one_pair_makes_nobody_quite_sure(seeds, most):
    check = LearningRateTooLow()
    trial = Trial(
        mend=mend(check.cause, RecipeChange(patch={"epochs": 2})),
        gain=gain(-0.5, seeds=seeds),
        confirmed=False,
        decision="not_found",
    )

    finding = judge_gain(check, Case(measures={}, trial=trial), says="It is too low")

    assert finding.verdict == "not_found"
    assert finding.confidence == pytest.approx(most, abs=1e-3)
    statement = finding.evidence[-1].statement
    assert ("an interval for the rows alone" in statement) is (seeds == 1)


@pytest.mark.parametrize(
    ("role", "instead", "said"),
    [
        ("equivalent", True, "either this or mending “unsuitable loss” is enough"),
        ("explained", True, "in place of mending “unsuitable loss”, which brings more"),
        ("equivalent", False, "was not measured"),
    ],
)
def test_of_two_mends_that_cannot_both_be_made_one_is_enough(role, instead, said):
    check = LearningRateTooLow()
    trial = Trial(
        mend=mend(check.cause, RecipeChange(patch={"epochs": 2})),
        gain=gain(0.1),
        confirmed=True,
        decision="found",
        role=role,
        explained_by=Cause.UNSUITABLE_LOSS,
        instead=instead,
    )

    finding = judge_gain(check, Case(measures={}, trial=trial), says="It is too low")

    assert finding.verdict == "suspected"
    assert said in finding.summary


@pytest.mark.parametrize(
    ("alone", "on_top", "verdict"),
    [(0.05, None, "found"), (0.03, None, "suspected"), (0.03, 0.06, "found")],
)
def test_a_small_gain_is_worth_having_and_no_fault(alone, on_top, verdict):
    check = LearningRateTooLow()
    trial = Trial(
        mend=mend(check.cause, RecipeChange(patch={"epochs": 2})),
        gain=gain(alone),
        on_top=None if on_top is None else gain(on_top),
        confirmed=True,
        decision="found",
        role="component",
    )

    finding = judge_gain(check, Case(measures={}, trial=trial), says="It is too low")

    assert finding.verdict == verdict
    assert ("worth having" in finding.summary) is (verdict == "suspected")
    assert finding.recommendation is not None


@pytest.mark.parametrize(
    ("subsample", "method"),
    [
        (None, "paired retraining"),
        (752, "paired retraining, both on 752 training rows"),
    ],
)
def test_a_gain_says_on_how_many_rows_it_was_measured(subsample, method):
    check = LearningRateTooLow()
    trial = Trial(
        mend=mend(check.cause, RecipeChange(patch={"epochs": 2})),
        gain=gain(0.1),
        confirmed=True,
        decision="found",
        role="primary",
    )
    case = Case(measures={}, trial=trial, subsample=subsample)

    finding = judge_gain(check, case, says="It is too low")

    assert finding.gain is not None
    assert finding.gain.method == method


def test_labels_that_the_recipe_learns_in_another_order_are_exchanged_themselves():
    order = {
        "gain": {"value": 0.25, "standard_error": 0.01},
        "permutation": [1, 0, 2],
        "after": 0.94,
    }
    arms = {"baseline": {"balanced_accuracy": 0.69}}
    case = Case(
        measures={"label_order": order}, retrained=gain(0.0), delivered=0.69, arms=arms
    )

    finding = LabelOrderMismatch().judge(make_subject(), case)

    assert finding.verdict == "not_found"
    assert "rather exchanged for each other" in finding.summary
    assert "weak" not in finding.summary


@pytest.mark.parametrize(
    ("confidence", "usual", "verdict"),
    [
        (0.56, 0.6, "not_found"),  # fresh weights fit one of the two orders
        (0.8, 0.6, "found"),  # they have learned it
        (0.56, 0.83, "found"),  # what the recipe yields is as unsure
    ],
)
def test_of_two_orders_fresh_weights_fit_one_by_accident(confidence, usual, verdict):
    order = {
        "gain": {"value": 0.6, "standard_error": 0.03},
        "permutation": [1, 0],
        "train_before": 0.15,
        "train_after": 0.85,
        "sure": {"accuracy": 0.85, "confidence": confidence},
    }
    case = Case(
        measures={"label_order": order},
        retrained=gain(0.45),
        delivered=0.15,
        baseline={"train_balanced_accuracy": usual},
    )

    finding = LabelOrderMismatch().judge(make_subject(counts=(600, 600)), case)

    assert finding.verdict == verdict
    assert ("by accident" in finding.summary) is (verdict == "not_found")


@pytest.mark.parametrize(("runs", "verdict"), [(-0.08, "not_found"), (0.05, "found")])
def test_the_order_is_that_of_the_mode_in_which_the_file_runs(runs, verdict):
    """Stored statistics that do not fit exchange classes in evaluation mode alone."""
    order = {
        "gain": {"value": 0.1, "standard_error": 0.01},
        "permutation": [1, 0, 2],
    }
    determinism = {"gain": {"value": runs, "standard_error": 0.01}}
    measures = {"label_order": order, "determinism": determinism}

    finding = LabelOrderMismatch().judge(
        make_subject(), Case(measures=measures, retrained=gain(0.1))
    )

    assert finding.verdict == verdict
    assert ("runs in training mode" in finding.summary) is (verdict == "not_found")


@pytest.mark.parametrize("brings", [-0.08, 0.05])
def test_evaluation_mode_that_loses_is_not_all_there_is_to_do(brings):
    determinism = {
        "varies": True,
        "repeat": {"changed": 0.3},
        "gain": {"value": brings, "standard_error": 0.01},
    }
    case = Case(measures={"determinism": determinism})

    finding = TrainingModeLeftOn().judge(make_subject(), case)

    assert finding.verdict == "found"
    assert ("do not fit the data" in finding.summary) is (brings < 0)
    assert ("training it anew" in finding.recommendation.text) is (brings < 0)


def test_an_order_that_helps_a_weak_model_a_little_is_no_mismatch():
    measures = {
        "label_order": {
            "gain": {"value": 0.15, "standard_error": 0.01},
            "permutation": [1, 0, 2],
        }
    }
    check, subject = LabelOrderMismatch(), make_subject()

    weak = check.judge(subject, Case(measures=measures, retrained=gain(0.01)))
    swapped = check.judge(subject, Case(measures=measures, retrained=gain(0.16)))

    assert weak.verdict == "not_found"
    assert swapped.verdict == "found"


@pytest.mark.parametrize(
    ("anew", "relapsing", "verdict"),
    [(0.19, 0.0, "found"), (0.19, 0.2, "not_found"), (0.3, 0.0, "not_found")],
)
def test_an_order_in_which_weights_are_what_a_bad_recipe_yields_is_a_mismatch(
    anew, relapsing, verdict
):
    measures = {
        "label_order": {
            "gain": {"value": 0.2, "standard_error": 0.01},
            "permutation": [1, 0, 2],
            "after": 0.5,
        }
    }
    case = Case(
        measures=measures,
        retrained=gain(anew),
        relapses=lambda _: relapsing,
        delivered=0.3,
        arms={"loss=cross_entropy": {"balanced_accuracy": 0.87}},
    )

    assert LabelOrderMismatch().judge(make_subject(), case).verdict == verdict


@pytest.mark.parametrize(
    ("before", "after", "usual", "verdict"),
    [
        (0.0, 1.0, 1.0, "found"),
        (0.9, 1.0, 1.0, "not_found"),
        (0.0, 0.8, 1.0, "not_found"),
        (0.2, 0.4, 0.4, "not_found"),
        (None, None, 1.0, "not_found"),
    ],
)
def test_an_order_in_which_alone_training_rows_are_fitted_is_that_of_the_training(
    before, after, usual, verdict
):
    """However little of what was learned holds for other rows."""
    order = {
        "gain": {"value": 0.13, "standard_error": 0.02},
        "permutation": [1, 0, 2],
        "after": 0.5,
        "train_before": before,
        "train_after": after,
    }
    figures = {"balanced_accuracy": 0.5, "train_balanced_accuracy": usual}
    case = Case(
        measures={"label_order": order},
        retrained=gain(0.05),
        delivered=0.37,
        baseline=figures,
        arms={"baseline": figures, "activation=tanh": {"balanced_accuracy": 0.75}},
    )

    assert LabelOrderMismatch().judge(make_subject(), case).verdict == verdict


@pytest.mark.parametrize(
    ("smallest", "usual", "keys"),
    [
        (2, 40, ["width≥40", "width×4", "width×2"]),
        (16, 80, ["width≥80", "width×2"]),
        (2, 2, ["width×8", "width×4", "width×2"]),
        (16, 32, ["width×4", "width×2"]),
    ],
)
def test_a_layer_far_narrower_than_the_others_is_widened_alone(smallest, usual, keys):
    shape = replace(network("none"), smallest_width=smallest, usual_width=usual)

    mends = InsufficientCapacity().mends(make_subject(network=shape), {})

    wider = [mend for mend in mends if not mend.control]
    assert [mend.key for mend in wider] == keys
    assert all(mend.evident for mend in wider[:1]) is (smallest == 2)
    assert wider[0].urgent is (smallest == 2)


@pytest.mark.parametrize(
    ("weights", "balancing", "loss"),
    [
        (None, ["balanced", "class_weights"], []),
        # The largest class weighs most.
        ([1.0, 0.5, 0.1], ["balanced", "class_weights"], ["no class weights"]),
        ([0.1, 0.3, 0.9], ["balanced"], []),  # as they are due
    ],
)
def test_class_weights_that_favour_large_classes_are_replaced(weights, balancing, loss):
    recipe = Recipe(
        optimizer=Optimizer(name="sgd", lr=0.1),
        loss=Loss(name="cross_entropy", class_weights=weights),
        epochs=10,
    )
    subject = make_subject(recipe=recipe, counts=(900, 300, 100))

    mends = {m.key: m.patch or {} for m in ClassImbalance().mends(subject, {})}
    others = [m.key for m in UnsuitableLoss().mends(subject, {}) if m.evident]

    assert list(mends) == balancing
    dropped = {"loss": {"class_weights": None}} if weights else {}
    assert mends["balanced"] == {"sampler": "balanced", **dropped}
    if "class_weights" in balancing:
        due = mends["class_weights"]["loss"]["class_weights"]
        assert due == pytest.approx([1300 / 2700, 1300 / 900, 1300 / 300], abs=1e-3)
    assert others == loss


def test_a_scale_that_retraining_does_not_mind_is_a_fault_of_the_delivery():
    measures = in_form(0.4, "divide_255")
    check, subject = PreprocessingMismatch(), make_subject()

    delivery = check.judge(subject, Case(measures=measures, retrained=gain(0.4)))
    training = check.judge(subject, Case(measures=measures, retrained=gain(0.0)))

    assert delivery.verdict == "found"
    assert training.verdict == "not_found"


@pytest.mark.parametrize(("reached", "verdict"), [(0.6, "found"), (0.95, "suspected")])
def test_a_form_that_leaves_a_model_weak_is_not_what_it_was_trained_on(
    reached, verdict
):
    measures = in_form(0.2, "divide_255")
    case = Case(
        measures=measures,
        retrained=gain(0.2),
        delivered=0.3,
        arms={"baseline": {"balanced_accuracy": reached}},
    )

    finding = PreprocessingMismatch().judge(make_subject(), case)

    assert finding.verdict == verdict


@pytest.mark.parametrize(
    ("restored", "verdict"),
    [(0.42, "not_found"), (0.6, "suspected"), (0.9, "found")],
)
def test_a_form_that_gives_back_a_part_may_be_near_that_of_the_training(
    restored, verdict
):
    """Damaged weights do about as badly in every form."""
    case = Case(
        measures=in_form(restored - 0.33, "scale_to_unit"),
        retrained=gain(0.57),
        delivered=0.33,
        arms={"baseline": {"balanced_accuracy": 0.9}},
    )

    finding = PreprocessingMismatch().judge(make_subject(), case)

    assert finding.verdict == verdict
    assert ("stays below" in finding.summary) is (verdict == "suspected")


@pytest.mark.parametrize(
    ("restored", "verdict"), [(0.85, "not_found"), (0.93, "found")]
)
def test_a_form_is_that_of_the_training_only_where_it_restores_what_the_recipe_yields(
    restored, verdict
):
    """Some form suits a head that was never trained better than the others do."""
    case = Case(
        measures=in_form(restored - 0.52, "scale_to_unit+reverse_features"),
        retrained=gain(0.44),
        delivered=0.52,
        arms={"baseline": {"balanced_accuracy": 0.96}},
    )
    subject = make_subject(counts=(600, 600))

    assert PreprocessingMismatch().judge(subject, case).verdict == verdict


@pytest.mark.parametrize(
    ("delivered", "verdict"), [(0.38, "not_found"), (0.5, "found")]
)
def test_what_hits_less_than_chance_comes_back_to_it_in_any_form(delivered, verdict):
    """A recipe that yields little more than chance proves no form."""
    case = Case(
        measures=in_form(0.69 - delivered, "scale_to_unit+per_sample_standardize"),
        retrained=gain(0.55 - delivered if verdict == "not_found" else 0.17),
        delivered=delivered,
        arms={"lr=0.11": {"balanced_accuracy": 0.78}},
    )
    subject = make_subject(counts=(600, 600))

    assert PreprocessingMismatch().judge(subject, case).verdict == verdict


@pytest.mark.parametrize(
    ("reached", "verdict"), [(0.1, "found"), (0.88, "found"), (0.98, "not_found")]
)
def test_weights_that_do_well_in_another_form_were_trained_on_it(reached, verdict):
    """Retraining cannot help where only the held-out data changed their form."""
    measures = in_form(0.8, "swap_channels")
    case = Case(
        measures=measures,
        retrained=gain(0.0),
        delivered=0.05,
        arms={"baseline": {"balanced_accuracy": reached}},
    )

    assert PreprocessingMismatch().judge(make_subject(), case).verdict == verdict


@pytest.mark.parametrize(("best", "verdict"), [(0.696, "not_found"), (0.63, "found")])
def test_weights_that_are_hardly_above_chance_in_any_form_were_not_trained_on_it(
    best, verdict
):
    """Nine tenths of an accuracy of .7 are no feat where half are hit by chance."""
    case = Case(
        measures=in_form(0.147, "minus_one_to_one"),
        retrained=gain(0.0),
        delivered=0.5,
        arms={"standardize + epochs=200": {"balanced_accuracy": best}},
    )
    subject = make_subject(counts=(600, 600))

    assert PreprocessingMismatch().judge(subject, case).verdict == verdict


@pytest.mark.parametrize(
    ("loss", "accuracy", "confidence", "verdict"),
    [
        ("cross_entropy", 0.74, 0.53, "not_found"),
        ("cross_entropy", 0.74, 0.71, "found"),
        ("cross_entropy", 0.95, 0.53, "found"),
        ("mse", 0.74, 0.53, "found"),
    ],
)
def test_weights_that_are_far_less_sure_than_right_were_not_trained_on_a_form(
    loss, accuracy, confidence, verdict
):
    """One of many forms may put outputs that hardly differ on the right side."""
    measures = in_form(0.47, "reverse_features+per_sample_unit_norm")
    measures["preprocessing"]["sure"] = {
        "accuracy": accuracy,
        "confidence": confidence,
    }
    case = Case(measures=measures, retrained=gain(0.45), delivered=0.27)
    recipe = Recipe(
        optimizer=Optimizer(name="sgd", lr=0.1), loss=Loss(name=loss), epochs=10
    )
    subject = make_subject(recipe=recipe, counts=(600, 600))

    assert PreprocessingMismatch().judge(subject, case).verdict == verdict


@pytest.mark.parametrize(
    ("levels", "verdict"),
    [([0.72, 0.74, 0.69], "not_found"), ([0.6, 0.64, 0.59], "found")],
)
def test_a_form_that_helps_all_that_the_recipe_yields_is_no_fault_of_delivery(
    levels, verdict
):
    """The delivered weights are an unlucky training, and no scale suited them."""
    measures = {**in_form(0.25, "standardize"), "other_form": {"levels": levels}}
    arms = {"standardize": {"balanced_accuracy": 0.95}}
    case = Case(measures=measures, retrained=gain(0.24), delivered=0.43, arms=arms)
    subject = make_subject(counts=(150,) * 10)

    assert PreprocessingMismatch().judge(subject, case).verdict == verdict


@pytest.mark.parametrize(
    ("levels", "apart", "verdict"),
    [
        ([0.86, 0.85, 0.87], 0.5, "not_found"),
        ([0.86, 0.85, 0.87], 0.95, "found"),  # held-out data alone have another form
        ([0.57, 0.58, 0.56], 0.5, "found"),
    ],
)
def test_a_form_that_lifts_networks_of_the_data_as_they_are_proves_nothing(
    levels, apart, verdict
):
    """Codes for missing values are far from all else, unless inputs are scaled."""
    measures = {
        **in_form(0.32, "standardize"),
        "other_form": {"levels": levels},
        "shift": {"auc": {"value": apart, "low": apart}},
    }
    arms = {"standardize": {"balanced_accuracy": 0.87}}
    case = Case(measures=measures, retrained=gain(0.01), delivered=0.55, arms=arms)
    subject = make_subject(counts=(150,) * 10)

    assert PreprocessingMismatch().judge(subject, case).verdict == verdict


@pytest.mark.parametrize(
    ("fits", "usual", "verdict"),
    [
        (0.98, 0.5, "found"),
        (0.92, 0.5, "not_found"),  # so do the recipe's own
        (0.98, 0.4, "not_found"),  # these are ahead on the data as they are, too
    ],
)
def test_weights_that_fit_training_rows_far_better_in_another_form_learned_it(
    fits, usual, verdict
):
    """Inputs that became tiny: what the recipe yields hits in their form, but less."""
    measures = {
        **in_form(0.46, "standardize"),
        "other_form": {
            "levels": [0.72, 0.9, 0.91, 0.93] * 2,
            "train_levels": [0.74, 0.91, 0.9, 0.91] * 2,  # one of four went wrong
        },
        "delivered": {"train_balanced_accuracy": 0.5},
    }
    measures["preprocessing"]["train_after"] = fits
    case = Case(
        measures=measures,
        retrained=gain(0.0),
        delivered=0.5,
        arms={"standardize": {"balanced_accuracy": 0.96}},
        baseline={"train_balanced_accuracy": usual},
    )

    finding = PreprocessingMismatch().judge(make_subject(counts=(300, 300)), case)

    assert finding.verdict == verdict


@pytest.mark.parametrize(
    ("sampler", "order", "tried", "evident"),
    [
        ("sequential", "sorted", True, True),
        ("sequential", "mixed", True, False),
        ("shuffle", "sorted", False, False),
    ],
)
def test_rows_in_the_order_of_the_file_are_shuffled(sampler, order, tried, evident):
    """Where they are sorted by class, that speaks for itself."""
    subject = make_subject(recipe=Recipe(epochs=10, batch_size=32, sampler=sampler))
    labels = np.arange(300) // 100 if order == "sorted" else np.arange(300) % 3
    subject.labels["train"] = labels

    mends = {m.key: m for m in UnsuitableOptimizer().mends(subject, {})}
    uneven = make_subject(recipe=subject.given, counts=(300, 100))
    balanced = ClassImbalance().mends(uneven, {})[0]

    assert ("shuffled" in mends) is tried
    assert balanced.controls == (("shuffled",) if tried else ())
    if tried:
        assert mends["shuffled"].patch == {"sampler": "shuffle"}
        assert mends["shuffled"].evident is evident
        said = UnsuitableOptimizer().judge(subject, Case(measures={})).evidence
        assert ("66 % more of them" in said[0].statement) is evident


@pytest.mark.parametrize(
    ("form", "training", "verdict"),
    [
        ("padding_first", 0.14, "found"),
        ("padding_first", 0.03, "not_found"),
        ("affine(2,0)", 0.14, "not_found"),
    ],
)
def test_weights_that_fit_training_rows_better_in_a_form_were_not_trained_as_given(
    form, training, verdict
):
    """Though they fit them as given as well as the recipe's own trainings do."""
    measures = in_form(0.12, form)
    measures["preprocessing"]["train_gain"] = {
        "value": training,
        "standard_error": 0.015,
    }
    measures["delivered"] = {"train_balanced_accuracy": 0.67, "train_log_loss": 1.2}
    arms = {"baseline": {"balanced_accuracy": 0.5, "train_balanced_accuracy": 0.6}}
    case = Case(
        measures=measures,
        retrained=gain(0.1),
        delivered=0.45,
        arms=arms,
        baseline=arms["baseline"],
    )

    assert PreprocessingMismatch().judge(make_subject(), case).verdict == verdict


@pytest.mark.parametrize(
    ("held_out", "training", "verdict"),
    [(0.06, 0.14, "found"), (0.06, 0.01, "not_found"), (0.02, 0.14, "not_found"),
     (0.06, None, "not_found"), (0.12, None, "found")],
)  # fmt: skip
def test_training_rows_prove_a_form_that_few_held_out_rows_only_speak_for(
    held_out, training, verdict
):
    """They are more, and the weights know them in the form of the training."""
    measures = in_form(held_out, "padding_first")
    measures["preprocessing"]["gain"]["standard_error"] = 0.025
    if training is not None:
        measures["preprocessing"]["train_gain"] = {
            "value": training,
            "standard_error": 0.015,
        }
    case = Case(measures=measures, retrained=gain(0.1), delivered=0.52)

    assert PreprocessingMismatch().judge(make_subject(), case).verdict == verdict


@pytest.mark.parametrize(
    ("levels", "verdict"),
    [
        ([0.78, 0.65, 0.44, 0.25, 0.47, 0.64, 0.64, 0.61], "not_found"),
        ([0.52, 0.47, 0.5, 0.49, 0.51, 0.5, 0.48, 0.53], "found"),  # none comes near
        ([0.64, 0.61, 0.66, 0.6, 0.63, 0.65, 0.62, 0.64], "found"),  # all learn that
    ],
)
def test_what_networks_of_the_recipe_hit_by_chance_proves_no_form(levels, verdict):
    """Some hit far more than half in that form, some far less: they hardly moved."""
    measures = {**in_form(0.32, "reverse_features"), "other_form": {"levels": levels}}
    arms = {"lr=0.001": {"balanced_accuracy": 0.6}}
    case = Case(measures=measures, retrained=gain(0.14), delivered=0.35, arms=arms)
    subject = make_subject(counts=(600, 600))

    assert PreprocessingMismatch().judge(subject, case).verdict == verdict


@pytest.mark.parametrize(
    ("squeezed", "given", "is_tried"),
    [(["dose"], None, True), ([], None, False), (["dose"], "standardize", False)],
)
def test_what_erroneous_values_squeezed_is_scaled_again(squeezed, given, is_tried):
    """Unless the recipe does that by itself; what scaling alone brings is taken off."""
    measures = {"inputs": {"affected": 0.1, "squeezed": squeezed}}
    subject = make_subject(recipe=Recipe(normalization=given))

    mends = {m.key: m for m in CorruptedInputs().mends(subject, measures)}

    again = mends.get("estimated inputs, standardised")
    assert (again is not None) is is_tried
    if again is not None:
        assert again.changes[0] == mends["estimated inputs"].changes[0]
        assert again.patch == {"normalization": "standardize"}
        assert again.controls == ("standardize",)


@pytest.mark.parametrize(("share", "epochs"), [(0.46, 19), (0.1, None)])
def test_without_many_rows_the_others_are_trained_on_for_as_long(share, epochs):
    """Half of the updates would be a fault of its own."""
    measures = {"inputs": {"affected": share, "mask": "rows"}}
    recipe = Recipe(epochs=10, batch_size=32)

    mends = CorruptedInputs().mends(make_subject(recipe=recipe), measures)

    [dropped] = [mend for mend in mends if mend.key == "rows dropped"]
    assert (dropped.patch or {}).get("epochs") == epochs
    assert ("as many updates" in dropped.text) is (epochs is not None)


FITTING = {"shift": 0.05, "ratio": 1.02, "features": 64}
FOREIGN = {"shift": 3.4, "ratio": 0.9, "features": 64}


@pytest.mark.parametrize(
    ("brings", "given", "other", "verdict"),
    [
        (0.1, FOREIGN, FITTING, "found"),
        (0.1, None, None, "not_found"),  # not proven by itself
        (0.1, FOREIGN, FOREIGN, "not_found"),
        (0.03, FOREIGN, FITTING, "not_found"),
        (0.4, None, None, "found"),
        (0.4, FITTING, FOREIGN, "not_found"),
        (0.4, FITTING, FITTING, "found"),  # channels swapped, say: alike to the norm
    ],
)
def test_what_a_batch_norm_has_stored_tells_the_form_of_the_training(
    brings, given, other, verdict
):
    measures = in_form(brings, "standardize")
    measures["preprocessing"] |= {
        "gain": {"value": brings, "standard_error": 0.037},
        "first_norm": given,
        "best_norm": other,
    }
    case = Case(measures=measures, retrained=gain(brings), delivered=0.33)

    assert PreprocessingMismatch().judge(make_subject(), case).verdict == verdict


@pytest.mark.parametrize(
    ("given", "verdict"), [(FOREIGN, "found"), (None, "suspected")]
)
def test_a_form_that_a_norm_knows_need_not_be_the_very_one(given, verdict):
    """It brings .28 to .70 where training anew reaches .88: nearly the right form."""
    measures = in_form(0.42, "standardize")
    measures["preprocessing"] |= {"first_norm": given, "best_norm": given and FITTING}
    arms = {"baseline": {"balanced_accuracy": 0.88}}
    case = Case(measures=measures, retrained=gain(0.6, 0.1), delivered=0.28, arms=arms)

    assert PreprocessingMismatch().judge(make_subject(), case).verdict == verdict


@pytest.mark.parametrize("brings", [0.4, -0.03])
def test_weights_that_are_not_finite_are_found_whatever_training_anew_brings(brings):
    weights = {"non_finite": {"0.weight": 3}}
    case = Case(measures={"weights": weights}, retrained=gain(brings), delivered=0.3)

    finding = DegenerateWeights().judge(make_subject(), case)

    assert finding.verdict == "found"
    assert (finding.gain is not None) is (brings > 0)
    assert ("mend the rest first" in finding.summary) is (brings < 0)
    assert ("brings -" in finding.summary) is False


@pytest.mark.parametrize(
    ("error", "verdict"), [(0.12, "suspected"), (0.3, "not_found")]
)
def test_weights_that_few_trainings_beat_by_far_are_not_called_sound(error, verdict):
    few = PairedGain(value=0.6, error=error, degrees=3, seeds=3)
    case = Case(measures={"weights": {"tensors": 4}}, retrained=few, delivered=0.28)

    finding = DegenerateWeights().judge(make_subject(), case)

    assert finding.verdict == verdict
    assert ("too few trainings" in finding.summary) is (verdict == "suspected")


@pytest.mark.parametrize(
    ("hit", "usual", "loss", "moved", "verdict"),
    [
        (0.68, 0.71, 1.3, 0.5, "not_found"),
        (0.50, 0.71, 1.3, 0.5, "found"),
        (0.68, 0.71, 9.0, 0.5, "found"),
        (0.68, 0.71, 1.3, 0.99, "found"),
        (0.33, 0.34, 1.1, 0.5, "found"),
    ],
)
def test_weights_that_fit_the_training_rows_as_given_were_trained_on_them(
    hit, usual, loss, moved, verdict
):
    """What another form brings them then is due to codes in the data, say."""
    measures = in_form(0.27, "standardize")
    measures["delivered"] = {
        "train_balanced_accuracy": hit,
        "train_log_loss": loss,
    }
    measures["shift"] = {"auc": {"low": moved}}
    case = Case(
        measures=measures,
        retrained=gain(0.03),
        delivered=0.62,
        arms={"repaired inputs": {"balanced_accuracy": 0.91}},
        baseline={"train_balanced_accuracy": usual, "train_loss": 1.1},
    )

    assert PreprocessingMismatch().judge(make_subject(), case).verdict == verdict


@pytest.mark.parametrize(
    ("ordered", "verdict"), [(0.78, "not_found"), (0.6, "found"), (0.3, "found")]
)
def test_what_the_order_of_the_outputs_explains_is_not_put_on_the_form(
    ordered, verdict
):
    order = found_in_delivery(
        Cause.LABEL_ORDER_MISMATCH,
        gain(ordered - 0.22),
        summary="",
        text="",
        evidence=[],
        method="",
    )
    case = Case(
        measures=in_form(0.50, "reverse_features"),
        retrained=gain(0.56),
        delivered=0.22,
        arms={"baseline": {"balanced_accuracy": 0.78}},
        judged={order.cause: order},
    )

    assert PreprocessingMismatch().judge(make_subject(), case).verdict == verdict


def test_outputs_that_change_from_call_to_call_are_found():
    changing = {"determinism": {"varies": True, "repeat": {"changed": 0.2}}}
    steady = {"determinism": {"varies": False, "repeat": {"changed": 0.0}}}
    check, subject = TrainingModeLeftOn(), make_subject()

    assert check.judge(subject, Case(measures=changing)).verdict == "found"
    assert check.judge(subject, Case(measures=steady)).verdict == "not_found"


TRIED = {"baseline": {"balanced_accuracy": 0.1}}


def no_better_than_chance(high: float) -> dict[str, JsonValue]:
    """What the probe `signal` measures; the best learner reaches `high` at most."""
    reached: dict[str, JsonValue] = {"value": 0.34, "low": 0.3, "high": high}
    return {
        "p_value": 0.6,
        "best": "trees",
        "chance": 1 / 3,
        "balanced_accuracy": reached,
    }


def test_no_signal_is_named_only_where_nothing_learned():
    measures = {"signal": no_better_than_chance(0.38)}
    check, subject = NoLearnableSignal(), make_subject()

    untried = check.judge(subject, Case(measures=measures, signal=False))
    nothing = check.judge(subject, Case(measures=measures, signal=False, arms=TRIED))
    something = check.judge(subject, Case(measures=measures, signal=True, arms=TRIED))

    assert untried.verdict == "inconclusive"
    assert nothing.verdict == "found"
    assert something.verdict == "not_found"


@pytest.mark.parametrize(("high", "verdict"), [(0.42, "found"), (0.45, "suspected")])
def test_from_few_rows_no_signal_is_only_suspected(high, verdict):
    case = Case(
        measures={"signal": no_better_than_chance(high)}, signal=False, arms=TRIED
    )

    finding = NoLearnableSignal().judge(make_subject(), case)

    assert finding.verdict == verdict
    assert ("too few rows" in finding.summary) is (verdict == "suspected")


@pytest.mark.parametrize(
    ("inside", "p_value", "verdict"),
    [(0.42, 0.6, "found"), (0.45, 0.6, "suspected"), (0.42, 0.04, "inconclusive")],
)
def test_training_rows_out_of_fold_tell_where_few_are_held_out(
    inside, p_value, verdict
):
    few = no_better_than_chance(0.45)
    many = no_better_than_chance(inside)
    signal = {**few, "p_value": p_value, "out_of_fold": many}
    case = Case(measures={"signal": signal}, signal=False, arms=TRIED)

    assert NoLearnableSignal().judge(make_subject(), case).verdict == verdict


@pytest.mark.parametrize(("high", "verdict"), [(0.14, "found"), (0.25, "inconclusive")])
def test_a_signal_by_chance_that_is_of_no_use_counts_as_none(high, verdict):
    reached = {"value": 0.113, "low": 0.09, "high": high}
    signal = {"p_value": 0.038, "chance": 0.1, "balanced_accuracy": reached}
    case = Case(measures={"signal": signal}, signal=False, arms=TRIED)

    assert NoLearnableSignal().judge(make_subject(), case).verdict == verdict


def test_a_probe_without_figures_leaves_no_gain():
    assert pair_of(None) is None
    assert pair_of({"value": 0.1}) is None
    assert pair_of({"value": 0.1, "standard_error": 0.01}) is not None


@pytest.mark.parametrize(
    ("half", "quarter", "verdict"),
    [(-0.10, -0.24, "found"), (-0.06, -0.14, "suspected"), (-0.01, -0.05, "not_found")],
)
def test_more_data_is_called_for_where_doubling_promises_much(half, quarter, verdict):
    def pair(value):
        return PairedGain(value=value, error=0.004, degrees=100, seeds=8)

    case = Case(
        measures={}, gains={"subset=0.5": pair(half), "subset=0.25": pair(quarter)}
    )

    finding = InsufficientData().judge(make_subject(), case)

    assert finding.verdict == verdict


@pytest.mark.parametrize(("flattered", "verdict"), [(0.02, "found"), (0.13, None)])
def test_rows_in_both_splits_make_a_curve_rise(flattered, verdict):
    leak = in_delivery(Cause.SPLIT_LEAKAGE, 0.1).model_copy(
        update={
            "evidence": [
                Evidence(kind="twins", statement="", values={"inflation": flattered})
            ]
        }
    )
    gains = {"subset=0.5": gain(-0.10, 0.004), "subset=0.25": gain(-0.24, 0.004)}
    case = Case(measures={}, gains=gains, judged={Cause.SPLIT_LEAKAGE: leak})

    finding = InsufficientData().judge(make_subject(), case)

    assert finding.verdict == (verdict or "inconclusive")
    assert ("flatter it by 13.0 points" in finding.summary) is (verdict is None)
    assert (finding.recommendation is None) is (verdict is None)


def test_a_quarter_of_the_rows_that_teaches_nothing_does_not_speak_against_more():
    def pair(value):
        return PairedGain(value=value, error=0.01, degrees=100, seeds=8)

    gains = {"subset=0.5": pair(-0.08), "subset=0.25": pair(-0.45)}
    case = Case(measures={}, gains=gains, level=0.8)

    finding = InsufficientData().judge(make_subject(), case)

    assert finding.verdict == "found"
    assert finding.confidence == 0.75


@pytest.mark.parametrize(
    ("quarter", "verdict"), [(-0.11, "inconclusive"), (-0.3, "found")]
)
def test_a_curve_that_is_bent_names_no_lack_of_data(quarter, verdict):
    """Half of the rows do no better than a quarter, and all of them much better."""
    gains = {"subset=0.5": gain(-0.12, 0.005), "subset=0.25": gain(quarter, 0.005)}
    case = Case(measures={}, gains=gains, level=0.8, signal=True)

    finding = InsufficientData().judge(make_subject(), case)

    assert finding.verdict == verdict
    assert finding.gain.low <= finding.gain.value <= finding.gain.high


def lent_case(value: float, error: float = 0.01, half: float = -0.02) -> Case:
    gains = {LENT: gain(value, error)}
    gains |= {"subset=0.5": gain(half, 0.02), "subset=0.25": gain(2.1 * half, 0.02)}
    return Case(measures={}, gains=gains, level=0.6)


@pytest.mark.parametrize(
    ("value", "error", "verdict"),
    [
        (0.07, 0.01, "found"),
        (0.07, 0.03, "inconclusive"),  # may be chance: the curve has the word
        (0.04, 0.005, "inconclusive"),  # no fault
        (0.005, 0.005, "not_found"),
    ],
)
def test_what_held_out_rows_bring_where_they_are_lent_decides(value, error, verdict):
    subject = make_subject(counts=(40, 40, 40), may_borrow=True)

    finding = InsufficientData().judge(subject, lent_case(value, error))

    assert finding.verdict == verdict
    assert finding.evidence[0].kind == "held_out_rows_lent"
    assert finding.evidence[0].values["rows"] == [120, 480]
    assert finding.evidence[1].kind == "learning_curve"
    if verdict == "found":
        assert finding.gain.method == "paired retraining with held-out rows lent"
        assert "about 360 more" in finding.recommendation.text
        assert "120 training rows are too few" in finding.summary


def test_a_curve_that_promises_more_than_was_measured_is_not_believed():
    subject = make_subject(counts=(40, 40, 40), may_borrow=True)
    steep = lent_case(0.0, 0.005, half=-0.15)

    finding = InsufficientData().judge(subject, steep)

    assert finding.verdict == "not_found"
    assert finding.recommendation is None
    alone = replace(steep, gains={k: g for k, g in steep.gains.items() if k != LENT})
    assert InsufficientData().judge(subject, alone).verdict != "not_found"


@pytest.mark.parametrize(
    ("counts", "held_out", "lends"),
    [
        ((40, 40, 40), 600, True),
        ((40, 40, 40), 60, False),  # too few to tell anything
        ((400, 400, 400), 600, False),
    ],
)
def test_held_out_rows_are_lent_where_there_are_many_of_them(counts, held_out, lends):
    subject = make_subject(counts=counts, decide_rows=held_out, may_borrow=True)

    mends = {mend.key: mend for mend in InsufficientData().mends(subject, {})}

    assert (LENT in mends) is lends
    if lends:
        assert mends[LENT].patch == {"epochs": 10}  # as many updates from 480 as 120
        unknown = make_subject(counts=counts, decide_rows=held_out)
        assert LENT not in {m.key for m in InsufficientData().mends(unknown, {})}


@pytest.mark.parametrize(
    ("error", "verdict"), [(0.06, "inconclusive"), (0.004, "not_found")]
)
def test_a_flat_curve_of_few_rows_may_be_a_steep_one(error, verdict):
    def pair(value):
        return PairedGain(value=value, error=error, degrees=100, seeds=8)

    gains = {"subset=0.5": pair(0.0), "subset=0.25": pair(-0.04)}
    case = Case(measures={}, gains=gains, level=0.6)

    assert InsufficientData().judge(make_subject(), case).verdict == verdict


@pytest.mark.parametrize(
    ("half", "quarter", "verdict"),
    [(-0.2, -0.45, "inconclusive"), (-0.03, -0.09, "not_found")],
)
def test_a_part_of_the_rows_tells_only_where_twice_all_of_them_bring_little(
    half, quarter, verdict
):
    def pair(value):
        return PairedGain(value=value, error=0.004, degrees=100, seeds=2)

    subject = make_subject(counts=(4000, 4000, 4000))
    case = Case(
        measures={},
        gains={"subset=0.5": pair(half), "subset=0.25": pair(quarter)},
        subsample=3000,
    )

    finding = InsufficientData().judge(subject, case)

    assert finding.verdict == verdict
    [curve] = finding.evidence
    assert curve.values["rows"] == [750, 1500, 3000]


@pytest.mark.parametrize(
    ("counts", "verdict"), [((700, 300), "suspected"), ((900, 100), "found")]
)
def test_nearly_equal_classes_are_no_fault(counts, verdict):
    subject = make_subject(counts=counts)
    check = ClassImbalance()
    mend = check.mends(subject, {})[0]
    gain = PairedGain(value=0.07, error=0.01, degrees=100, seeds=8)
    trial = Trial(mend, gain, confirmed=True, decision="found", role="primary")

    finding = check.judge(subject, Case(measures={}, trial=trial))

    assert finding.verdict == verdict


@pytest.mark.parametrize(
    ("counts", "recalls", "verdict"),
    [
        ((900, 100), [0.99, 0.3], "found"),
        ((900, 100), [0.99, 0.7], "suspected"),
        ((700, 300), [0.99, 0.3], "suspected"),
        ((900, 100), [0.99, None], "suspected"),
    ],
)
def test_a_minority_that_is_hit_far_less_makes_a_small_gain_a_fault(
    counts, recalls, verdict
):
    subject = make_subject(counts=counts)
    check = ClassImbalance()
    mend = check.mends(subject, {})[0]
    gain = PairedGain(value=0.032, error=0.005, degrees=100, seeds=8)
    trial = Trial(mend, gain, confirmed=True, decision="found", role="primary")
    case = Case(measures={"delivered": {"recalls": recalls}}, trial=trial)

    assert check.judge(subject, case).verdict == verdict


@pytest.mark.parametrize(("relapses", "verdict"), [(0.0, "found"), (0.3, "suspected")])
def test_dead_weights_that_the_recipe_often_yields_are_the_recipes_fault(
    relapses, verdict
):
    case = Case(
        measures={"weights": {"dead": {"1:relu": 0.9}}},
        retrained=gain(0.4),
        relapses=lambda _: relapses,
    )

    finding = DegenerateWeights().judge(make_subject(), case)

    assert finding.verdict == verdict
    assert ("about 30 % of the trainings" in finding.summary) is (relapses > 0)


@pytest.mark.parametrize(("regained", "verdict"), [(0.1, "found"), (0.5, "suspected")])
def test_dead_weights_are_held_against_the_recipe_without_the_deliverys_other_faults(
    regained, verdict
):
    swapped = in_delivery(Cause.LABEL_ORDER_MISMATCH, regained)
    case = Case(
        measures={"weights": {"dead": {"1:relu": 0.9}}},
        retrained=gain(0.6),
        relapses=lambda regained: 0.2 if regained > 0.4 else 0.0,
        judged={Cause.LABEL_ORDER_MISMATCH: swapped},
    )

    assert DegenerateWeights().judge(make_subject(), case).verdict == verdict


@pytest.mark.parametrize(("cost", "verdict"), [(0.9, "not_found"), (0.6, "found")])
def test_a_form_that_wins_little_of_a_move_back_is_not_the_form(cost, verdict):
    moved = in_delivery(Cause.DISTRIBUTION_SHIFT, cost)
    case = Case(
        measures=in_form(0.4, "divide_255"),
        retrained=gain(0.4),
        judged={Cause.DISTRIBUTION_SHIFT: moved},
    )

    finding = PreprocessingMismatch().judge(make_subject(), case)

    assert finding.verdict == verdict
    assert ("they moved otherwise" in finding.summary) is (verdict == "not_found")


@pytest.mark.parametrize(
    ("on_train", "verdict"), [(0.97, "not_found"), (0.7, "found"), (None, "found")]
)
def test_what_a_move_costs_may_be_seen_in_the_gap_between_the_splits(on_train, verdict):
    """Of a subsample nothing else tells: blurred pictures, seven points of 35."""
    moved = in_delivery(Cause.DISTRIBUTION_SHIFT, 0.3).model_copy(update={"gain": None})
    measures = in_form(0.1, "divide_255")
    measures["delivered"] = {"train_balanced_accuracy": on_train}
    case = Case(
        measures=measures,
        retrained=gain(0.1),
        delivered=0.6,
        judged={Cause.DISTRIBUTION_SHIFT: moved},
    )

    assert PreprocessingMismatch().judge(make_subject(), case).verdict == verdict


@pytest.mark.parametrize(("lost", "shown"), [(None, None), (0.12, 0.12), (0.0, 0.0)])
def test_a_shift_costs_what_unseen_training_rows_are_judged_better_by(lost, shown):
    measures = {"shift": {"auc": {"value": 0.9}, "p_value": 1e-6, "features": []}}
    better = None if lost is None else gain(lost)
    case = Case(measures=measures, better_on_spared=better)

    finding = DistributionShift().judge(make_subject(), case)

    assert finding.verdict == "found"
    assert (finding.gain.value if finding.gain else None) == shown
    assert ("costs 12.0 points" in finding.summary) is (lost == 0.12)


@pytest.mark.parametrize(
    ("lost", "verdict"), [(0.1, "suspected"), (0.05, "not_found"), (0.16, "suspected")]
)
def test_what_training_anew_may_bring_is_not_called_sound(lost, verdict):
    """Weights of a sampler that overdid it: ten points, which ten seeds leave open."""
    wide = PairedGain(value=lost, error=0.035, degrees=20.0, seeds=10)
    case = Case(measures={"weights": {"parameters": 9}}, retrained=wide)

    finding = DegenerateWeights().judge(make_subject(), case)

    assert finding.verdict == verdict
    assert ("too close to call" in finding.summary) is (lost == 0.1)


@pytest.mark.parametrize(
    ("auc", "severity"), [(0.95, "critical"), (0.65, "minor")], ids=["plain", "slight"]
)
def test_a_plain_move_is_as_grave_as_the_gap_between_the_splits(auc, severity):
    """Pictures off their centre, .16 of .97, of a subsample that measures no cost."""
    case = Case(
        measures={
            "shift": {"auc": {"value": auc}, "p_value": 1e-6, "features": []},
            "delivered": {"train_balanced_accuracy": 0.97},
        },
        delivered=0.16,
    )

    finding = DistributionShift().judge(make_subject(), case)

    assert (finding.verdict, finding.severity) == ("found", severity)


def test_a_network_without_hidden_layers_is_given_some_that_can_learn():
    shape = replace(network("none"), smallest_width=None)

    [mend] = InsufficientCapacity().mends(make_subject(network=shape), {})

    assert mend.changes[0].least == 32
    assert mend.evident


def test_fresh_weights_are_not_called_sound_where_nothing_was_trained():
    case = Case(measures={"weights": {"untouched": {"0.weight": 1.0}}}, retrained=None)

    finding = DegenerateWeights().judge(make_subject(), case)

    assert finding.verdict == "inconclusive"
    assert "look as freshly initialised" in finding.summary
    assert "is not known" in finding.summary


def test_a_shift_that_favours_held_out_rows_has_no_gain():
    measures = {"shift": {"auc": {"value": 0.9}, "p_value": 1e-6, "features": []}}
    case = Case(measures=measures, better_on_spared=gain(-0.37))

    finding = DistributionShift().judge(make_subject(), case)

    assert finding.verdict == "found"
    assert finding.gain is None


@pytest.mark.parametrize(
    ("auc", "p_value", "lost", "verdict"),
    [
        (0.61, 0.5, 0.003, "suspected"),
        (0.8, 0.5, 0.003, "found"),  # plainly
        (0.61, 1e-4, 0.003, "found"),  # by a feature
        (0.61, 0.5, 0.06, "found"),  # it may cost
    ],
)
def test_a_slight_move_that_no_feature_and_no_score_shows_is_only_suspected(
    auc, p_value, lost, verdict
):
    """Pictures put together of common halves: no independent draws."""
    values = {
        "auc": {"value": auc},
        "p_value": 1e-9,
        "features": [{"name": "mean", "p_value": p_value}],
        "impact": {"value": 0.0, "low": -0.003, "high": lost},
    }

    finding = DistributionShift().judge(
        make_subject(), Case(measures={"shift": values})
    )

    assert finding.verdict == verdict
    assert ("most of all mean" in finding.summary) is (p_value < 0.05)


def test_labels_are_doubted_where_classes_moved_and_inputs_did_not():
    values = {
        "auc": {"value": 0.7},
        "p_value": 1e-6,
        "label_shift": {"p_value": 1e-9, "distance": 0.3},
        "any_class": {"value": 0.51, "p_value": 0.4},
    }
    check, subject = DistributionShift(), make_subject()

    alike = check.judge(subject, Case(measures={"shift": values}))
    moved = check.judge(
        subject,
        Case(
            measures={"shift": {**values, "any_class": {"value": 0.7, "p_value": 0.0}}}
        ),
    )

    told = check.judge(
        subject, Case(measures={"shift": values, "noise": {"by_held_out": True}})
    )
    perhaps = {**values, "any_class": {"value": 0.6, "p_value": 0.01}}
    few_rows = check.judge(
        subject, Case(measures={"shift": perhaps}, better_on_spared=gain(0.16))
    )
    assert few_rows.verdict == "suspected"
    assert few_rows.severity == "minor"  # whatever lacks on held-out rows
    assert "labels of one may be wrong" not in few_rows.summary

    assert alike.verdict == "suspected"
    assert "labels of one may be wrong" in alike.summary
    assert moved.verdict == "found"
    assert told.verdict == "not_found"
    assert "wrong training labels moved it" in told.summary
    advice = [f.recommendation and f.recommendation.text for f in (alike, moved, told)]
    assert advice == [
        "Compare how the labels of both parts were given.",
        (
            "Train on data like those that the model meets; look first at the features "
            "that moved most."
        ),
        None,
    ]


def test_a_layer_that_was_never_trained_is_found_where_the_recipe_yields_more():
    weights = {"untouched": {"9.weight": 0.05}}
    weak = {"value": 0.24, "standard_error": 0.02}
    measures = {"weights": weights, "label_order": {"gain": weak}}
    check, subject = DegenerateWeights(), make_subject()

    forgotten = check.judge(subject, Case(measures=measures, retrained=gain(0.87)))
    sound = check.judge(subject, Case(measures=measures, retrained=gain(0.0)))

    assert forgotten.verdict == "found"
    assert "9.weight" in forgotten.summary
    assert sound.verdict == "not_found"


@pytest.mark.parametrize(
    ("left_so", "verdict"),
    [(["0.weight", "3.weight"], "suspected"), (["0.weight"], "found"), ([], "found")],
)
def test_layers_that_the_recipe_leaves_as_they_were_drawn_are_no_sign(left_so, verdict):
    weights = {"untouched": {"0.weight": 0.6, "3.weight": 0.4}}
    case = Case(
        measures={"weights": weights},
        retrained=gain(0.1),
        baseline={f"{UNTOUCHED}{name}": 1.0 for name in left_so},
    )

    finding = DegenerateWeights().judge(make_subject(), case)

    assert finding.verdict == verdict
    assert ("0.weight" in finding.summary) is (left_so == [])


@pytest.mark.parametrize(
    ("brings", "relapses", "verdict"),
    [
        (0.4, 0.0, "found"),
        (0.1, 0.0, "suspected"),
        (0.4, 0.2, "suspected"),
        (0.4, 0.026, "suspected"),  # an unlucky run of an unstable recipe
    ],
)
def test_weights_that_do_far_worse_than_the_recipe_yields_need_no_other_sign(
    brings, relapses, verdict
):
    case = Case(
        measures={"weights": {"untouched": {}}},
        retrained=gain(brings),
        relapses=lambda _: relapses,
    )

    finding = DegenerateWeights().judge(make_subject(), case)

    assert finding.verdict == verdict
    assert ("may end as low by chance" in finding.summary) is (relapses > 0)


@pytest.mark.parametrize(
    ("sign", "verdict"),
    [
        ({"untouched_norms": ["n"]}, "found"),
        ({"constant": ["a.weight"]}, "found"),
        ({"zeros": {"a.weight": 0.6, "b.weight": 0.97}}, "found"),
        ({"dead": {"1:relu": 0.9}}, "not_found"),
    ],
)
def test_exact_values_that_no_training_leaves_need_less_proof(sign, verdict):
    weak = PairedGain(value=0.054, error=0.016, degrees=1e6, seeds=8)
    case = Case(measures={"weights": sign}, retrained=weak)

    assert DegenerateWeights().judge(make_subject(), case).verdict == verdict


@pytest.mark.parametrize(("best", "verdict"), [(0.5, "suspected"), (0.2, "not_found")])
def test_exact_values_that_a_broken_recipe_hides_are_not_called_sound(best, verdict):
    case = Case(
        measures={"weights": {"zeros": {"0.weight": 1.0}}},
        retrained=gain(-0.01),
        arms={
            "baseline": {"balanced_accuracy": 0.17},
            "a": {"balanced_accuracy": best},
        },
        delivered=0.17,
    )

    finding = DegenerateWeights().judge(make_subject(), case)

    assert finding.verdict == verdict
    assert "100 % of the values of 0.weight are exactly 0" in finding.summary
    assert finding.gain is None


@pytest.mark.parametrize(
    "signs",
    [
        {"untouched": {}},
        {"untouched": {"0.weight": 0.2}},
        {"untouched": {"0.weight": 1.0}},
    ],
)
@pytest.mark.parametrize("reached", [0.9, 0.55])
def test_what_another_order_of_the_outputs_brings_back_is_no_fault_of_the_weights(
    signs, reached
):
    order = {
        "gain": {"value": reached - 0.1, "standard_error": 0.02},
        "permutation": [1, 2, 0],
        "after": reached,
    }
    case = Case(
        measures={"weights": signs, "label_order": order},
        retrained=gain(0.87),
        arms={"baseline": {"balanced_accuracy": 0.97}},
    )
    subject = make_subject()
    other = LabelOrderMismatch().judge(subject, case)
    weights = DegenerateWeights().judge(
        subject, replace(case, judged={other.cause: other})
    )

    # Exactly one of them takes the blame; neither leaves it to the other.
    assert (other.verdict == "found") is (reached == 0.9)
    assert (weights.verdict in {"found", "suspected"}) is (reached == 0.55)


@pytest.mark.parametrize(("a_class", "verdict"), [(15, "found"), (400, "suspected")])
def test_a_steep_curve_is_enough_where_a_class_holds_few_samples(a_class, verdict):
    def pair(value):
        return PairedGain(value=value, error=0.004, degrees=100, seeds=8)

    case = Case(
        measures={}, gains={"subset=0.5": pair(-0.07), "subset=0.25": pair(-0.19)}
    )
    subject = make_subject(counts=(a_class,) * 3)

    finding = InsufficientData().judge(subject, case)

    assert finding.gain is not None
    assert 0.03 <= finding.gain.value < 0.05
    assert finding.verdict == verdict


@pytest.mark.parametrize(
    ("kinds", "blind", "keys", "controlled"),
    [
        (("linear",), True, ["conv reference", "conv reference, lr÷10"], True),
        (("attention", "linear"), False, [], None),
        (("attention", "linear"), None, [], None),
        (
            ("attention", "linear"),
            True,
            ["conv reference", "conv reference, lr÷10"],
            False,
        ),
    ],
)
def test_attention_is_doubted_only_where_it_tells_no_order(
    kinds, blind, keys, controlled
):
    shape = replace(network("none"), layer_kinds=kinds)
    subject = make_subject(kind="series", network=shape)

    mends = UnsuitableLayers().mends(subject, {"order": {"blind": blind}})

    assert [mend.key for mend in mends] == keys
    if mends:
        assert bool(mends[0].control) is controlled
        assert ("positions of the steps" in mends[0].text) is not controlled


@pytest.mark.parametrize(("norms", "verdict"), [([], "found"), (["1"], "not_found")])
def test_norms_that_saw_no_data_are_no_other_form_of_the_inputs(norms, verdict):
    measures = {**in_form(0.5, "standardize"), "weights": {"untouched_norms": norms}}
    case = Case(measures=measures, retrained=gain(0.5), delivered=0.45)

    finding = PreprocessingMismatch().judge(make_subject(counts=(300, 300)), case)

    assert finding.verdict == verdict
    assert ("figures of no data" in finding.summary) is bool(norms)


def test_a_recurrent_layer_of_which_the_first_output_is_read_is_doubted():
    shape = replace(network("none"), layer_kinds=("recurrent", "linear"))
    subject = make_subject(kind="tokens", network=shape)
    check, measures = UnsuitableLayers(), {"order": {"sees_only": "first"}}

    [mend, slower] = check.mends(subject, measures)
    trial = Trial(mend, gain(0.4), confirmed=True, decision="found", role="primary")
    finding = check.judge(subject, Case(measures=measures, trial=trial))

    assert (mend.key, slower.key) == (
        "recurrent reference",
        "recurrent reference, lr÷10",
    )
    assert not mend.control
    assert finding.verdict == "found"
    assert "sees only the first step" in finding.summary


@pytest.mark.parametrize("kind", ["table", "series"])
@pytest.mark.parametrize("recurrent", [False, True])
def test_layers_that_mix_samples_are_found_whatever_training_brings(kind, recurrent):
    kinds = ("recurrent", "linear") if recurrent else ("linear",)
    shape = replace(network("none"), layer_kinds=kinds)
    subject = make_subject(kind=kind, network=shape)
    measures = {
        "determinism": {
            "varies": True,
            "mixes": True,
            "company": {"changed": 0.125},
            "gain": {"value": 0.0, "standard_error": 0.01},
        }
    }
    check = UnsuitableLayers()
    mends = check.mends(subject, measures)

    finding = check.judge(subject, Case(measures=measures))
    left_on = TrainingModeLeftOn().judge(subject, Case(measures=measures))

    assert ("batch first" in [m.key for m in mends]) is recurrent
    assert finding.verdict == "found"
    assert "12.5 % of the answers change with the company" in finding.summary
    assert left_on.verdict == "not_found"
    assert "mix samples" in left_on.summary


def test_a_table_whose_samples_are_kept_apart_has_no_unsuitable_layers():
    subject, check = make_subject(), UnsuitableLayers()

    assert check.mends(subject, {}) == []
    assert check.judge(subject, Case(measures={})).verdict == "not_applicable"


@pytest.mark.parametrize(
    ("weights", "summary"),
    [
        ({}, "no numbers for 9.0 %"),
        ({"non_finite": {"0.weight": 3}}, "Values of 0.weight are not finite"),
    ],
)
def test_outputs_that_are_no_numbers_are_a_fault_whatever_they_score(weights, summary):
    order = {
        "gain": {"value": 0.4, "standard_error": 0.01},
        "permutation": [1, 0, 2],
        "after": 0.9,
    }
    measures = {
        "weights": {"untouched": {}, **weights},
        "delivered": {"spoiled": 0.09},
        "label_order": order,
    }
    case = Case(measures=measures, retrained=gain(0.3))

    finding = DegenerateWeights().judge(make_subject(), case)

    assert finding.verdict == "found"
    assert summary in finding.summary
    rate = mend(Cause.LEARNING_RATE_TOO_HIGH, RecipeChange(patch={"epochs": 2}))
    astray = Trial(rate, gain(0.2), confirmed=True, decision="found", role="primary")
    by_training = replace(case, trials={rate.cause: astray})
    if not weights:
        again = DegenerateWeights().judge(make_subject(), by_training)
        assert again.verdict == "suspected"
    measures["delivered"]["spoiled"] = 0.5
    told = LabelOrderMismatch().judge(make_subject(), case)
    assert told.verdict == "inconclusive"


@pytest.mark.parametrize("sign", [{"constant": ["0.weight"]}, {"non_finite": {"a": 1}}])
def test_weights_that_are_all_alike_are_to_be_drawn_at_random(sign):
    """The recipe as the author has it would make them all alike again."""
    case = Case(measures={"weights": sign}, retrained=gain(0.8), delivered=0.1)

    finding = DegenerateWeights().judge(make_subject(), case)

    assert finding.verdict == "found"
    is_alike = "constant" in sign
    assert ("random initial weights" in finding.recommendation.text) is is_alike


@pytest.mark.parametrize(
    ("slope", "says"), [(0.214, "still fell by 21.4 %."), (-0.001, "no longer fell.")]
)
def test_a_loss_that_does_not_fall_is_not_said_to(slope, says):
    case = Case(measures={}, baseline={"late_improvement": slope})

    finding = InsufficientTraining().judge(make_subject(), case)

    assert finding.evidence[0].statement.endswith(says)


@pytest.mark.parametrize(
    ("changed", "alone", "says"),
    [
        (0.0, True, "outputs depend on the other samples in the batch, and a sample"),
        (0.3, True, "30.0 % of its answers depend on chance or on the other samples"),
        (0.3, False, "samples in the batch. Evaluation mode brings +4.0 points."),
    ],
)
def test_what_a_model_in_training_mode_does_is_said_as_it_shows(changed, alone, says):
    values = {
        "varies": True,
        "company": {"changed": changed},
        "alone": {"needs_company": alone},
        "gain": {"value": 0.0 if alone else 0.04, "standard_error": 0.01},
    }

    finding = TrainingModeLeftOn().judge(
        make_subject(), Case(measures={"determinism": values})
    )

    assert finding.verdict == "found"
    assert says in finding.summary
    assert ("that comes alone gets none" in finding.summary) is alone
    assert ("brings" in finding.summary) is not alone


@pytest.mark.parametrize("baked", [True, False])
def test_dropout_that_no_mode_turns_off_is_told_apart(baked):
    values = {"varies": True, "repeat": {"changed": 0.3}, "baked_training": baked}

    finding = TrainingModeLeftOn().judge(
        make_subject(), Case(measures={"determinism": values})
    )

    assert finding.recommendation is not None
    assert ("training=self.training" in finding.recommendation.text) is baked


LIKE_TRAINING = {"told_apart": {"as_given": 1.0, "in_form": 0.51}}
FAR = {"shift": {"auc": {"value": 0.99, "low": 0.98}}}


@pytest.mark.parametrize(
    ("best", "told", "verdict"),
    [
        ("divide_255", LIKE_TRAINING, "found"),
        ("order(1 0 2)", LIKE_TRAINING, "found"),
        ("affine(0.33 0.3 0.35,-1 -1 -1)", LIKE_TRAINING, "found"),  # other units
        ("affine(0.9 1 1.1,-2 0 0.1)", LIKE_TRAINING, "suspected"),  # a drift
        ("divide_255", {"told_apart": {"as_given": 1.0, "in_form": 0.9}}, "not_found"),
        ("divide_255", {}, "not_found"),
    ],
)
def test_a_form_in_which_held_out_inputs_look_as_in_training_needs_no_more_proof(
    best, told, verdict
):
    """The weights are poor: by what they do in it nothing could be told."""
    measures = {**in_form(0.3, best), **FAR}
    measures["preprocessing"] |= told
    arms = {"activation=tanh": {"balanced_accuracy": 0.95}}
    case = Case(measures=measures, retrained=gain(0.0), delivered=0.25, arms=arms)

    finding = PreprocessingMismatch().judge(make_subject(counts=(300,) * 4), case)

    assert finding.verdict == verdict
    assert makes_up_for_a_move(finding) is (verdict == "suspected")
    if verdict == "suspected":
        assert "Where their form is to blame" in finding.summary
    kinds = [evidence.kind for evidence in finding.evidence]
    assert (AS_IN_TRAINING in kinds) is (verdict != "not_found")


@pytest.mark.parametrize(
    ("area", "before", "verdict"),
    [
        (0.98, 0.97, "not_found"),  # training rows are hit in the order as it is
        (0.6, 0.97, "found"),  # and so they are where labels alone were renumbered
        (0.98, 0.1, "found"),
    ],
)
def test_a_drift_that_makes_classes_look_like_others_is_no_order(area, before, verdict):
    order = {
        "gain": {"value": 0.3, "standard_error": 0.01},
        "permutation": [1, 0, 2],
        "after": 0.8,
        "train_before": before,
        "train_after": 1.0 - before,
    }
    measures = {"label_order": order, "shift": {"auc": {"value": area, "low": area}}}
    case = Case(measures=measures, retrained=gain(0.4), delivered=0.5)

    finding = LabelOrderMismatch().judge(make_subject(), case)

    assert finding.verdict == verdict
    assert ("lie elsewhere" in finding.summary) is (verdict == "not_found")


@pytest.mark.parametrize("kind", ["image", "series", "tokens"])
@pytest.mark.parametrize(("low", "tried"), [(0.7, True), (0.55, False)])
def test_layers_of_the_right_kind_are_doubted_where_a_cheap_learner_outdoes_them(
    kind, low, tried
):
    shape = replace(network("none"), layer_kinds=("conv", "recurrent", "linear"))
    subject = make_subject(kind=kind, network=shape)
    measures = {
        "delivered": {"balanced_accuracy": 0.6},
        "signal": {"balanced_accuracy": {"value": 0.8, "low": low}},
    }

    mends = UnsuitableLayers().mends(subject, measures)

    assert [m.evident for m in mends] == [False] * tried
    if tried:
        trial = Trial(mends[0], gain(0.2), confirmed=True, decision="found",
                      role="primary")  # fmt: skip
        case = Case(measures=measures, trial=trial)
        assert (
            "so do simple learners" in UnsuitableLayers().judge(subject, case).summary
        )


def codes_seen(gained: float = 0.1, low: float = 0.85, sizes=(3, 0, 4)):
    return {
        "codes": {
            "columns": 2,
            "sizes": list(sizes),
            "numbers": 0.8,
            "codes": 0.8 + gained,
            "gain": {"value": gained, "standard_error": 0.01},
            "level": {"value": 0.8 + gained, "low": low},
        },
        "delivered": {"balanced_accuracy": 0.82},
    }


@pytest.mark.parametrize(
    ("measures", "tried"),
    [
        (codes_seen(), True),
        (codes_seen(gained=0.01), False),
        (codes_seen(low=0.8), False),  # the delivered model does as well
        ({"codes": {"sizes": [], "gain": None, "level": None}}, False),
        ({}, False),
    ],
)
def test_codes_are_looked_up_where_that_tells_more_than_the_network_knows(
    measures, tried
):
    mends = UnsuitableLayers().mends(make_subject(), measures)

    assert bool(mends) is tried
    if tried:
        [one] = mends
        assert one.changes[0].codes == (3, 0, 4)
        assert one.control[0].to == "dense"
        trial = Trial(one, gain(0.1), confirmed=True, decision="found", role="primary")
        case = Case(measures=measures, trial=trial)
        finding = UnsuitableLayers().judge(make_subject(), case)
        assert finding.verdict == "found"
        assert "codes of categories for quantities" in finding.summary
        assert "2 columns may hold codes" in finding.evidence[0].statement


@pytest.mark.parametrize(
    ("kinds", "low", "blind", "tried"),
    [
        (("norm", "linear"), 0.7, False, True),
        (("norm", "linear"), 0.55, False, False),
        (("linear", "activation"), 0.7, False, False),  # it is plain already
        (("linear", "activation"), 0.7, True, True),  # of a set of columns
    ],
)
def test_what_is_more_than_dense_must_not_be_outdone_on_a_table(
    kinds, low, blind, tried
):
    """A norm over two features leaves nothing of them but which is greater."""
    subject = make_subject(network=replace(network("none"), layer_kinds=kinds))
    measures = {
        "delivered": {"balanced_accuracy": 0.6},
        "signal": {"balanced_accuracy": {"value": 0.8, "low": low}},
        "order": {"blind": blind},
    }
    check = UnsuitableLayers()

    mends = check.mends(subject, measures)

    assert [m.key for m in mends] == ["dense reference"] * tried
    untried = Case(measures=measures, gaps={"dense reference": "no time"})
    verdict = check.judge(subject, untried).verdict
    assert verdict == ("inconclusive" if tried else "not_applicable")
    if tried:
        trial = Trial(mends[0], gain(0.2), confirmed=True, decision="found",
                      role="primary")  # fmt: skip
        finding = check.judge(subject, Case(measures=measures, trial=trial))
        assert finding.verdict == "found"
        said = "columns in any order" if blind else "lose what plain dense ones see"
        assert said in finding.summary


@pytest.mark.parametrize("codes", [{}, {"codes": {"numbers": None, "codes": None}}])
def test_a_table_without_codes_has_no_use_for_other_layers(codes):
    finding = UnsuitableLayers().judge(make_subject(), Case(measures=codes))

    assert finding.verdict == "not_applicable"


@pytest.mark.parametrize(
    ("given", "eps"), [("rmsprop", 1.0), ("rmsprop", 1e-8), ("adam", 1.0)]
)
def test_another_optimiser_is_advised_with_all_that_the_experiment_set(given, eps):
    recipe = Recipe(
        optimizer=Optimizer(name=given, lr=1e-3, eps=eps),
        loss=Loss(name="cross_entropy"),
        epochs=10,
    )

    mends = UnsuitableOptimizer().mends(make_subject(recipe=recipe), {})

    by_key = {m.key: m for m in mends if m.key.startswith("optimizer=")}
    sgd = by_key["optimizer=sgd, lr=0.1"]
    assert sgd.patch == {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9}}
    assert sgd.text.endswith("and a momentum of 0.9")
    if given == "rmsprop":
        adam = by_key["optimizer=adam, lr=0.001"].patch["optimizer"]
        assert adam.get("eps") == (1e-8 if eps == 1.0 else None)


@pytest.mark.parametrize(
    ("count", "inflation", "verdict"),
    [(23, 0.002, "suspected"), (23, 0.02, "found"), (50, 0.0, "found")],
)
def test_a_few_rows_in_both_splits_that_flatter_nothing_are_suspected(
    count, inflation, verdict
):
    part = {"count": count, "share": count / 500, "low": 0.7 * count / 500}
    none = {"count": 0, "share": 0.0, "low": 0.0}
    values = {"exact": part, "near": none, "turned": none, "inflation": inflation}

    finding = SplitLeakage().judge(make_subject(), Case(measures={"leakage": values}))

    assert finding.verdict == verdict


@pytest.mark.parametrize(
    ("share", "tried"), [(0.5, True), (0.05, False), (None, False)]
)
@pytest.mark.parametrize("normalization", ["none", "standardize"])
def test_features_with_long_tails_are_ranked(share, tried, normalization):
    given = make_subject().given.model_copy(update={"normalization": normalization})
    measures = {"inputs": {"scale": {"long_tailed": share}}}

    mends = UnscaledInputs().mends(make_subject(recipe=given), measures)

    keys = [mend.key for mend in mends]
    assert ("normal scores" in keys) is tried
    assert ("standardize" in keys) is (normalization == "none")
