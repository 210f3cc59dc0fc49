"""Unsuitable optimiser: another one does better than the given one at its best rate.

Idea:      retrain with other optimisers at one or two customary rates each, against the
           given one at its best rate; with other batch sizes, the usual epsilon, and
           rows in random order where they come in that of the file, against the run as
           it was.
Source:    Choi et al. 2019, On empirical comparisons of optimizers for deep learning,
           arXiv:1910.05446 (tune each before comparing); on the order of rows: Bottou
           2012, Stochastic gradient descent tricks, doi:10.1007/978-3-642-35289-8_25.
Blind to:  optimisers outside the recipe's vocabulary.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from service.contract.causes import Cause
from service.contract.recipe import OptimizerName
from service.contract.report import Evidence, Finding
from worker.engine.check import Case, Measures, Mend, judge_gain, missing_field
from worker.engine.lab.experiment import Change, RecipeChange
from worker.engine.recipe import default_optimizer
from worker.engine.subject import Subject
from worker.engine.sweeps import SHUFFLED, shuffled_rows

LEAST_ROWS = 40  # to tell whether they are sorted
ODD_EPSILON = 1e-4  # above, the adaptive methods turn into plain momentum


@dataclass(frozen=True)
class UnsuitableOptimizer:
    """Retrain with other optimisers and batch sizes."""

    cause: ClassVar[Cause] = Cause.UNSUITABLE_OPTIMIZER

    small_batch: int = 2  # rows; from here down a larger batch is tried
    least_rows: int = 64  # below, batch sizes hardly differ
    large_share: float = 0.25  # of the training rows; from here on a smaller one
    in_order: float = 0.1  # of the rows, followed by one of their class beyond chance

    def obstacle(self, subject: Subject) -> str | None:
        """Need the optimiser's name."""
        return missing_field(subject, "optimizer.name")

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """List other optimisers, batch sizes and the usual epsilon."""
        given = subject.recipe.optimizer
        found = []
        if subject.recipe.sampler == "sequential":
            found.append(self._shuffled(subject))
        for name, lr in self._others(given.name):
            settings: dict[str, str | float] = {"name": name, "lr": lr}
            text = f"Use {name} with a learning rate of {lr:g}"
            if name == "sgd":
                settings["momentum"] = 0.9
                text += " and a momentum of 0.9"
            elif given.eps > ODD_EPSILON:
                settings["eps"] = default_optimizer(name).eps
            found.append(
                self._mend(
                    f"optimizer={name}, lr={lr:g}",
                    text,
                    (RecipeChange(patch={"optimizer": settings}),),
                    sane=name == "adam" and lr == default_optimizer("adam").lr,
                    urgent=name == "adam" and lr == default_optimizer("adam").lr,
                )
            )
        rows = subject.data.rows["train"]
        batch = subject.recipe.batch_size
        if batch <= self.small_batch and rows > self.least_rows:
            found.append(self._batch(32))
        elif batch >= self.large_share * rows and rows > self.least_rows:
            found.append(self._batch(max(16, min(32, rows // 16))))
        if given.eps > ODD_EPSILON and given.name != "sgd":
            usual = default_optimizer(given.name).eps
            found.append(
                self._mend(
                    "usual eps",
                    f"Set the optimiser's eps to {usual:g}",
                    (RecipeChange(patch={"optimizer": {"eps": usual}}),),
                    sane=True,
                    urgent=True,
                    evident=True,
                )
            )
        if given.name == "sgd" and given.momentum == 0:
            found.append(
                self._mend(
                    "momentum=0.9",
                    "Add a momentum of 0.9",
                    (RecipeChange(patch={"optimizer": {"momentum": 0.9}}),),
                )
            )
        return found

    def judge(self, subject: Subject, case: Case) -> Finding:
        """The optimiser as it is against others at their best."""
        says = f"{subject.recipe.optimizer.name} with these settings does not fit"
        evidence = []
        if subject.recipe.sampler == "sequential":
            share = self._sorted_share(subject)
            evidence = [
                Evidence(
                    kind="order_of_rows",
                    statement=(
                        "The rows are trained on in the order of the file, in which "
                        f"{100 * share:.0f} % more of them than by chance are followed "
                        "by one of their class."
                    ),
                    values={"followed_beyond_chance": share},
                )
            ]
            if case.trial is not None and case.trial.mend.key == SHUFFLED:
                says = "The rows come in the order of the file, never in another"
        return judge_gain(self, case, says=says, evidence=evidence)

    def _sorted_share(self, subject: Subject) -> float:
        """Share of training rows followed by one of their class, beyond chance."""
        labels = subject.labels.get("train")
        if labels is None or len(labels) < LEAST_ROWS:
            return 0.0
        shares = np.bincount(labels) / len(labels)
        followed = float((labels[1:] == labels[:-1]).mean())
        return max(0.0, followed - float((shares**2).sum()))

    def _shuffled(self, subject: Subject) -> Mend:
        is_evident = self._sorted_share(subject) >= self.in_order
        return self._mend(
            SHUFFLED,
            "Draw the training rows in a random order, another one each epoch",
            shuffled_rows(subject),
            sane=True,
            urgent=True,
            evident=is_evident,
        )

    def _others(self, given: OptimizerName) -> list[tuple[OptimizerName, float]]:
        adam: list[tuple[OptimizerName, float]] = [("adam", 1e-3), ("adam", 1e-2)]
        sgd: list[tuple[OptimizerName, float]] = [("sgd", 0.1), ("sgd", 0.01)]
        if given in ("adam", "adamw", "nadam"):
            return sgd
        return adam if given == "sgd" else adam + sgd[:1]

    def _batch(self, size: int) -> Mend:
        return self._mend(
            f"batch_size={size}",
            f"Use batches of {size}",
            (RecipeChange(patch={"batch_size": size}),),
            urgent=True,
            evident=True,
        )

    def _mend(
        self,
        key: str,
        text: str,
        changes: tuple[Change, ...],
        *,
        sane: bool = False,
        urgent: bool = False,
        evident: bool = False,
    ) -> Mend:
        return Mend(
            cause=self.cause,
            key=key,
            text=text,
            changes=changes,
            sane=sane,
            urgent=urgent,
            evident=evident,
        )
