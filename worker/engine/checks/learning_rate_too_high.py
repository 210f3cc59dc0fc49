"""Learning rate too high: the training oscillates or diverges.

Idea:      one sweep over learning rates; the given rate against the best below it.
Source:    Smith 2018, A disciplined approach to neural network hyper-parameters,
           arXiv:1803.09820, section 4.
Blind to:  a rate that hurts only with another batch size or optimiser.
"""

from dataclasses import dataclass
from typing import ClassVar

from service.contract.causes import Cause
from service.contract.report import Evidence, Finding
from worker.engine.check import Case, Measures, Mend, judge_gain, missing_field
from worker.engine.subject import Subject
from worker.engine.sweeps import rate_mends


@dataclass(frozen=True)
class LearningRateTooHigh:
    """Retrain with lower rates."""

    cause: ClassVar[Cause] = Cause.LEARNING_RATE_TOO_HIGH

    high_rate: float = 0.05  # absolute; from here on the sweep downwards is urgent

    def obstacle(self, subject: Subject) -> str | None:
        """Need the rate."""
        return missing_field(subject, "optimizer.lr")

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """List the rates below the given one."""
        return rate_mends(subject, self.cause, higher=False, high_rate=self.high_rate)

    def judge(self, subject: Subject, case: Case) -> Finding:
        """The given rate against the best below it."""
        evidence = []
        oscillation = case.baseline.get("oscillation")
        if oscillation is not None:
            diverged = case.baseline.get("diverged_share", 0.0)
            evidence.append(
                Evidence(
                    kind="training_signs",
                    statement=(
                        f"In the run as it was the loss oscillates by "
                        f"{oscillation:.2f} and {100 * diverged:.0f} % of the "
                        "repeats diverge."
                    ),
                    values={"oscillation": oscillation, "diverged_share": diverged},
                )
            )
        return judge_gain(
            self,
            case,
            says=f"The learning rate {subject.recipe.optimizer.lr:g} is too high",
            evidence=evidence,
        )
