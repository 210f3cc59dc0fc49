"""How labels were mistaken: a transition from true to given labels, by likelihood.

The reference's probabilities q of the true label, sharpened or softened by a power b,
and a matrix T of mistakes explain the given labels: P(j given) is the sum of q_k T_kj.
T and b are what make the given labels likeliest. Overlap of classes is where q itself
hesitates, and needs no mistakes; a label that a certain q contradicts does.

Source: expectation and maximisation for T, Dawid & Skene 1979, Applied Statistics 28;
with a network's probabilities, Goldberger & Ben-Reuven 2017, ICLR; the power is the
temperature of Guo et al. 2017, arXiv:1706.04599, fitted through the mistakes.
"""

from dataclasses import dataclass

import numpy as np

from worker.engine.probes.material import Floats, Labels

POWERS = tuple(np.geomspace(0.05, 20, 15))
NEAR = tuple(np.geomspace(0.7, 1.43, 9))  # of the best of these, tried more closely
STEPS = 15
NEAR_STEPS = 40
PRIOR = 1.0  # rows a class that are thought to be mistaken as all are, to any class
MOST_CELLS = 200_000  # rows times classes that the fit looks at
MOST_CLASSES = 50  # beyond, mistakes are taken to be of one kind
TINY = 1e-7
CEILING = 0.999


@dataclass(frozen=True)
class Mistakes:
    """What was fitted, and what it says of each row.

    Attributes:
        rate: share of wrong labels.
        error: its standard error, given the power and the kinds of mistake.
        certain: float64, (rows, classes): probability of each true label, by the
            inputs alone.
        right: float64, (rows,): probability that the given label is the true one.
        matrix: float64, (classes, classes): probability of each given label (column)
            for each true class (row).
    """

    rate: float
    error: float
    certain: Floats
    right: Floats
    matrix: Floats

    @property
    def aimed(self) -> float:
        """Share of the mistakes beyond those that chance takes to the likeliest."""
        wrong = self.matrix.copy()
        np.fill_diagonal(wrong, 0.0)
        others = len(wrong) - 1
        if others < 2 or wrong.sum() <= 0:  # noqa: PLR2004 - there is only one other
            return 0.0
        share = float(wrong.max(1).sum() / wrong.sum())
        return max(0.0, (share - 1 / others) / (1 - 1 / others))


def fit(probabilities: Floats, y: Labels) -> Mistakes:
    """Fit the mistakes that explain the given labels best.

    Args:
        probabilities: float64, (rows, classes), by a reference that never saw the row.
        y: int64, (rows,).
    """
    classes = probabilities.shape[1]
    step = max(1, -(-probabilities.size // MOST_CELLS))
    logs = np.log(probabilities[::step] + TINY)
    some = _Fit(logs - logs.max(1, keepdims=True), y[::step])
    matrix = _matrix(np.full(classes, 0.1), _even(classes))
    tried = []
    for power in POWERS:
        likelihood, matrix_here = some.explain(power, matrix, STEPS)
        tried.append((likelihood, power, matrix_here))
    _, best, matrix = max(tried, key=lambda one: one[0])
    tried = []
    for factor in NEAR:
        likelihood, matrix_here = some.explain(best * factor, matrix, NEAR_STEPS)
        tried.append((likelihood, best * factor, matrix_here))
    _, power, matrix = max(tried, key=lambda one: one[0])
    logs = np.log(probabilities + TINY)
    return read(_power(logs - logs.max(1, keepdims=True), power), y, matrix)


def explain(certain: Floats, y: Labels) -> tuple[Mistakes, float]:
    """Fit the mistakes where the probabilities of the true labels are known.

    Args:
        certain: float64, (rows, classes).
        y: int64, (rows,).

    Returns:
        The mistakes, and by how much they make these labels likelier than none would:
        nats a row.
    """
    classes = certain.shape[1]
    step = max(1, -(-certain.size // MOST_CELLS))
    logs = np.log(certain + TINY)
    some = _Fit(logs[::step], y[::step])
    matrix = _matrix(np.full(classes, 0.1), _even(classes))
    likelihood, matrix = some.explain(1.0, matrix, NEAR_STEPS)
    right = logs[::step][np.arange(len(some.y)), some.y].sum()
    return read(certain, y, matrix), float(likelihood - right) / len(some.y)


def read(certain: Floats, y: Labels, matrix: Floats) -> Mistakes:
    """Say of each row what a matrix of mistakes makes of its label."""
    own = certain[np.arange(len(y)), y]
    likely = np.maximum(np.einsum("nk,kn->n", certain, matrix[:, y]), 1e-300)
    right = own * matrix[y, y] / likely
    rate = float(1 - right.mean())
    error = _error(own, likely, matrix, y)
    return Mistakes(rate, error, certain, right, matrix)


def _error(own: Floats, likely: Floats, matrix: Floats, y: Labels) -> float:
    """Standard error of the rate: from the score, were all rates to change alike."""
    stays = np.diag(matrix)
    rate = max(1e-3, float((1 - stays[y]).mean()))
    kept = own * stays[y]
    slope = ((likely - kept) / rate - kept / (1 - rate)) / likely
    known = float((slope**2).sum())
    return min(1.0, known**-0.5) if known > 0 else 1.0


def _power(logs: Floats, power: float) -> Floats:
    raised = np.exp(power * logs)
    return np.asarray(raised / raised.sum(1, keepdims=True))


def _even(classes: int) -> Floats:
    """To which class a mistaken label goes, were all alike: (classes, classes)."""
    even = np.full((classes, classes), 1 / max(1, classes - 1))
    np.fill_diagonal(even, 0.0)
    return even


def _matrix(rates: Floats, where: Floats) -> Floats:
    return np.asarray(np.diag(1 - rates) + rates[:, None] * where)


class _Fit:
    """The rows that are fitted: logarithms of probabilities, and labels."""

    def __init__(self, logs: Floats, y: Labels) -> None:
        self.logs, self.y = logs, y
        self.classes = logs.shape[1]
        self.given = np.eye(self.classes)[y]
        self.even = _even(self.classes)

    def explain(self, power: float, matrix: Floats, steps: int) -> tuple[float, Floats]:
        """Improve the matrix for one power; return log-likelihood and matrix."""
        certain = _power(self.logs, power)
        for _ in range(steps):
            true = certain * matrix[:, self.y].T
            true /= np.maximum(true.sum(1, keepdims=True), 1e-300)
            matrix = self._maximise(true.T @ self.given)
        likely = (certain * matrix[:, self.y].T).sum(1)
        return float(np.log(np.maximum(likely, 1e-300)).sum()), matrix

    def _maximise(self, counts: Floats) -> Floats:
        """Turn expected counts, (true, given), into the likeliest matrix."""
        wrong = counts.copy()
        np.fill_diagonal(wrong, 0.0)
        rows, mistaken = counts.sum(1), wrong.sum(1)
        overall = mistaken.sum() / len(self.y)
        if self.classes > MOST_CLASSES:
            rates = np.full(self.classes, min(CEILING, overall))
            return _matrix(rates, self.even)
        few = PRIOR * self.classes
        rates = (mistaken + few * overall) / (rows + few)
        where = (wrong + few * self.even) / (mistaken[:, None] + few)
        np.fill_diagonal(where, 0.0)
        where /= np.maximum(where.sum(1, keepdims=True), 1e-300)
        return _matrix(np.minimum(rates, CEILING), where)
