"""Training mode left on: dropout or batch statistics are active at inference.

Idea:      the same inputs twice, and in other company; outputs of an exported
           classifier must not change. The graph shows flags that were baked in. What
           depends on the company in evaluation mode, too, is `unsuitable_layers`.
Source:    PyTorch documentation, `torch.nn.Module.eval`.
Blind to:  networks whose training mode changes nothing (no dropout, no batch norm).
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
    found_in_delivery,
    pair_of,
    points,
    undecided,
)
from worker.engine.stats.decisions import Floors
from worker.engine.subject import Subject

METHOD = "evaluation mode against as delivered, paired over rows"


@dataclass(frozen=True)
class TrainingModeLeftOn:
    """Run the delivered model twice."""

    cause: ClassVar[Cause] = Cause.TRAINING_MODE_LEFT_ON

    least_changed: float = 0.002  # share of predictions that change
    shown: float = 5e-4  # balanced accuracy that reads as more than nothing

    def obstacle(self, subject: Subject) -> str | None:
        """Any model can be run twice."""
        return None

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """Nothing to retrain."""
        return []

    def judge(self, subject: Subject, case: Case) -> Finding:
        """Outputs must be the same from call to call and in any company."""
        values = case.measures.get("determinism")
        if not values:
            return undecided(self.cause, "The model was not run twice.")
        parts = {name: values.get(name) for name in ("repeat", "company", "alone")}
        changed = max(self._changed(part) for part in parts.values())
        gain = pair_of(values.get("gain"))
        evidence = [
            Evidence(
                kind="determinism",
                statement=(
                    f"{100 * changed:.1f} % of the predictions change from call to "
                    "call or with the company in the batch."
                ),
                values={**parts, "baked_training": values.get("baked_training")},
            )
        ]
        alone = values.get("alone")
        needs_company = isinstance(alone, dict) and bool(alone.get("needs_company"))
        is_steady = not values.get("varies") or changed < self.least_changed
        if is_steady and not needs_company:
            return clear(
                self.cause,
                "The outputs are the same from call to call and in any company.",
                evidence=evidence,
            )
        if values.get("mixes"):
            return clear(
                self.cause,
                "The answers depend on the other samples in the batch in evaluation "
                "mode as well: the layers mix samples.",
                evidence=evidence,
            )
        worth = ""
        if gain is not None and abs(gain.value) >= self.shown:
            worth = f" Evaluation mode brings {points(gain.value)}."
        depends = (
            f"{100 * changed:.1f} % of its answers depend on chance or on the other "
            "samples in the batch"
        )
        if needs_company and changed < self.least_changed:
            depends = "outputs depend on the other samples in the batch"
        if needs_company:
            depends += ", and a sample that comes alone gets none"
        loses = gain is not None and gain.value <= -Floors().material
        if loses:
            worth += " The statistics that its norms have stored do not fit the data."
        return found_in_delivery(
            self.cause,
            gain,
            summary=f"The model runs in training mode: {depends}.{worth}",
            text=self._to_do(loses=loses, baked=values.get("baked_training") is True),
            evidence=evidence,
            method=METHOD,
        )

    def _to_do(self, *, loses: bool, baked: bool) -> str:
        """How to export it in evaluation mode."""
        text = "Call `model.eval()` before exporting the model"
        if loses:
            text += (
                ", after passing training data through it until its stored statistics "
                "fit, or after training it anew"
            )
        if baked:
            text += (
                "; in this file dropout or batch statistics are on whatever the mode, "
                "as in a trace made in training mode, where `F.dropout` is not told "
                "`training=self.training`, or where a batch norm keeps no running "
                "statistics"
            )
        return f"{text}."

    def _changed(self, part: object) -> float:
        share = part.get("changed") if isinstance(part, dict) else None
        return float(share) if isinstance(share, int | float) else 0.0
