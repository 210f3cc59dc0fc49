"""Unsuitable activation: saturating, dying, missing or misplaced activations.

Idea:      swap the hidden activations in the graph, put one where consecutive layers
           have none, take a misplaced one off the output; retrain.
Source:    Glorot & Bengio 2010, Understanding the difficulty of training deep
           feedforward neural networks, PMLR 9.
Blind to:  an activation that is poor only at another depth or initialisation.
"""

from dataclasses import dataclass
from typing import ClassVar

from service.contract.causes import Cause
from service.contract.report import Evidence, Finding
from worker.engine.check import Case, Measures, Mend, judge_gain
from worker.engine.lab.experiment import Change, NetworkChange, RecipeChange
from worker.engine.outputs import (
    belongs_at_the_end,
    is_misplaced_output,
    raw_loss,
)
from worker.engine.subject import GOOD_ACTIVATIONS, Subject


@dataclass(frozen=True)
class UnsuitableActivation:
    """Retrain with other activations."""

    cause: ClassVar[Cause] = Cause.UNSUITABLE_ACTIVATION

    def obstacle(self, subject: Subject) -> str | None:
        """Every network has an output, at least."""
        return None

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """Swap hidden activations, free the output, or both."""
        hidden = self._hidden(subject)
        output = self._output(subject)
        found = []
        network = subject.network
        if network.before_output != "none" and not output:
            found.append(
                self._mend(
                    "nothing before the output",
                    f"Remove the {network.before_output} between the last layer and "
                    f"the {network.output_activation}",
                    (NetworkChange(name="output", to="last"),),
                    urgent=True,
                )
            )
        if output:
            found.append(
                self._mend(
                    "raw output",
                    f"Remove the {network.output_activation} after the last "
                    "layer and let the loss apply the fitting one",
                    output,
                    urgent=True,
                    evident=not belongs_at_the_end(subject),
                )
            )
        for to, urgent in hidden:
            swap = NetworkChange(name="activation", to=to)
            found.append(
                self._mend(
                    f"activation={to}",
                    f"Use {to} as the hidden activation",
                    (swap,),
                    urgent=urgent,
                )
            )
        if output and hidden and hidden[0][1]:
            swap = NetworkChange(name="activation", to=hidden[0][0])
            found.append(
                self._mend(
                    f"raw output, activation={hidden[0][0]}",
                    f"Remove the {network.output_activation} after the last "
                    f"layer and use {hidden[0][0]} between the layers",
                    (swap, *output),
                    urgent=True,
                )
            )
        return found

    def judge(self, subject: Subject, case: Case) -> Finding:
        """The activations as they are against others."""
        ratio = case.baseline.get("gradient_ratio")
        dead = case.baseline.get("dead_share")
        saturated = case.baseline.get("saturated_share")
        network = subject.network
        before = network.before_output
        output = network.output_activation + (
            f" of what a {before} lets through" if before != "none" else ""
        )
        evidence = [
            Evidence(
                kind="activations",
                statement=(
                    "Hidden activations: "
                    + (", ".join(dict.fromkeys(network.activations)) or "none")
                    + f"; output: {output}."
                ),
                values={
                    "hidden": list(network.activations[:50]),
                    "output": network.output_activation,
                    "before_output": before,
                    "linear_stack": network.linear_stack,
                    "gradient_ratio": ratio,
                    "dead_share": dead,
                    "saturated_share": saturated,
                },
            )
        ]
        says = "The activations hold the training back"
        if network.linear_stack:
            says = "Consecutive layers have no activation between them"
        return judge_gain(self, case, says=says, evidence=evidence)

    def _mend(
        self,
        key: str,
        text: str,
        changes: tuple[Change, ...],
        *,
        urgent: bool,
        evident: bool | None = None,
    ) -> Mend:
        return Mend(
            cause=self.cause,
            key=key,
            text=text,
            changes=changes,
            sane=urgent,
            urgent=urgent,
            evident=urgent if evident is None else evident,
        )

    def _hidden(self, subject: Subject) -> list[tuple[str, bool]]:
        """List (activation, whether a sign speaks for it)."""
        network = subject.network
        if network.weighted_layers == 1 or network.has("recurrent", "attention"):
            return []
        used = set(network.activations)
        odd = network.linear_stack or bool(used - GOOD_ACTIVATIONS - {"tanh"})
        if odd or not used:
            return [("relu", True), ("tanh", True)]  # deep, narrow ones die of relu
        if used <= {"tanh"}:
            return [("relu", False)]
        return [("leaky_relu", False), ("tanh", False)]

    def _output(self, subject: Subject) -> tuple[Change, ...]:
        if not is_misplaced_output(subject):
            return ()
        loss = raw_loss(subject)
        changes: tuple[Change, ...] = (NetworkChange(name="output"),)
        if loss != subject.recipe.loss.name:
            changes += (RecipeChange(patch={"loss": {"name": loss}}),)
        return changes
