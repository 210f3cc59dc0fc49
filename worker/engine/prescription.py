"""The repaired model in the report, and whether it is worth giving."""

from collections.abc import Sequence
from typing import Any

from service.contract.causes import Cause
from service.contract.recipe import Recipe
from service.contract.report import Finding, Gain, Remedy, RemedyScores
from worker.engine.lab.experiment import RecipeChange, TrainingOutcome, unpack_flags
from worker.engine.ledger import Learned
from worker.engine.recipe import merge_patch
from worker.engine.stats.decisions import Floors
from worker.engine.stats.intervals import (
    Flags,
    Labels,
    balanced_accuracy,
    paired_balanced_accuracy,
    wilson,
)
from worker.engine.subject import Subject


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
    masks = learned.measures.get("delivered", {}).get("correct")
    before = None
    if isinstance(masks, dict) and isinstance(masks.get("final"), str):
        before = unpack_flags(str(masks["final"]), len(labels))
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
    steps = [f"{mend.text}." for mend in learned.repaired] or [
        "Train anew by the same recipe and export those weights."
    ]
    return Remedy(
        recipe=Recipe.model_validate(recipe),
        steps=steps,
        changes=changes,
        before=None if before is None else _scores(before, labels),
        after=_scores(after, labels),
        gain=None if before is None else _gain(before, after, labels),
        judged_on=f"{len(labels)} held-out rows that no decision looked at",
        model="pending" if entry.outcome.file else None,
    )


def is_worth_giving(
    remedy: Remedy, findings: Sequence[Finding], primary: Cause | None
) -> bool:
    """Whether a found fault stands behind the repaired model, and it does better."""
    proven = {f.cause for f in findings if f.verdict in ("found", "suspected")}
    is_hopeless = primary is Cause.NO_LEARNABLE_SIGNAL
    return bool(proven) and is_better(remedy) and not is_hopeless


def is_better(remedy: Remedy) -> bool:
    """Whether the repaired model does better than the delivered one, by whatever."""
    return remedy.gain is None or remedy.gain.value > 0


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
