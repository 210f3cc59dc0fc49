"""Insufficient capacity: the model cannot represent the relation, however trained.

Idea:      retrain wider at the given learning rate, the widest also at a third of it
           against the given network at that rate; where a layer is far narrower than
           the others, widen it alone; without hidden layers, retrain a dense reference.
Source:    Zhang et al. 2017, Understanding deep learning requires rethinking
           generalization, arXiv:1611.03530, on what width lets a network fit.
Blind to:  relations that need another type of layer (see `unsuitable_layers`).
"""

from dataclasses import dataclass
from typing import ClassVar

from service.contract.causes import Cause
from service.contract.report import Evidence, Finding
from worker.engine.check import Case, Measures, Mend, judge_gain
from worker.engine.lab.experiment import NetworkChange
from worker.engine.subject import Subject
from worker.engine.sweeps import rate_change, round_rate


@dataclass(frozen=True)
class InsufficientCapacity:
    """Retrain wider."""

    cause: ClassVar[Cause] = Cause.INSUFFICIENT_CAPACITY

    narrow: int = 8  # channels; from here down also try eight times the width
    hidden: int = 32  # units a layer, where there is none
    bottleneck: float = 0.25  # of the usual width, from here down
    wide: int = 64  # channels; from here up only double, more costs too much

    def obstacle(self, subject: Subject) -> str | None:
        """Any network can be widened or replaced by a larger one."""
        return None

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """Widen, or replace a network without hidden layers by one that has some."""
        smallest = subject.network.smallest_width
        if smallest is None:
            reference = NetworkChange(name="reference", to="dense", least=self.hidden)
            return [
                Mend(
                    cause=self.cause,
                    key="hidden layers",
                    text="Add hidden layers",
                    changes=(reference,),
                    urgent=True,
                    evident=True,
                )
            ]
        usual = subject.network.usual_width or smallest
        is_narrow, found = smallest <= self.narrow, []
        if smallest <= self.bottleneck * usual:
            found.append(
                Mend(
                    cause=self.cause,
                    key=f"width≥{usual}",
                    text=f"Widen the hidden layers of fewer than {usual} units to "
                    f"{usual}",
                    changes=(NetworkChange(name="width", factor=1.0, least=usual),),
                    urgent=is_narrow,
                    evident=smallest <= self.narrow // 2,
                )
            )
            smallest = usual
        factors = [4, 2]
        if smallest <= self.narrow:
            factors = [8, 4, 2]
        elif smallest >= self.wide:
            factors = [2]
        slower = rate_change(round_rate(subject.recipe.optimizer.lr / 3))
        for factor in factors:
            wide = NetworkChange(name="width", factor=float(factor))
            text = f"Make the hidden layers {factor} times wider"
            found.append(
                Mend(
                    cause=self.cause,
                    key=f"width×{factor}",
                    text=text,
                    changes=(wide,),
                    urgent=factor == factors[0] and smallest <= self.narrow,
                    evident=smallest <= self.narrow // 2,
                )
            )
        wide = NetworkChange(name="width", factor=float(factors[0]))
        found.append(
            Mend(
                cause=self.cause,
                key=f"width×{factors[0]}, lr÷3",
                text=f"Make the hidden layers {factors[0]} times wider and lower the "
                "learning rate to a third",
                changes=(wide, slower),
                control=(slower,),
            )
        )
        return found

    def judge(self, subject: Subject, case: Case) -> Finding:
        """The network as it is against wider ones."""
        training = case.baseline.get("train_accuracy", 0.0)
        wider = [
            figures.get("train_accuracy", 0.0)
            for key, figures in case.arms.items()
            if key.startswith(("width×", "width≥", "dense"))
        ]
        evidence = []
        if wider:
            evidence.append(
                Evidence(
                    kind="training_accuracy",
                    statement=(
                        f"Training accuracy is {training:.3f} as it was and "
                        f"{max(wider):.3f} at its best with more capacity."
                    ),
                    values={"as_it_was": training, "with_more": max(wider)},
                )
            )
        return judge_gain(
            self,
            case,
            says="The network is too small for the relation",
            evidence=evidence,
        )
