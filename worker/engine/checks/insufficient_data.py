"""Insufficient data: more samples like these would still lower the error.

Idea:      retrain on nested subsets of a quarter and a half, with the same number of
           updates and with all else mended; extrapolate the curve to twice the data.
           The interval is drawn from the normal errors of the curve's two steps.
Source:    Viering & Loog 2023, The shape of learning curves,
           doi:10.1109/TPAMI.2022.3220744.
Blind to:  samples unlike these (see `distribution_shift`); curves that bend later.
"""

from dataclasses import dataclass
from typing import ClassVar

from service.contract.causes import BY_CAUSE, Cause
from service.contract.report import Evidence, Finding, Gain, Recommendation
from worker.engine.check import (
    Case,
    Measures,
    Mend,
    between,
    clear,
    delivered_score,
    no_room,
    points,
    undecided,
)
from worker.engine.lab.experiment import DataChange, RecipeChange
from worker.engine.stats.decisions import severity_of
from worker.engine.stats.learning_curve import extrapolate
from worker.engine.subject import Subject

HALF, QUARTER = "subset=0.5", "subset=0.25"


@dataclass(frozen=True)
class InsufficientData:
    """Retrain on less, and extrapolate to more."""

    cause: ClassVar[Cause] = Cause.INSUFFICIENT_DATA

    material: float = 0.03  # balanced accuracy that doubling must bring to be suspected
    major: float = 0.05  # and to be found: no retraining proves what is extrapolated
    few_rows: float = 20.0  # a class; from here down a steep curve needs no more
    proven: float = 0.01  # that the lower bound must exceed
    much: float = 0.4  # of what all rows teach, that a quarter must teach to tell
    wide_gap: float = 0.07  # training minus held-out balanced accuracy
    least_rows_a_class: int = 8  # in the smallest subset
    same: float = 5e-4  # balanced accuracy within which two figures read alike

    def obstacle(self, subject: Subject) -> str | None:
        """Need enough rows to leave some out."""
        if subject.data.rows["train"] < 4 * self.least_rows_a_class:
            return "too few training rows to leave some out"
        return None

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """Leave rows out, keeping the number of updates."""
        epochs = subject.recipe.epochs
        gap = delivered_score(measures, "gap")
        is_wide = gap is not None and gap >= self.wide_gap
        a_class = subject.data.rows["train"] / subject.data.classes
        return [
            Mend(
                cause=self.cause,
                key=key,
                text="Collect more samples",
                changes=(
                    DataChange(name="subset", share=share),
                    RecipeChange(patch={"epochs": round(epochs / share)}),
                ),
                measuring=True,
                urgent=is_wide and a_class < self.few_rows,
                evident=a_class < self.few_rows,
            )
            for key, share in ((HALF, 0.5), (QUARTER, 0.25))
        ]

    def judge(self, subject: Subject, case: Case) -> Finding:
        """What doubling the data is predicted to bring."""
        # A lack of data that the other mends make good is none.
        seen = case.gains_on_top if case.mended else case.gains
        half, quarter = seen.get(HALF), seen.get(QUARTER)
        rows = subject.data.rows["train"]
        used = case.subsample or rows
        if half is None or quarter is None:
            why = next(iter(case.gaps.values()), "subsets were not trained")
            if case.mended:
                why = "with the rest mended, subsets were not trained"
            return no_room(self, case) or undecided(self.cause, f"Cannot tell: {why}.")
        chance = 1 / subject.data.classes
        taught, by_a_quarter = case.level - chance, case.level + quarter.value - chance
        is_learned = taught <= 0 or by_a_quarter >= self.much * taught
        curve = extrapolate(
            half,
            quarter,
            error=1 - case.level,
            times=rows / used,
            learned=is_learned,
        )
        value, low, high = curve.doubled
        gain = Gain(
            value=value,
            low=low,
            high=high,
            seeds=half.seeds,
            method="learning curve extrapolated to twice the data",
        )
        reach = between(low, high)
        if value > 0 and high - value < self.same:
            reach = (
                f"(at least {points(low)}; more than half of the error that is left "
                "is not expected)"
            )
        only = "" if is_learned else " A quarter teaches too little to tell more."
        with_the_rest = "With the rest mended, " if case.mended else "As it is, "
        evidence = [
            Evidence(
                kind="learning_curve",
                statement=(
                    f"{with_the_rest}balanced accuracy changes by "
                    f"{points(half.value - quarter.value)} from a quarter to a half "
                    f"of the {used} rows used, and by {points(curve.halves)} from a "
                    f"half to all."
                    f"{only}"
                ),
                values={
                    "rows": [used // 4, used // 2, used],
                    "against_all": [quarter.value, half.value, 0.0],
                    "predicted_at_double": list(curve.doubled),
                    "predicted_at_fourfold": list(curve.quadrupled),
                    "with": list(case.mended),
                },
            )
        ]
        entry = BY_CAUSE[self.cause]
        if used < rows and high > self.material:
            return no_room(self, case) or undecided(
                self.cause,
                f"Retraining used {used} of {rows} training rows to keep the budget, "
                f"by which twice all of them might bring {points(value)} {reach}: "
                "they cannot tell so far away.",
                evidence=evidence,
            )
        if value >= self.material and low > self.proven and case.signal:
            # Few samples speak for it by themselves, as a strange rate does for that.
            is_evident = rows / subject.data.classes < self.few_rows
            is_found = is_evident or value >= self.major
            return Finding(
                cause=self.cause,
                group=entry.group,
                verdict="found" if is_found else "suspected",
                severity=severity_of(value),
                confidence=0.9 if curve.is_well_behaved else 0.75,
                summary=(
                    f"The learning curve still rises: twice the {rows} training rows "
                    f"are predicted to bring {points(value)} balanced accuracy {reach}."
                ),
                gain=gain,
                evidence=evidence,
                recommendation=Recommendation(
                    text=f"Collect about {rows} more labelled samples like these, "
                    "first of the classes with the lowest recall."
                ),
                experiments=list(case.experiments),
                docs=entry.docs,
            )
        is_open = low <= self.material <= high and value >= self.proven
        if is_open or high > self.major:
            finding = undecided(
                self.cause,
                f"Twice the data might bring {points(value)} {reach}: the learning "
                "curve cannot tell.",
                evidence=evidence,
            )
        else:
            finding = clear(
                self.cause,
                f"Twice the data are predicted to bring {points(value)}: the learning "
                f"curve {'hardly rises any more' if value > 0 else 'does not rise'}.",
                evidence=evidence,
            )
        return finding.model_copy(
            update={"gain": gain, "experiments": list(case.experiments)}
        )
