"""Insufficient data: more samples like these would still lower the error.

Idea:      where there are many held-out rows, retrain on these as well, by turns, and
           score each training on those that it did not borrow: what more data bring
           is measured. Else retrain on nested subsets of a quarter and a half, and
           extrapolate the curve to twice the data; the interval is drawn from the
           normal errors of the curve's two steps. Always with as many updates, and
           with all else mended.
Source:    Viering & Loog 2023, The shape of learning curves,
           doi:10.1109/TPAMI.2022.3220744.
           Rows that stand in both splits make any curve rise: by what they flatter the
           score, no lack is named.
Blind to:  samples unlike these (see `distribution_shift`); curves that bend later.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
    flattered_by,
    gain_of,
    measured,
    no_room,
    points,
    undecided,
)
from worker.engine.lab.experiment import DataChange
from worker.engine.stats.decisions import severity_of
from worker.engine.stats.learning_curve import extrapolate
from worker.engine.stats.pairs import PairedGain
from worker.engine.subject import Subject
from worker.engine.sweeps import as_many_updates

HALF, QUARTER = "subset=0.5", "subset=0.25"
LENT = "held-out rows lent"


@dataclass(frozen=True)
class InsufficientData:
    """Retrain on less, and extrapolate to more."""

    cause: ClassVar[Cause] = Cause.INSUFFICIENT_DATA
    after: ClassVar[tuple[Cause, ...]] = (Cause.SPLIT_LEAKAGE,)

    material: float = 0.03  # balanced accuracy that doubling must bring to be suspected
    major: float = 0.05  # and to be found: no retraining proves what is extrapolated
    few_rows: float = 20.0  # a class; from here down a steep curve needs no more
    proven: float = 0.01  # that the lower bound must exceed
    much: float = 0.4  # of what all rows teach, that a quarter must teach to tell
    wide_gap: float = 0.07  # training minus held-out balanced accuracy
    least_rows_a_class: int = 8  # in the smallest subset
    least_lent: float = 0.5  # for each training row, to be worth a training
    most_lent_values: int = 50_000_000  # in the rows of both: they are copied
    sure: float = 0.005  # p value from which lent rows prove a lack
    same: float = 5e-4  # balanced accuracy within which two figures read alike

    def obstacle(self, subject: Subject) -> str | None:
        """Need enough rows to leave some out."""
        if subject.data.rows["train"] < 4 * self.least_rows_a_class:
            return "too few training rows to leave some out"
        return None

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """Leave rows out, keeping the number of updates."""
        gap = delivered_score(measures, "gap")
        is_wide = gap is not None and gap >= self.wide_gap
        a_class = subject.data.rows["train"] / subject.data.classes
        plain = Mend(
            cause=self.cause,
            key=HALF,
            text="Collect more samples",
            changes=(),
            measuring=True,
            urgent=is_wide and a_class < self.few_rows,
            evident=a_class < self.few_rows,
        )
        found = []
        if lent := self._lent(subject):
            rows = subject.data.rows["train"]
            changes = (
                DataChange(name="lend"),
                as_many_updates(subject, 1 + lent / rows),
            )
            found.append(replace(plain, key=LENT, changes=changes, by_itself=True))
        for key, share in ((HALF, 0.5), (QUARTER, 0.25)):
            subset = DataChange(name="subset", share=share)
            changes = (subset, as_many_updates(subject, share))
            found.append(replace(plain, key=key, changes=changes))
        return found

    def _lent(self, subject: Subject) -> int:
        """Held-out rows that are worth being lent; 0 where too few, or too many."""
        data = subject.data
        rows, lent = data.rows["train"], data.lent
        values = (rows + data.rows.get("decide", 0)) * math.prod(data.sample_shape)
        worth = "train" in subject.labels and lent >= self.least_lent * rows
        return lent if worth and values <= self.most_lent_values else 0

    def judge(self, subject: Subject, case: Case) -> Finding:
        """What more data bring, or doubling them is predicted to."""
        # A lack of data that the other mends make good is none.
        seen = case.gains_on_top if case.mended else case.gains
        finding = self._by_curve(subject, case, seen)
        lent = seen.get(LENT)
        if lent is not None and not case.subsample:
            finding = self._by_lent(subject, case, lent, finding)
        flattered = flattered_by(case.judged.get(Cause.SPLIT_LEAKAGE))
        if finding.gain is None or finding.gain.value > flattered:
            return finding
        return self._as_leaked(finding, flattered)

    def _as_leaked(self, finding: Finding, flattered: float) -> Finding:
        """Leave open what rows may explain that stand in both splits.

        The more of them are trained on, the more held-out rows are known by heart.
        """
        if finding.verdict not in ("found", "suspected"):
            return finding
        reason = (
            f"{finding.summary} Yet held-out rows that also stand in the training data "
            f"flatter it by {100 * flattered:.1f} points, and more of them with every "
            "row: remove them and measure again."
        )
        return finding.model_copy(
            update={
                "verdict": "inconclusive",
                "severity": "info",
                "confidence": 0.5,
                "summary": reason,
                "reason": reason,
                "recommendation": None,
            }
        )

    def _by_lent(
        self, subject: Subject, case: Case, lent: PairedGain, by_curve: Finding
    ) -> Finding:
        """Let what was measured decide; leave what it leaves open to the curve."""
        rows, more = subject.data.rows["train"], subject.data.lent
        rest = "with the rest mended, " if case.mended else ""
        evidence = Evidence(
            kind="held_out_rows_lent",
            statement=(
                f"Trained on {more} of the held-out rows as well, by turns, {rest}"
                f"its score moves by {measured(lent)} on those that it did not borrow."
            ),
            values={
                "value": lent.value,
                "low": lent.low,
                "high": lent.high,
                "rows": [rows, rows + more],
                "with": list(case.mended),
            },
        )
        update: dict[str, object] = {"evidence": [evidence, *by_curve.evidence]}
        told = {
            "reason": None,
            "gain": gain_of(lent, "paired retraining with held-out rows lent"),
        }
        if lent.value >= self.major and lent.p_above(self.proven) <= self.sure:
            update |= told | {
                "verdict": "found",
                "severity": severity_of(lent.value),
                "confidence": 1 - lent.p_above(self.proven),
                "summary": f"{rows} training rows are too few: {more} more like them "
                f"bring {points(lent.value)} balanced accuracy.",
                "recommendation": _advice(more),
                "experiments": list(case.experiments),
            }
        elif lent.high < self.material and by_curve.verdict != "not_found":
            update |= told | {
                "verdict": "not_found",
                "severity": "info",
                "confidence": 1 - lent.p_below(self.material),
                "summary": f"{more} more training rows bring {points(lent.value)} at "
                f"most {points(lent.high)}: little is missing.",
                "recommendation": None,
            }
        return by_curve.model_copy(update=update)

    def _by_curve(
        self, subject: Subject, case: Case, seen: Mapping[str, PairedGain]
    ) -> Finding:
        """What doubling the data is predicted to bring."""
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
        rises = value >= self.material and low > self.proven
        if rises and case.signal and not curve.is_bent:
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
                recommendation=_advice(rows),
                experiments=list(case.experiments),
                docs=entry.docs,
            )
        is_open = rises or (low <= self.material <= high and value >= self.proven)
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


def _advice(rows: int) -> Recommendation:
    return Recommendation(
        text=f"Collect about {rows} more labelled samples like these, first of the "
        "classes with the lowest recall."
    )
