"""Wrong labels that stand together: rows of one file, one day, one annotator.

Rows are taken in the order in which they were uploaded. A run of them is looked for
that the reference contradicts far more often than the others, each class compared with
itself, since classes are seldom equally hard and often sorted. Within it labels may
have slipped: then those of the next row, or of the one before, are what is expected.
Source: Page 1954, Continuous inspection schemes, Biometrika 41:100 (cumulative sums).
"""

from dataclasses import dataclass

import numpy as np

from worker.engine.probes.material import Flags, Floats, Labels

MOST_BORDERS = 200  # between which runs are looked for
LEAST_SHARE, MOST_SHARE = 0.05, 0.6  # of the rows, that a run may hold
LEAST_ROWS = 30
STANDS_OUT = 6.0  # deviations; of shuffled rows one in a thousand reaches 4.5
LEAST_MORE = 0.3  # of its rows, that are contradicted beyond what others are
LEAST_FIT = 0.2  # probability that labels of the neighbours have beyond the given ones


@dataclass(frozen=True)
class Run:
    """Rows that stand together.

    Attributes:
        places: int64, of its rows, in upload order.
        contradicted, elsewhere: share of its rows, and of the others.
        moved_by: the label of the row so many places further on fits, 0 for none.
    """

    places: Labels
    contradicted: float
    elsewhere: float
    moved_by: int = 0


def worst_run(said: Floats, y: Labels, rows: Labels) -> Run | None:
    """Find the run that is contradicted most beyond the others, if any stands out.

    Args:
        said: float64, (rows, classes), probabilities by members that never saw them.
        y: int64, (rows,), labels.
        rows: int64, (rows,), places in the upload.
    """
    order = np.argsort(rows, kind="stable")
    contradicted = (said.argmax(1) != y).astype(np.float64)
    by_class = np.bincount(y, contradicted) / np.maximum(np.bincount(y), 1)
    beyond = (contradicted - by_class[y])[order]
    count, deviation = len(y), float(beyond.std())
    if count < 2 * LEAST_ROWS or deviation <= 0:
        return None
    borders = np.unique(np.linspace(0, count, MOST_BORDERS + 1).astype(np.int64))
    sums = np.concatenate([[0.0], np.cumsum(beyond)])[borders]
    length = borders[None, :] - borders[:, None]
    is_run = (length >= max(LEAST_ROWS, LEAST_SHARE * count)) & (
        length <= MOST_SHARE * count
    )
    share = np.clip(length / count, 1e-9, 1 - 1e-9)
    spread = deviation * np.sqrt(count * share * (1 - share))
    score = np.where(is_run, (sums[None, :] - sums[:, None]) / spread, -np.inf)
    first, last = np.unravel_index(int(score.argmax()), score.shape)
    inside = np.zeros(count, dtype=np.bool_)
    inside[order[borders[first] : borders[last]]] = True
    within, elsewhere = (float(contradicted[f].mean()) for f in (inside, ~inside))
    if score[first, last] < STANDS_OUT or within - elsewhere < LEAST_MORE:
        return None
    places = order[borders[first] : borders[last]]
    return Run(places, within, elsewhere, _moved_by(said, y, rows, places))


def _moved_by(said: Floats, y: Labels, rows: Labels, places: Labels) -> int:
    """Say whether labels of the neighbours fit, 1 or -1 for those after and before."""
    own = float(said[places, y[places]].mean())
    fits = {}
    for by in (1, -1):
        here, there = neighbours(rows, places, by)
        if len(here) >= LEAST_ROWS:
            fits[by] = float(said[here, y[there]].mean())
    best = max(fits, key=lambda by: fits[by], default=0)
    return best if best and fits[best] >= own + LEAST_FIT else 0


def neighbours(rows: Labels, places: Labels, by: int) -> tuple[Labels, Labels]:
    """Pair the places of a run with those of the rows so many further on in it.

    Args:
        rows: int64, places in the upload.
        places: int64, of the run, in upload order.
        by: 1 or -1.

    Returns:
        Both int64; rows whose neighbour is not there are left out.
    """
    here, there = (places[:-1], places[1:]) if by > 0 else (places[1:], places[:-1])
    together = np.abs(rows[there] - rows[here]) == 1
    return here[together], there[together]


def flags_of(places: Labels, rows: int) -> Flags:
    """Flag places: bool, (rows,)."""
    found = np.zeros(rows, dtype=np.bool_)
    found[places] = True
    return found
