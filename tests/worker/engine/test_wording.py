"""What a person reads: no bare identifier, no riddle, no contradiction."""

import pytest

from tests.builders_engine import make_subject
from worker.engine.check import Case
from worker.engine.checks.label_order_mismatch import LabelOrderMismatch
from worker.engine.checks.preprocessing_mismatch import PreprocessingMismatch
from worker.engine.probes.transforms import TRANSFORMS
from worker.engine.stats.pairs import PairedGain
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
