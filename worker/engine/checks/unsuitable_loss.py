"""Unsuitable loss: the loss does not fit the task or the outputs.

Idea:      retrain with the loss that fits what the network returns; a loss that takes
           logits and is fed probabilities applies softmax twice and stays above
           log(1 + (K - 1) / e). Retrain without very uneven class weights, too.
Source:    Bridle 1990, Probabilistic interpretation of feedforward classification
           network outputs; Guo et al. 2017, arXiv:1706.04599, on what it costs.
Blind to:  losses outside the recipe's vocabulary.
"""

import math
from collections.abc import Sequence
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
from worker.engine.wording import figure

WEIGHTS, MATRIX = "class_weights", "transition_matrix"


@dataclass(frozen=True)
class UnsuitableLoss:
    """Retrain with the fitting loss."""

    cause: ClassVar[Cause] = Cause.UNSUITABLE_LOSS

    uneven_weights: float = 20.0  # largest over smallest class weight
    more_uneven: float = 2.0  # times as uneven as the classes, that these make them

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
                    _use(loss, current, output),
                    (RecipeChange(patch={"loss": {"name": loss}}),),
                    urgent=not fits(subject),
                )
            )
        superfluous = is_misplaced_output(subject) or may_lack_logarithm(subject)
        if superfluous and output in ("softmax", "log_softmax"):
            free: tuple[Change, ...] = (NetworkChange(name="output"),)
            text = f"Remove the superfluous {output} before the loss"
            if current != "cross_entropy":
                text += " and use cross_entropy"
                free += (RecipeChange(patch={"loss": {"name": "cross_entropy"}}),)
            found.append(
                self._mend(
                    "softmax removed",
                    text,
                    free,
                    urgent=True,
                )
            )
        weights = recipe.loss.class_weights
        if weights and self._are_odd(weights, subject.data.class_counts):
            found.append(self._without(WEIGHTS, "Drop the class weights"))
        if recipe.loss.transition_matrix is not None:
            found.append(
                self._without(MATRIX, "Let the loss take the labels as they are")
            )
        return found

    def _are_odd(self, weights: Sequence[float], counts: Sequence[int]) -> bool:
        """Whether class weights are very uneven, or favour classes of many rows."""
        if _unevenness(weights) > self.uneven_weights:
            return True
        weighed = [w * n for w, n in zip(weights, counts, strict=True)]
        return _unevenness(weighed) > self.more_uneven * _unevenness(counts)

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
        weights = subject.recipe.loss.class_weights
        if weights:
            statement += (
                f" Its class weights lie between {figure(min(weights))} and "
                f"{figure(max(weights))}; the largest class has "
                f"{subject.data.imbalance:.1f} times the rows of the smallest."
            )
        return judge_gain(
            self,
            case,
            says=self._says(subject, case),
            evidence=[
                Evidence(kind="loss_and_output", statement=statement, values=values)
            ],
        )

    def _says(self, subject: Subject, case: Case) -> str:
        """Name the part of the loss whose mending did it good."""
        key = case.trial.mend.key if case.trial is not None else ""
        if key == _key(WEIGHTS):
            return "The class weights of the loss do not fit the data"
        if key == _key(MATRIX):
            return "The loss expects other mistakes among the labels than there are"
        return f"The loss {subject.recipe.loss.name} does not fit the outputs"

    def _without(self, setting: str, text: str) -> Mend:
        """Take a setting out of the loss."""
        change = RecipeChange(patch={"loss": {setting: None}})
        return self._mend(_key(setting), text, (change,), urgent=True)

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


def _key(setting: str) -> str:
    return f"no {setting.replace('_', ' ')}"


def _use(loss: str, current: str, output: str) -> str:
    """Say what to use in words that hold in torch, where names mean other things.

    The recipe's `nll` takes the logarithm of probabilities by itself; torch's NLLLoss
    takes log-probabilities, and of probabilities it makes nonsense in silence.
    """
    if output == "none":
        return f"Use {loss} instead of {current}"
    text = f"Use {loss} instead of {current} on the {output} outputs"
    if loss == "nll" and output in ("softmax", "sigmoid"):
        verb = "keep" if current == "cross_entropy" else "use"
        summed = "" if output == "softmax" else "divide them by their sum, "
        return (
            f"{text} ({summed}take their logarithm, torch.log, and use NLLLoss; or "
            f"drop the {output} and {verb} cross_entropy)"
        )
    return text


def _unevenness(values: Sequence[float]) -> float:
    """The largest over the smallest."""
    return max(values) / max(min(values), 1e-9)
