"""What a person reads: no bare identifier, no riddle, no contradiction."""

import pytest

from service.contract.recipe import Loss, Optimizer, Recipe
from tests.builders_engine import make_subject
from worker.engine.check import Case, Mend, Trial
from worker.engine.checks.label_order_mismatch import LabelOrderMismatch
from worker.engine.checks.preprocessing_mismatch import PreprocessingMismatch
from worker.engine.checks.unsuitable_loss import UnsuitableLoss
from worker.engine.probes.transforms import TRANSFORMS
from worker.engine.stats.pairs import PairedGain
from worker.engine.subject import NetworkShape
from worker.engine.wording import FORMS, counted, figure, form_words, listed


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
    assert "take their logarithm (torch.log) and use NLLLoss" in text
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


def made_trial(mend: Mend, alone: PairedGain, **fields) -> Trial:
    given = {"confirmed": True, "decision": "inconclusive", "adjusted_p": 0.001}
    return Trial(mend=mend, gain=alone, **(given | fields))
