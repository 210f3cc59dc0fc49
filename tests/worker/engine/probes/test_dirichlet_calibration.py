"""What a learner says, read as other labels would have it."""

import numpy as np
import pytest

from worker.engine.probes.dirichlet_calibration import (
    STRENGTHS,
    calibrate,
    choose_strength,
)

ROWS = 600


def mixed_up(classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """A learner that says 55 % of the right class, and 42 % of the next."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, classes, ROWS)
    said = np.full((ROWS, classes), 0.03 / (classes - 2))
    said[np.arange(ROWS), y] = 0.55
    said[np.arange(ROWS), (y + 1) % classes] = 0.42
    blurred = said * np.exp(0.5 * rng.standard_normal(said.shape))
    return blurred / blurred.sum(1, keepdims=True), y


def test_a_class_and_its_neighbour_are_read_as_surely_the_class():
    said, y = mixed_up()
    assert (said.argmax(1) == y).mean() < 0.8

    read = calibrate(said, y, 1.0)(said)

    assert (read.argmax(1) == y).mean() > 0.97
    assert read[np.arange(ROWS), y].mean() > 0.9
    assert read.sum(1) == pytest.approx(1)


def test_classes_speak_for_each_other_only_where_that_predicts_labels_left_out():
    said, y = mixed_up()
    rng = np.random.default_rng(1)
    honest = rng.dirichlet(np.ones(4), 60)
    drawn = (honest.cumsum(1) > rng.random((60, 1))).argmax(1)

    assert choose_strength(said, y)[0] == min(STRENGTHS)
    assert choose_strength(honest, drawn)[0] >= 100
    assert np.abs(calibrate(honest, drawn, 1e4).weights).argmax(1).tolist() == [
        0,
        1,
        2,
        3,
    ]


def test_a_learner_that_says_what_is_so_is_left_as_it_is():
    rng = np.random.default_rng(2)
    honest = rng.dirichlet(np.ones(3), 20_000)
    drawn = (honest.cumsum(1) > rng.random((20_000, 1))).argmax(1)

    assert calibrate(honest, drawn)(honest) == pytest.approx(honest, abs=0.05)
