"""Label noise: a measurable share of the training labels is wrong.

Idea:      a model which never saw a row seldom contradicts a correct label. The share
           is counted out of fold; then training without the suspects, or with the
           labels that the others suggest, must beat training without as many random
           rows of each class.
Source:    Northcutt et al. 2021, Confident Learning, arXiv:1911.00068; margins over
           early epochs: Pleiss et al. 2020, arXiv:2001.10528.
Blind to:  mistakes that follow the features, such as two classes always swapped.
"""

from dataclasses import dataclass
from typing import ClassVar

from service.contract.causes import Cause
from service.contract.report import Evidence, Finding
from worker.engine.check import (
    Case,
    Measures,
    Mend,
    clear,
    judge_gain,
    noise_rate,
    undecided,
)
from worker.engine.lab.experiment import DataChange
from worker.engine.subject import Subject


@dataclass(frozen=True)
class LabelNoise:
    """Retrain without the suspects."""

    cause: ClassVar[Cause] = Cause.LABEL_NOISE

    tolerated_share: float = (
        0.04  # of the labels; cross-fitting sees about 2 % in clean
    )
    most_dropped: float = 0.6

    def obstacle(self, subject: Subject) -> str | None:
        """Any labels can be doubted."""
        return None

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """Correct or drop the suspects; the control drops as many random rows."""
        noise = measures.get("noise", {})
        mask, random_mask = noise.get("mask"), noise.get("random_mask")
        rate = noise_rate(measures)
        if not isinstance(mask, str) or not isinstance(random_mask, str):
            return []
        if rate < self.tolerated_share or rate > self.most_dropped:
            return []
        changes = {"suspects dropped": DataChange(name="drop", mask=mask)}
        corrections = noise.get("corrections")
        if isinstance(corrections, list):
            labels = tuple(int(str(k)) for k in corrections)
            relabel = DataChange(name="relabel", mask=mask, labels=labels)
            changes["suspects corrected"] = relabel
        return [
            Mend(
                cause=self.cause,
                key=key,
                text=f"Review the {100 * rate:.0f} % of the labels that are suspect; "
                "correct or drop them",
                changes=(change,),
                control=(DataChange(name="drop", mask=random_mask),),
                control_name="random rows dropped",
                urgent=True,
                evident=True,
            )
            for key, change in changes.items()
        ]

    def judge(self, subject: Subject, case: Case) -> Finding:
        """Without the suspects against without random rows."""
        noise = case.measures.get("noise")
        if not noise or "rate" not in noise:
            return undecided(self.cause, "The labels were not cross-checked.")
        rate = noise_rate(case.measures)
        evidence = [
            Evidence(
                kind="suspected_labels",
                statement=f"About {100 * rate:.1f} % of the training labels are "
                "contradicted by models that never saw them.",
                values={
                    key: value
                    for key, value in noise.items()
                    if key not in ("mask", "random_mask", "corrections")
                },
            )
        ]
        if case.trial is None and not case.gaps:
            return clear(
                self.cause,
                f"About {100 * rate:.1f} % of the labels are contradicted, no more "
                "than clean data show.",
                evidence=evidence,
            )
        return judge_gain(
            self,
            case,
            says=f"About {100 * rate:.0f} % of the training labels are wrong",
            evidence=evidence,
        )
