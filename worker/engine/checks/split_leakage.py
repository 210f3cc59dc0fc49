"""Split leakage: held-out samples also stand in the training data.

Idea:      count held-out samples that equal a training sample, as they are or (of
           pictures) mirrored or turned, or lie closer to one than chance allows, as
           they are or turned;
           score the delivered model with and without them.
Source:    Kapoor & Narayanan 2023, Leakage and the reproducibility crisis in
           machine-learning-based science, doi:10.1016/j.patter.2023.100804.
Blind to:  leakage through features that encode the label, or through related samples
           (the same patient, say) that do not look alike.

The finding has no gain: no retraining mends a score that was flattered.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pydantic import JsonValue

from service.contract.causes import BY_CAUSE, Cause
from service.contract.report import Evidence, Finding, Recommendation
from worker.engine.check import Case, Measures, Mend, clear, undecided
from worker.engine.stats.decisions import severity_of
from worker.engine.subject import Subject

LEAST_SHOWN = 0.0005  # balanced accuracy


@dataclass(frozen=True)
class SplitLeakage:
    """Count twins."""

    cause: ClassVar[Cause] = Cause.SPLIT_LEAKAGE

    tolerated_share: float = 0.01  # of the held-out rows, by its lower bound
    repeated: float = 2.0  # times what training rows repeat among themselves
    repeated_more: float = 0.05  # of the rows; beyond that it need not be twice as much
    many: float = 0.05  # of the held-out rows; fewer are found where they flatter
    little: float = 0.005  # balanced accuracy, by which they do not
    most_repeated: float = 0.2  # where samples are fine: more are copies, no accident

    def obstacle(self, subject: Subject) -> str | None:
        """A split that the audit made itself can still hold duplicates."""
        return None

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """Nothing to retrain."""
        return []

    def judge(self, subject: Subject, case: Case) -> Finding:
        """The share of held-out rows with a twin, against what is tolerated."""
        values = case.measures.get("leakage")
        if not values:
            return undecided(self.cause, "Twins were not looked for.")
        exact, near, turned = self._parts(values)
        inflation = values.get("inflation")
        shown = {
            name: values.get(name)
            for name in (
                "exact",
                "near",
                "turned",
                "same_label",
                "expected_share",
                "chance_share",
                "grouped",
                "pairs",
                "accuracy",
                "inflation",
            )
        }
        share = exact["share"] + near["share"] + turned["share"]
        evidence = [
            Evidence(
                kind="twins",
                statement=(
                    f"{100 * exact['share']:.1f} % of the held-out rows equal a "
                    f"training row, {100 * near['share']:.1f} % nearly do"
                    f"{_once_turned(turned['share'])}." + _among_themselves(values)
                ),
                values=shown,
            )
        ]
        if not self.is_beyond_chance(values):
            return clear(
                self.cause,
                "Held-out and training data share no more samples than is to be "
                "expected.",
                evidence=evidence,
            )
        worth = float(inflation) if isinstance(inflation, int | float) else 0.0
        is_idle = share < self.many and abs(worth) < self.little
        entry = BY_CAUSE[self.cause]
        return Finding(
            cause=self.cause,
            group=entry.group,
            verdict="suspected" if is_idle else "found",
            severity=severity_of(max(worth, 0.05 if share > 0.1 else 0.0)),  # noqa: PLR2004
            confidence=0.99,
            summary=(
                f"{100 * share:.1f} % of the held-out rows also stand in the training "
                f"data; {_flattered(worth)}."
            ),
            evidence=evidence,
            recommendation=Recommendation(
                text="Remove the listed rows from one of the splits and measure again."
            ),
            docs=entry.docs,
        )

    def is_beyond_chance(self, values: Mapping[str, JsonValue]) -> bool:
        """Whether more held-out rows have a twin than is to be expected.

        Args:
            values: of the probe `leakage`.
        """
        exact, near, turned = self._parts(values)
        if values.get("by_chance"):
            return exact["low"] > self._natural(values)
        if turned["low"] > self.tolerated_share:
            return True
        return max(exact["low"], near["low"]) > self._natural(values)

    def _natural(self, values: Mapping[str, JsonValue]) -> float:
        """Share of held-out rows that may well equal a training row by accident."""
        repeated, high, chance = (
            float(value) if isinstance(value := values.get(name), int | float) else 0.0
            for name in ("expected_share", "expected_high", "chance_share")
        )
        if not values.get("by_chance"):
            most = min(self.repeated * repeated, self.most_repeated)
            return max(self.tolerated_share, most)
        return max(
            self.tolerated_share,
            min(self.repeated * repeated, high + self.repeated_more),
            min(self.repeated * chance, chance + self.repeated_more),
        )

    def _parts(
        self, values: Mapping[str, JsonValue]
    ) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
        """Rows that are equal, nearly so, and so once mirrored or turned."""
        exact, near, turned = map(values.get, ("exact", "near", "turned"))
        return self._part(exact), self._part(near), self._part(turned)

    def _part(self, value: object) -> dict[str, float]:
        found = {"share": 0.0, "low": 0.0}
        if isinstance(value, dict):
            found |= {
                k: float(v)
                for k, v in value.items()
                if k in found and isinstance(v, int | float)
            }
        return found


def _among_themselves(values: Mapping[str, JsonValue]) -> str:
    """Say how training rows repeat each other, where that matters."""
    repeated = values.get("expected_share")
    said = ""
    if isinstance(repeated, float) and repeated >= 0.01:  # noqa: PLR2004 - worth saying
        said += f" {100 * repeated:.1f} % of the training rows equal another one."
    if values.get("in_groups"):
        said += (
            " Training rows stand in groups of near copies, as if they had been "
            "multiplied before they were split."
        )
    return said


def _once_turned(share: float) -> str:
    """Say how many pictures are copies of others, mirrored or turned."""
    if not share:
        return ""
    return f", {100 * share:.1f} % equal one, or nearly do, once mirrored or turned"


def _flattered(worth: float) -> str:
    """Say by how much a score is better for the rows that stand in both parts."""
    if worth < LEAST_SHOWN:
        return "balanced accuracy is hardly better for them"
    return f"they flatter balanced accuracy by {100 * worth:.1f} points"
