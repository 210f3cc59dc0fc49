"""Calibration error and macro F1, on models whose truth is known."""

from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import f1_score

from worker.engine.stats.calibration import calibration, macro_f1


def test_a_calibrated_model_has_little_error_despite_noise():
    rng = np.random.default_rng(0)
    errors, includes_zero = [], 0

    for _ in range(100):
        confidence = rng.uniform(0.5, 1, 400)
        result = calibration(confidence, rng.random(400) < confidence)
        errors.append(result.error.value)
        includes_zero += result.error.low == 0

    # The plain estimate of 10 bins of 40 rows averages 0.053.
    assert np.mean(errors) < 0.04
    assert includes_zero >= 90


def test_the_interval_covers_a_known_error():
    rng = np.random.default_rng(1)
    covered = 0

    for _ in range(200):
        confidence = rng.uniform(0.6, 1, 600)
        result = calibration(confidence, rng.random(600) < confidence - 0.15)
        assert result.error.low is not None
        assert result.error.high is not None
        covered += result.error.low <= 0.15 <= result.error.high

    assert covered / 200 >= 0.9


def test_bins_hold_every_row_once_and_stay_in_order():
    rng = np.random.default_rng(2)
    confidence = np.concatenate([np.ones(300), rng.uniform(0.3, 1, 200)])

    bins = calibration(confidence, rng.random(500) < 0.8).bins

    assert sum(one.n for one in bins) == 500
    assert all(a.high <= b.low for a, b in pairwise(bins))
    assert all(one.low <= one.confidence <= one.high for one in bins)


def test_no_rows_have_no_calibration():
    assert calibration(np.array([]), np.array([], dtype=bool)).error.value is None


def test_macro_f1_agrees_with_scikit_learn():
    rng = np.random.default_rng(3)
    y = rng.integers(0, 4, 300)
    predicted = np.where(rng.random(300) < 0.7, y, rng.integers(0, 4, 300))

    interval = macro_f1(predicted, y)

    assert interval.value == pytest.approx(f1_score(y, predicted, average="macro"))
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low < interval.value < interval.high


def test_an_answer_that_never_occurs_as_label_counts_as_an_error():
    y, predicted = np.array([0, 0, 1, 1]), np.array([0, 7, 1, 1])

    interval = macro_f1(predicted, y)

    assert interval.value == pytest.approx((2 / 3 + 1) / 2)


def test_macro_f1_covers_and_a_perfect_model_is_not_certain():
    rng = np.random.default_rng(4)
    y = np.repeat([0, 1], (150, 50))
    big = np.repeat([0, 1], (150_000, 50_000))
    wrong = rng.random(200_000) < 0.2
    truth = f1_score(big, np.where(wrong, 1 - big, big), average="macro")
    covered = 0

    for _ in range(150):
        flipped = np.where(rng.random(200) < 0.2, 1 - y, y)
        interval = macro_f1(flipped, y, resamples=400)
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= truth <= interval.high
    perfect = macro_f1(y, y)

    assert covered / 150 >= 0.9
    assert perfect.value == 1.0
    assert perfect.low is not None
    assert perfect.low < 0.99
