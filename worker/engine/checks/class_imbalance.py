"""Class imbalance: minority classes are given up for the majority.

Idea:      retrain with balanced batches and with a weighted loss; judged on balanced
           accuracy. Where nothing predicts the labels no balancing can help; then the
           imbalance is reported when minority classes are practically never predicted.
Source:    Buda et al. 2018, A systematic study of the class imbalance problem,
           arXiv:1710.05381.
Blind to:  minorities with so few rows that no weighting helps (too little data).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import JsonValue

from service.contract.causes import BY_CAUSE, Cause
from service.contract.report import Evidence, Finding, Recommendation
from worker.engine.check import Case, Measures, Mend, gain_of, judge_gain
from worker.engine.lab.experiment import RecipeChange
from worker.engine.stats.decisions import Floors
from worker.engine.subject import Subject
from worker.engine.sweeps import SHUFFLED, shuffled_rows


@dataclass(frozen=True)
class ClassImbalance:
    """Retrain balanced."""

    cause: ClassVar[Cause] = Cause.CLASS_IMBALANCE

    least_ratio: float = 1.5  # largest class over smallest
    urgent_ratio: float = 4.0  # below, a gain is but one of another threshold
    far_less: float = 0.5  # of the largest class's recall, that the smallest has
    alike: float = 1.5  # most that class weights differ by from the due ones
    given_up: float = 0.6  # a minority recall below this share of chance is given up

    def obstacle(self, subject: Subject) -> str | None:
        """Every classifier has classes."""
        return None

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """Balance the batches, or weight the loss."""
        ratio = subject.data.imbalance
        if ratio < self.least_ratio:
            return []
        counts = subject.data.class_counts
        total, classes = sum(counts), len(counts)
        weights = [round(total / (classes * max(1, n)), 4) for n in counts]
        urgent = ratio >= self.urgent_ratio
        given, found = subject.recipe.loss.class_weights, []
        if subject.recipe.sampler != "balanced":
            patch: dict[str, JsonValue] = {"sampler": "balanced"}
            text = "Draw balanced batches"
            if given is not None:  # both would balance twice, or against each other
                patch["loss"] = {"class_weights": None}
                text += " and drop the class weights"
            found.append(
                Mend(
                    cause=self.cause,
                    key="balanced",
                    text=text,
                    changes=(RecipeChange(patch=patch),),
                    # It shuffles, too, which is not what the classes ask for.
                    control=shuffled_rows(subject),
                    control_name=SHUFFLED,
                    sane=urgent,
                    urgent=urgent,
                    evident=urgent,
                )
            )
        if given is None or self._differ(given, weights):
            found.append(
                Mend(
                    cause=self.cause,
                    key="class_weights",
                    text="Weight the loss by the inverse class frequency",
                    changes=(RecipeChange(patch={"loss": {"class_weights": weights}}),),
                    urgent=urgent,
                    evident=urgent,
                )
            )
        return found

    def _differ(self, given: Sequence[float], weights: Sequence[float]) -> bool:
        """Whether class weights are others than these, whatever they are times."""
        ratios = [
            mine / max(due, 1e-9) for mine, due in zip(given, weights, strict=True)
        ]
        return max(ratios) > self.alike * min(ratios)

    def judge(self, subject: Subject, case: Case) -> Finding:
        """The run as it was against the balanced one."""
        ratio = subject.data.imbalance
        recalls = case.measures.get("delivered", {}).get("recalls")
        facts = Evidence(
            kind="class_counts",
            statement=f"The largest class has {ratio:.1f} times the rows of the "
            "smallest.",
            values={
                "counts": dict(
                    zip(
                        subject.data.class_names[:50],
                        subject.data.class_counts[:50],
                        strict=True,
                    )
                ),
                "recalls": recalls,
            },
        )
        if not case.signal and self._is_given_up(subject, recalls):
            return self._without_signal(case, facts, ratio)
        floors = Floors()
        is_uneven = ratio >= self.urgent_ratio
        fault = "Classes with few rows are given up"
        says = fault if is_uneven else "The classes differ little in size"
        finding = judge_gain(
            self,
            case,
            says=f"{says} (ratio {ratio:.1f})",
            evidence=[facts],
            fault=floors.material if self._suffers(subject, recalls) else floors.fault,
        )
        if finding.verdict == "found" and not is_uneven:
            more = " This moves the threshold between them: a choice, not a cure."
            update = {"verdict": "suspected", "summary": finding.summary + more}
            return finding.model_copy(update=update)
        return finding

    def _is_given_up(self, subject: Subject, recalls: object) -> bool:
        """Whether the smallest of unequal classes is practically never predicted."""
        few, _ = self._of_few_and_many(subject, recalls)
        return few is not None and few < self.given_up / subject.data.classes

    def _suffers(self, subject: Subject, recalls: object) -> bool:
        """Whether the smallest of unequal classes is hit far less than the largest."""
        few, many = self._of_few_and_many(subject, recalls)
        return few is not None and many is not None and few <= self.far_less * many

    def _of_few_and_many(
        self, subject: Subject, recalls: object
    ) -> tuple[float | None, float | None]:
        """Recall of the smallest and the largest class, where these are unequal."""
        counts = subject.data.class_counts
        if not isinstance(recalls, list) or subject.data.imbalance < self.urgent_ratio:
            return None, None
        few = min(range(len(counts)), key=counts.__getitem__)
        many = max(range(len(counts)), key=counts.__getitem__)
        known = dict(enumerate(recalls))
        return known.get(few), known.get(many)

    def _without_signal(self, case: Case, facts: Evidence, ratio: float) -> Finding:
        entry = BY_CAUSE[self.cause]
        gain = gain_of(case.trial.gain) if case.trial else None
        return Finding(
            cause=self.cause,
            group=entry.group,
            verdict="found",
            severity="minor",
            confidence=0.95,
            summary=(
                f"The classes are imbalanced ({ratio:.1f} to 1) and the minority is "
                "given up; balancing alone recovers no held-out accuracy, since the "
                "features do not predict the labels."
            ),
            gain=gain,
            evidence=[facts],
            recommendation=Recommendation(
                text="First find features that predict the label; then balance."
            ),
            experiments=list(case.trial.experiments) if case.trial else [],
            docs=entry.docs,
        )
