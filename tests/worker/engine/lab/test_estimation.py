"""Missing values are estimated as a Gaussian's conditional mean, from few samples."""

import numpy as np
import torch

from worker.engine.data import Split
from worker.engine.lab.estimation import conditional_mean, fit_gaussian
from worker.engine.lab.inputs import repair_step

VALUES = 6


def correlated(rows: int, seed: int) -> np.ndarray:
    """Six values that two hidden ones decide, but for a little noise."""
    rng = np.random.default_rng(seed)
    loadings = np.random.default_rng(0).normal(size=(2, VALUES))
    hidden = rng.normal(size=(rows, 2))
    return hidden @ loadings + rng.normal(0, 0.1, (rows, VALUES)) + 5


def holed(x: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    missing = np.random.default_rng(seed).random(x.shape) < share
    return np.where(missing, np.nan, x), missing


def test_the_conditional_mean_is_that_of_the_textbook():
    rng = np.random.default_rng(1)
    root = rng.normal(size=(VALUES, VALUES))
    covariance = root @ root.T + 0.1 * np.eye(VALUES)
    z = rng.normal(size=(20, VALUES))
    missing = rng.random(z.shape) < 0.4

    found = conditional_mean(
        torch.from_numpy(z),
        torch.from_numpy(missing),
        torch.from_numpy(np.linalg.inv(covariance)),
    ).numpy()

    for row, gone, values in zip(z, missing, found, strict=True):
        known = ~gone
        slope = covariance[np.ix_(gone, known)] @ np.linalg.inv(
            covariance[np.ix_(known, known)]
        )
        np.testing.assert_allclose(values[gone], slope @ row[known], atol=1e-6)
        np.testing.assert_array_equal(values[known], row[known])


def test_a_gaussian_is_fitted_to_samples_with_holes():
    x = correlated(600, seed=2)

    mean, deviation, precision = fit_gaussian(holed(x, 0.2, seed=3)[0])

    np.testing.assert_allclose(mean, x.mean(0), atol=0.15)
    np.testing.assert_allclose(deviation, x.std(0), rtol=0.1)
    expected = np.corrcoef(x.T)
    np.testing.assert_allclose(np.linalg.inv(precision), expected, atol=0.15)


def test_missing_values_of_unseen_samples_come_out_near_what_they_were():
    train, _ = holed(correlated(400, seed=2), 0.2, seed=3)
    whole = correlated(200, seed=4)
    seen, missing = holed(whole, 0.2, seed=5)
    split = Split(
        train.astype(np.float32), np.zeros(400, np.int64), np.arange(400), "train"
    )
    given = torch.from_numpy(seen.astype(np.float32))

    errors = {}
    for estimate in (False, True):
        step = repair_step(split, limit=8.0, is_table=True, estimate=estimate)
        off = (step.apply(given).numpy() - whole)[missing]
        errors[estimate] = float(np.sqrt(np.mean(off**2)))

    assert errors[True] < 0.25 * errors[False]


def test_far_values_are_estimated_too_and_samples_without_any_are_left_alone():
    x = correlated(400, seed=2).astype(np.float32)
    split = Split(x.copy(), np.zeros(400, np.int64), np.arange(400), "train")
    step = repair_step(split, limit=8.0, is_table=True, estimate=True)
    spoiled = x.copy()
    spoiled[0, 2] = 1e4
    spoiled[1] = np.nan

    repaired = step.apply(torch.from_numpy(spoiled)).numpy()

    assert abs(repaired[0, 2] - x[0, 2]) < 0.5
    np.testing.assert_allclose(repaired[1], x.mean(0), atol=0.2)  # nothing is known
    np.testing.assert_array_equal(repaired[2:], x[2:])
