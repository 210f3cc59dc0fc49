"""What held-out labels tell of the mistakes in training labels.

A reference that learned training labels says of held-out rows what it would say of
training rows that it never saw. Were the labels of both made alike, they would agree
with it alike. Where a class is taken for one other in training only, the reference
learned to say so, and training labels never contradict it; held-out labels do. So what
it says is calibrated to held-out labels, and the mistakes are those that explain the
training labels from there.

Both are believed only where the reference says about the same classes of both splits,
so that not their inputs differ, and where mistakes explain the training labels much
better than they would, were some of these the held-out ones. Then they tell the rate;
where mistakes of a class go to one other, or all from one of two classes, they tell
the rows, too. (Where they go to any class, the reference ranks them better by itself.)

Source: a few trusted labels, Hendrycks et al. 2018, Using trusted data to train deep
networks on labels corrupted by severe noise, arXiv:1802.05300.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from worker.engine.probes.crossfit import Said, Watched
from worker.engine.probes.dirichlet_calibration import (
    MODERATE,
    Calibration,
    calibrate,
    choose_strength,
)
from worker.engine.probes.material import Flags, Floats, Labels
from worker.engine.probes.noise_transition import Mistakes, explain, read

LEAST_ROWS = 50  # held-out rows
LEAST_OF_CLASS = 4  # of these, of each class that training labels name
MOST_CLASSES = 30
ALIKE = 0.0025  # p value, from which both splits hold the same inputs
DRAWS = 4  # of training rows that take the part of held-out ones
MUCH_BETTER = 2.0  # times the most that such a draw is explained better by mistakes
AIMED = 0.4  # share of the mistakes beyond those that chance takes there
RIGHT = 0.5  # probability of being right, below which a label is doubted


@dataclass(frozen=True)
class HeldOut:
    """Rows whose labels nobody learns.

    Attributes:
        columns: float64, (rows, columns), as those of training rows.
        y: int64, (rows,).
    """

    columns: Floats
    y: Labels


@dataclass(frozen=True)
class Reading:
    """Training labels as held-out labels tell of them.

    Attributes:
        calibration: from what the reference says to probabilities of true labels.
        mistakes: in the training labels.
        likely: log-likelihood of the held-out labels when they were left out, nats.
    """

    calibration: Calibration
    mistakes: Mistakes
    likely: float

    @property
    def is_aimed(self) -> bool:
        """Whether mistakes of a class go to one other, or from one of two classes."""
        matrix = self.mistakes.matrix
        if len(matrix) > 2:  # noqa: PLR2004 - there is more than one other
            return self.mistakes.aimed >= AIMED
        there, back = matrix[0, -1], matrix[-1, 0]
        return bool(abs(there - back) >= AIMED * (there + back))

    def doubted(self, said: Said, y: Labels) -> Flags:
        """Flag labels that are rather wrong than right: bool, (rows,)."""
        certain = self.calibration(np.asarray(said, dtype=np.float64))
        return np.asarray(read(certain, y, self.mistakes.matrix).right < RIGHT)


def contradicted_by(held_out: Labels, look: Watched, y: Labels) -> Reading | None:
    """Read the training labels by held-out ones, where these tell of mistakes.

    Args:
        held_out: int64, labels of the rows beside.
        look: of the reference, at training rows and those beside.
        y: int64, training labels.
    """
    if not _can_tell(held_out, y, look.out_of_fold.shape[1]):
        return None
    if not _says_alike(look) or not _explains_much(held_out, look, y):
        return None
    return read_again(held_out, look, y)


def read_again(held_out: Labels, look: Watched, y: Labels) -> Reading:
    """Read another look, where held-out labels are known to tell of mistakes."""
    strength, likely = choose_strength(look.beside, held_out)
    calibration = calibrate(look.beside, held_out, strength)
    mistakes, _ = explain(calibration(look.out_of_fold), y)
    return Reading(calibration, mistakes, likely)


def _can_tell(held_out: Labels, y: Labels, classes: int) -> bool:
    named = np.bincount(y, minlength=classes) > 0
    known = np.bincount(held_out, minlength=classes)[named]
    return (
        len(held_out) >= LEAST_ROWS
        and classes <= MOST_CLASSES
        and bool((known >= LEAST_OF_CLASS).all())
    )


def _says_alike(look: Watched) -> bool:
    """Whether the reference says about the same classes of both splits."""
    classes = look.beside.shape[1]
    counts = np.stack(
        [
            np.bincount(said.argmax(1), minlength=classes)
            for said in (look.out_of_fold, look.beside)
        ]
    )
    counts = counts[:, counts.sum(0) > 0]
    if counts.shape[1] > 1 and stats.chi2_contingency(counts).pvalue <= ALIKE:
        return False
    # Where it says one class of nearly all, its doubts still tell the splits apart.
    found = [
        stats.ks_2samp(ours, theirs, method="asymp").pvalue
        for ours, theirs in zip(look.out_of_fold.T, look.beside.T, strict=True)
    ]
    return bool(min(found) > ALIKE / classes)


def _explains_much(held_out: Labels, look: Watched, y: Labels) -> bool:
    """Whether mistakes explain training labels better than chance would have it."""
    calibration = calibrate(look.beside, held_out, MODERATE)
    _, better = explain(calibration(look.out_of_fold), y)
    count = min(len(held_out), len(y) // 2)
    by_chance = []
    for seed in range(DRAWS):
        order = np.random.default_rng(seed).permutation(len(y))
        drawn, others = order[:count], order[count:]
        calibration = calibrate(look.out_of_fold[drawn], y[drawn], MODERATE)
        _, here = explain(calibration(look.out_of_fold[others]), y[others])
        by_chance.append(here)
    return better > MUCH_BETTER * max(by_chance)
