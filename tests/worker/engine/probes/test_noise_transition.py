"""Mistakes are told from overlap of the classes by likelihood."""

import numpy as np
import pytest

from worker.engine.probes.noise_transition import MOST_CLASSES, fit

ROWS = 3000


def overlapping(
    classes: int = 4, rows: int = ROWS, distance: float = 1.5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of classes that overlap, and true labels drawn from them."""
    rng = np.random.default_rng(seed)
    corners = np.eye(classes) * distance * 2
    x = corners[rng.integers(0, classes, rows)] + rng.standard_normal((rows, classes))
    likely = np.exp(-((x[:, None] - corners) ** 2).sum(2) / 2)
    certain = likely / likely.sum(1, keepdims=True)
    y = (certain.cumsum(1) > rng.random((rows, 1))).argmax(1)
    return certain, y


def mistaken(
    y: np.ndarray, share: float, classes: int = 4, *, to_next: bool = False
) -> np.ndarray:
    rng = np.random.default_rng(1)
    step = 1 if to_next else rng.integers(1, classes, len(y))
    return np.where(rng.random(len(y)) < share, (y + step) % classes, y)


@pytest.mark.parametrize("distance", [0.8, 1.5, 3.0])
def test_overlap_is_no_mistake(distance: float):
    certain, y = overlapping(distance=distance)

    assert (certain.argmax(1) != y).mean() > 0.01 or distance == 3.0
    assert fit(certain, y).rate < 0.01


@pytest.mark.parametrize("share", [0.1, 0.2, 0.4])
@pytest.mark.parametrize("to_next", [False, True])
def test_mistakes_beside_overlap_are_counted(share, to_next):
    certain, y = overlapping()

    found = fit(certain, mistaken(y, share, to_next=to_next))

    # Three standard errors.
    assert found.rate == pytest.approx(share, abs=3 * found.error)
    assert found.error < 0.015


@pytest.mark.parametrize("power", [0.4, 2.5])
def test_a_reference_that_is_too_sure_or_not_sure_enough_is_put_right(power: float):
    certain, y = overlapping()
    said = certain**power / (certain**power).sum(1, keepdims=True)

    found = fit(said, mistaken(y, 0.2))

    assert found.rate == pytest.approx(0.2, abs=3 * found.error)
    assert np.abs(found.certain - certain).mean() < 0.02


@pytest.mark.parametrize(("to_next", "aimed"), [(False, 0.0), (True, 1.0)])
def test_mistakes_are_aimed_at_one_class_or_go_to_any(to_next, aimed):
    certain, y = overlapping()

    found = fit(certain, mistaken(y, 0.3, to_next=to_next))

    assert found.aimed == pytest.approx(aimed, abs=0.25)
    assert found.matrix.sum(1) == pytest.approx(np.ones(4))
    assert np.diag(found.matrix) == pytest.approx(np.full(4, 0.7), abs=0.06)


def test_wrong_labels_are_less_likely_right():
    certain, y = overlapping(distance=2.5)
    given = mistaken(y, 0.2)

    right = fit(certain, given).right

    assert right[given != y].mean() < 0.2
    assert right[given == y].mean() > 0.9


def test_of_very_many_classes_all_are_mistaken_alike():
    classes = MOST_CLASSES + 10
    certain, y = overlapping(classes, rows=2000, distance=3.0)

    found = fit(certain, mistaken(y, 0.2, classes))

    assert found.rate == pytest.approx(0.2, abs=0.03)


def test_more_rows_know_the_rate_better():
    few, many = (
        fit(certain, mistaken(y, 0.2)).error
        for certain, y in (overlapping(rows=300), overlapping(rows=3000))
    )

    assert many == pytest.approx(few / 10**0.5, rel=0.3)
