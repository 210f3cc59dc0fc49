"""Two looks at every label."""

from dataclasses import replace

import numpy as np
import pytest
from probe_subjects import digits, shuffled

from worker.engine.probes import crossfit, doubts
from worker.engine.probes.crossfit import Watched, most_doubted, watch, watch_again
from worker.engine.probes.doubts import Doubts, contradicted_among_surest, doubt
from worker.engine.probes.noise_transition import Mistakes


def rows_of_digits(count: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = shuffled(*digits())
    return (x[:count] / 16).astype(np.float64), y[:count]


def test_no_look_at_a_row_rests_on_its_label(monkeypatch: pytest.MonkeyPatch):
    columns, y = rows_of_digits(300)
    rng = np.random.default_rng(0)
    noisy = np.where(rng.random(300) < 0.3, rng.integers(0, 10, 300), y)
    # Folds are dealt out by label, which alone would change what a row is told.
    fold = np.arange(300) % crossfit.FOLDS
    monkeypatch.setattr(crossfit, "folds_of", lambda *_, **__: fold)
    other = noisy.copy()
    other[7] = (other[7] + 1) % 10

    def a_tenth(said: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return most_doubted(said, labels, len(labels) // 10)

    def look_twice(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first = watch(columns, labels, 10, spells=1)
        again = watch_again(first, columns, labels, 10, doubted=a_tenth, spells=1)
        assert again is not None
        return first.out_of_fold, again.out_of_fold

    for mine, changed in zip(look_twice(noisy), look_twice(other), strict=True):
        assert (mine[7] == changed[7]).all()
        assert (mine[fold != fold[7]] != changed[fold != fold[7]]).any()


def test_the_least_likely_labels_are_doubted_most():
    said = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.05, 0.95]])

    flags = most_doubted(said, np.array([0, 0, 0, 0]), 2)

    assert flags.tolist() == [False, True, False, True]


def test_a_label_that_nothing_contradicts_is_not_doubted():
    said = np.array([[0.9, 0.1], [0.2, 0.8]])

    assert not most_doubted(said, np.array([0, 1]), 2).any()


def test_only_the_surest_of_each_class_are_counted():
    said = np.array([[0.99, 0.01]] * 2 + [[0.6, 0.4]] * 6)
    y = np.array([0, 1, 1, 1, 1, 1, 1, 1])

    assert contradicted_among_surest(said, y) == pytest.approx(1 / 2)


def test_no_more_are_suspect_than_are_thought_wrong():
    said = np.array([[0.1, 0.9]] * 4 + [[0.9, 0.1]] * 6)
    y = np.zeros(10, dtype=np.int64)
    seen = Doubts(
        probabilities=said,
        margin=np.linspace(-1, 1, 10),
        mistakes=Mistakes(
            0.3, 0.1, certain=said, right=said[:, 0], matrix=np.eye(said.shape[1])
        ),
        rate=0.2,
        surest=0.3,
        looks=2,
        first=said,
    )

    assert seen.suspects(y).tolist() == [True, True] + [False] * 8
    assert seen.sure.all()


@pytest.mark.slow
def test_mistakes_to_one_other_class_are_counted():
    columns, y = rows_of_digits(1000)
    wrong = np.random.default_rng(2).random(1000) < 0.2

    seen = doubt(columns, np.where(wrong, (y + 1) % 10, y), 10)

    assert seen.looks == 2
    assert seen.rate == pytest.approx(0.2, abs=0.05)


@pytest.mark.slow
def test_nobody_looks_again_at_labels_without_doubt():
    columns, y = rows_of_digits(1000)

    seen = doubt(columns, y, 10)

    assert seen.looks == 1
    assert seen.rate < 0.01


@pytest.mark.parametrize(("hits", "looks"), [(0.7, 1), (1.0, 2)])
def test_a_second_look_that_predicts_worse_does_not_count(
    monkeypatch: pytest.MonkeyPatch, hits: float, looks: int
):
    columns, y = rows_of_digits(300)
    given = np.where(np.arange(300) % 7 == 0, (y + 1) % 10, y)
    guessed = np.where(np.arange(300) < hits * 300, given, (given + 1) % 10)
    said = np.eye(10)[guessed] * 0.9 + 0.01

    def look_again(first: Watched, *_: object, **__: object) -> Watched:
        return replace(first, out_of_fold=said)

    monkeypatch.setattr(doubts, "watch_again", look_again)

    seen = doubt(columns, given, 10)

    assert seen.looks == looks
    assert (seen.probabilities == said).all() == (looks == 2)


def test_the_rate_is_at_most_what_the_first_look_says(monkeypatch: pytest.MonkeyPatch):
    columns, y = rows_of_digits(300)
    given = np.where(np.arange(300) % 10 == 0, (y + 1) % 10, y)
    rates = iter([0.1, 0.5])

    def overrated(said: np.ndarray, _labels: np.ndarray) -> Mistakes:
        everyone = np.eye(said.shape[1])
        return Mistakes(next(rates), 0.1, said, said[:, 0], everyone)

    monkeypatch.setattr(doubts, "fit", overrated)

    seen = doubt(columns, given, 10)

    assert seen.looks == 2
    assert seen.rate == max(0.1, seen.surest) < 0.5
