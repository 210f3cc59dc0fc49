"""What a person reads: no bare identifier, no riddle, no contradiction."""

import pytest

from service.contract.causes import Cause
from service.contract.recipe import Loss, Optimizer, Recipe
from tests.builders_engine import make_subject
from worker.engine.check import Case, Mend, Trial, judge_gain
from worker.engine.checks.class_imbalance import ClassImbalance
from worker.engine.checks.corrupted_inputs import CorruptedInputs
from worker.engine.checks.insufficient_data import HALF, QUARTER, InsufficientData
from worker.engine.checks.label_order_mismatch import LabelOrderMismatch
from worker.engine.checks.learning_rate_too_low import LearningRateTooLow
from worker.engine.checks.preprocessing_mismatch import PreprocessingMismatch
from worker.engine.checks.unscaled_inputs import UnscaledInputs
from worker.engine.checks.unsuitable_loss import UnsuitableLoss
from worker.engine.probes.transforms import TRANSFORMS
from worker.engine.stats.pairs import PairedGain
from worker.engine.subject import NetworkShape
from worker.engine.wording import FORMS, counted, figure, form_name, form_words, listed


def gain(value: float, error: float = 0.01, seeds: int = 8) -> PairedGain:
    return PairedGain(value=value, error=error, degrees=50, seeds=seeds)


def in_another_order(classes: int):
    order = [*range(1, classes), 0]
    values = {
        "gain": {"value": 0.8, "standard_error": 0.01},
        "permutation": order,
        "after": 0.9,
    }
    subject = make_subject(counts=(20,) * classes)
    case = Case(measures={"label_order": values}, delivered=0.1, retrained=gain(0.8))
    return LabelOrderMismatch().judge(subject, case), subject.data.class_names


def test_the_whole_order_of_the_outputs_is_spelt_out():
    found, names = in_another_order(7)

    [evidence] = found.evidence
    assert evidence.statement == (
        "7 of 7 outputs stand for another class. The class that each output stands "
        "for: " + ", ".join(f"{k}: {names[(k + 1) % 7]}" for k in range(7)) + "."
    )
    assert ", ".join([*names[1:], names[0]]) in found.recommendation.text
    assert "permutation" not in found.recommendation.text


def test_an_order_of_very_many_outputs_is_left_to_the_json():
    found, _ = in_another_order(60)

    [evidence] = found.evidence
    assert "`permutation` in the JSON report" in evidence.statement
    assert len(evidence.values["permutation"]) == 60


def test_every_form_of_the_inputs_has_words():
    assert set(FORMS) == set(TRANSFORMS)
    assert form_words("undo_standardize+divide_255") == (
        "undo the recipe's normalisation, then divide them by 255"
    )
    assert form_words("affine(0.0250001,-3)+invert") == (
        "multiply them by 0.025 and add -3, then turn light into dark and dark into "
        "light"
    )
    assert form_words("affine(2 0.5 1e9,0 -1 0.333333)") == (
        "multiply them by 2, 0.5 and 1e+09 and add 0, -1 and 0.333 by channel"
    )


def test_a_form_is_named_and_said_in_words():
    tried = {"identity": 0.2, "swap_channels": 0.61, "invert": 0.1}
    values = {
        "gain": {"value": 0.4, "standard_error": 0.01},
        "best": "swap_channels",
        "tried": tried,
    }
    case = Case(measures={"preprocessing": values}, delivered=0.2, retrained=gain(0.4))

    found = PreprocessingMismatch().judge(make_subject(), case)

    assert found.verdict == "found"
    for text in (found.summary, found.recommendation.text):
        assert "`swap_channels`" in text
        assert "reverse the order of the colour channels" in text
    assert found.evidence[0].statement == (
        "Balanced accuracy of the delivered model: 20.0 % as given, 61.0 % with "
        "`swap_channels`, 10.0 % with `invert`; 3 forms were tried."
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.30750494752702867, "0.308"),
        (441.41335138949347, "441"),
        (0.9999979590911545, "1"),
        (83512.7, "83500"),
        (1.5e-7, "1.5e-07"),
        (0.0, "0"),
    ],
)
def test_a_figure_has_three_digits(value, shown):
    assert figure(value) == shown


def test_things_are_counted_and_listed_as_in_a_sentence():
    assert counted(1, "pair") == "1 pair"
    assert counted(3, "pair") == "3 pairs"
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"


def made_trial(mend: Mend, alone: PairedGain, **fields) -> Trial:
    given = {"confirmed": True, "decision": "inconclusive", "adjusted_p": 0.001}
    return Trial(mend=mend, gain=alone, **(given | fields))


def with_loss(output: str, outputs: int = 3, **loss):
    network = NetworkShape(
        parameters=1000,
        layer_kinds=("linear", "activation", "linear"),
        activations=("relu",),
        output_activation=output,
        outputs=outputs,
        linear_stack=False,
        smallest_width=16,
    )
    recipe = Recipe(optimizer=Optimizer(name="sgd", lr=0.1), loss=Loss(**loss))
    counts = (300,) * outputs
    return make_subject(recipe=recipe, network=network, counts=counts)


@pytest.mark.parametrize(
    ("name", "output", "alternative"),
    [
        ("cross_entropy", "softmax", "drop the softmax and keep cross_entropy"),
        ("mse", "sigmoid", "drop the sigmoid and use cross_entropy"),
    ],
)
def test_probabilities_are_never_sent_into_an_nll_loss(name, output, alternative):
    tried = UnsuitableLoss().mends(with_loss(output, name=name), {})

    [text] = [m.text for m in tried if m.key == "loss=nll"]
    assert "take their logarithm, torch.log, and use NLLLoss" in text
    assert alternative in text


def test_where_the_activation_goes_the_loss_that_then_fits_is_named():
    tried = UnsuitableLoss().mends(with_loss("softmax", name="nll"), {})

    [text] = [m.text for m in tried if m.key == "softmax removed"]
    assert (
        text == "Remove the superfluous softmax before the loss and use cross_entropy"
    )


def test_class_weights_are_blamed_by_name():
    subject = with_loss("none", name="cross_entropy", class_weights=[0.01, 1.0, 5.0])
    [mend] = UnsuitableLoss().mends(subject, {})
    trial = made_trial(mend, gain(0.31), role="primary", decision="found")

    finding = UnsuitableLoss().judge(subject, Case(measures={}, trial=trial))

    assert finding.summary == (
        "The class weights of the loss do not fit the data. Drop the class weights: "
        "+31.0 points balanced accuracy."
    )
    assert "class weights lie between 0.01 and 5;" in finding.evidence[0].statement


RATE = Mend(
    cause=Cause.LEARNING_RATE_TOO_LOW,
    key="lr=0.01",
    text="Raise the learning rate from 0.001 to 0.01",
    changes=(),
)
LOSS = Cause.UNSUITABLE_LOSS


def judged(alone: PairedGain, **fields):
    case = Case(measures={}, trial=made_trial(RATE, alone, **fields))
    return judge_gain(LearningRateTooLow(), case, says="The rate is too low")


@pytest.mark.parametrize(
    ("extra", "said", "severity"),
    [
        (0.034, "alone, +3.4 points more once “unsuitable loss” is mended.", "minor"),
        (0.003, "alone, but only +0.3 points more once", "minor"),
        (
            -0.25,
            "alone, but nothing more once “unsuitable loss” is mended (-25",
            "minor",
        ),
        (0.08, "alone, +8.0 points more once", "major"),
        (None, "what it adds once “unsuitable loss” is mended was not", "critical"),
    ],
)
def test_what_another_cause_explains_is_as_severe_as_what_is_left_of_it(
    extra, said, severity
):
    found = judged(
        gain(0.204),
        decision="found",
        role="explained",
        explained_by=LOSS,
        on_top=None if extra is None else gain(extra),
    )

    assert found.verdict == "suspected"
    assert found.severity == severity
    assert found.summary.startswith(f"{RATE.text}: +20.4 points alone")
    assert said in found.summary
    assert "`" not in found.summary


def test_a_gain_that_nothing_confirmed_is_said_to_be_so():
    found = judged(gain(0.54, 0.08, seeds=1), confirmed=False)

    assert found.verdict == "inconclusive"
    assert "in 1 pair of first trainings. No fresh seeds confirmed that" in (
        found.summary
    )
    assert "over 1 pair of first trainings," in found.evidence[0].statement


def test_what_is_open_only_with_the_rest_mended_does_not_look_settled():
    found = judged(gain(-0.058, 0.007), on_top=gain(0.026, 0.008))

    assert "-5.8 points (-7.2 to -4.4); with the rest mended +2.6 points" in (
        found.summary
    )
    assert "too close to call" in found.summary


def test_a_mend_that_brings_nothing_is_not_called_mending():
    found = judged(gain(-0.047), decision="not_found")

    assert found.summary == (
        "Tried without a gain to speak of: Raise the learning rate from 0.001 to 0.01 "
        "(-4.7 points)."
    )


def test_classes_of_like_size_are_not_said_to_be_given_up():
    subject = make_subject(counts=(300, 120))
    check = ClassImbalance()
    mend = check.mends(subject, {})[0]
    trial = made_trial(mend, gain(0.054), role="primary", decision="found")

    found = check.judge(subject, Case(measures={}, trial=trial))

    assert found.verdict == "suspected"
    assert found.summary == (
        "The classes differ little in size (ratio 2.5). Draw balanced batches: +5.4 "
        "points balanced accuracy. This moves the threshold between them: a choice, "
        "not a cure."
    )


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((0.3075049, 0.3075049), "The deviation of the inputs is 0.308."),
        (
            (0.9999979, 441.41335),
            "The deviations of the features lie between 1 and 441.",
        ),
    ],
)
def test_the_scale_of_the_features_is_said_in_three_digits(ends, said):
    scale = {"smallest_std": ends[0], "largest_std": ends[1]}

    found = UnscaledInputs().judge(
        make_subject(), Case(measures={"inputs": {"scale": scale}})
    )

    assert found.evidence[0].statement == said


def test_a_prediction_at_its_bound_is_not_given_itself_as_upper_end():
    subset = {HALF: gain(-0.114, 0.01), QUARTER: gain(-0.244, 0.01)}
    case = Case(measures={}, gains=subset, level=0.9)

    found = InsufficientData().judge(make_subject(counts=(250, 250)), case)

    assert found.gain.high == pytest.approx(found.gain.value)
    assert "more than half of the error that is left is not expected" in found.summary


def test_the_odd_values_are_counted_by_kind():
    values = {"affected": 0.698, "sentinels": 2071, "non_finite": 0, "outliers": 1}

    found = CorruptedInputs().judge(make_subject(), Case(measures={"inputs": values}))

    assert found.evidence[0].statement.endswith(
        "or are blank: 2071 sentinels and 1 far-out value."
    )


def test_what_was_not_tried_for_lack_of_a_sign_is_said_to_be_so():
    found = UnscaledInputs().judge(make_subject(), Case(measures={}))

    assert found.summary == ("No sign of it, so nothing that could mend it was tried.")


def test_a_gain_of_nothing_has_no_minus():
    found = judged(gain(-0.0001), decision="not_found")

    assert "(+0.0 points)" in found.summary


def test_of_many_figures_a_sentence_names_the_kind_alone():
    many = "affine(1 2 3 4 5,0 0 0 0 0)"

    assert form_name(f"invert+{many}") == "invert+affine(…)"
    assert form_name("affine(1 2,0 0)") == "affine(1 2,0 0)"
    assert "its mean and deviation in training data" in form_words(many)
    assert form_words("order(1 0 2)") == (
        "put the columns in the order of the training data (1, 0, 2)"
    )
    assert form_words("order(1 0 2 3 4)").endswith("(1, 0, 2, 3, …)")
    assert form_name("order(1 0 2 3 4)") == "order(…)"
