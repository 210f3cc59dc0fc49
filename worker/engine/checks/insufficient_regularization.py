"""Insufficient regularisation: the model overfits, and holding it down would help.

Idea:      retrain with weight decay, dropout, augmentation of pictures and fewer epochs
           (early stopping), everything else as it was.
Source:    Srivastava et al. 2014, Dropout, JMLR 15; Loshchilov & Hutter 2019,
           arXiv:1711.05101.
Blind to:  regularisers outside this list, such as label smoothing.
"""

from dataclasses import dataclass
from typing import ClassVar

from service.contract.causes import Cause
from service.contract.report import Evidence, Finding
from worker.engine.check import Case, Measures, Mend, delivered_score, judge_gain
from worker.engine.lab.experiment import (
    Change,
    DataChange,
    NetworkChange,
    RecipeChange,
)
from worker.engine.subject import Subject


@dataclass(frozen=True)
class InsufficientRegularization:
    """Retrain with more regularisation."""

    cause: ClassVar[Cause] = Cause.INSUFFICIENT_REGULARIZATION

    wide_gap: float = 0.07  # training minus held-out balanced accuracy
    weak_dropout: float = 0.4  # probability below which more is tried
    early: tuple[int, ...] = (4, 16)  # parts of the epochs to stop after
    least_epochs: int = 2  # fewer are hardly any training

    def obstacle(self, subject: Subject) -> str | None:
        """Any training can be regularised."""
        return None

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """List regularisers, the usual ones first."""
        recipe = subject.recipe
        gap = delivered_score(measures, "gap")
        urgent = gap is not None and gap >= self.wide_gap
        found = []
        if (
            subject.network.dropout < self.weak_dropout
            and subject.network.weighted_layers > 1
        ):
            found.append(
                self._mend(
                    "dropout=0.5",
                    "Put dropout of 0.5 after the hidden layers",
                    (NetworkChange(name="dropout", p=0.5),),
                    urgent=urgent,
                )
            )
        found += [
            self._mend(
                f"weight_decay={decay:g}",
                f"Use a weight decay of {decay:g}",
                (RecipeChange(patch={"optimizer": {"weight_decay": decay}}),),
                urgent=urgent and position == 0,
            )
            for position, decay in enumerate((1e-2, 1e-3, 1e-1))
            if decay > 3 * recipe.optimizer.weight_decay
        ]
        if subject.data.kind == "image":
            found.append(
                self._mend(
                    "augment",
                    "Augment the pictures with small random shifts",
                    (DataChange(name="augment"),),
                    urgent=urgent,
                )
            )
        for part in self.early:
            shorter = recipe.epochs // part
            if shorter >= self.least_epochs:
                found.append(
                    self._mend(
                        f"epochs={shorter}",
                        f"Stop after {shorter} epochs (early stopping)",
                        (RecipeChange(patch={"epochs": shorter}),),
                        urgent=urgent,
                    )
                )
        return found

    def judge(self, subject: Subject, case: Case) -> Finding:
        """The run as it was against regularised ones."""
        gap = case.baseline.get("gap", 0.0)
        return judge_gain(
            self,
            case,
            says=f"The model overfits (training is {100 * gap:.0f} points above "
            "held-out)",
            evidence=[
                Evidence(
                    kind="generalisation_gap",
                    statement=(
                        "Retrained, balanced accuracy on training data is "
                        f"{100 * gap:.1f} points above held-out data."
                    ),
                    values={"gap": gap},
                )
            ],
        )

    def _mend(
        self, key: str, text: str, changes: tuple[Change, ...], *, urgent: bool = False
    ) -> Mend:
        return Mend(
            cause=self.cause,
            key=key,
            text=text,
            changes=changes,
            urgent=urgent,
            evident=urgent,
        )
