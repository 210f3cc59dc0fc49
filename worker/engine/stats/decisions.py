"""From an estimate to a verdict: one three-way rule, corrected for many questions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from service.contract.request import Severity
from worker.engine.stats.pairs import PairedGain

Key = TypeVar("Key")
LOOKS = 2  # a gain is looked at alone and within the best combination
Decision = Literal["found", "not_found", "inconclusive"]


@dataclass(frozen=True)
class Floors:
    """How much a gain must be to count.

    Attributes:
        proven: balanced accuracy that the lower bound must exceed.
        material: balanced accuracy that the estimate itself must reach.
        fault: balanced accuracy from which a proven gain is called a fault; less is
            worth having, and only suspected.
        share_of_gap: fraction of the recoverable gap that a cause must bring to be
            named beside a greater one; less is explained by that.
        error_rate: chance of any false `found` in an audit.
        absence_level: one-sided confidence that a gain is below `material`.
    """

    proven: float = 0.01
    material: float = 0.025
    fault: float = 0.04
    share_of_gap: float = 0.2
    error_rate: float = 0.05
    absence_level: float = 0.9


def holm(
    p_values: Mapping[Key, float], weights: Mapping[Key, float] | None = None
) -> dict[Key, float]:
    """Adjust p values so that the chance of any false rejection is held.

    Args:
        p_values: one a question that was asked in the end.
        weights: of every question asked, those given up earlier included, chosen before
            it was answered: twice the weight is allowed twice the error. All alike
            where not given.

    Returns:
        Adjusted p values. Source: Holm 1979, Scandinavian Journal of Statistics 6, with
        weights as there (section 4).
    """
    if weights is None:
        weights = dict.fromkeys(p_values, 1.0)
    adjusted: dict[Key, float] = {}
    highest, left = 0.0, sum(weights.values())
    for key in sorted(p_values, key=lambda key: p_values[key] / weights[key]):
        highest = max(highest, min(1.0, p_values[key] / weights[key] * left))
        adjusted[key] = highest
        left -= weights[key]
    return adjusted


def decide(gain: PairedGain, *, adjusted_p: float, floors: Floors) -> Decision:
    """Judge one gain.

    Args:
        gain: the estimate.
        adjusted_p: p value of `the gain is at most the floor`, corrected.
        floors: what counts.

    Returns:
        `found` where the gain is proven and material, `not_found` where a material
        gain is ruled out, else `inconclusive`.
    """
    if adjusted_p <= floors.error_rate and gain.value >= floors.material:
        return "found"
    if gain.p_below(floors.material) <= 1 - floors.absence_level:
        return "not_found"
    return "inconclusive"


def severity_of(gain: float) -> Severity:
    """How bad a fault is, by the balanced accuracy that mending it brings."""
    if gain >= 0.15:  # noqa: PLR2004 - the scale is this function's whole content
        return "critical"
    if gain >= 0.05:  # noqa: PLR2004
        return "major"
    return "minor"
