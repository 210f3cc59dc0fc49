"""Doubt every label: two looks of the reference, a count of mistakes, a ranking.

The first look learns from all labels, so that systematic mistakes (a class often taken
for one other) look to it like overlap of the classes. The second learns without the
labels that the first doubts most. Where that leaves too few rows to learn from, and the
second look predicts labels clearly worse, the first one counts.

The rate is that of the mistakes which explain the labels best, by what the last look
says (`noise_transition.py`). A reference that is surer than it may be overrates it, as
it does where classes overlap; so it is at most what the first look says, be it by its
mistakes or by what it contradicts among the quarter of rows that it is surest of.

Rows are ranked by the margin of their given label, averaged over epochs (source: Pleiss
et al. 2020, Identifying mislabeled data using the area under the margin ranking,
arXiv:2001.10528).
"""

from dataclasses import dataclass

import numpy as np

from worker.engine.probes.crossfit import Watched, watch, watch_again
from worker.engine.probes.material import Flags, Floats, Labels
from worker.engine.probes.noise_transition import Mistakes, fit

SUREST = 0.25  # share of the rows of each predicted class
DOUBTED = 0.01  # share of labels, below which nobody looks again
KEPT = 0.975  # of the labels that the first look predicts, the second must, too
SURE = 0.8  # probability from which a suggested label is believed


@dataclass(frozen=True)
class Doubts:
    """What is thought of each label.

    Attributes:
        probabilities: float64, (rows, classes), by members that never saw the row.
        margin: float64, (rows,), of the given label; the lowest are doubted first.
        mistakes: what explains the labels best.
        rate: share of wrong labels.
        surest: share contradicted among the rows that the first look is surest of.
        looks: 2 where the second look counts.
        first: float64, (rows, classes), the probabilities of the first look.
    """

    probabilities: Floats
    margin: Floats
    mistakes: Mistakes
    rate: float
    surest: float
    looks: int
    first: Floats

    @property
    def suggested(self) -> Labels:
        """The likeliest class of each row: int64, (rows,)."""
        return np.asarray(self.probabilities.argmax(1))

    @property
    def sure(self) -> Flags:
        """Rows whose likeliest class can be believed: bool, (rows,)."""
        return np.asarray(self.mistakes.certain.max(1) >= SURE)

    def suspects(self, y: Labels) -> Flags:
        """Flag as many contradicted labels as are thought wrong: bool, (rows,)."""
        order = np.argsort(self.margin, kind="stable")
        contradicted = self.suggested != y
        count = round(self.rate * len(y))
        flags = np.zeros(len(y), dtype=np.bool_)
        flags[order[contradicted[order]][:count]] = True
        return flags


def doubt(
    columns: Floats, y: Labels, classes: int, *, most: int = 10_000, seed: int = 0
) -> Doubts:
    """Look once or twice at every row.

    Args:
        columns: float64, (rows, columns), about standardised.
        y: int64, (rows,).
        classes: number of classes.
        most: rows a member is trained on in one epoch.
        seed: governs folds, initial weights and batches.
    """
    first = watch(columns, y, classes, most=most, seed=seed)
    share = contradicted_among_surest(first.out_of_fold, y)
    mistakes = fit(first.out_of_fold, y)
    highest = max(share, mistakes.rate)
    seen, looks, rate = first, 1, mistakes.rate
    if highest >= DOUBTED:
        again = watch_again(
            first, columns, y, classes, share=highest, most=most, seed=seed + 1
        )
        if again is not None and _is_as_good(again, first, y):
            seen, looks = again, 2
            mistakes = fit(again.out_of_fold, y)
            rate = min(mistakes.rate, highest)
    return Doubts(
        probabilities=seen.out_of_fold,
        margin=seen.margin,
        mistakes=mistakes,
        rate=rate,
        surest=share,
        looks=looks,
        first=first.out_of_fold,
    )


def _is_as_good(again: Watched, first: Watched, y: Labels) -> bool:
    now, then = (
        float((look.out_of_fold.argmax(1) == y).mean()) for look in (again, first)
    )
    return now >= KEPT * then


def contradicted_among_surest(probabilities: Floats, y: Labels) -> float:
    """Share of labels contradicted in the surest quarter of each predicted class."""
    predicted, sure = probabilities.argmax(1), probabilities.max(1)
    contradicted = among = 0
    for k in np.unique(predicted):
        rows = np.flatnonzero(predicted == k)
        count = max(1, round(SUREST * len(rows)))
        top = rows[np.argsort(-sure[rows], kind="stable")[:count]]
        contradicted += int((y[top] != k).sum())
        among += count
    return contradicted / among
