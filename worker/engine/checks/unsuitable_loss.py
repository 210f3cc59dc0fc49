"""Unsuitable loss: the loss does not fit the task or the outputs.

Idea:      retrain with the loss that fits what the network returns; a loss that takes
           logits and is fed probabilities applies softmax twice and stays above
           log(1 + (K - 1) / e). Retrain without very uneven class weights, too.
Source:    Bridle 1990, Probabilistic interpretation of feedforward classification
           network outputs; Guo et al. 2017, arXiv:1706.04599, on what it costs.
Blind to:  losses outside the recipe's vocabulary.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from service.contract.causes import Cause
from service.contract.report import Evidence, Finding
from worker.engine.check import Case, Measures, Mend, judge_gain, missing_field
from worker.engine.lab.experiment import Change, NetworkChange, RecipeChange
from worker.engine.outputs import (
    fits,
    is_misplaced_output,
    losses_for_output,
    may_lack_logarithm,
)
from worker.engine.subject import Subject


@dataclass(frozen=True)
class UnsuitableLoss:
    """Retrain with the fitting loss."""

    cause: ClassVar[Cause] = Cause.UNSUITABLE_LOSS

    uneven_weights: float = 20.0  # largest over smallest class weight

    def obstacle(self, subject: Subject) -> str | None:
        """Need the name of the loss."""
        return missing_field(subject, "loss.name")

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """Use the loss that fits the outputs as they are."""
        recipe = subject.recipe
        current, output = recipe.loss.name, subject.network.output_activation
        found = []
        for loss in losses_for_output(subject):
            if loss == current:
                continue
            found.append(
                self._mend(
                    f"loss={loss}",
                    f"Use {loss} instead of {current} on the {output} outputs"
                    if output != "none"
                    else f"Use {loss} instead of {current}",
                    (RecipeChange(patch={"loss": {"name": loss}}),),
                    urgent=not fits(subject),
                )
            )
        superfluous = is_misplaced_output(subject) or may_lack_logarithm(subject)
        if superfluous and output in ("softmax", "log_softmax"):
            free: tuple[Change, ...] = (NetworkChange(name="output"),)
            if current != "cross_entropy":
                free += (RecipeChange(patch={"loss": {"name": "cross_entropy"}}),)
            found.append(
                self._mend(
                    "softmax removed",
                    f"Remove the superfluous {output} before the loss",
                    free,
                    urgent=True,
                )
            )
        weights = recipe.loss.class_weights
        if weights and max(weights) > self.uneven_weights * max(min(weights), 1e-9):
            found.append(self._without("class_weights", "Drop the class weights"))
        if recipe.loss.transition_matrix is not None:
            found.append(
                self._without(
                    "transition_matrix", "Let the loss take the labels as they are"
                )
            )
        return found

    def judge(self, subject: Subject, case: Case) -> Finding:
        """The loss as it is against the fitting one."""
        classes = subject.data.classes
        floor = math.log(1 + (classes - 1) / math.e)
        last = case.baseline.get("train_loss")
        values = {
            "loss": subject.recipe.loss.name,
            "output": subject.network.output_activation,
            "final_training_loss": last,
            "double_softmax_floor": floor,
        }
        statement = (
            f"The recipe's loss is {subject.recipe.loss.name}, the network's output "
            f"is {subject.network.output_activation}."
        )
        return judge_gain(
            self,
            case,
            says=f"The loss {subject.recipe.loss.name} does not fit the outputs",
            evidence=[
                Evidence(kind="loss_and_output", statement=statement, values=values)
            ],
        )

    def _without(self, setting: str, text: str) -> Mend:
        """Take a setting out of the loss."""
        change = RecipeChange(patch={"loss": {setting: None}})
        return self._mend(
            f"no {setting.replace('_', ' ')}", text, (change,), urgent=True
        )

    def _mend(
        self, key: str, text: str, changes: tuple[Change, ...], *, urgent: bool
    ) -> Mend:
        return Mend(
            cause=self.cause,
            key=key,
            text=text,
            changes=changes,
            sane=urgent,
            urgent=urgent,
            evident=urgent,
        )
