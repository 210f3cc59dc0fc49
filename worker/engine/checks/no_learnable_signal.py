"""No learnable signal: the features do not predict the labels better than chance.

Idea:      reference learners of several kinds, a permutation test of their held-out
           predictions; and none of the audit's own trainings gets above chance either.
Source:    Ojala & Garriga 2010, Permutation tests for studying classifier performance,
           JMLR 11.
Blind to:  relations that no reference learner and no trained arm can find.
"""

from dataclasses import dataclass
from typing import ClassVar

from pydantic import JsonValue

from service.contract.causes import BY_CAUSE, Cause
from service.contract.report import Evidence, Finding, Recommendation
from worker.engine.check import Case, Measures, Mend, clear, undecided
from worker.engine.subject import Subject


@dataclass(frozen=True)
class NoLearnableSignal:
    """Permute the labels."""

    cause: ClassVar[Cause] = Cause.NO_LEARNABLE_SIGNAL

    sure: float = 0.05  # p value from which on nothing was learned
    weak: float = 0.05  # balanced accuracy above chance that is of no use to anyone
    useful: float = 0.1  # above chance; what must be ruled out to be sure
    least_rows: int = 40  # held-out rows with which a weak signal would be seen

    def obstacle(self, subject: Subject) -> str | None:
        """Any data can be permuted."""
        return None

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """Nothing can be mended by training."""
        return []

    def judge(self, subject: Subject, case: Case) -> Finding:
        """The references, the delivered model and every arm against chance."""
        values = case.measures.get("signal", {})
        p_value = values.get("p_value")
        if not isinstance(p_value, int | float):
            return undecided(self.cause, "No reference learner was trained.")
        evidence = [
            Evidence(
                kind="permutation_test",
                statement=(
                    f"The best reference learner is {values.get('best')}; labels in "
                    f"random order do as well with p = {p_value:.3g}."
                ),
                values={
                    key: values.get(key)
                    for key in (
                        "p_value",
                        "balanced_accuracy",
                        "chance",
                        "best",
                        "learners",
                        "delivered",
                    )
                },
            )
        ]
        if case.signal:
            return clear(
                self.cause,
                "The features predict the labels better than chance.",
                evidence=evidence,
            )
        if not case.arms:
            return undecided(
                self.cause,
                "No reference learner finds a signal, and no network could be trained "
                "to look for one.",
                evidence=evidence,
            )
        held_out = subject.data.rows["decide"] + subject.data.rows["final"]
        maybe = p_value <= self.sure and not self._is_below(values, self.weak)
        if maybe or held_out < self.least_rows:
            return undecided(
                self.cause,
                "Too few rows to tell a weak signal from none.",
                evidence=evidence,
            )
        entry = BY_CAUSE[self.cause]
        is_sure = self._is_below(values, self.useful)
        inside = values.get("out_of_fold")
        if p_value > self.sure and isinstance(inside, dict):  # more rows tell more
            is_sure |= self._is_below(inside, self.useful)
        training = case.baseline.get("train_balanced_accuracy")
        memorises = (
            f" What it reaches on training data ({training:.2f}) is memorised."
            if training is not None and training > 0.6  # noqa: PLR2004
            else ""
        )
        return Finding(
            cause=self.cause,
            group=entry.group,
            verdict="found" if is_sure else "suspected",
            severity="critical",
            confidence=min(0.99, 0.9 + 0.09 * p_value) if is_sure else 0.5,
            summary=(
                "The features do not predict the labels: neither reference learners "
                "nor any retraining does better than chance on held-out data"
                + ("." if is_sure else ", which has too few rows to be sure of that.")
                + memorises
            ),
            evidence=evidence,
            recommendation=Recommendation(
                text="Check how features and labels were joined; collect features that "
                "carry information on the label. No other model will help."
            ),
            docs=entry.docs,
        )

    def _is_below(self, values: dict[str, JsonValue], above_chance: float) -> bool:
        """Whether what the best reference learner reaches is surely worth less.

        One permutation test in twenty calls nothing a signal, and from few rows a true
        one may be missed.
        """
        reached, chance = values.get("balanced_accuracy"), values.get("chance")
        if not isinstance(reached, dict) or not isinstance(chance, int | float):
            return False
        high = reached.get("high")
        return isinstance(high, int | float) and high < chance + above_chance
