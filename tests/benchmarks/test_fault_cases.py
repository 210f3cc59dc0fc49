"""The list of cases is as broad and as fair as the README says."""

from collections import Counter

import numpy as np
import pytest

from benchmarks.faults.case_list import SHORT, every_case
from benchmarks.faults.cases.bases import half_of_data
from benchmarks.faults.cases.drawn import drawn_cases
from benchmarks.faults.data_spoils import SPOILS, spoil
from benchmarks.faults.program import Sketch
from benchmarks.faults.splits import draw
from benchmarks.faults.verify import as_measured
from service.contract.causes import Cause

CASES = every_case()
WINE = Sketch(data="wine")
SEEN_ONLY_IN_TRAINING = (
    "label_noise",
    "label_flip_to_next",
    "label_noise_everywhere",
    "imbalance",
    "blank",
    "leak",
)


def test_names_are_unique():
    counts = Counter(case.name for case in CASES)

    assert [name for name, count in counts.items() if count > 1] == []


def test_every_cause_is_planted_in_both_halves():
    planted = {(cause, case.half) for case in CASES for cause in case.causes}

    missing = [
        (cause.value, half)
        for cause in Cause
        for half in ("tuning", "held_out")
        if (cause, half) not in planted
    ]
    assert missing == []


def test_no_seeded_data_set_stands_in_both_halves():
    for case in CASES:
        if case.suite != "open":
            assert case.half == half_of_data(case.sketch.data), case.name


def test_there_are_more_than_sixty_controls():
    assert sum(case.is_healthy for case in CASES) > 60


def test_the_short_form_names_ten_cases_that_exist():
    assert len(SHORT) == 10
    assert set(SHORT) <= {case.name for case in CASES}


def test_every_fault_that_gains_has_a_mended_twin():
    without = [
        case.name
        for case in CASES
        if case.causes and case.criterion == "gain" and not case.mended
    ]

    assert without == []


def test_no_planted_cause_is_also_listed_as_its_own_equivalent():
    for case in CASES:
        assert not set(case.causes) & set(case.equivalents), case.name


def test_parts_of_a_data_set_share_no_row():
    material = draw(WINE)

    rows = np.concatenate([material.train.x, material.val.x, material.hidden.x])
    assert len(np.unique(rows, axis=0)) == len(rows)


@pytest.mark.parametrize("name", SEEN_ONLY_IN_TRAINING)
def test_what_spoils_training_leaves_hidden_rows_alone(name):
    material = draw(WINE)

    spoiled = spoil(material, ((name, 0.5 if name != "imbalance" else 5.0),))

    assert np.array_equal(spoiled.hidden.x, material.hidden.x)
    assert np.array_equal(spoiled.hidden.y, material.hidden.y)
    before, after = material.train, spoiled.train
    changed = (
        len(before.y) != len(after.y)
        or not np.array_equal(before.x, after.x)
        or not np.array_equal(before.y, after.y)
    )
    assert changed or not np.array_equal(spoiled.val.x, material.val.x)


@pytest.mark.parametrize("name", sorted(SPOILS))
def test_spoils_are_the_same_every_time(name):
    strength = 5.0 if name == "imbalance" else 0.5

    first = spoil(draw(WINE), ((name, strength),))
    second = spoil(draw(WINE), ((name, strength),))

    for part in ("train", "val", "hidden"):
        one, other = getattr(first, part), getattr(second, part)
        assert np.array_equal(one.x, other.x, equal_nan=True)
        assert np.array_equal(one.y, other.y)


def test_label_noise_replaces_the_asked_share():
    material = draw(WINE)

    spoiled = spoil(material, (("label_noise", 0.2),))

    wrong = np.mean(spoiled.train.y != material.train.y)
    assert wrong == pytest.approx(0.2, abs=1 / len(material.train.y))


def test_repairing_takes_sentinels_and_missing_values_out():
    material = draw(WINE)

    for kind in ("sentinels", "missing", "outliers"):
        spoiled = spoil(material, ((kind, 0.2), ("repaired_by_median", 0.0)))
        assert np.isfinite(spoiled.train.x).all()
        assert np.abs(spoiled.train.x).max() < 50


def test_of_two_faults_that_interact_each_is_also_mended_alone():
    pairs = [case for case in CASES if "/interaction/" in case.name]

    assert {case.half for case in pairs} == {"tuning", "held_out"}
    for case in pairs:
        [sound] = case.mended
        fields = {
            name
            for name, value in vars(case.sketch).items()
            if value != getattr(sound, name)
        }
        assert len(case.causes) == 2, case.name
        left = [
            {n for n in fields if getattr(single, n) == getattr(case.sketch, n)}
            for single in case.singles[:2]
        ]
        assert left[0] | left[1] == fields, case.name
        assert not left[0] & left[1], case.name


DRAWN = drawn_cases(0, 60)


def test_a_draw_is_the_same_again_and_another_is_another():
    assert drawn_cases(0, 60) == DRAWN
    assert drawn_cases(1, 60) != DRAWN


def test_drawn_programs_hold_none_one_and_several_faults():
    counts = Counter(len(case.causes) for case in DRAWN)

    assert {0, 1, 2, 3} == set(counts)
    assert len({cause for case in DRAWN for cause in case.causes}) > 12


def test_mending_all_but_one_fault_of_a_drawn_program_leaves_that_one():
    for case in DRAWN:
        assert [cause for cause, _ in case.lacking] == list(case.causes)
        for _, sketch in case.lacking:
            assert sketch not in case.mended, case.name
            assert (sketch == case.sketch) is (len(case.causes) == 1), case.name


def test_token_ids_are_drawn_no_fault_of_numbers():
    tokens = [c for c in drawn_cases(2, 200) if c.sketch.family == "tokens"]
    done = {kind for case in tokens for kind, _ in case.sketch.spoils}
    done |= {kind for case in tokens for kind, _ in case.sketch.delivery}

    assert len(tokens) > 5
    assert all(kind.startswith("label") or kind == "imbalance" for kind in done), done


def test_what_proves_harmless_in_a_drawn_program_may_be_named_but_need_not():
    [case] = [case for case in DRAWN if len(case.causes) == 3][:1]
    first, *others = case.causes

    measured = as_measured(case, {"needed": [first.value]})

    assert measured.causes == (first,)
    assert set(others) <= set(measured.equivalents)
    assert as_measured(case, {}) == case
