"""Learning rate too low: the weights move too little in the time given.

Idea:      one sweep over learning rates; the given rate against the best above it.
           Where a schedule leaves little of it, the rate as given, kept to the end.
Source:    Smith 2018, A disciplined approach to neural network hyper-parameters,
           arXiv:1803.09820, section 4.
Blind to:  a schedule that is wrong in another way than leaving too little.
"""

from dataclasses import dataclass
from typing import ClassVar

from service.contract.causes import Cause
from service.contract.report import Finding
from worker.engine.check import Case, Measures, Mend, judge_gain, missing_field
from worker.engine.lab.experiment import RecipeChange
from worker.engine.lab.schedules import factor
from worker.engine.subject import Subject
from worker.engine.sweeps import rate_mends

_NO_SCHEDULE = "no schedule"


@dataclass(frozen=True)
class LearningRateTooLow:
    """Retrain with higher rates."""

    cause: ClassVar[Cause] = Cause.LEARNING_RATE_TOO_LOW

    little_left: float = 0.3  # of the rate, on average over a schedule
    hardly_any_left: float = 0.2

    def obstacle(self, subject: Subject) -> str | None:
        """Need the rate."""
        return missing_field(subject, "optimizer.lr")

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """Keep the rate where a schedule does not, or raise it."""
        return [
            *self._without_schedule(subject),
            *rate_mends(subject, self.cause, higher=True),
        ]

    def _without_schedule(self, subject: Subject) -> list[Mend]:
        """Keep the rate, where a schedule soon leaves little of it."""
        schedule, epochs = subject.recipe.schedule, subject.recipe.epochs
        if schedule is None:
            return []
        factors = [
            factor(schedule, step=epoch, steps_an_epoch=1, epochs=epochs)
            for epoch in range(epochs)
        ]
        left = sum(factors) / len(factors)
        if left > self.little_left:
            return []
        is_evident = left <= self.hardly_any_left
        return [
            Mend(
                cause=self.cause,
                key=_NO_SCHEDULE,
                text="Keep the learning rate as it begins: drop the schedule, which "
                f"leaves {100 * left:.0f} % of it on average",
                changes=(RecipeChange(patch={"schedule": None}),),
                sane=is_evident,
                evident=is_evident,
                urgent=is_evident,
            )
        ]

    def judge(self, subject: Subject, case: Case) -> Finding:
        """The given rate against the best above it."""
        says = f"The learning rate {subject.recipe.optimizer.lr:g} is too low"
        if case.trial is not None and case.trial.mend.key == _NO_SCHEDULE:
            says = "The schedule lowers the learning rate too early"
        return judge_gain(self, case, says=says)
