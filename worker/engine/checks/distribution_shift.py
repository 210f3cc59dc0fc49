"""Distribution shift: held-out data is drawn from elsewhere than the training data.

Idea:      a classifier that tells training from held-out rows better than chance; the
           mix of classes is tested apart.
Source:    Lopez-Paz & Oquab 2017, Revisiting classifier two-sample tests,
           arXiv:1610.06545; Rabanser et al. 2019, Failing loudly, arXiv:1810.11953.
Blind to:  shifts that only larger samples would show. Another mix of classes alone is
           `suspected`: balanced accuracy, in which faults are weighed, ignores it.

Only other training data could mend it. What it costs is measured where training rows
are left out in turn: how much better the recipe does on them than on held-out rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pydantic import JsonValue

from service.contract.causes import BY_CAUSE, Cause
from service.contract.report import Evidence, Finding, Recommendation
from worker.engine.check import (
    Bar,
    Case,
    Measures,
    Mend,
    clear,
    gain_of,
    measured,
    points,
    supposed_loss,
    undecided,
)
from worker.engine.stats.decisions import severity_of
from worker.engine.subject import Subject
from worker.engine.symptoms import (
    SURELY,
    inputs_alike,
    inputs_may_differ,
    mix_moved,
)

ALIKE = 0.05  # p value above which a feature is not seen to differ
METHOD = "training rows that the recipe did not see against held-out rows"


@dataclass(frozen=True)
class DistributionShift:
    """Tell the splits apart."""

    cause: ClassVar[Cause] = Cause.DISTRIBUTION_SHIFT

    bar: Bar = Bar()
    material_auc: float = 0.6  # 0.5: alike, 1: never alike
    plain_auc: float = 0.7  # from here on they differ, whatever else shows it

    def obstacle(self, subject: Subject) -> str | None:
        """A split that the audit drew itself cannot be shifted."""
        if not subject.data.held_out_given:
            return "the held-out rows were drawn at random from the same data"
        return None

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """Nothing to retrain."""
        return []

    def judge(self, subject: Subject, case: Case) -> Finding:
        """How well the splits can be told apart."""
        values = case.measures.get("shift")
        if not values:
            return undecided(self.cause, "The splits were not compared.")
        told_apart = values.get("auc")
        auc = told_apart.get("value") if isinstance(told_apart, dict) else None
        p_value = values.get("p_value")
        moved = values.get("features")
        names = "" if _are_alike(moved) else ", ".join(self._names(moved))
        evidence = [
            Evidence(
                kind="two_sample_test",
                statement=self._statement(auc, values.get("any_class")),
                values=dict(values),
            )
        ]
        inputs_moved = (
            isinstance(auc, int | float)
            and isinstance(p_value, int | float)
            and p_value <= SURELY
            and auc >= self.material_auc
            and inputs_may_differ(case.measures)
        )
        if not inputs_moved and not mix_moved(case.measures):
            return clear(
                self.cause,
                "Training and held-out data cannot be told apart to speak of.",
                evidence=evidence,
            )
        mix_alone = not inputs_moved and inputs_alike(case.measures)
        if mix_alone and case.measures.get("noise", {}).get("by_held_out"):
            return clear(
                self.cause,
                "The mix of classes moved between training and held-out data although "
                "their inputs did not: wrong training labels moved it.",
                evidence=evidence,
            )
        impact = values.get("impact")
        worth = (
            self._number(impact.get("value"), 0.0) if isinstance(impact, dict) else 0.0
        )
        if inputs_moved and self._number(auc, 0.0) >= self.plain_auc:
            worth = max(worth, supposed_loss(case))
        lost = case.better_on_spared
        costs = lost is not None and self.bar.passes(lost)
        if lost is not None:
            worth = lost.value
            evidence.append(
                Evidence(
                    kind="unseen_training_rows",
                    statement=(
                        "On training rows that it did not see the recipe's score is "
                        f"{measured(lost)} from that on held-out rows."
                    ),
                    values={"value": lost.value, "low": lost.low, "high": lost.high},
                )
            )
        is_slight = inputs_moved and not costs and self._is_slight(values)
        entry = BY_CAUSE[self.cause]
        what = (
            f"The inputs moved (AUC {auc:.2f}"
            + (f"; most of all {names}" if names else "")
            + ")"
            if inputs_moved
            else "The mix of classes moved"
        )
        remark = ", which balanced accuracy does not feel"
        if is_slight:
            remark = (
                ", yet no feature by itself, and the model does as well: so do "
                "samples that are no independent draws"
            )
        elif inputs_moved:
            remark = (
                f", which costs {points(lost.value).lstrip('+')}"
                if costs and lost is not None
                else ""
            )
        elif mix_alone:
            remark = " although their inputs did not: labels of one may be wrong"
        return Finding(
            cause=self.cause,
            group=entry.group,
            verdict="found" if inputs_moved and not is_slight else "suspected",
            severity=severity_of(worth if inputs_moved else 0.0),
            confidence=0.97,
            summary=f"{what} between training and held-out data{remark}.",
            gain=gain_of(lost, METHOD)
            if lost is not None and inputs_moved and lost.value >= 0
            else None,
            evidence=evidence,
            recommendation=Recommendation(
                text="Check whether both parts were drawn from the same sources."
                if is_slight
                else _advice(inputs_moved=inputs_moved, mix_alone=mix_alone)
            ),
            docs=entry.docs,
        )

    def _is_slight(self, values: Mapping[str, JsonValue]) -> bool:
        """Whether a classifier alone tells the splits apart, hardly, and at no cost.

        Where samples are made of common parts, or are several of one person, those of
        another split differ without having moved.
        """
        area, impact = values.get("auc"), values.get("impact")
        auc = area.get("value") if isinstance(area, dict) else None
        lost = impact.get("high") if isinstance(impact, dict) else None
        return (
            self._number(auc, 1.0) < self.plain_auc
            and _are_alike(values.get("features"))
            and isinstance(lost, int | float)
            and lost < self.bar.material
        )

    def _statement(self, auc: object, any_class: object) -> str:
        if not isinstance(auc, int | float):
            return "The inputs of the splits could not be compared."
        text = f"A classifier tells rows of equal classes apart with AUC {auc:.2f}"
        if isinstance(any_class, dict):
            whatever = self._number(any_class.get("value"), 0.5)
            text += f", rows whatever their class with AUC {whatever:.2f}"
        return f"{text}; 0.5 is chance."

    def _names(self, moved: object) -> list[str]:
        if not isinstance(moved, list):
            return []
        return [str(f.get("name")) for f in moved[:3] if isinstance(f, dict)]

    def _number(self, value: object, otherwise: float) -> float:
        return float(value) if isinstance(value, int | float) else otherwise


def _are_alike(moved: object) -> bool:
    """Whether no feature by itself differs, as far as that is known."""
    found = moved if isinstance(moved, list) else []
    known = [f.get("p_value") for f in found if isinstance(f, dict)]
    return bool(known) and all(isinstance(p, int | float) and p > ALIKE for p in known)


def _advice(*, inputs_moved: bool, mix_alone: bool) -> str:
    if mix_alone:
        return "Compare how the labels of both parts were given."
    data = "Train on data like those that the model meets"
    if inputs_moved:
        return f"{data}; look first at the features that moved most."
    return f"{data}: with their shares of the classes."
