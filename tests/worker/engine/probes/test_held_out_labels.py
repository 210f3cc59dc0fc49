"""Held-out labels tell of mistakes that training labels never contradict."""

from dataclasses import replace

import numpy as np
import pytest
from probe_subjects import digits, mlp, shuffled, subject

from worker.engine.probes import noise
from worker.engine.probes.crossfit import Watched, watch
from worker.engine.probes.doubts import Doubts, doubt
from worker.engine.probes.held_out_labels import HeldOut, contradicted_by
from worker.engine.probes.noise_transition import explain

TRAIN, HELD_OUT = 1_000, 400
CLASSES = 10


def parts_of_digits() -> tuple[np.ndarray, np.ndarray, HeldOut]:
    x, y = shuffled(*digits())
    columns = (x / 16).astype(np.float64)
    out = slice(TRAIN, TRAIN + HELD_OUT)
    return columns[:TRAIN], y[:TRAIN], HeldOut(columns[out], y[out])


def taken_for_next(y: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    wrong = np.random.default_rng(seed).random(len(y)) < share
    return np.where(wrong, (y + 1) % CLASSES, y)


def looked(columns: np.ndarray, y: np.ndarray, held_out: HeldOut) -> Watched:
    return watch(columns, y, CLASSES, beside=held_out.columns)


def hits(seen: Doubts, given: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Precision and recall of the suspects."""
    suspects, wrong = seen.suspects(given), given != y
    return float(wrong[suspects].mean()), float(suspects[wrong].mean())


def test_a_class_that_is_often_taken_for_the_next_is_told_by_held_out_labels():
    columns, y, held_out = parts_of_digits()
    given = taken_for_next(y, 0.4)

    alone = doubt(columns, given, CLASSES)
    told = doubt(columns, given, CLASSES, held_out=held_out)

    assert told.by_held_out
    assert told.rate == pytest.approx((given != y).mean(), abs=0.03)
    assert min(hits(told, given, y)) > 0.9
    assert min(hits(alone, given, y)) < 0.7
    assert told.mistakes.aimed > 0.5


def test_one_of_two_classes_that_is_taken_for_the_other_is_told():
    columns, digit, held_out = parts_of_digits()
    y = digit % 2
    wrong = (np.random.default_rng(0).random(TRAIN) < 0.45) & (y == 1)
    given = np.where(wrong, 0, y)

    told = doubt(columns, given, 2, held_out=replace(held_out, y=held_out.y % 2))

    assert told.rate == pytest.approx(wrong.mean(), abs=0.03)
    assert min(hits(told, given, y)) > 0.85


def test_labels_are_counted_that_hide_a_rare_class_from_whoever_learns_from_them():
    """Of those called rare one in ten is: given labels are predicted no better than
    chance, held-out ones are."""
    rng = np.random.default_rng(3)
    y = (rng.random(TRAIN + HELD_OUT) < 0.04).astype(np.int64)
    columns = rng.normal(size=(len(y), 4)) + 1.2 * y[:, None]
    given = np.where(rng.random(TRAIN) < 0.3, 1 - y[:TRAIN], y[:TRAIN])
    parts = (columns[:TRAIN], given), (columns[TRAIN:], y[TRAIN:])

    values = noise.measure(subject(mlp(4, 2), *parts), {})

    assert values["reference"]["low"] < 0.5
    assert values["by_held_out"]
    assert values["rate"]["value"] == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize(("wrong", "shown"), [(0.3, 0.67), (0.0, 1.0)])
def test_held_out_labels_that_are_wrong_as_well_are_counted(wrong, shown):
    x, y = shuffled(*digits())
    rng = np.random.default_rng(0)

    def given(y: np.ndarray, share: float) -> np.ndarray:
        other = (y + rng.integers(1, CLASSES, len(y))) % CLASSES
        return np.where(rng.random(len(y)) < share, other, y)

    train, held_out = slice(TRAIN), slice(TRAIN, TRAIN + HELD_OUT)
    parts = (
        (x[train] / 16, given(y[train], 0.3)),
        (x[held_out] / 16, given(y[held_out], wrong)),
    )

    found = noise.measure(subject(mlp(64, 10), *parts), {})["held_out"]

    assert found["value"] == pytest.approx(wrong, abs=0.08)
    assert found["low"] <= wrong + 0.02
    assert found["shown"] == pytest.approx(shown, abs=0.09)


def test_mistakes_to_any_class_are_counted_by_held_out_labels_and_ranked_without():
    columns, y, held_out = parts_of_digits()
    rng = np.random.default_rng(0)
    other = (y + rng.integers(1, CLASSES, TRAIN)) % CLASSES
    given = np.where(rng.random(TRAIN) < 0.3, other, y)

    alone = doubt(columns, given, CLASSES)
    told = doubt(columns, given, CLASSES, held_out=held_out)

    assert told.by_held_out
    assert told.rate == pytest.approx((given != y).mean(), abs=0.03)
    assert told.margin == pytest.approx(alone.margin, abs=1e-4)


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_held_out_labels_that_were_made_alike_tell_nothing(share):
    columns, y, held_out = parts_of_digits()
    given = taken_for_next(y, share)
    alike = taken_for_next(held_out.y, share, seed=1)

    assert contradicted_by(alike, looked(columns, given, held_out), given) is None


def test_inputs_that_differ_tell_nothing_of_labels():
    columns, y, held_out = parts_of_digits()
    given = taken_for_next(y, 0.4)
    some = (held_out.y > 3) | (np.arange(HELD_OUT) % 4 == 0)
    fewer = HeldOut(held_out.columns[some], held_out.y[some])

    assert contradicted_by(fewer.y, looked(columns, given, fewer), given) is None


def test_rows_of_which_one_class_was_thinned_tell_nothing_of_labels():
    """The reference says the other class of nearly all rows, of either split."""
    rng = np.random.default_rng(0)

    def rows(of_each: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        y = np.repeat([0, 1], of_each)
        return rng.normal(size=(len(y), 6)) + 0.9 * y[:, None] * (np.arange(6) < 2), y

    columns, y = rows((1500, 100))
    held_out = HeldOut(*rows((470, 200)))
    look = watch(columns, y, 2, beside=held_out.columns)

    assert contradicted_by(held_out.y, look, y) is None


@pytest.mark.parametrize("kept", ["few rows", "not every class"])
def test_too_few_held_out_labels_tell_nothing(kept):
    columns, y, held_out = parts_of_digits()
    given = taken_for_next(y, 0.4)
    some = np.arange(HELD_OUT) < 45 if kept == "few rows" else held_out.y != 3
    fewer = HeldOut(held_out.columns[some], held_out.y[some])

    assert contradicted_by(fewer.y, looked(columns, given, fewer), given) is None


def test_rows_beside_change_nothing_for_those_that_are_learned():
    columns, y, held_out = parts_of_digits()

    without = watch(columns, y, CLASSES, spells=1)
    with_them = watch(columns, y, CLASSES, beside=held_out.columns, spells=1)

    assert with_them.out_of_fold == pytest.approx(without.out_of_fold, abs=1e-6)
    assert with_them.margin == pytest.approx(without.margin, abs=1e-4)
    right = with_them.beside.argmax(1) == held_out.y
    assert right.mean() == pytest.approx(
        (with_them.out_of_fold.argmax(1) == y).mean(), abs=0.05
    )


def test_mistakes_are_explained_where_the_true_labels_are_known():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 3_000)
    given = np.where(rng.random(3_000) < 0.25, (true + 1) % 3, true)
    certain = np.full((3_000, 3), 0.01)
    certain[np.arange(3_000), true] = 0.98

    mistakes, better = explain(certain, given)
    _, of_right_labels = explain(certain, true)

    assert mistakes.rate == pytest.approx((given != true).mean(), abs=0.02)
    assert mistakes.matrix[0, 1] == pytest.approx(0.25, abs=0.04)
    assert better > 0.3
    assert of_right_labels < 0.02
