"""Corrupted inputs: artifacts, erroneous or missing values in the features.

Idea:      look for non-finite values, sentinels, values far outside the bulk and blank
           samples; retrain on repaired inputs, and without the affected rows.
Source:    Breck et al. 2019, Data validation for machine learning, MLSys.
Blind to:  errors that look like ordinary values.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from pydantic import JsonValue

from service.contract.causes import Cause
from service.contract.report import Evidence, Finding
from worker.engine.check import Case, Measures, Mend, clear, judge_gain
from worker.engine.lab.experiment import Change, DataChange
from worker.engine.subject import Subject
from worker.engine.sweeps import STANDARDIZE, STANDARDIZED, as_many_updates
from worker.engine.wording import counted, listed


@dataclass(frozen=True)
class CorruptedInputs:
    """Retrain on repaired inputs."""

    cause: ClassVar[Cause] = Cause.CORRUPTED_INPUTS

    least_share: float = 0.002  # of the training rows with a defect
    much: float = 0.05  # likewise, from which all that is mended at once repairs them
    most_dropped: float = 0.5  # of the training rows
    many: float = 0.2  # likewise; without so many an epoch is much shorter
    most_values: int = 1024  # in a sample; a table of so many by so many is kept
    limit: float = 8.0  # robust deviations beyond which a value is clipped

    def obstacle(self, subject: Subject) -> str | None:
        """Token ids have no impossible values beyond the vocabulary."""
        if subject.data.kind == "tokens":
            return "token ids hold no erroneous values that could be told"
        return None

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """Repair the values, or drop the rows, where something is odd."""
        inputs = measures.get("inputs", {})
        share = self._share(measures)
        broken = bool(inputs.get("non_finite")) or bool(inputs.get("sentinels"))
        if share < self.least_share and not broken:
            return []
        plain = Mend(
            cause=self.cause,
            key="repaired inputs",
            text="Replace missing, non-finite and impossible values and clip what "
            "lies far outside",
            changes=(DataChange(name="repair_inputs", limit=self.limit),),
            # What lies far out hides behind the scale that it has spoiled.
            sane=broken or share >= self.much,
            urgent=True,
            evident=True,
            natural=not broken,  # far out may be where some values belong
        )
        found = [plain]
        values = int(np.prod(subject.data.sample_shape))
        if 1 < values <= self.most_values:
            found.append(
                replace(
                    plain,
                    key="estimated inputs",
                    text="Replace missing, non-finite and impossible values by what "
                    "the sample's other values let expect",
                    changes=(DataChange(name="estimate_inputs", limit=self.limit),),
                )
            )
        if inputs.get("squeezed") and subject.recipe.normalization == "none":
            found.insert(1, self._scaled_again(found[-1]))
        mask = inputs.get("mask")
        if isinstance(mask, str) and 0 < share <= self.most_dropped:
            found.append(self._without_rows(subject, plain, mask, share))
        return found

    def _scaled_again(self, plain: Mend) -> Mend:
        """Bring features back to the scale that values far out have spoiled."""
        return replace(
            plain,
            key=f"{plain.key}, standardised",
            text=f"{plain.text}; then standardise the inputs, as these had squeezed "
            "the others",
            changes=(*plain.changes, STANDARDIZED),
            control=(STANDARDIZED,),
            control_name=STANDARDIZE,
            sane=False,
        )

    def _without_rows(
        self, subject: Subject, plain: Mend, mask: str, share: float
    ) -> Mend:
        """Drop the rows with a defect; of many, train on the others for as long."""
        text = f"Drop the {100 * share:.1f} % of the training rows with a defect"
        changes: tuple[Change, ...] = (DataChange(name="drop", mask=mask),)
        if share >= self.many:
            longer = as_many_updates(subject, 1 - share)
            epochs = longer.patch["epochs"]
            text += f", and train for {epochs} epochs, which are as many updates"
            changes += (longer,)
        return replace(
            plain, key="rows dropped", text=text, changes=changes, sane=False
        )

    def judge(self, subject: Subject, case: Case) -> Finding:
        """The inputs as they are against repaired ones."""
        inputs = case.measures.get("inputs", {})
        shown = {
            name: inputs.get(name)
            for name in (
                "columns",
                "non_finite",
                "sentinels",
                "filled",
                "outliers",
                "constant_features",
                "squeezed",
                "blank",
                "duplicates",
                "conflicting",
                "held_out_affected",
            )
        }
        share = self._share(case.measures)
        evidence = [
            Evidence(
                kind="odd_values",
                statement=(
                    f"{100 * share:.1f} % of the training rows hold a missing, "
                    "non-finite, sentinel or far-out value, or are blank"
                    f"{_kinds_of(inputs)}."
                ),
                values=shown,
            )
        ]
        if case.trial is None and not case.gaps:
            return clear(
                self.cause,
                "The features hold no missing, non-finite or far-out values to speak "
                "of.",
                evidence=evidence,
            )
        return judge_gain(
            self,
            case,
            says=f"{100 * share:.1f} % of the training rows hold erroneous values",
            evidence=evidence,
        )

    def _share(self, measures: Measures) -> float:
        affected = measures.get("inputs", {}).get("affected")
        if isinstance(affected, dict):
            affected = affected.get("share")
        return float(affected) if isinstance(affected, int | float) else 0.0


def _kinds_of(inputs: dict[str, JsonValue]) -> str:
    """Say how many values are odd in which way."""
    shown = []
    for name, words in (
        ("non_finite", "missing or non-finite value"),
        ("sentinels", "sentinel"),
        ("filled", "possible filling for a missing value"),
        ("outliers", "far-out value"),
    ):
        number = inputs.get(name)
        if isinstance(number, int) and number:
            shown.append(counted(number, words))
    return f": {listed(shown)}" if shown else ""
