"""Excess regularisation: dropout, weight decay or the like is too strong.

Idea:      retrain without each of them, and without all.
Source:    Srivastava et al. 2014, Dropout, JMLR 15, section A.4 (too much underfits).
Blind to:  regularisation that is built into the data, such as heavy augmentation;
           strengths between the given one and none.
"""

from dataclasses import dataclass
from typing import ClassVar

from service.contract.causes import Cause
from service.contract.report import Finding
from worker.engine.check import Case, Measures, Mend, judge_gain
from worker.engine.lab.experiment import Change, NetworkChange, RecipeChange
from worker.engine.subject import Subject


@dataclass(frozen=True)
class ExcessRegularization:
    """Retrain without the regularisation."""

    cause: ClassVar[Cause] = Cause.EXCESS_REGULARIZATION

    strong_dropout: float = 0.5  # from here on removing it is urgent
    strong_decay: float = 5e-3

    def obstacle(self, subject: Subject) -> str | None:
        """Need something to take away."""
        if not self._present(subject):
            return "neither network nor recipe holds any regularisation"
        return None

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """Take each regulariser away, then all."""
        present = self._present(subject)
        found = [
            Mend(
                cause=self.cause,
                key=key,
                text=text,
                changes=(change,),
                sane=urgent,
                urgent=urgent,
                evident=urgent,
            )
            for key, text, change, urgent in present
        ]
        if len(present) > 1:
            found.append(
                Mend(
                    cause=self.cause,
                    key="no regularisation",
                    text="Remove all regularisation",
                    changes=tuple(change for _, _, change, _ in present),
                )
            )
        return found

    def judge(self, subject: Subject, case: Case) -> Finding:
        """The run as it was against runs without regularisation."""
        return judge_gain(
            self,
            case,
            says="Regularisation is so strong that the model underfits",
        )

    def _present(self, subject: Subject) -> list[tuple[str, str, Change, bool]]:
        network, recipe = subject.network, subject.recipe
        found: list[tuple[str, str, Change, bool]] = []
        if network.dropout > 0:
            found.append(
                (
                    "no dropout",
                    f"Remove the dropout of {network.dropout:g}",
                    NetworkChange(name="dropout", p=0.0),
                    network.dropout > self.strong_dropout,
                )
            )
        if recipe.optimizer.weight_decay > 0:
            found.append(
                (
                    "no weight decay",
                    f"Remove the weight decay of {recipe.optimizer.weight_decay:g}",
                    RecipeChange(patch={"optimizer": {"weight_decay": 0.0}}),
                    recipe.optimizer.weight_decay >= self.strong_decay,
                )
            )
        if recipe.loss.label_smoothing > 0:
            found.append(
                (
                    "no label smoothing",
                    f"Remove the label smoothing of {recipe.loss.label_smoothing:g}",
                    RecipeChange(patch={"loss": {"label_smoothing": 0.0}}),
                    recipe.loss.label_smoothing >= self.strong_dropout,
                )
            )
        return found
