"""What the recipe yields, scored in the form that suits the delivered model best."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import stats

from worker.engine.check import Measures

OTHER_FORM = "other_form"  # the measurement, beside those of the probes
FAR_BETTER = 0.1  # balanced accuracy, beyond chance
LEAST_DEVIATION = 0.02  # of balanced accuracy from seed to seed
FITS_BETTER, LEAST_DEVIATION_OF_FIT = 0.05, 0.01  # likewise, on training rows
P_VALUE = 0.01  # of a network by the recipe doing so well
LEARNED = 0.05  # p value of all of them doing better than chance


@dataclass(frozen=True)
class ShownInOtherForm:
    """What the recipe yields, scored in another form.

    Attributes:
        levels: balanced accuracy from each seed.
        train_levels: the same on training rows; empty where it is not known.
    """

    levels: tuple[float, ...]
    train_levels: tuple[float, ...] = ()

    @classmethod
    def read(cls, measures: Measures) -> Self | None:
        """Read what was measured; None where nothing was."""
        found = measures.get(OTHER_FORM, {})
        levels, on_train = (
            tuple(float(str(level)) for level in shown)
            if isinstance(shown := found.get(name), list)
            else ()
            for name in ("levels", "train_levels")
        )
        return cls(levels, on_train) if len(levels) > 1 else None

    @property
    def mean(self) -> float:
        """Mean balanced accuracy."""
        return float(np.mean(self.levels))

    @property
    def deviation(self) -> float:
        """Deviation of it from seed to seed; a few may agree by chance."""
        return max(float(np.std(self.levels, ddof=1)), LEAST_DEVIATION)

    def falls_short_of(self, level: float) -> bool:
        """Whether the recipe yields nothing that does so well in that form.

        By the prediction interval of one more training.
        """
        margin = self._margin * self.deviation
        return bool(level - self.mean > max(FAR_BETTER, margin))

    def fits_less_than(self, level: float) -> bool:
        """Whether nothing that the recipe yields fits the training rows so well there.

        These are many, and weights know them best in the form of their training. A
        training that went wrong says nothing of how well others may fit, so that the
        better half alone counts.
        """
        if len(self.train_levels) < 2:  # noqa: PLR2004 - a deviation needs two
            return False
        usual = float(np.median(self.train_levels))
        better = np.sort(self.train_levels)[len(self.train_levels) // 2 :]
        deviation = float(np.sqrt(((better - usual) ** 2).mean()))
        margin = self._margin * max(deviation, LEAST_DEVIATION_OF_FIT)
        return bool(level - usual > max(FITS_BETTER, margin))

    @property
    def _margin(self) -> float:
        """Deviations from the mean that one more training hardly exceeds."""
        count = len(self.levels)
        return float(stats.t.isf(P_VALUE, count - 1)) * float((1 + 1 / count) ** 0.5)

    def hit_by_chance(self, level: float, chance: float) -> bool:
        """Whether the recipe yields such a level there, by chance alone.

        Its networks do about as well, and no better than chance on average: what hardly
        moved hits, or misses, in whatever form.

        Args:
            level: balanced accuracy of the delivered weights in that form.
            chance: balanced accuracy of guessing.
        """
        if self.falls_short_of(level):
            return False
        count = len(self.levels)
        margin = float(stats.t.isf(LEARNED, count - 1)) * self.deviation / count**0.5
        return bool(self.mean - margin <= chance)
