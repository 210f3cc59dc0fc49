"""Unscaled inputs: the features are not on the scale that the training needs.

Idea:      retrain on standardised inputs, everything else, the rate too, as it was.
Source:    LeCun et al. 1998, Efficient BackProp, section 4.3.
Blind to:  scales that a first batch-norm layer already mends (rightly: no gain then).
"""

from dataclasses import dataclass
from typing import ClassVar

from service.contract.causes import Cause
from service.contract.report import Evidence, Finding
from worker.engine.check import Case, Measures, Mend, judge_gain
from worker.engine.lab.experiment import RecipeChange
from worker.engine.subject import Subject


@dataclass(frozen=True)
class UnscaledInputs:
    """Retrain on standardised inputs."""

    cause: ClassVar[Cause] = Cause.UNSCALED_INPUTS

    large_value: float = 5.0  # largest mean or deviation of a feature
    small_value: float = 0.05  # largest mean or deviation, where all are tiny

    def obstacle(self, subject: Subject) -> str | None:
        """Token ids have no scale."""
        if subject.data.kind == "tokens":
            return "token ids have no scale"
        return None

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """Standardise, unless the recipe does."""
        if subject.recipe.normalization == "standardize":
            return []
        return [
            Mend(
                cause=self.cause,
                key="standardize",
                text="Standardise the inputs with the training data's mean and "
                "deviation",
                changes=(RecipeChange(patch={"normalization": "standardize"}),),
                sane=True,
                urgent=True,
                evident=self._odd(measures),
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
                    statement=(
                        "Deviations of the features span "
                        f"{scale.get('smallest_std')} to {scale.get('largest_std')}."
                    ),
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
