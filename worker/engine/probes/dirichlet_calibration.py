"""Turn what a learner says into probabilities of the classes of other labels.

The logits of the calibrated probabilities are linear in the logarithms of what was
said; how far each class speaks for any other is kept small, by as much as predicts
labels left out best. So a learner that says 58 % of one class and 42 % of the next can
be read as "surely the one", if that is what labels say where it says so.

Source: Kull et al. 2019, Beyond temperature scaling, arXiv:1910.12656 (off-diagonal and
intercept regularisation).
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from worker.engine.probes.material import Floats, Labels

STRENGTHS = (1.0, 10.0, 100.0, 1e4)  # at which classes speak for each other or do not
MODERATE = 10.0
FLOOR = 1e-3  # of what is said; differences below it tell nothing
FOLDS = 5
MOST_ITERATIONS = 200


@dataclass(frozen=True)
class Calibration:
    """A linear map of logarithms.

    Attributes:
        weights: float64, (classes said, classes).
        bias: float64, (classes,).
    """

    weights: Floats
    bias: Floats

    def __call__(self, said: Floats) -> Floats:
        """Calibrate probabilities: float64, (rows, classes)."""
        return np.asarray(softmax(_logs(said) @ self.weights + self.bias, axis=1))


def calibrate(said: Floats, y: Labels, strength: float = MODERATE) -> Calibration:
    """Fit the map to labels.

    Args:
        said: float64, (rows, classes), probabilities.
        y: int64, (rows,).
        strength: precision of the prior of weights between classes.
    """
    logs, classes = _logs(said), said.shape[1]
    given = np.eye(classes)[y]
    own = np.eye(classes)

    def lacks(free: Floats) -> tuple[float, Floats]:
        power, bias = np.exp(free[0]), free[1 : 1 + classes]
        between = free[1 + classes :].reshape(classes, classes)
        likely = log_softmax(logs @ (power * own + between) + bias, axis=1)
        wrong = np.exp(likely) - given
        towards = logs.T @ wrong
        value = -(given * likely).sum() + ((bias**2).sum() + penalty(between)) / 2
        slope = np.concatenate(
            [
                [power * np.trace(towards)],
                wrong.sum(0) + bias,
                (towards + strength * between).ravel(),
            ]
        )
        return float(value), slope

    def penalty(between: Floats) -> float:
        return float(strength * (between**2).sum())

    start = np.zeros(1 + classes + classes**2)
    options = {"maxiter": MOST_ITERATIONS}
    free = minimize(lacks, start, jac=True, method="L-BFGS-B", options=options).x
    between = free[1 + classes :].reshape(classes, classes)
    return Calibration(np.exp(free[0]) * own + between, free[1 : 1 + classes])


def choose_strength(said: Floats, y: Labels) -> tuple[float, float]:
    """Choose the strength that predicts labels left out best.

    Args:
        said: float64, (rows, classes), probabilities.
        y: int64, (rows,).

    Returns:
        The strength, and the log-likelihood of the labels when they were left out.
    """
    fold = np.arange(len(y)) % FOLDS
    tried = []
    for strength in STRENGTHS:
        likely = 0.0
        for own in range(FOLDS):
            out = fold == own
            fitted = calibrate(said[~out], y[~out], strength)
            own_label = fitted(said[out])[np.arange(int(out.sum())), y[out]]
            likely += float(np.log(np.maximum(own_label, FLOOR)).sum())
        tried.append((likely, strength))
    likely, strength = max(tried)
    return strength, likely


def _logs(said: Floats) -> Floats:
    logs = np.log(said + FLOOR)
    return np.asarray(logs - logs.mean(1, keepdims=True))
