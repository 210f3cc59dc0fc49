"""The repaired model in the report, and whether it is worth giving."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from service.contract.causes import Cause
from service.contract.recipe import Recipe
from service.contract.report import Finding, Gain, Remedy, RemedyScores
from worker.engine.check import delivered_hits
from worker.engine.combination import name
from worker.engine.lab.experiment import RecipeChange, TrainingOutcome, unpack_flags
from worker.engine.ledger import Learned
from worker.engine.recipe import merge_patch
from worker.engine.results import against_delivered
from worker.engine.stats.decisions import Floors
from worker.engine.stats.intervals import (
    Flags,
    Labels,
    balanced_accuracy,
    normal_quantile,
    paired_balanced_accuracy,
    wilson,
)
from worker.engine.subject import Subject

LEAST_ERROR = 0.005  # of a gain, in balanced accuracy; seeds may agree by chance


# How a model that was trained anew is free of the faults of a delivery.
_SETTLED: dict[Cause, str] = {
    Cause.TRAINING_MODE_LEFT_ON: "Export it in evaluation mode.",
    Cause.LABEL_ORDER_MISMATCH: (
        "Put its outputs into the order of the dataset's classes."
    ),
    Cause.PREPROCESSING_MISMATCH: (
        "Train it on the inputs in the form of the dataset, and give it these."
    ),
}


def remedy_of(subject: Subject, learned: Learned) -> Remedy | None:
    """Compare the repaired model to the delivered one; None where there is none."""
    entry = learned.remedy
    if entry is None or not isinstance(entry.outcome, TrainingOutcome):
        return None
    labels = subject.labels["final"]
    [arm] = entry.outcome.arms
    kept = next(
        (t for t in arm.trials if t.seed == entry.outcome.kept_seed), arm.trials[0]
    )
    after = unpack_flags(kept.correct, len(labels))
    mask = delivered_hits(learned.measures, "final", as_it_runs=True)
    before = None if mask is None else unpack_flags(mask, len(labels))
    patch: dict[str, Any] = {}
    changes = []
    for mend in learned.repaired:
        for change in mend.changes:
            changes.append(change.model_dump(mode="json", exclude_none=True))
            if isinstance(change, RecipeChange):
                patch = merge_patch(patch, change.patch)
    recipe = merge_patch(
        subject.given.model_dump(mode="json", exclude_none=True), patch
    )
    steps = [f"{mend.text}." for mend in learned.repaired]
    if not learned.chosen:
        which = "the recipe so changed" if steps else "the same recipe"
        steps.append(f"Train anew by {which} and export those weights.")
    return Remedy(
        recipe=Recipe.model_validate(recipe),
        steps=steps,
        changes=changes,
        before=None if before is None else _scores(before, labels),
        after=_scores(after, labels),
        gain=None if before is None else _gain(before, after, labels),
        judged_on=f"{len(labels)} held-out rows that no decision looked at",
        model=entry.outcome.file,
    )


def with_the_delivery(remedy: Remedy, findings: Sequence[Finding]) -> Remedy:
    """Say what the repaired model does about the faults found in the delivery."""
    found = {finding.cause for finding in findings if finding.verdict == "found"}
    settled = [step for cause, step in _SETTLED.items() if cause in found]
    return remedy.model_copy(update={"steps": [*remedy.steps, *settled]})


def is_worth_giving(
    learned: Learned,
    remedy: Remedy,
    findings: Sequence[Finding],
    primary: Cause | None,
) -> bool:
    """Whether a found fault stands behind the repaired model, and it does better."""
    proven = {f.cause for f in findings if f.verdict in ("found", "suspected")}
    is_hopeless = primary is Cause.NO_LEARNABLE_SIGNAL
    return bool(proven) and is_better(learned, remedy) and not is_hopeless


def is_better(learned: Learned, remedy: Remedy) -> bool:
    """Whether the repaired model does better than the delivered one, by whatever.

    The last rows may be few. Where they show nothing of it, they are weighed against
    what fresh seeds showed on those that decided.
    """
    last = remedy.gain
    if last is None or last.value > 0:
        return True
    whole, confirm = name(learned.chosen), learned.confirm
    mask = delivered_hits(learned.measures)
    if confirm is None or mask is None or not whole or whole not in confirm:
        return False
    decided = against_delivered(confirm, mask, whole)
    errors = [decided.error, (last.high - last.low) / (2 * normal_quantile())]
    weights = [1 / max(error, LEAST_ERROR) ** 2 for error in errors]
    together = np.average([decided.value, last.value], weights=weights)
    return bool(together >= Floors().fault)


def bears_out(remedy: Remedy | None) -> bool:
    """Whether the repaired model, trained on all rows, does better than delivered."""
    floors = Floors()
    gain = remedy.gain if remedy is not None else None
    if gain is None or gain.low is None:
        return False
    return gain.value >= floors.material / 2 and gain.low > -floors.proven


def _gain(before: Flags, after: Flags, labels: Labels) -> Gain:
    pair = paired_balanced_accuracy(before, after, labels)
    return Gain(
        value=pair.value,
        low=pair.low,
        high=pair.high,
        seeds=0,
        method="repaired against delivered model, paired over rows",
    )


def _scores(correct: Flags, labels: Labels) -> RemedyScores:
    return RemedyScores(
        accuracy=wilson(int(correct.sum()), len(correct)),
        balanced_accuracy=balanced_accuracy(correct, labels),
    )
