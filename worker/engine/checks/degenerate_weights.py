"""Degenerate weights: parameters are non-finite, dead or were never trained.

Idea:      read the weights, and train the same network anew by the same recipe: what
           the recipe yields must not be much better than what was delivered.
Source:    Karpathy 2019, A recipe for training neural networks (checks of weights).
Blind to:  damage that costs no accuracy on the held-out data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import JsonValue

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
    measured,
    points,
    undecided,
)
from worker.engine.lab.experiment import UNTOUCHED
from worker.engine.stats.decisions import severity_of
from worker.engine.stats.pairs import PairedGain
from worker.engine.subject import Subject

EXACT_SIGNS = ("non_finite", "constant", "zeros", "untouched_norms")
OTHERS = {
    Cause.LABEL_ORDER_MISMATCH: "the order of the outputs",
    Cause.PREPROCESSING_MISMATCH: "the form of the inputs",
    Cause.TRAINING_MODE_LEFT_ON: "the training mode left on",
}
METHOD = "the same recipe trained anew against the delivered weights"


@dataclass(frozen=True)
class DegenerateWeights:
    """Read the weights and train anew."""

    cause: ClassVar[Cause] = Cause.DEGENERATE_WEIGHTS
    after: ClassVar[tuple[Cause, ...]] = tuple(OTHERS)

    bar: Bar = Bar()
    # Exact values that no training leaves behind speak for themselves.
    bar_of_exact: Bar = Bar(p_value=0.025)
    untouched_share: float = 0.3  # of the comparable values
    dead_share: float = 0.7  # units of an activation that never fire
    unstable_share: float = 0.05  # of trainings that end as the delivered one did
    unlucky_share: float = 0.02  # likewise, where nothing else speaks of damage
    far_off: float = 0.15  # balanced accuracy that training anew brings at least
    likely: float = 0.075  # likewise, where it is not proven and may be worth a word
    explaining_share: float = 0.5  # of what training anew brings
    needed: tuple[str, ...] = ("optimizer.name", "optimizer.lr", "epochs")

    def obstacle(self, subject: Subject) -> str | None:
        """Every model has weights."""
        return None

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """The baseline is the mend."""
        return []

    def judge(self, subject: Subject, case: Case) -> Finding:
        """What the weights show, and what training anew brings."""
        values = case.measures.get("weights")
        if not values:
            return undecided(self.cause, "The weights were not read.")
        gain = case.retrained
        exact = any(values.get(name) for name in EXACT_SIGNS)
        better = (self.bar_of_exact if exact else self.bar).passes(gain)
        others = self._others(case)
        other = self._explained(case, others)
        untouched = self._untouched(case, values)
        signs = self._signs(values, {} if other else untouched)
        # An unstable recipe leaves some runs dead; then the recipe is at fault.
        relapses = case.relapses(max(others.values(), default=0.0))
        recipe_at_fault = relapses >= self.unstable_share or any(
            t.role == "primary" and (gain is None or t.gain.value >= gain.value)
            for t in case.trials.values()
        )
        share = delivered_score(case.measures, "spoiled") or 0.0
        if share > 0 and not values.get("non_finite"):
            # A training that went astray leaves such weights, and is named for it.
            by_training = any(t.role == "primary" for t in case.trials.values())
            return self._spoiled(share, by_training=by_training)
        is_unexplained = better and not signs and other is None
        if is_unexplained and untouched:
            # A layer that hardly moved is nothing by itself; beside a recipe that
            # yields much more, for no other reason, it was forgotten.
            names = ", ".join(list(untouched)[:3])
            signs = [f"{names} looks as freshly initialised."]
        evidence = [
            Evidence(kind="weights", statement=sign, values={}) for sign in signs
        ]
        if gain is not None:
            evidence.append(
                Evidence(
                    kind="retrained",
                    statement=(
                        "The same recipe trained anew differs from the delivered "
                        f"weights by {measured(gain)}."
                    ),
                    values={"value": gain.value, "low": gain.low, "high": gain.high},
                )
            )
        broken = bool(values.get("non_finite"))
        if signs and (better or broken):
            # What is not finite can be of no use, whatever training anew brings.
            alike = bool(values.get("constant") or values.get("zeros"))
            worth, text = self._worth(gain if better else None, relapses, alike=alike)
            return found_in_delivery(
                self.cause,
                gain if better else None,
                summary=f"{signs[0]}{worth}",
                text=text,
                evidence=evidence,
                method=METHOD,
                verdict="suspected" if recipe_at_fault and not broken else "found",
            )
        if better and other is None and all(map(subject.was_given, self.needed)):
            assert gain is not None
            # So far off is no run of a sound recipe, whatever the weights look like.
            is_far_off = (
                gain.low >= self.far_off
                and not recipe_at_fault
                and relapses < self.unlucky_share
            )
            return found_in_delivery(
                self.cause,
                gain,
                summary=(
                    "The delivered weights do worse than the recipe yields: training "
                    f"anew brings {points(gain.value)}, though the weights look sound."
                    f"{self._unlucky(relapses)}"
                ),
                text="Check that the exported file holds the final weights.",
                evidence=evidence,
                method=METHOD,
                verdict="found" if is_far_off else "suspected",
            )
        if not better and (unproven := self._unproven(case, signs, other, evidence)):
            return unproven
        summary = "The weights are sound"
        if signs:
            summary = f"{signs[0].rstrip('.')}; training anew brings no more"
        if better:
            summary = f"Training anew helps, which {other or 'the recipe'} explains"
        # Training anew may do worse, by luck or a small budget; that is no gain.
        shown = gain if gain is not None and gain.value > 0 else None
        return clear(
            self.cause, f"{summary}.", evidence=evidence, gain=shown, method=METHOD
        )

    def _spoiled(self, share: float, *, by_training: bool) -> Finding:
        """Outputs that are no numbers, of finite inputs and finite weights."""
        said = (
            f"The model returns no numbers for {100 * share:.1f} % of the held-out "
            "samples, though inputs and weights are finite."
        )
        evidence = Evidence(kind="outputs", statement=said, values={"share": share})
        finding = found_in_delivery(
            self.cause,
            None,
            summary=said,
            text="Find the step that yields NaN or infinity on these samples, such as "
            "a logarithm, a root or a division of what may be 0 or less; mend it, and "
            "train anew.",
            evidence=[evidence],
            method="",
            verdict="suspected" if by_training else "found",
        )
        return finding.model_copy(update={"severity": severity_of(share)})

    def _unlucky(self, relapses: float) -> str:
        """Say that the weights may be a training that went wrong by chance."""
        if relapses < self.unlucky_share:
            return ""
        return (
            f" Yet about {100 * relapses:.0f} % of the trainings by the same recipe "
            "may end as low by chance."
        )

    def _worth(
        self, gain: PairedGain | None, relapses: float, *, alike: bool
    ) -> tuple[str, str]:
        """What training anew brings, and what to do."""
        if gain is None:
            worth = " The same recipe was not seen to do better: mend the rest first."
            return worth, "Mend what else is found, then train anew and export that."
        worth = f" Training anew brings {points(gain.value)}."
        if relapses >= self.unstable_share:
            worth += (
                f" Yet about {100 * relapses:.0f} % of the trainings by the same "
                "recipe end no better."
            )
        text = "Train anew by the same recipe and export those weights"
        if alike:
            text += ", from random initial weights: those that are all alike stay alike"
        return worth, f"{text}."

    def _unproven(
        self,
        case: Case,
        signs: Sequence[str],
        other: str | None,
        evidence: list[Evidence],
    ) -> Finding | None:
        """What looks wrong though training anew does not prove it, if anything."""
        gain = case.retrained
        exact = any(case.measures["weights"].get(name) for name in EXACT_SIGNS)
        if exact and signs and case.best_trained - case.delivered >= self.far_off:
            # What no training leaves behind, in a recipe that would hide it.
            return found_in_delivery(
                self.cause,
                None,
                summary=f"{signs[0]} The recipe as it is brings no more than such "
                "weights do; once it is mended they would show.",
                text="Check that the exported file holds the final weights.",
                evidence=evidence,
                method=METHOD,
                verdict="suspected",
            ).model_copy(update={"confidence": 0.5})
        if gain is None:
            unknown = "and what training anew brings is not known."
            return (
                undecided(
                    self.cause, f"{signs[0].rstrip('.')}, {unknown}", evidence=evidence
                )
                if signs
                else None
            )
        is_far = gain.low >= self.far_off
        is_likely = gain.low > 0 and gain.value >= self.likely
        if other is None and (is_far or is_likely):
            why = "from too few trainings to be sure" if is_far else "too close to call"
            return found_in_delivery(
                self.cause,
                gain,
                summary="The delivered weights may do worse than the recipe yields: "
                f"training anew brings {measured(gain)}, {why}.",
                text="Check that the exported file holds the final weights, and that "
                "inputs come to it as they did in training.",
                evidence=evidence,
                method=METHOD,
                verdict="suspected",
            )
        return None

    def _untouched(
        self, case: Case, values: Mapping[str, JsonValue]
    ) -> dict[str, float]:
        """Layers that look freshly drawn, with their share of what can be compared.

        Not those that the recipe's own training leaves like that.
        """
        found = values.get("untouched")
        return {
            name: float(share)
            for name, share in (found if isinstance(found, dict) else {}).items()
            if isinstance(share, int | float) and UNTOUCHED + name not in case.baseline
        }

    def _signs(
        self, values: Mapping[str, JsonValue], untouched: Mapping[str, float]
    ) -> list[str]:
        """Say what the weights show.

        Args:
            values: of the probe.
            untouched: layers that hardly moved; none where another fault tells why the
                model does badly.
        """
        found = []
        non_finite = values.get("non_finite")
        if isinstance(non_finite, dict) and non_finite:
            found.append(f"Values of {', '.join(list(non_finite)[:3])} are not finite.")
        for name, words in (
            ("constant", "Weights are constant"),
            ("zero_rows", "Units have no weight that is not 0"),
        ):
            tensors = values.get(name)
            if tensors:
                found.append(f"{words}: {', '.join(list(tensors)[:3])}.")  # type: ignore[arg-type]
        zeros = values.get("zeros")
        if isinstance(zeros, dict) and zeros:
            name, share = max(zeros.items(), key=lambda item: float(str(item[1])))
            found.append(
                f"{100 * float(str(share)):.0f} % of the values of {name} are "
                "exactly 0."
            )
        alike = sum(untouched.values())
        if alike >= self.untouched_share:
            found.append(
                f"{100 * alike:.0f} % of the weights look as freshly initialised "
                f"({', '.join(list(untouched)[:3])})."
            )
        outliers = values.get("outliers")
        if isinstance(outliers, dict) and outliers:
            found.append(
                f"Weights of {', '.join(list(outliers)[:3])} are far too large."
            )
        dead = values.get("dead")
        if isinstance(dead, dict):
            worst = [k for k, v in dead.items() if isinstance(v, int | float)
                     and v >= self.dead_share]  # fmt: skip
            if worst:
                found.append(f"Most units of {', '.join(worst[:3])} never fire.")
        norms = values.get("untouched_norms")
        if norms:
            found.append("Batch-norm statistics are those of an untrained layer.")
        return found

    def _others(self, case: Case) -> dict[Cause, float]:
        """Other faults of the delivery, and the balanced accuracy that each costs."""
        found = {}
        for cause in OTHERS:
            finding = case.judged.get(cause)
            if finding and finding.verdict == "found" and finding.gain:
                found[cause] = finding.gain.value
        return found

    def _explained(self, case: Case, others: Mapping[Cause, float]) -> str | None:
        """Another fault of the delivery that explains why training anew is better."""
        enough = self.explaining_share * case.anew
        return next((OTHERS[c] for c, cost in others.items() if cost >= enough), None)
