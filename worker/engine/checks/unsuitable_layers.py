"""Unsuitable layers: the types of the layers do not fit the data.

Idea:      train a convolutional reference of about equal size, for token ids a
           recurrent one. Its advantage must come from the order of the inputs: with
           one random order of pixels or time steps it must vanish. The same at a tenth
           of the rate must beat the given network at that rate. Of networks that have
           such layers only those are doubted that return the same for the steps in any
           order, such as attention that is told no positions, or see a single step,
           such as a recurrent layer of which the first output is read; that is proof
           enough.
           Layers that mix the samples of a batch in evaluation mode are unsuitable
           whatever is trained; recurrent ones are turned to the right axis.
Source:    LeCun et al. 1989, Generalization and network design strategies.
Blind to:  pictures and series that were flattened into a table before the upload.
"""

from dataclasses import dataclass
from typing import ClassVar

from service.contract.causes import Cause
from service.contract.report import Evidence, Finding
from worker.engine.check import (
    Case,
    Measures,
    Mend,
    found_in_delivery,
    judge_gain,
    not_applicable,
)
from worker.engine.data import CHANNELS_FIRST
from worker.engine.lab.experiment import DataChange, NetworkChange
from worker.engine.subject import Subject
from worker.engine.sweeps import rate_change, round_rate


@dataclass(frozen=True)
class UnsuitableLayers:
    """Train a reference with the layers that fit."""

    cause: ClassVar[Cause] = Cause.UNSUITABLE_LAYERS

    def obstacle(self, subject: Subject) -> str | None:
        """None: in any network layers may mix samples."""
        return None

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """Turn recurrent layers; train the reference, also at a lower rate."""
        if self._mixes(measures) and subject.network.has("recurrent"):
            return [self._turned()]
        if subject.data.kind == "table":
            return []
        has_them = subject.network.has("conv", "recurrent", "attention")
        step = self._only_step(measures)
        if has_them and not step and not self._is_blind(measures):
            return []
        family = "recurrent" if subject.data.kind == "tokens" else "conv"
        turned = subject.data.layout == CHANNELS_FIRST
        change = NetworkChange(
            name="reference", to="conv_channels_first" if turned else family
        )
        slower = rate_change(round_rate(subject.recipe.optimizer.lr / 10))
        shuffled = DataChange(name="permute_features")
        layers = "recurrent" if family == "recurrent" else "convolutional"
        text = f"Use {layers} layers"
        if has_them:
            text = (
                f"Tell the layers the positions of the steps, or use {layers} layers, "
                "as the experiment did"
            )
        if has_them and subject.data.kind == "image":
            text = (
                "Let the layers see neighbouring pixels (convolutions of 3 x 3, say), "
                "as the experiment did"
            )
        if has_them and step:
            text = (
                f"Let the layers see all steps, not only the {step} one (read the last "
                "output of a recurrent layer), or build it as the experiment did"
            )
        return [
            Mend(
                cause=self.cause,
                key=f"{family} reference",
                text=text,
                changes=(change,),
                control=() if has_them else (change, shuffled),
                late_control=not has_them,
                urgent=True,
                evident=True,
            ),
            Mend(
                cause=self.cause,
                key=f"{family} reference, lr÷10",
                text=text + " and a tenth of the learning rate",
                changes=(change, slower),
                control=(slower,),
                evident=True,
            ),
        ]

    def judge(self, subject: Subject, case: Case) -> Finding:
        """The network as it is against the reference, in order and out of order."""
        if self._mixes(case.measures):
            return self._mixing(case)
        if subject.data.kind == "table":
            return not_applicable(
                self.cause,
                "the features of a table have no order that a layer could use",
            )
        evidence = []
        ordered = [f for k, f in case.arms.items() if k.endswith("reference")]
        shuffled = [f for k, f in case.arms.items() if k.endswith("reference|control")]
        if ordered and shuffled:
            first = ordered[0]["balanced_accuracy"]
            second = shuffled[0]["balanced_accuracy"]
            evidence.append(
                Evidence(
                    kind="order_matters",
                    statement=(
                        f"The reference reaches {first:.3f} balanced accuracy, and "
                        f"{second:.3f} once the order of the inputs is destroyed."
                    ),
                    values={"in_order": first, "out_of_order": second},
                )
            )
        says = "The layers do not see the structure of the data"
        if self._is_blind(case.measures):
            of = "pixels" if subject.data.kind == "image" else "steps"
            says = f"The network returns the same for the {of} in any order"
        if step := self._only_step(case.measures):
            says = f"The network sees only the {step} step of each sample"
        return judge_gain(self, case, says=says, evidence=evidence)

    def _turned(self) -> Mend:
        return Mend(
            cause=self.cause,
            key="batch first",
            text="Set `batch_first=True` in the recurrent layers, which take the batch "
            "for time",
            changes=(NetworkChange(name="batch_first"),),
            sane=True,
            urgent=True,
            evident=True,
        )

    def _mixing(self, case: Case) -> Finding:
        """Layers that mix samples: what turning them brings, where that is known."""
        company = case.measures["determinism"].get("company")
        values = company if isinstance(company, dict) else {}
        share = values.get("changed")
        changed = float(share) if isinstance(share, int | float) else 0.0
        says = (
            f"The layers mix the samples of a batch: {100 * changed:.1f} % of the "
            "answers change with the company, in evaluation mode as well"
        )
        evidence = [Evidence(kind="mixed_samples", statement=f"{says}.", values=values)]
        finding = judge_gain(self, case, says=says, evidence=evidence)
        if finding.verdict == "found":
            return finding
        return found_in_delivery(
            self.cause,
            None,
            summary=f"{says}. What that costs is not known.",
            text="Find the layer that takes the batch for another axis: a recurrent "
            "layer without `batch_first`, a softmax over axis 0, a reshape that moves "
            "values between samples.",
            evidence=finding.evidence,
            method="",
        ).model_copy(update={"experiments": finding.experiments})

    def _mixes(self, measures: Measures) -> bool:
        """Whether answers depend on the other samples, in evaluation mode as well."""
        return measures.get("determinism", {}).get("mixes") is True

    def _is_blind(self, measures: Measures) -> bool:
        """Whether the network tells nothing of the order of the steps."""
        return measures.get("order", {}).get("blind") is True

    def _only_step(self, measures: Measures) -> str | None:
        """The one step that the network sees, if it sees no other."""
        step = measures.get("order", {}).get("sees_only")
        return step if isinstance(step, str) else None
