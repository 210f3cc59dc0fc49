"""The order in which rows are visited, and batches of it.

The order of a pass over the rows depends on the seed, its number and the rows of the
experiment; an arm that trains on fewer rows visits those in the same order.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from service.contract.recipe import SamplerName
from worker.engine.randomness import numpy_generator

Rows = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def batches_of(count: int, batch: int, *, drop_single: bool) -> int:
    """Return how many batches so many rows make; see `Stream` for what is meant."""
    steps = -(-count // batch)
    if drop_single and steps > 1 and count % batch == 1:
        return steps - 1
    return steps


@dataclass(frozen=True)
class Stream:
    """The endless sequence of batches that one member sees.

    Attributes:
        seed: governs the order.
        base: int64, ascending places of the experiment's rows in the training split.
        kept: bool, (training rows,): the rows of this arm.
        labels: int64, (training rows,): for the balanced sampler.
        batch: rows a batch.
        sampler: `shuffle`, `balanced` (classes equally likely, rows drawn with
            replacement) or `sequential`.
        drop_single: leave out a last batch of one row, which batch statistics cannot
            bear.
        whole: rows of an epoch where some of them are left out in turn. Batches are as
            large, and as many, as all of them would make: a last batch of three rows
            shakes a network that one of twenty leaves at rest.
    """

    seed: int
    base: Rows
    kept: Flags
    labels: Rows
    batch: int
    sampler: SamplerName
    drop_single: bool = False
    whole: int | None = None

    @property
    def count(self) -> int:
        """Rows that can be visited."""
        return int(self.kept[self.base].sum())

    @property
    def rows_an_epoch(self) -> int:
        """Rows visited in the batches of an epoch."""
        return self.whole or self.count

    @property
    def steps_an_epoch(self) -> int:
        """Batches an epoch, a last short one included."""
        return batches_of(self.rows_an_epoch, self.batch, drop_single=self.drop_single)

    def take(self, start: int, steps: int) -> tuple[Rows, Flags]:
        """Return batches `start` to `start + steps - 1`.

        Returns:
            int64, (steps, batch), places in the training split, and bool, likewise,
            False where a short batch was padded.
        """
        per_epoch = self.steps_an_epoch
        places = np.zeros((steps, self.batch), dtype=np.int64)
        real = np.zeros((steps, self.batch), dtype=np.bool_)
        done = 0
        while done < steps:
            epoch, first = divmod(start + done, per_epoch)
            many = min(steps - done, per_epoch - first)
            order = _padded(self._visited(epoch), per_epoch, self.batch)
            places[done : done + many] = order[0][first : first + many]
            real[done : done + many] = order[1][first : first + many]
            done += many
        return places, real

    def _visited(self, epoch: int) -> Rows:
        """Return the rows of an epoch, in order; rows run on from pass to pass.

        Not in the order of the file, which begins with each epoch: what is learned last
        counts there. Some rows are visited twice in their place instead.
        """
        if self.whole is None:
            return self._order(epoch)
        if self.sampler == "sequential":
            rows = self._order(epoch)
            return rows[np.arange(self.whole) * len(rows) // self.whole]
        count, begin = self.count, epoch * self.whole
        passes = range(begin // count, -(-(begin + self.whole) // count))
        rows = np.concatenate([self._order(one) for one in passes])
        skipped = begin - passes.start * count
        return rows[skipped : skipped + self.whole]

    def _order(self, epoch: int) -> Rows:
        if self.sampler == "sequential":
            return self.base[self.kept[self.base]]
        if self.sampler == "shuffle":
            order = _shuffled(self.seed, epoch, len(self.base))
            visited = self.base[order]
            return np.asarray(visited[self.kept[visited]])
        rng = numpy_generator(self.seed, "balanced", epoch)
        rows = self.base[self.kept[self.base]]
        rows = rows[np.argsort(self.labels[rows], kind="stable")]
        counts = np.bincount(self.labels[rows])
        starts = np.cumsum(counts) - counts
        present = np.flatnonzero(counts)
        drawn = present[rng.integers(len(present), size=len(rows))]
        within = (rng.random(len(rows)) * counts[drawn]).astype(np.int64)
        return np.asarray(rows[starts[drawn] + within])


@lru_cache(maxsize=32)
def _shuffled(seed: int, epoch: int, count: int) -> Rows:
    """Shuffle an epoch; arms of one seed ask for the same one in turn."""
    return numpy_generator(seed, "order", epoch).permutation(count)


def _padded(order: Rows, steps: int, batch: int) -> tuple[Rows, Flags]:
    size = steps * batch
    places = np.zeros(size, dtype=np.int64)
    count = min(len(order), size)
    places[:count] = order[:count]
    real = np.arange(size) < count
    return places.reshape(steps, batch), real.reshape(steps, batch)
