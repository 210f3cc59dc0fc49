"""Label order mismatch: the outputs are in another order than the dataset's labels.

Idea:      the best assignment of outputs to labels, chosen on one half of the held-out
           rows and scored on the other.
Source:    Kuhn 1955, The Hungarian method for the assignment problem.
           The fault is in the order only where the same recipe, trained anew, does
           about as well as the reordered outputs: else the model is weak in any order.
           Or where it shows on training rows: those the weights fit, in that order
           alone, as the recipe's own trainings do.
           Of two classes, weights that have not learned hit one order or the other.
Blind to:  models too weak to tell the classes apart in any order.
"""

import math
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
    delivered_score,
    found_in_delivery,
    pair_of,
    points,
    undecided,
)
from worker.engine.stats.decisions import Floors
from worker.engine.stats.pairs import PairedGain
from worker.engine.subject import Subject
from worker.engine.sureness import has_not_learned
from worker.engine.symptoms import inputs_moved_far

# Why another order that fits better is not the order of the training.
_IN_TRAINING_MODE = (
    "Another order would fit in evaluation mode, but the file runs in training mode, "
    "in which it does better as it is: the statistics that its norms have stored are "
    "at fault, not the order."
)
_BY_ACCIDENT = (
    "Another order would fit better, but by accident: the outputs hardly differ, as "
    "those of weights that have not learned, and training does not reach as much."
)
_AS_THE_RECIPE = (
    "Another order would fit the held-out labels better, but the recipe itself yields "
    "the order as it is: labels of the training rows are rather exchanged for each "
    "other, or those of the held-out ones."
)
_OF_A_MOVE = (
    "Another order would fit the held-out labels better, but training rows are hit in "
    "the order as it is, and held-out inputs lie elsewhere: that makes some classes "
    "look like others."
)
_IN_ANY_ORDER = (
    "Another order would fit the held-out labels better, but the outputs are too weak "
    "in any order for that to be the fault."
)
_FAR_BELOW = (
    "Another order would fit better, but stays far below what training reaches on "
    "these data: the weakness lies elsewhere."
)

METHOD = "outputs reordered against as delivered, paired over rows"


@dataclass(frozen=True)
class LabelOrderMismatch:
    """Reorder the outputs of the delivered model."""

    cause: ClassVar[Cause] = Cause.LABEL_ORDER_MISMATCH

    bar: Bar = Bar()
    near_best: float = 0.75  # of the best arm, that the reordered outputs must reach
    shown: int = 3  # outputs named in the summary
    shown_whole: int = 50  # classes up to which the whole order is spelt out
    shown_to_do: int = 12  # likewise, in what to do
    longest_name: int = 40  # letters of a class's name
    least_share: float = 0.5  # of the gain and of what training anew brings, mutually
    as_good: float = 0.9  # as the recipe's own trainings, whatever these are worth
    learns: float = 0.1  # balanced accuracy above chance that they must reach
    unstable_share: float = 0.1  # of them, that may end no better than what was given
    fits: float = 0.05  # balanced accuracy below the recipe's own, on training rows
    short: float = 0.1  # balanced accuracy there, by which trainings may miss it
    spoiled: float = 0.1  # of the held-out samples, whose outputs are no numbers
    by_chance: float = 0.3  # nats an answer; what is worth more is no accident
    apart: float = 0.2  # of balanced accuracy there, between the two orders

    def obstacle(self, subject: Subject) -> str | None:
        """Every classifier has an order."""
        return None

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """Nothing to retrain: the delivered model is scored again."""
        return []

    def judge(self, subject: Subject, case: Case) -> Finding:
        """The given order against the best."""
        values = case.measures.get("label_order")
        if not values:
            return undecided(self.cause, "The order of the outputs was not measured.")
        if (delivered_score(case.measures, "spoiled") or 0.0) > self.spoiled:
            return undecided(self.cause, "Too many outputs are no numbers to tell.")
        gain = pair_of(values.get("gain"))
        order = values.get("permutation")
        if not self.bar.passes(gain) or gain is None or not isinstance(order, list):
            return clear(
                self.cause,
                "No other order of the outputs fits the labels better.",
                gain=gain,
                method=METHOD,
            )
        why = self._objection(subject, case, gain)
        if why:
            return clear(self.cause, why, gain=gain, method=METHOD)
        names = [name[: self.longest_name] for name in subject.data.class_names]
        # An output stands for itself where the probe found no class.
        places = [
            to if isinstance(to, int) and to < len(names) else place
            for place, to in enumerate(order[: len(names)])
        ]
        moved = [
            f"output {place} is {names[to]!r}, not {names[place]!r}"
            for place, to in enumerate(places)
            if to != place
        ]
        to = [names[place] for place in places]
        more = f"; and {len(moved) - self.shown} more" if moved[self.shown :] else ""
        return found_in_delivery(
            self.cause,
            gain,
            summary=(
                "The outputs are in another order than the labels: "
                + "; ".join(moved[: self.shown])
                + f"{more}. Reordering brings {points(gain.value)} balanced accuracy."
            ),
            text=self._to_do(to),
            evidence=[
                Evidence(
                    kind="assignment",
                    statement=self._whole_order(to, len(moved)),
                    values={
                        "permutation": order,
                        "before": values.get("before"),
                        "after": values.get("after"),
                    },
                )
            ],
            method=METHOD,
        )

    def _objection(self, subject: Subject, case: Case, gain: PairedGain) -> str | None:
        """Why another order that fits better is not the order of the training."""
        values = case.measures.get("label_order", {})
        runs = pair_of(case.measures.get("determinism", {}).get("gain"))
        after = values.get("after")
        fits = self._fits_in_that_order(subject, case)
        is_weak = isinstance(after, int | float) and after < (
            self.near_best * case.best_trained
        )
        is_usual = fits or self._is_all_that_recipe_yields(subject, case, gain.value)
        least = self.least_share * max(gain.value, case.anew)
        is_little = min(gain.value, case.anew) < least and not fits
        is_learned = isinstance(after, int | float) and after >= case.best_trained
        objections = {
            _IN_TRAINING_MODE: runs is not None and runs.value <= -Floors().material,
            _BY_ACCIDENT: self._is_accidental(subject, case),
            _OF_A_MOVE: self._fits_as_it_is(case) and inputs_moved_far(case.measures),
            _AS_THE_RECIPE: is_little and is_learned,
            _IN_ANY_ORDER: is_little,
            _FAR_BELOW: is_weak and not is_usual,
        }
        return next((why for why, applies in objections.items() if applies), None)

    def _to_do(self, to: list[str]) -> str:
        """Name the order, where it is short enough to be read in a sentence."""
        named = "the order of the evidence"
        if len(to) <= self.shown_to_do:
            named = f"this order: {', '.join(to)}"
        return (
            f"Name the model's outputs in {named}; or put the outputs into the order "
            "of the dataset's classes."
        )

    def _whole_order(self, to: list[str], moved: int) -> str:
        """Say of every output which class it stands for."""
        whole = ", ".join(f"{place}: {name}" for place, name in enumerate(to))
        text = f"{moved} of {len(to)} outputs stand for another class"
        if len(to) > self.shown_whole:
            return f"{text}; `permutation` in the JSON report holds the class of each."
        return f"{text}. The class that each output stands for: {whole}."

    def _is_accidental(self, subject: Subject, case: Case) -> bool:
        """Whether weights that have not learned happen to fit in that order.

        Of two classes they always fit in one. What a recipe yields may be unsure, too.
        """
        values = case.measures.get("label_order", {})
        after, usual = (
            values.get("train_after"),
            case.baseline.get("train_balanced_accuracy", 0.0),
        )
        if isinstance(after, float) and usual >= after - self.short:
            return False
        is_one_of_two = subject.data.classes == 2  # noqa: PLR2004
        most = math.inf if is_one_of_two else self.by_chance
        return has_not_learned(subject, values.get("sure"), most)

    def _fits_as_it_is(self, case: Case) -> bool:
        """Whether training rows are hit in the given order, and not in that one."""
        values = case.measures.get("label_order", {})
        before, after = values.get("train_before"), values.get("train_after")
        return (
            isinstance(before, float)
            and isinstance(after, float)
            and before >= after + self.apart
        )

    def _fits_in_that_order(self, subject: Subject, case: Case) -> bool:
        """Whether the weights have learned the training rows, in that order alone.

        However little of that holds for others.
        """
        values = case.measures.get("label_order", {})
        before, after = values.get("train_before"), values.get("train_after")
        usual = case.baseline.get("train_balanced_accuracy", 0.0)
        return (
            isinstance(before, float)
            and isinstance(after, float)
            and usual >= 1 / subject.data.classes + self.learns
            and after >= usual - self.fits
            and after >= before + self.apart
        )

    def _is_all_that_recipe_yields(
        self, subject: Subject, case: Case, gained: float
    ) -> bool:
        """Whether in that order the weights are what the recipe makes, time and again.

        The recipe may have faults of its own.
        """
        usual = case.delivered + case.anew
        return (
            usual >= 1 / subject.data.classes + self.learns
            and case.delivered + gained >= self.as_good * usual
            and case.relapses(0.0) < self.unstable_share
        )
