"""Doubt every label: two looks of the reference, a count of mistakes, a ranking.

The first look learns from all labels, so that systematic mistakes (a class often taken
for one other) look to it like overlap of the classes. The second learns without the
labels that the first doubts most. Where that leaves too few rows to learn from, and the
second look predicts labels clearly worse, the first one counts.

The rate is that of the mistakes which explain the labels best, by what the last look
says (`noise_transition.py`). A reference that is surer than it may be overrates it, as
it does where classes overlap; so it is at most what the first look says, be it by its
mistakes or by what it contradicts among the quarter of rows that it is surest of.

Where held-out labels tell of mistakes, too, they tell the rate; where these go to one
other class, they tell the rows, which are then ranked by how likely they are right
(`held_out_labels.py`). Otherwise rows are ranked by the margin of their given label,
averaged over epochs (source: Pleiss et al. 2020, Identifying mislabeled data using the
area under the margin ranking, arXiv:2001.10528).
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from worker.engine.probes.crossfit import (
    Said,
    Watched,
    most_doubted,
    watch,
    watch_again,
)
from worker.engine.probes.held_out_labels import (
    HeldOut,
    Reading,
    contradicted_by,
    read_again,
)
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
        by_held_out: whether held-out labels told of the mistakes.
        beside: float64, (held-out rows, classes), what the first look says of these;
            None where the mistakes were read from their labels.
    """

    probabilities: Floats
    margin: Floats
    mistakes: Mistakes
    rate: float
    surest: float
    looks: int
    first: Floats
    by_held_out: bool = False
    beside: Floats | None = None

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
    columns: Floats,
    y: Labels,
    classes: int,
    *,
    held_out: HeldOut | None = None,
    most: int = 10_000,
    seed: int = 0,
) -> Doubts:
    """Look once or twice at every row.

    Args:
        columns: float64, (rows, columns), about standardised.
        y: int64, (rows,).
        classes: number of classes.
        held_out: rows whose labels may tell of mistakes, too.
        most: rows a member is trained on in one epoch.
        seed: governs folds, initial weights and batches.
    """
    beside = None if held_out is None else held_out.columns
    look_again = partial(watch_again, columns=columns, y=y, classes=classes, most=most)
    first = watch(columns, y, classes, beside=beside, most=most, seed=seed)
    reading = None
    if held_out is not None:
        reading = contradicted_by(held_out.y, first, y)
        if reading is not None and reading.is_aimed:
            again = look_again(
                first, doubted=reading.doubted, beside=beside, seed=seed + 1
            )
            return _as_read(held_out, y, reading, first, again)
    share = contradicted_among_surest(first.out_of_fold, y)
    mistakes = fit(first.out_of_fold, y)
    highest = max(share, mistakes.rate)
    seen, looks, rate = first, 1, mistakes.rate
    if highest >= DOUBTED:
        most_of_all = partial(_most_doubted, share=highest)
        again = look_again(first, doubted=most_of_all, seed=seed + 1)
        if again is not None and _is_as_good(again, first, y):
            seen, looks = again, 2
            mistakes = fit(again.out_of_fold, y)
            rate = min(mistakes.rate, highest)
    return Doubts(
        probabilities=seen.out_of_fold,
        margin=seen.margin,
        mistakes=mistakes,
        rate=rate if reading is None else reading.mistakes.rate,
        surest=share,
        looks=looks,
        first=first.out_of_fold,
        by_held_out=reading is not None,
        beside=None if held_out is None else first.beside,
    )


def _as_read(
    held_out: HeldOut,
    y: Labels,
    reading: Reading,
    first: Watched,
    again: Watched | None,
) -> Doubts:
    """Doubt labels as held-out ones do, by the look that reads those best."""
    looks = 1
    if again is not None:
        other = read_again(held_out.y, again, y)
        if other.likely > reading.likely:
            reading, looks = other, 2
    mistakes = reading.mistakes
    return Doubts(
        probabilities=mistakes.certain,
        margin=mistakes.right,
        mistakes=mistakes,
        rate=mistakes.rate,
        surest=contradicted_among_surest(first.out_of_fold, y),
        looks=looks,
        first=first.out_of_fold,
        by_held_out=True,
    )


def _most_doubted(said: Said, y: Labels, *, share: float) -> Flags:
    return most_doubted(said, y, round(share * len(y)))


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
