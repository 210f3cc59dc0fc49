"""What the recipe yields, scored in the form that suits the delivered model best."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import stats

from worker.engine.check import Measures

OTHER_FORM = "other_form"  # the measurement, beside those of the probes
FAR_BETTER = 0.1  # balanced accuracy, beyond chance
LEAST_DEVIATION = 0.02  # of balanced accuracy from seed to seed
P_VALUE = 0.01  # of a network by the recipe doing so well
LEARNED = 0.05  # p value of all of them doing better than chance


@dataclass(frozen=True)
class ShownInOtherForm:
    """What the recipe yields, scored in another form.

    Attributes:
        levels: balanced accuracy from each seed.
    """

    levels: tuple[float, ...]

    @classmethod
    def read(cls, measures: Measures) -> Self | None:
        """Read what was measured; None where nothing was."""
        levels = measures.get(OTHER_FORM, {}).get("levels")
        if not isinstance(levels, list) or len(levels) < 2:  # noqa: PLR2004
            return None
        return cls(tuple(float(str(level)) for level in levels))

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
        count = len(self.levels)
        margin = float(stats.t.isf(P_VALUE, count - 1)) * self.deviation
        return bool(
            level - self.mean > max(FAR_BETTER, margin * (1 + 1 / count) ** 0.5)
        )

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
