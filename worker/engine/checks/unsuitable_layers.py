"""Unsuitable layers: the types of the layers do not fit the data.

Idea:      train a convolutional reference of about equal size, for token ids a
           recurrent one. Its advantage must come from the order of the inputs: with
           one random order of pixels or time steps it must vanish. The same at a tenth
           of the rate must beat the given network at that rate. Of networks that have
           such layers only those are doubted that return the same for the steps in any
           order, such as attention that is told no positions, or see a single step,
           such as a recurrent layer of which the first output is read; that is proof
           enough. And those that a cheap learner outdoes, which has no such layers: the
           reference must beat them, too.
           Columns of a table that hold codes of categories: a network that gives each
           code a column must beat one as large on the numbers. Tried where a linear
           learner does better with such columns, and than the delivered model.
           Of other tables plain dense layers must beat a network of more than these
           (norms over the features, say) that a cheap learner outdoes.
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
    delivered_score,
    found_in_delivery,
    judge_gain,
    not_applicable,
    pair_of,
)
from worker.engine.data import CHANNELS_FIRST
from worker.engine.lab.experiment import DataChange, NetworkChange, RecipeChange
from worker.engine.subject import Subject
from worker.engine.sweeps import rate_change, round_rate
from worker.engine.symptoms import outdone_by_a_learner
from worker.engine.wording import counted

# Layers of the right kind, outdone by a learner that has none: what they may miss.
_OF_THE_SIGHT = {
    "image": "Let the layers see the whole picture in detail (convolutions of 3 x 3 "
    "with a stride of 1, pooled little by little)",
    "series": "Let the layers see neighbouring steps in detail (convolutions of 5 "
    "steps with a stride of 1, pooled little by little)",
    "tokens": "Let what follows a recurrent layer see all its outputs (their largest "
    "values, say), not only the one behind the padding",
}
_PLAIN = "dense reference"
_BESIDE_DENSE = ("norm", "conv", "recurrent", "attention", "pool")


@dataclass(frozen=True)
class UnsuitableLayers:
    """Train a reference with the layers that fit."""

    cause: ClassVar[Cause] = Cause.UNSUITABLE_LAYERS

    told_by_codes: float = 0.03  # balanced accuracy of a linear learner, less without

    def obstacle(self, subject: Subject) -> str | None:
        """None: in any network layers may mix samples."""
        return None

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """Turn recurrent layers; train the reference, also at a lower rate."""
        if self._mixes(measures) and subject.network.has("recurrent"):
            return [self._turned()]
        if subject.data.kind == "table":
            if sizes := self._sizes_of_codes(measures):
                return [self._looked_up(sizes)]
            return [self._plain()] if self._may_lose(subject, measures) else []
        has_them = subject.network.has("conv", "recurrent", "attention")
        proof = self._seen_of_them(subject, measures)
        is_outdone = has_them and proof is None and outdone_by_a_learner(measures)
        if has_them and not proof and not is_outdone:
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
            text = proof or _OF_THE_SIGHT[subject.data.kind]
        reference = Mend(
            cause=self.cause,
            key=f"{family} reference",
            text=f"{text}, as the experiment did" if has_them else text,
            changes=(change,),
            control=() if has_them else (change, shuffled),
            late_control=not has_them,
            urgent=True,
            evident=not is_outdone,
        )
        if is_outdone:
            return [reference]
        return [
            reference,
            Mend(
                cause=self.cause,
                key=f"{family} reference, lr÷10",
                text=f"{reference.text} and a tenth of the learning rate",
                changes=(change, slower),
                control=(slower,),
                evident=True,
            ),
        ]

    def _seen_of_them(self, subject: Subject, measures: Measures) -> str | None:
        """What to do about layers that were seen not to see; None where they do."""
        if step := self._only_step(measures):
            return (
                f"Let the layers see all steps, not only the {step} one (read the last "
                "output of a recurrent layer), or build it"
            )
        if not self._is_blind(measures):
            return None
        if subject.data.kind == "image":
            return "Let the layers see neighbouring pixels (convolutions of 3 x 3, say)"
        layers = "recurrent" if subject.data.kind == "tokens" else "convolutional"
        return f"Tell the layers the positions of the steps, or use {layers} layers"

    def judge(self, subject: Subject, case: Case) -> Finding:
        """The network as it is against the reference, in order and out of order."""
        if self._mixes(case.measures):
            return self._mixing(case)
        if subject.data.kind == "table":
            return self._of_a_table(subject, case)
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
        if case.trial is not None and not case.trial.mend.evident:
            says = "A plain network of the same size sees more; so do simple learners"
        return judge_gain(self, case, says=says, evidence=evidence)

    def _of_a_table(self, subject: Subject, case: Case) -> Finding:
        """The network against one that looks codes up, where there are, or is plain."""
        if not self._sizes_of_codes(case.measures) and self._may_lose(
            subject, case.measures
        ):
            says = "The layers lose what plain dense ones see, and simple learners, too"
            if self._is_blind(case.measures):
                says = "The network returns the same for the columns in any order"
            return judge_gain(self, case, says=says)
        values = case.measures.get("codes", {})
        numbers, codes = values.get("numbers"), values.get("codes")
        if not isinstance(numbers, float) or not isinstance(codes, float):
            why = "the features of a table have no order that a layer could use"
            if values:
                why += ", and none looks like the code of a category"
            return not_applicable(self.cause, why)
        evidence = [
            Evidence(
                kind="codes",
                statement=f"{counted(int(str(values.get('columns'))), 'column')} may "
                "hold codes of categories. Looking these up a linear learner reaches "
                f"{100 * codes:.1f} % balanced accuracy on training rows that it did "
                f"not see, taking them for quantities {100 * numbers:.1f} %.",
                values=dict(values),
            )
        ]
        says = "The layers take codes of categories for quantities"
        return judge_gain(self, case, says=says, evidence=evidence)

    def _may_lose(self, subject: Subject, measures: Measures) -> bool:
        """Whether a cheap learner outdoes a network of more than dense layers."""
        has_more = subject.network.has(*_BESIDE_DENSE) or self._is_blind(measures)
        return has_more and outdone_by_a_learner(measures)

    def _sizes_of_codes(self, measures: Measures) -> list[int]:
        """How many codes each column has, where these seem to be names."""
        values = measures.get("codes", {})
        sizes, level = values.get("sizes"), values.get("level")
        gain = pair_of(values.get("gain"))
        low = level.get("low") if isinstance(level, dict) else None
        delivered = delivered_score(measures, "balanced_accuracy")
        if gain is None or not isinstance(sizes, list) or not isinstance(low, float):
            return []
        tells_more = gain.value >= self.told_by_codes and gain.low > 0
        is_outdone = delivered is not None and low > delivered
        return [int(str(n)) for n in sizes] if tells_more and is_outdone else []

    def _looked_up(self, sizes: list[int]) -> Mend:
        """One column a code, against as large a network on the numbers."""
        one_hot = NetworkChange(name="reference", to="codes", codes=tuple(sizes))
        as_given = RecipeChange(patch={"normalization": "none"})
        return Mend(
            cause=self.cause,
            key="codes looked up",
            text="Look the codes of the categories up (a column a code, or an "
            "embedding), as the experiment did",
            changes=(one_hot, as_given),
            control=(NetworkChange(name="reference", to="dense"),),
            control_name=_PLAIN,
            urgent=True,
            evident=True,
        )

    def _plain(self) -> Mend:
        """Dense layers and nothing else."""
        return Mend(
            cause=self.cause,
            key=_PLAIN,
            text="Let plain dense layers see the features as they are (nothing that "
            "normalises, orders or pools them), as the experiment did",
            changes=(NetworkChange(name="reference", to="dense"),),
            urgent=True,
        )

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
