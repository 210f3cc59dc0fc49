"""Learning rate too low: the weights move too little in the time given.

Idea:      one sweep over learning rates; the given rate against the best above it.
Source:    Smith 2018, A disciplined approach to neural network hyper-parameters,
           arXiv:1803.09820, section 4.
Blind to:  a rate that is low only because the schedule decays it too early.
"""

from dataclasses import dataclass
from typing import ClassVar

from service.contract.causes import Cause
from service.contract.report import Finding
from worker.engine.check import Case, Measures, Mend, judge_gain, missing_field
from worker.engine.subject import Subject
from worker.engine.sweeps import customary_rate, is_tried_first, rate_change, rates


@dataclass(frozen=True)
class LearningRateTooLow:
    """Retrain with higher rates."""

    cause: ClassVar[Cause] = Cause.LEARNING_RATE_TOO_LOW

    def obstacle(self, subject: Subject) -> str | None:
        """Need the rate."""
        return missing_field(subject, "optimizer.lr")

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """List the rates above the given one."""
        given = subject.recipe.optimizer.lr
        found = rates(subject, higher=True)
        custom = customary_rate(subject, found, higher=True)
        found.sort(key=lambda rate: rate != custom)
        return [
            Mend(
                cause=self.cause,
                key=f"lr={rate:g}",
                text=f"Raise the learning rate from {given:g} to {rate:g}",
                changes=(rate_change(rate),),
                sane=rate == custom,
                evident=custom is not None,
                urgent=is_tried_first(subject, rate),
            )
            for rate in found
        ]

    def judge(self, subject: Subject, case: Case) -> Finding:
        """The given rate against the best above it."""
        return judge_gain(
            self,
            case,
            says=f"The learning rate {subject.recipe.optimizer.lr:g} is too low",
        )
