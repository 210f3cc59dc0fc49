"""Unscaled inputs: the features are not on the scale that the training needs.

Idea:      retrain on standardised inputs, everything else, the rate too, as it was;
           where features have long tails, on their normal scores as well.
Source:    LeCun et al. 1998, Efficient BackProp, section 4.3; normal scores: Conover
           & Iman 1981, Rank transformations as a bridge, The American Statistician 35.
Blind to:  scales that a first batch-norm layer already mends (rightly: no gain then).
"""

from dataclasses import dataclass
from typing import ClassVar

from pydantic import JsonValue

from service.contract.causes import Cause
from service.contract.report import Evidence, Finding
from worker.engine.check import Case, Measures, Mend, judge_gain
from worker.engine.lab.experiment import DataChange
from worker.engine.subject import Subject
from worker.engine.sweeps import STANDARDIZE, STANDARDIZED
from worker.engine.wording import figure


@dataclass(frozen=True)
class UnscaledInputs:
    """Retrain on standardised inputs."""

    cause: ClassVar[Cause] = Cause.UNSCALED_INPUTS

    large_value: float = 5.0  # largest mean or deviation of a feature
    small_value: float = 0.05  # largest mean or deviation, where all are tiny
    long_tailed: float = 0.1  # share of the features, from which ranks are tried

    def obstacle(self, subject: Subject) -> str | None:
        """Token ids have no scale."""
        if subject.data.kind == "tokens":
            return "token ids have no scale"
        return None

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """Standardise, unless the recipe does."""
        found = self._by_rank(measures)
        if subject.recipe.normalization == "standardize":
            return found
        return [
            Mend(
                cause=self.cause,
                key=STANDARDIZE,
                text="Standardise the inputs with the training data's mean and "
                "deviation",
                changes=(STANDARDIZED,),
                sane=True,
                urgent=True,
                evident=self._odd(measures),
            ),
            *found,
        ]

    def _by_rank(self, measures: Measures) -> list[Mend]:
        """Give features a normal shape, where some have a long tail."""
        scale = measures.get("inputs", {}).get("scale")
        long = scale.get("long_tailed") if isinstance(scale, dict) else 0
        if not isinstance(long, int | float) or long < self.long_tailed:
            return []
        ranked = DataChange(name="transform", transform="normal_scores")
        return [
            Mend(
                cause=self.cause,
                key="normal scores",
                text="Give features with long tails a normal shape: logarithms, or "
                "ranks as the experiment did",
                changes=(ranked,),
                urgent=True,
            )
        ]

    def judge(self, subject: Subject, case: Case) -> Finding:
        """The inputs as they are against standardised ones."""
        inputs = case.measures.get("inputs", {})
        scale = inputs.get("scale")
        evidence = []
        if isinstance(scale, dict):
            evidence.append(
                Evidence(
                    kind="feature_scales",
                    statement=_spread(scale),
                    values=scale,
                )
            )
        return judge_gain(
            self,
            case,
            says="The features are not on the scale that the training needs",
            evidence=evidence,
        )

    def _odd(self, measures: Measures) -> bool:
        scale = measures.get("inputs", {}).get("scale")
        if not isinstance(scale, dict):
            return False
        largest = scale.get("largest_magnitude")
        return isinstance(largest, int | float) and not (
            self.small_value <= largest <= self.large_value
        )


def _spread(scale: dict[str, JsonValue]) -> str:
    """Say how far the deviations of the features lie apart, where they do."""
    ends = [scale.get("smallest_std"), scale.get("largest_std")]
    known = [figure(end) for end in ends if isinstance(end, int | float)]
    if len(known) < len(ends):
        return "The deviations of the features were not measured."
    if known[0] == known[1]:
        return f"The deviation of the inputs is {known[0]}."
    return f"The deviations of the features lie between {known[0]} and {known[1]}."
