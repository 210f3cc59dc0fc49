import numpy as np
import pytest

from worker.engine.stats.decisions import Floors, decide, holm, severity_of
from worker.engine.stats.pairs import (
    PairedGain,
    Rows,
    balanced_accuracies,
    paired_gain,
    unlikeness,
    without_noise,
)

ROWS, SEEDS = 300, 6


def simulate(rng, *, gain: float, spread: float, rows: int = ROWS, seeds: int = SEEDS):
    """Hits of two arms on rows of which each has its own difficulty."""
    labels = rng.integers(0, 3, rows)
    difficulty = rng.uniform(0.6, 1.0, rows)
    shifts = rng.normal(gain, spread, seeds)
    shared = rng.uniform(size=(seeds, rows))
    before = shared < difficulty
    after = shared < np.clip(difficulty + shifts[:, None], 0, 1)
    return after, before, Rows.of(labels)


def test_balanced_accuracy_weighs_classes_equally():
    correct = np.array([[True, True, True, False]])
    labels = np.array([0, 0, 0, 1])

    assert balanced_accuracies(correct, labels).tolist() == [0.5]


def test_equal_arms_differ_by_nothing():
    rng = np.random.default_rng(0)
    _, before, rows = simulate(rng, gain=0.0, spread=0.0)

    gain = paired_gain(before, before, rows)

    assert gain.value == 0.0
    assert gain.low < 0.0 < gain.high


def test_the_interval_holds_what_it_promises():
    rng = np.random.default_rng(1)
    true_gain = 0.05
    inside = 0
    for _ in range(300):
        after, before, rows = simulate(rng, gain=true_gain, spread=0.02)
        gain = paired_gain(after, before, rows, pooled_variance=0.02**2)
        # Clipping at 1 takes a little of the gain from easy rows.
        expected = 0.05 - 0.05**2 / (2 * 0.4)
        inside += gain.low <= expected <= gain.high

    assert inside / 300 >= 0.95


def test_more_rows_narrow_the_interval():
    rng = np.random.default_rng(2)
    few = paired_gain(*simulate(rng, gain=0.05, spread=0.0, rows=100))
    many = paired_gain(*simulate(rng, gain=0.05, spread=0.0, rows=4000))

    assert many.error < few.error / 3


def test_the_spread_of_seeds_widens_the_interval():
    rng = np.random.default_rng(3)
    calm = paired_gain(*simulate(rng, gain=0.05, spread=0.001, rows=5000))
    wild = paired_gain(*simulate(rng, gain=0.05, spread=0.1, rows=5000))

    assert wild.error > 3 * calm.error


def test_two_seeds_that_agree_by_chance_are_moderated():
    correct = np.zeros((2, 200), bool)
    correct[:, :120] = True
    better = np.zeros((2, 200), bool)
    better[:, :140] = True
    labels = np.arange(200) % 2

    alone = paired_gain(better, correct, Rows.of(labels))
    moderated = paired_gain(better, correct, Rows.of(labels), pooled_variance=0.05**2)

    assert moderated.error > alone.error


def left_out_in_turn(rng, *, held_out: int, spared: int, seeds: int):
    """Rows of which each seed scores all held-out ones and one fifth of the others."""
    labels = rng.integers(0, 2, held_out + spared)
    seen = np.ones((seeds, held_out + spared), bool)
    part = np.arange(spared) % 5
    for seed in range(seeds):
        seen[seed, held_out:] = part == seed % 5
    return Rows(labels, held_out, seen)


def test_rows_left_out_in_turn_narrow_the_interval():
    rng = np.random.default_rng(5)
    rows = left_out_in_turn(rng, held_out=80, spared=400, seeds=10)
    before = rng.uniform(size=(10, 480)) < 0.8
    after = before | (rng.uniform(size=480) < 0.3)

    alone = paired_gain(after[:, :80], before[:, :80], Rows.of(rows.labels[:80]))
    together = paired_gain(after, before, rows)

    assert together.error < 0.7 * alone.error


def test_hits_on_rows_that_a_seed_did_not_score_count_for_nothing():
    rng = np.random.default_rng(6)
    rows = left_out_in_turn(rng, held_out=50, spared=100, seeds=5)
    before = rng.uniform(size=(5, 150)) < 0.7
    after = rng.uniform(size=(5, 150)) < 0.8
    elsewhere = ~rows.seen

    gain = paired_gain(after, before, rows)
    again = paired_gain(after | elsewhere, before & rows.seen, rows)

    assert gain == again


def test_the_interval_over_rows_left_out_in_turn_holds_what_it_promises():
    rng = np.random.default_rng(7)
    inside = 0
    for _ in range(300):
        rows = left_out_in_turn(rng, held_out=60, spared=300, seeds=8)
        difficulty = rng.uniform(0.6, 0.9, 360)
        shifts = rng.normal(0.05, 0.02, 8)
        shared = rng.uniform(size=(8, 360))
        before, after = shared < difficulty, shared < difficulty + shifts[:, None]
        gain = paired_gain(after, before, rows, pooled_variance=0.02**2)
        inside += gain.low <= 0.05 <= gain.high

    assert inside / 300 >= 0.95


def test_rows_on_which_a_model_does_much_worse_are_not_alike():
    rng = np.random.default_rng(8)
    labels = rng.integers(0, 2, 400)
    good, bad = rng.uniform(size=(3, 400)) < 0.95, rng.uniform(size=(3, 400)) < 0.7

    assert unlikeness((good, None, labels), (good[:, ::-1], None, labels[::-1])) < 1
    assert unlikeness((good, None, labels), (bad, None, labels)) > 1


def test_hits_on_noisy_labels_are_freed_of_what_the_noise_takes():
    rng = np.random.default_rng(9)
    right = rng.uniform(size=(1, 200_000)) < 0.9
    wrong_label = rng.uniform(size=right.shape) < 0.2
    by_luck = rng.uniform(size=right.shape) < 1 / 3  # of four classes three are wrong
    noisy = np.where(wrong_label, ~right & by_luck, right)

    corrected = without_noise(noisy, rate=0.2, classes=4)

    assert noisy.mean() < 0.75
    assert corrected.mean() == pytest.approx(0.9, abs=0.005)


def test_holm_multiplies_the_smallest_most():
    adjusted = holm({"a": 0.001, "b": 0.02, "c": 0.5})

    assert adjusted == {"a": 0.003, "b": 0.04, "c": 0.5}


def test_holm_counts_what_was_given_up_earlier():
    weights = dict.fromkeys("abcdefghijklmnopqrst", 1.0)

    assert holm({"a": 0.004}, weights) == {"a": pytest.approx(0.08)}


def test_holm_allows_a_heavier_question_more_and_the_others_less():
    adjusted = holm({"a": 0.02, "b": 0.01}, {"a": 5.0, "b": 1.0, "c": 1.0})

    assert adjusted == {"a": pytest.approx(0.028), "b": pytest.approx(0.028)}


def test_weighted_holm_holds_the_chance_of_any_false_rejection():
    rng = np.random.default_rng(0)
    weights = {"a": 5.0, "b": 5.0, **dict.fromkeys(range(10), 1.0)}
    by_chance = rng.uniform(size=(4000, len(weights)))

    false = [
        min(holm(dict(zip(weights, p, strict=True)), weights).values()) <= 0.05
        for p in by_chance
    ]

    assert 0.04 < np.mean(false) < 0.06


def test_a_gain_is_found_only_when_proven_and_material():
    floors = Floors()
    proven = PairedGain(value=0.05, error=0.005, degrees=50, seeds=8)
    tiny = PairedGain(value=0.015, error=0.0005, degrees=50, seeds=8)
    vague = PairedGain(value=0.05, error=0.05, degrees=50, seeds=8)
    nothing = PairedGain(value=0.0, error=0.005, degrees=50, seeds=8)

    verdicts = [
        decide(g, adjusted_p=g.p_above(floors.proven), floors=floors)
        for g in (proven, tiny, vague, nothing)
    ]

    assert verdicts == ["found", "not_found", "inconclusive", "not_found"]


def test_severity_grows_with_the_gain():
    assert [severity_of(g) for g in (0.03, 0.08, 0.3)] == ["minor", "major", "critical"]
