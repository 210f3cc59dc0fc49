"""Preprocessing mismatch: the data reach the model in another form than in training.

Idea:      score the delivered model on rescaled, reordered and transposed inputs (of
           texts: on ids moved by one, padded on the other side), by one transformation
           and by two. The fault lies in the delivery only where the
           same recipe, trained anew on the data as they are, does well, else the scale
           is a fault of the training; or where the transformed inputs give about what
           the best training on these data gives, or far more than what the recipe
           yields on the data as they are, scored in that form as well: such weights
           were trained on that form. Weights that fit the training rows as they are
           just as the recipe's own trainings do were trained on these. Weights that
           have learned are sure of what they hit: what hardly moved is not, in whatever
           form it hits by chance.
           Held-out inputs that look like the training ones in that form alone came in
           another one, whatever the weights.
           A batch norm has stored which values reached it in training: the form in
           which they do so again is that of the training.
Source:    Breck et al. 2019, Data validation for machine learning, MLSys (skew between
           training and serving).
Blind to:  transformations outside the list, and more than two at once.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import JsonValue

from service.contract.causes import Cause
from service.contract.report import Evidence, Finding
from worker.engine.affine import affine_figures
from worker.engine.check import (
    AS_IN_TRAINING,
    Bar,
    Case,
    Measures,
    Mend,
    clear,
    delivered_score,
    found_in_delivery,
    pair_of,
    points,
    supposed_loss,
    undecided,
    undoes_the_move,
)
from worker.engine.shown import ShownInOtherForm
from worker.engine.stats.pairs import PairedGain
from worker.engine.subject import Subject
from worker.engine.sureness import IN_NATS, has_not_learned
from worker.engine.symptoms import inputs_moved_far
from worker.engine.wording import form_name, form_words

METHOD = "inputs transformed against as given, paired over rows"

# Why another form that helps is not the form of the training.
_OF_TRAINING = (
    "training anew on the data as they are does no better: the scale is a matter of "
    "training"
)
_OF_ALL = (
    "so it helps all that the recipe yields on the data as they are: the scale is a "
    "matter of training"
)
_OF_THE_ORDER = "its outputs in their right order do better, on the inputs as they are"
_OF_A_MOVE = (
    "that wins back only a part of what it costs that the inputs moved between "
    "training and held-out data: they moved otherwise"
)
_OF_THE_FIT = (
    "it fits the training rows as they are just as the recipe's own trainings do: it "
    "was trained on this form"
)
_OF_CHANCE = (
    "its outputs hardly tell the classes apart in that form either: what it hits "
    "there, it hits by chance"
)
_OF_NORMS = (
    "its batch norms hold the figures of no data at all: that is what another form of "
    "the inputs makes up for"
)
_OF_WEAKNESS = (
    "leaves it far below what training reaches on these data: the weakness lies "
    "elsewhere"
)


@dataclass(frozen=True)
class PreprocessingMismatch:
    """Transform the inputs of the delivered model."""

    cause: ClassVar[Cause] = Cause.PREPROCESSING_MISMATCH
    after: ClassVar[tuple[Cause, ...]] = (
        Cause.LABEL_ORDER_MISMATCH,
        Cause.DISTRIBUTION_SHIFT,
    )

    bar: Bar = Bar()
    # What a batch norm has stored needs less proof beside it.
    bar_of_norm: Bar = Bar(p_value=0.025)
    agreed: float = 0.05  # p value of held-out rows, where training rows prove a form
    least_share: float = 0.5  # of the gain, that retraining on the data must show too
    least_recovered: float = 0.3  # of what retraining brings, by the transformation
    as_good: float = 0.9  # as the best arm: so good are no weights by accident
    above_chance: float = 0.8  # of what the best arm has learned, likewise
    near_best: float = 0.6  # of the best arm, that the model must reach then
    near_yield: float = 0.85  # of what the recipe learns on the data as they are
    much: float = 0.1  # balanced accuracy; a form that brings it is near the right one
    half: float = 0.4  # of what the recipe learns, that it gives back then
    learns: float = 0.1  # balanced accuracy above chance, on training rows
    fits: float = 0.05  # balanced accuracy below the recipe's own, on training rows
    fits_loss: float = 1.5  # times the recipe's own loss, likewise
    least_of_the_move: float = 0.65  # of what that costs, that the form must win back
    unit: float = math.log(2.5)  # of a factor, from which it is another unit, no drift
    by_chance: float = 0.3  # nats an answer that one of many forms may bring
    norm_off: float = 0.5  # stored deviations, or nats of a ratio: another form
    norm_moved: float = (
        0.2  # likewise, off which no norm is in the form of its training
    )
    norm_nearer: float = 0.25  # of that, what is left in the form of the training

    def obstacle(self, subject: Subject) -> str | None:
        """Any inputs may come in another form."""
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
                statement=_best_forms(values.get("tried")),
                values={
                    "tried": values.get("tried"),
                    "first_norm": values.get("first_norm"),
                    "best_norm": values.get("best_norm"),
                },
            )
        ]
        untried = values.get("untried")
        given, other = _off(values.get("first_norm")), _off(values.get("best_norm"))
        found_again = self._is_nearer(other, given)
        bar = self.bar_of_norm if found_again else self.bar
        learned = pair_of(values.get("train_gain"))
        if best == "identity" or gain is None or not self._helps(gain, learned, bar):
            if isinstance(untried, int) and untried:
                return undecided(
                    self.cause,
                    f"The delivered model does no better on the likeliest forms of the "
                    f"inputs; {untried} others were not tried, to keep the budget.",
                    evidence=evidence,
                )
            return clear(
                self.cause,
                "The delivered model does no better on any other form of the inputs.",
                evidence=evidence,
                gain=gain,
                method=METHOD,
            )
        if inputs_moved_far(case.measures) and values.get("told_apart"):
            looks = _looks_as_in_training(str(best), values)
            if self._is_drift(str(best)):
                return _drifted(str(best), gain, [*evidence, looks])
            if undoes_the_move(case.measures):
                return _proven(str(best), gain, [*evidence, looks])
        return self._by_the_weights(subject, case, gain, evidence)

    def _by_the_weights(
        self, subject: Subject, case: Case, gain: PairedGain, evidence: list[Evidence]
    ) -> Finding:
        """What a form that helps says, by what the weights do in it."""
        values = case.measures["preprocessing"]
        best = str(values.get("best"))
        given, other = _off(values.get("first_norm")), _off(values.get("best_norm"))
        found_again = self._is_nearer(other, given)
        shown = ShownInOtherForm.read(case.measures)
        if shown is not None:
            evidence.append(_shown_as_well(shown, best, values))
        objection = self._objection(subject, case, gain, shown, found_again=found_again)
        if self._is_nearer(given, other, least=self.norm_moved):
            objection = (
                "the first batch norm has stored the figures of the inputs as they are"
            )
        if case.measures.get("weights", {}).get("untouched_norms"):
            objection = _OF_NORMS
        if objection == _OF_WEAKNESS and self._restores_half(subject, case, gain):
            return _near(best, gain, evidence)
        if objection:
            return clear(
                self.cause,
                f"`{form_name(best)}` ({form_words(best)}) would help the delivered "
                f"model, but {objection}.",
                evidence=evidence,
                gain=gain,
                method=METHOD,
            )
        return _proven(best, gain, evidence)

    def _helps(
        self, gain: PairedGain, on_training_rows: PairedGain | None, bar: Bar
    ) -> bool:
        """Whether a form is proven to help, by held-out rows or with training rows.

        These are more, and the weights know them by heart in the form of the training.
        """
        if bar.passes(gain):
            return True
        agrees = gain.value >= bar.material and gain.p_above(0.0) <= self.agreed
        return agrees and bar.passes(on_training_rows)

    def _objection(
        self,
        subject: Subject,
        case: Case,
        gain: PairedGain,
        shown: ShownInOtherForm | None,
        *,
        found_again: bool,
    ) -> str | None:
        """Why another form that helps is not the form of the training, if so.

        Args:
            subject: what is audited.
            case: what came out.
            gain: by that form.
            shown: what the recipe yields in that form, where that was measured.
            found_again: whether a norm's stored figures are found again in it alone;
                then it need not be the very form, and do as well.
        """
        reached, chance = case.delivered + gain.low, 1 / subject.data.classes
        # What hits less than chance comes back to chance by any change.
        below = max(0.0, chance - case.delivered)
        brings, anew = gain.value - below, case.anew - below
        learns_anyway = (
            anew >= self.least_share * brings and brings >= self.least_recovered * anew
        )
        # Weights that do so well in another form were trained on that form: either the
        # held-out data alone have changed, or all data have since.
        is_good = 0 < self.as_good * case.best_trained <= reached
        learned = self.above_chance * (case.best_trained - chance)
        restored = case.delivered + gain.value
        yielded = case.delivered + case.anew
        is_theirs = shown is not None and (
            shown.falls_short_of(reached)
            or shown.fits_less_than(self._fitted_level(case))
        )
        suits_all = shown is not None and not is_theirs and shown.mean >= yielded
        # What lifts networks trained on the data as they are as much proves nothing,
        # unless those on which they are scored have moved.
        lifts_all = (
            shown is not None
            and suits_all
            and shown.mean - yielded >= self.least_share * gain.value
            and not inputs_moved_far(case.measures)
        )
        proves_itself = is_good and reached - chance >= learned and not lifts_all
        objections = {
            _OF_TRAINING: not learns_anyway and not is_theirs and not proves_itself,
            _OF_ALL: suits_all and not proves_itself,
            _OF_THE_ORDER: self._is_ordered_otherwise(case, gain.value),
            _OF_A_MOVE: self._is_a_small_part_of_the_move(case, gain.value),
            _OF_THE_FIT: self._fits_as_given(subject, case)
            and not inputs_moved_far(case.measures),
            _OF_CHANCE: self._has_not_learned(subject, case)
            or (
                shown is not None
                and not is_theirs
                and shown.hit_by_chance(reached, chance)
            ),
            _OF_WEAKNESS: not found_again
            and (
                restored < self.near_best * case.best_trained
                or restored - chance < self.near_yield * (yielded - chance)
            ),
        }
        return next((why for why, applies in objections.items() if applies), None)

    def _restores_half(self, subject: Subject, case: Case, gain: PairedGain) -> bool:
        """Whether a form gives back a good part of what the recipe yields.

        Damaged weights do as badly in every form, unless there are but two classes:
        then some form puts one in a few on the right side.
        """
        if subject.data.classes == 2:  # noqa: PLR2004
            return False
        learned = case.anew + case.delivered - 1 / subject.data.classes
        restored = gain.low + case.delivered - 1 / subject.data.classes
        return gain.low >= self.much and restored >= self.half * learned > 0

    def _is_nearer(
        self, one: float | None, other: float | None, least: float | None = None
    ) -> bool:
        """Whether what a norm has stored is found again in one form only."""
        if one is None or other is None:
            return False
        off = self.norm_off if least is None else least
        return other >= off and one <= self.norm_nearer * other

    def _is_ordered_otherwise(self, case: Case, gained: float) -> bool:
        """Whether the order of the outputs is all that is wrong with the delivery."""
        order = case.judged.get(Cause.LABEL_ORDER_MISMATCH)
        if order is None or order.verdict != "found" or order.gain is None:
            return False
        reached = case.delivered + order.gain.value
        is_enough = reached >= self.as_good * case.best_trained
        return order.gain.value > gained and is_enough

    def _is_a_small_part_of_the_move(self, case: Case, gained: float) -> bool:
        """Whether held-out inputs moved, and that form hardly undoes it."""
        shift = case.judged.get(Cause.DISTRIBUTION_SHIFT)
        if shift is None or shift.verdict != "found":
            return False
        cost = supposed_loss(case) if shift.gain is None else shift.gain.value
        return gained < self.least_of_the_move * cost

    def _fits_as_given(self, subject: Subject, case: Case) -> bool:
        """Whether the weights do on training rows what the recipe yields there.

        Where it yields nothing, that says nothing, nor where they do still better there
        in a form that nothing was fitted to.
        """
        values = case.measures.get("preprocessing", {})
        better = pair_of(values.get("train_gain"))
        steps = str(values.get("best")).split("+")
        is_fitted = any(affine_figures(step) for step in steps)
        if better is not None and better.low >= self.fits and not is_fitted:
            return False
        hit = delivered_score(case.measures, "train_balanced_accuracy")
        usual = case.baseline.get("train_balanced_accuracy", 0.0)
        learns = usual >= 1 / subject.data.classes + self.learns
        if not learns or hit is None or hit < usual - self.fits:
            return False
        loss = delivered_score(case.measures, "train_log_loss")
        usual_loss = case.baseline.get("train_loss")
        if subject.recipe.loss.name not in IN_NATS or loss is None:
            return True
        return usual_loss is None or loss <= self.fits_loss * usual_loss

    def _fitted_level(self, case: Case) -> float:
        """Balanced accuracy on training rows in that form, for the form alone.

        What the weights fit better than the recipe's as given is not the form's.
        """
        level = case.measures.get("preprocessing", {}).get("train_after")
        hit = delivered_score(case.measures, "train_balanced_accuracy")
        usual = case.baseline.get("train_balanced_accuracy")
        if not isinstance(level, float) or hit is None or usual is None:
            return 0.0
        return level - max(0.0, hit - usual)

    def _is_drift(self, form: str) -> bool:
        """Whether a fitted scale and shift are no larger than what instruments drift.

        Inputs that nobody standardised, or in other units, are further away.
        """
        figures = [affine_figures(step) for step in form.split("+")]
        known = [found for found in figures if found is not None]
        if not known or len(known) < len(figures):
            return False
        factors = np.abs([a for scale, _ in known for a in scale])
        return float(np.median(np.abs(np.log(np.maximum(factors, 1e-30))))) < self.unit

    def _has_not_learned(self, subject: Subject, case: Case) -> bool:
        """Whether the weights, in that form, are far less sure than right."""
        sure = case.measures.get("preprocessing", {}).get("sure")
        return has_not_learned(subject, sure, self.by_chance)


def _proven(form: str, gain: PairedGain, evidence: list[Evidence]) -> Finding:
    """Name the form that the model expects."""
    return found_in_delivery(
        Cause.PREPROCESSING_MISMATCH,
        gain,
        summary=(
            f"The model expects its inputs in another form: with `{form_name(form)}` "
            f"({form_words(form)}) it gains {points(gain.value)} balanced accuracy."
        ),
        text=f"Apply `{form_name(form)}` to the inputs before the model, as in "
        f"training: {form_words(form)}.",
        evidence=evidence,
        method=METHOD,
    )


def _near(form: str, gain: PairedGain, evidence: list[Evidence]) -> Finding:
    """Suspect that the right form is one that was not tried."""
    return found_in_delivery(
        Cause.PREPROCESSING_MISMATCH,
        gain,
        summary=(
            "The inputs may come in another form than in training, one near to "
            f"`{form_name(form)}` ({form_words(form)}): with that the delivered model "
            f"gains {points(gain.value)} balanced accuracy, yet stays below what "
            "training reaches on these data."
        ),
        text="Compare how the inputs are prepared in training and in service, step by "
        f"step; none of the forms tried is the right one, `{form_name(form)}` is "
        "nearest.",
        evidence=evidence,
        method=METHOD,
        verdict="suspected",
    )


def _drifted(form: str, gain: PairedGain, evidence: list[Evidence]) -> Finding:
    """Suspect a form where what moved may as well be the world."""
    return found_in_delivery(
        Cause.PREPROCESSING_MISMATCH,
        gain,
        summary=(
            "Held-out inputs lie elsewhere than training inputs. Where their form is "
            f"to blame, `{form_name(form)}` ({form_words(form)}) makes up for it: with "
            f"that the delivered model gains {points(gain.value)} balanced accuracy."
        ),
        text="Compare how the inputs are measured and prepared in training and in "
        f"service; until then apply `{form_name(form)}` to those of the service: "
        f"{form_words(form)}.",
        evidence=evidence,
        method=METHOD,
        verdict="suspected",
    )


def _looks_as_in_training(form: str, probe: Mapping[str, JsonValue]) -> Evidence:
    areas = probe.get("told_apart")
    values = areas if isinstance(areas, dict) else {}
    given, left = (float(str(values.get(key))) for key in ("as_given", "in_form"))
    return Evidence(
        kind=AS_IN_TRAINING,
        statement=f"A classifier tells held-out inputs as given from training inputs "
        f"with AUC {given:.2f}, with `{form_name(form)}` with {left:.2f}; 0.5 is "
        "chance.",
        values={"form": form, "as_given": given, "in_form": left},
    )


def _best_forms(tried: JsonValue, most: int = 4) -> str:
    """Say how the delivered model does on the forms that suit it best."""
    text = "Balanced accuracy of the delivered model"
    if not isinstance(tried, dict):
        return f"{text} on each form."
    known = {k: v for k, v in tried.items() if isinstance(v, int | float)}
    best = sorted(known, key=lambda name: -known[name])
    named = [name for name in best if name != "identity"][: most - 1]
    shown = [f"{100 * known[name]:.1f} % with `{form_name(name)}`" for name in named]
    if "identity" in known:
        shown.insert(0, f"{100 * known['identity']:.1f} % as given")
    return f"{text}: {', '.join(shown)}; {len(known)} forms were tried."


def _shown_as_well(
    shown: ShownInOtherForm, form: str, probe: Mapping[str, JsonValue]
) -> Evidence:
    """Say how networks trained on the data as they are do in another form."""
    text = (
        f"{len(shown.levels)} networks that the recipe yields on the data as they are "
        f"reach {_range(shown.levels)} with `{form}`"
    )
    fitted = probe.get("train_after")
    if shown.train_levels and isinstance(fitted, float):
        text += (
            f", and {_range(shown.train_levels)} of the training rows, where the "
            f"delivered one reaches {100 * fitted:.1f} %"
        )
    return Evidence(
        kind="recipe_in_other_form",
        statement=f"{text}.",
        values={
            "form": form,
            "levels": list(shown.levels),
            "train_levels": list(shown.train_levels),
        },
    )


def _range(levels: Sequence[float]) -> str:
    return f"{100 * min(levels):.1f} to {100 * max(levels):.1f} %"


def _off(norm: JsonValue) -> float | None:
    """How far what reaches a norm is from what it has stored, None where unknown."""
    if not isinstance(norm, dict):
        return None
    shift, ratio = norm.get("shift"), norm.get("ratio")
    if not (isinstance(shift, float) and isinstance(ratio, float)) or ratio <= 0:
        return None
    return max(shift, abs(math.log(ratio)))
