"""Preprocessing mismatch: the data reach the model in another form than in training.

Idea:      score the delivered model on rescaled, reordered and transposed inputs. The
           fault lies in the delivery only where the same recipe, trained anew on the
           data as they are, does well, else the scale is a fault of the training; or
           where the transformed inputs give about what the best training on these data
           gives: such weights were trained on that form.
Source:    Breck et al. 2019, Data validation for machine learning, MLSys (skew between
           training and serving).
Blind to:  transformations outside the list, and several at once.
"""

from dataclasses import dataclass
from typing import ClassVar

from service.contract.causes import Cause
from service.contract.report import Evidence, Finding
from worker.engine.check import (
    Bar,
    Case,
    Measures,
    Mend,
    clear,
    found_in_delivery,
    pair_of,
    points,
    undecided,
)
from worker.engine.subject import Subject

METHOD = "inputs transformed against as given, paired over rows"


@dataclass(frozen=True)
class PreprocessingMismatch:
    """Transform the inputs of the delivered model."""

    cause: ClassVar[Cause] = Cause.PREPROCESSING_MISMATCH

    bar: Bar = Bar()
    least_share: float = 0.5  # of the gain, that retraining on the data must show too
    least_recovered: float = 0.3  # of what retraining brings, by the transformation
    as_good: float = 0.9  # as the best arm: so good are no weights by accident
    near_best: float = 0.6  # of the best arm, that the model must reach then

    def obstacle(self, subject: Subject) -> str | None:
        """Token ids are not preprocessed."""
        if subject.data.kind == "tokens":
            return "token ids have no scale or layout"
        return None

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """Nothing to retrain: the delivered model is scored again."""
        return []

    def judge(self, subject: Subject, case: Case) -> Finding:
        """The inputs as given against the best transformation."""
        values = case.measures.get("preprocessing")
        if not values:
            return undecided(self.cause, "No transformation was tried.")
        gain = pair_of(values.get("gain"))
        best = values.get("best")
        evidence = [
            Evidence(
                kind="transformations",
                statement="Balanced accuracy of the delivered model on each form.",
                values={
                    "tried": values.get("tried"),
                    "first_norm": values.get("first_norm"),
                },
            )
        ]
        if best == "identity" or not self.bar.passes(gain) or gain is None:
            return clear(
                self.cause,
                "The delivered model does no better on any other form of the inputs.",
                evidence=evidence,
                gain=gain,
                method=METHOD,
            )
        anew = case.retrained.value if case.retrained else 0.0
        learns_anyway = anew >= self.least_share * gain.value and (
            gain.value >= self.least_recovered * anew
        )
        # Weights that do so well in another form were trained on that form: either the
        # held-out data alone have changed, or all data have since.
        reached = case.delivered + gain.low
        is_good = 0 < self.as_good * case.best_trained <= reached
        if not learns_anyway and not is_good:
            return clear(
                self.cause,
                f"`{best}` would help the delivered model, but training anew on the "
                "data as they are does no better: the scale is a matter of training.",
                evidence=evidence,
                gain=gain,
                method=METHOD,
            )
        if case.delivered + gain.value < self.near_best * case.best_trained:
            return clear(
                self.cause,
                f"`{best}` would help the delivered model a little, but leaves it far "
                "below what training reaches on these data: the weakness lies "
                "elsewhere.",
                evidence=evidence,
                gain=gain,
                method=METHOD,
            )
        return found_in_delivery(
            self.cause,
            gain,
            summary=(
                f"The model expects its inputs in another form: with `{best}` applied "
                f"it gains {points(gain.value)} balanced accuracy."
            ),
            text=f"Apply `{best}` to the inputs before the model, as in training.",
            evidence=evidence,
            method=METHOD,
        )
