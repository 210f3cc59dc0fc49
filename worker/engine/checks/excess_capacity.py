"""Excess capacity: a smaller model generalises better; this one memorises.

Idea:      retrain at a quarter, a half and a sixteenth of the width. A large network
           that does as well as a small one is not at fault.
Source:    Nakkiran et al. 2020, Deep double descent, arXiv:1912.02292 (where more width
           does harm).
Blind to:  networks whose size does harm only together with too few epochs.
"""

from dataclasses import dataclass
from typing import ClassVar

from service.contract.causes import Cause
from service.contract.report import Finding
from worker.engine.check import Case, Measures, Mend, judge_gain
from worker.engine.lab.experiment import NetworkChange
from worker.engine.subject import Subject

DIVISORS = (4, 2, 16)


@dataclass(frozen=True)
class ExcessCapacity:
    """Retrain narrower."""

    cause: ClassVar[Cause] = Cause.EXCESS_CAPACITY

    parameters_a_row: float = 5.0  # from here on memorising is to be expected

    def obstacle(self, subject: Subject) -> str | None:
        """A network without hidden layers cannot shrink."""
        if subject.network.smallest_width is None:
            return "the network has no hidden layer that could be narrower"
        return None

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """Narrow the hidden layers."""
        smallest = subject.network.smallest_width or 1
        first = DIVISORS[0]
        ratio = subject.network.parameters / max(1, subject.data.rows["train"])
        return [
            Mend(
                cause=self.cause,
                key=f"width÷{divisor}",
                text=f"Make the hidden layers {divisor} times narrower",
                changes=(NetworkChange(name="width", factor=1 / divisor),),
                urgent=divisor == first and ratio >= self.parameters_a_row,
            )
            for divisor in DIVISORS
            if smallest >= 2 * divisor
        ]

    def judge(self, subject: Subject, case: Case) -> Finding:
        """The network as it is against narrower ones."""
        return judge_gain(
            self, case, says="The network is larger than the data support"
        )
