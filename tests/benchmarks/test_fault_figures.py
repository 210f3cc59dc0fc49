"""The figures of merit count what they say they count."""

import pytest

from benchmarks.faults import figures
from benchmarks.faults.figures import Share


def make_row(**fields):
    row = {
        "case": "seeded/x",
        "causes": ["learning_rate_too_low"],
        "equivalents": ["insufficient_training"],
        "found": [],
        "primary": None,
        "equivalent": [],
        "explained_by": {},
        "findings": {},
        "hidden_before": 0.5,
    }
    return {**row, **fields}


def test_the_interval_is_clopper_and_pearsons():
    low, high = Share(3, 60).interval()

    # Tables of the exact binomial interval: 3 of 60 gives 1.04 % to 13.92 %.
    assert low == pytest.approx(0.0104, abs=1e-4)
    assert high == pytest.approx(0.1392, abs=1e-4)


def test_no_alarm_at_all_still_has_an_upper_bound():
    assert Share(0, 60).interval() == pytest.approx((0.0, 0.0596), abs=1e-4)


def test_an_equivalent_is_right_only_where_equivalents_are_accepted():
    row = make_row(found=["insufficient_training"], primary="insufficient_training")

    assert figures.primary([row]) == Share(0, 1)
    assert figures.primary_with_equivalents([row]) == Share(1, 1)
    assert figures.recall([row]) == Share(0, 1)
    assert figures.recall_with_equivalents([row]) == Share(1, 1)
    assert figures.precision([row]) == Share(0, 1)
    assert figures.precision_with_equivalents([row]) == Share(1, 1)


def test_a_wrong_cause_is_wrong_however_equivalents_are_counted():
    row = make_row(found=["label_noise"], primary="label_noise")

    assert figures.primary_with_equivalents([row]) == Share(0, 1)
    assert figures.recall_with_equivalents([row]) == Share(0, 1)
    assert figures.precision_with_equivalents([row]) == Share(0, 1)


def test_a_wrong_primary_does_not_excuse_what_it_is_called_equivalent_to():
    row = make_row(
        found=["label_noise", "excess_capacity"],
        primary="label_noise",
        equivalent=["excess_capacity"],
    )

    assert figures.precision_with_equivalents([row]) == Share(0, 2)


def test_what_the_referee_confirmed_on_the_mended_program_is_no_wrong_name():
    row = make_row(case="drawn/1/000", found=["insufficient_data"])
    confirmed = {"drawn/1/000": ["insufficient_data"]}

    assert figures.precision_confirmed([row], confirmed) == Share(1, 1)
    assert figures.precision_confirmed([row], {}) == Share(0, 1)
    assert figures.primary_with_equivalents([row]) == Share(0, 1)


def test_a_finding_on_a_control_is_an_alarm_unless_the_referee_confirmed_it():
    row = make_row(case="controls/x", causes=[], found=["insufficient_data"])

    assert figures.false_alarms([row]) == Share(1, 1)
    confirmed = {"controls/x": ["insufficient_data"]}
    assert figures.unconfirmed_alarms([row], confirmed) == Share(0, 1)
    assert figures.unconfirmed_alarms([row], {}) == Share(1, 1)


def test_no_repaired_model_recovers_nothing():
    assert figures.recovered_share(make_row(), 0.9) == 0.0


def test_a_broken_repaired_model_recovers_nothing():
    row = make_row(hidden_after="RuntimeError: shape")

    assert figures.recovered_share(row, 0.9) == 0.0


def test_the_recovered_share_is_of_the_best_known_gain():
    row = make_row(hidden_after=0.86)

    assert figures.recovered_share(row, 0.9) == pytest.approx(0.9)


def test_nothing_is_recoverable_where_mending_gains_nothing():
    assert figures.recovered_share(make_row(), 0.52) is None


def test_confidence_is_binned_with_how_often_it_was_right():
    row = make_row(
        findings={
            "learning_rate_too_low": {"verdict": "found", "confidence": 0.975},
            "label_noise": {"verdict": "found", "confidence": 0.975},
            "class_imbalance": {"verdict": "inconclusive", "confidence": 0.975},
            "corrupted_inputs": {"verdict": "not_found", "confidence": 0.975},
        }
    )

    [found] = figures.calibration([row], "found")

    assert (found.low, found.high) == (0.97, 0.98)
    assert found.right == Share(1, 2)
    assert found.mean == pytest.approx(0.975)


def test_certainty_itself_falls_into_a_bin():
    row = make_row(
        findings={"learning_rate_too_low": {"verdict": "found", "confidence": 1.0}}
    )

    [found] = figures.calibration([row], "found")

    assert found.right == Share(1, 1)
