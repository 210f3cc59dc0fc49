"""Intervals cover the truth as often as they say, at the edges too."""

import numpy as np
import pytest

from worker.engine.stats.intervals import (
    area_under_curve,
    balanced_accuracy,
    clopper_pearson,
    mean_loss,
    paired_balanced_accuracy,
    unpaired_balanced_accuracy,
    wilson,
)

ROUNDS = 400
# Binomial noise of 400 rounds around 0.95 has a deviation of 0.011; three of them.
LEAST_COVERAGE = 0.917


def covers(low: float | None, high: float | None, truth: float) -> bool:
    assert low is not None
    assert high is not None
    return low <= truth <= high


def test_wilson_agrees_with_a_published_example():
    # Newcombe 1998, Statistics in Medicine 17:857, table I: 81 of 263.
    interval = wilson(81, 263)

    assert interval.low == pytest.approx(0.2553, abs=5e-5)
    assert interval.high == pytest.approx(0.3662, abs=5e-5)


def test_wilson_of_no_trials_is_unknown():
    assert wilson(0, 0).value is None


def test_clopper_pearson_agrees_with_a_published_example():
    # Newcombe 1998, table I: 15 of 148.
    interval = clopper_pearson(15, 148)

    assert interval.low == pytest.approx(0.0578, abs=5e-5)
    assert interval.high == pytest.approx(0.1617, abs=5e-5)


@pytest.mark.parametrize("hits", [0, 7])
def test_a_perfect_or_hopeless_share_is_not_certain(hits: int):
    for interval in (wilson(hits, 7), clopper_pearson(hits, 7)):
        assert interval.low is not None
        assert interval.high is not None
        assert interval.high - interval.low > 0.3
        assert interval.low <= hits / 7 <= interval.high


@pytest.mark.parametrize(
    ("recalls", "counts"),
    [
        ((0.9, 0.6), (300, 20)),
        ((0.99, 0.98, 0.97), (30, 30, 30)),
        ((0.5,) * 10, (12,) * 10),
    ],
)
def test_the_interval_of_balanced_accuracy_covers(
    recalls: tuple[float, ...], counts: tuple[int, ...]
):
    rng = np.random.default_rng(1)
    y = np.repeat(np.arange(len(counts)), counts)
    truth = float(np.mean(recalls))
    covered = 0

    for _ in range(ROUNDS):
        correct = rng.random(len(y)) < np.array(recalls)[y]
        interval = balanced_accuracy(correct, y)
        covered += covers(interval.low, interval.high, truth)

    assert covered / ROUNDS >= LEAST_COVERAGE


def test_balanced_accuracy_of_a_perfect_model_is_not_certain():
    y = np.repeat([0, 1], 25)

    interval = balanced_accuracy(np.ones(50, dtype=bool), y)

    assert interval.value == 1.0
    assert interval.high == 1.0
    assert interval.low is not None
    assert 0.85 < interval.low < 0.97


def test_a_class_that_does_not_occur_does_not_count():
    interval = balanced_accuracy(np.array([True, False]), np.array([0, 4]))

    assert interval.value == 0.5


@pytest.mark.parametrize("gain", [0.0, 0.1])
def test_the_paired_interval_covers_the_gain(gain: float):
    rng = np.random.default_rng(2)
    y = np.repeat(np.arange(3), (200, 60, 25))
    covered = 0

    for _ in range(ROUNDS):
        # Most rows are hit or missed by both: the pairing is what is tested.
        level = rng.random(len(y))
        before, after = level < 0.7, level < 0.7 + gain
        swap = rng.random(len(y)) < 0.1
        before = np.where(swap, rng.random(len(y)) < 0.5, before)
        after = np.where(swap, rng.random(len(y)) < 0.5, after)
        difference = paired_balanced_accuracy(before, after, y)
        covered += difference.low <= 0.9 * gain <= difference.high

    assert covered / ROUNDS >= LEAST_COVERAGE


def test_pairing_narrows_the_interval():
    rng = np.random.default_rng(3)
    y = np.repeat([0, 1], 200)
    before = rng.random(400) < 0.7
    after = before | (rng.random(400) < 0.05)

    paired = paired_balanced_accuracy(before, after, y)
    unpaired = unpaired_balanced_accuracy((before, y), (after, y))

    assert paired.value == pytest.approx(unpaired.value)
    assert paired.standard_error < unpaired.standard_error / 2


def test_no_change_at_all_is_not_certain():
    y = np.repeat([0, 1], 50)
    same = np.ones(100, dtype=bool)

    difference = paired_balanced_accuracy(same, same, y)

    assert difference.value == 0
    assert difference.low < 0 < difference.high


def test_the_unpaired_interval_covers_the_difference():
    rng = np.random.default_rng(4)
    y, z = np.repeat([0, 1], (100, 40)), np.repeat([0, 1], (15, 15))
    covered = 0

    for _ in range(ROUNDS):
        first, second = rng.random(140) < 0.8, rng.random(30) < 0.95
        difference = unpaired_balanced_accuracy((first, y), (second, z))
        covered += difference.low <= 0.15 <= difference.high

    assert covered / ROUNDS >= LEAST_COVERAGE


def test_the_interval_of_a_skewed_mean_loss_covers():
    rng = np.random.default_rng(5)
    covered = 0

    for _ in range(ROUNDS):
        interval = mean_loss(rng.exponential(0.3, 80))
        covered += covers(interval.low, interval.high, 0.3)

    assert covered / ROUNDS >= LEAST_COVERAGE


def test_losses_that_are_not_finite_do_not_count():
    assert mean_loss(np.array([0.5, np.nan, 0.5, np.inf])).value == 0.5
    assert mean_loss(np.array([np.nan])).value is None


def test_the_interval_of_the_area_covers_one_half_for_random_scores():
    rng = np.random.default_rng(6)
    positive = np.arange(120) < 50
    covered = 0

    for _ in range(ROUNDS):
        area = area_under_curve(rng.standard_normal(120), positive)
        covered += area.low <= 0.5 <= area.high

    assert covered / ROUNDS >= LEAST_COVERAGE


def test_the_area_counts_ties_as_half_and_is_never_certain():
    positive = np.array([True] * 10 + [False] * 10)

    tied = area_under_curve(np.zeros(20), positive)
    perfect = area_under_curve(positive.astype(float), positive)

    assert tied.value == 0.5
    assert perfect.value == 1.0
    assert perfect.low < 1.0
