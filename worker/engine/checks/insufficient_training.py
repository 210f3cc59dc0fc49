"""Insufficient training: it was stopped while it was still improving.

Idea:      train the same network two, four and, where that is still short, enough
           times longer, from the same seeds.
Source:    Wardat et al. 2021, DeepLocalize, arXiv:2103.03376, on stopped trainings.
Blind to:  trainings that would need more than the longest factor.
"""

from dataclasses import dataclass
from typing import ClassVar

from service.contract.causes import Cause
from service.contract.report import Evidence, Finding
from worker.engine.check import Case, Measures, Mend, judge_gain, missing_field
from worker.engine.lab.experiment import RecipeChange
from worker.engine.subject import Subject
from worker.engine.sweeps import ENOUGH_UPDATES, duration_factors

FEW_UPDATES = 300  # optimiser steps below which hardly any training has settled
FEW_EPOCHS = 4


@dataclass(frozen=True)
class InsufficientTraining:
    """Retrain longer."""

    cause: ClassVar[Cause] = Cause.INSUFFICIENT_TRAINING

    falls: float = 5e-4  # share of the loss that reads as more than nothing

    def obstacle(self, subject: Subject) -> str | None:
        """Need the number of epochs."""
        return missing_field(subject, "epochs")

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """List longer trainings."""
        epochs = subject.recipe.epochs
        short = subject.updates < ENOUGH_UPDATES
        factors = duration_factors(subject)
        return [
            Mend(
                cause=self.cause,
                key=f"epochs={epochs * factor}",
                text=f"Train for {epochs * factor} epochs instead of {epochs}",
                changes=(RecipeChange(patch={"epochs": epochs * factor}),),
                sane=factor == factors[-1] and short,
                urgent=short or factor == factors[0],
                evident=subject.updates < FEW_UPDATES or epochs < FEW_EPOCHS,
            )
            for factor in factors
        ]

    def judge(self, subject: Subject, case: Case) -> Finding:
        """The run as it was against the longer ones."""
        evidence = []
        slope = case.baseline.get("late_improvement")
        if slope is not None:
            evidence.append(
                Evidence(
                    kind="training_signs",
                    statement=(
                        "In the last quarter of the run as it was the training loss "
                        + (
                            f"still fell by {100 * slope:.1f} %."
                            if slope >= self.falls
                            else "no longer fell."
                        )
                    ),
                    values={"late_improvement": slope},
                )
            )
        return judge_gain(
            self,
            case,
            says=f"{subject.recipe.epochs} epochs{_updates(subject, case)} are too few",
            evidence=evidence,
        )


def _updates(subject: Subject, case: Case) -> str:
    """Count what was trained for; a subsample makes for fewer updates."""
    return "" if case.subsample is not None else f" ({subject.updates} updates)"
