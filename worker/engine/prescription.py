"""The repaired model in the report, and whether it is worth giving."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from service.contract.causes import Cause
from service.contract.recipe import Recipe
from service.contract.report import Finding, Gain, Remedy, RemedyScores
from worker.engine.check import delivered_hits, seen_of_gains
from worker.engine.combination import name
from worker.engine.lab.experiment import (
    Change,
    RecipeChange,
    Training,
    TrainingOutcome,
    unpack_flags,
)
from worker.engine.ledger import Entry, Learned
from worker.engine.mended_delivery import (
    MENDED,
    comes_otherwise,
    makes_up_for_a_move,
)
from worker.engine.recipe import merge_patch
from worker.engine.results import BASELINE, against_delivered
from worker.engine.stats.decisions import Floors
from worker.engine.stats.intervals import (
    Flags,
    Labels,
    balanced_accuracy,
    normal_quantile,
    paired_balanced_accuracy,
    wilson,
)
from worker.engine.stats.pairs import PairedGain
from worker.engine.subject import Subject

TRAIN_ANEW = "Train anew"
LEAST_ERROR = 0.005  # of a gain, in balanced accuracy; seeds may agree by chance


# Faults of the data that no model mends: what training gains beside them is no cure.
OF_THE_DATA = frozenset({Cause.SPLIT_LEAKAGE, Cause.DISTRIBUTION_SHIFT})
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
    """Compare the model trained anew to the delivered one; None where there is none."""
    changes = [change for mend in learned.repaired for change in mend.changes]
    patch: dict[str, Any] = {}
    for change in changes:
        if isinstance(change, RecipeChange):
            patch = merge_patch(patch, change.patch)
    steps = [f"{mend.text}." for mend in learned.repaired]
    if not learned.chosen:
        which = "the recipe so changed" if steps else "the same recipe"
        steps.append(f"{TRAIN_ANEW} by {which} and export those weights.")
    return _compared(subject, learned, learned.remedy, steps, changes, patch)


def better_of(
    subject: Subject, learned: Learned, trained: Remedy | None
) -> Remedy | None:
    """The repaired model: the mended delivery, or one trained anew if that is better.

    The rows that decide choose; both are judged on the others. What is hardly better
    is not worth another training.

    Args:
        subject: what is audited.
        learned: what the rounds yielded.
        trained: the model trained anew.
    """
    anew, mended = _level(learned.remedy), _level(learned.mended)
    if mended is None or (anew is not None and anew >= mended + Floors().material):
        return trained
    experiment = getattr(learned.mended, "experiment", None)
    changes = experiment.arms[0].changes if isinstance(experiment, Training) else ()
    return _compared(subject, learned, learned.mended, [], changes, {})


def _level(entry: Entry | None) -> float | None:
    """Balanced accuracy of a model that was kept, on the rows that decide."""
    return getattr(entry.outcome, "kept_level", None) if entry else None


def _compared(
    subject: Subject,
    learned: Learned,
    entry: Entry | None,
    steps: list[str],
    changes: Sequence[Change],
    patch: dict[str, Any],
) -> Remedy | None:
    if entry is None or not isinstance(entry.outcome, TrainingOutcome):
        return None
    labels = subject.labels["final"]
    [arm] = entry.outcome.arms
    kept = next(
        (t for t in arm.trials if t.seed == entry.outcome.kept_seed), arm.trials[0]
    )
    mask = delivered_hits(learned.measures, "final", as_it_runs=True)
    counted = learned.counted.get("final", slice(None))
    after = unpack_flags(kept.correct, len(labels))[counted]
    before = None if mask is None else unpack_flags(mask, len(labels))[counted]
    labels = labels[counted]
    recipe = merge_patch(
        subject.given.model_dump(mode="json", exclude_none=True), patch
    )
    return Remedy(
        recipe=Recipe.model_validate(recipe),
        steps=steps,
        changes=[
            change.model_dump(mode="json", exclude_none=True) for change in changes
        ],
        before=None if before is None else _scores(before, labels),
        after=_scores(after, labels),
        gain=None if before is None else _gain(before, after, labels),
        judged_on=_judges(len(labels), learned),
        model=entry.outcome.file,
    )


def _judges(rows: int, learned: Learned) -> str:
    text = f"{rows} held-out rows that no decision looked at"
    return f"{text} and no training" if "final" in learned.counted else text


def _settled(finding: Finding) -> str:
    """What a model that was trained anew makes of a fault of the delivery."""
    if comes_otherwise(finding) and finding.recommendation:
        return f"{finding.recommendation.text} Its scores here are without that."
    return _SETTLED[finding.cause]


def with_the_delivery(remedy: Remedy, findings: Sequence[Finding]) -> Remedy:
    """Say what the repaired model does about the faults found in the delivery."""
    found = [f for f in findings if f.verdict == "found" and f.cause in MENDED]
    steps = list(remedy.steps)
    if steps:  # trained anew
        settled = [_settled(finding) for finding in found]
        anew = any(step.startswith(TRAIN_ANEW) for step in steps)
        if not anew and any(
            f.cause == Cause.DEGENERATE_WEIGHTS and f.verdict == "found"
            for f in findings
        ):
            # What the other steps change is not what the delivered weights lack.
            steps.insert(
                0, f"{TRAIN_ANEW} by the recipe so changed; export the result."
            )
    else:
        found += [f for f in findings if makes_up_for_a_move(f)]
        settled = [f.recommendation.text for f in found if f.recommendation]
    return remedy.model_copy(update={"steps": [*steps, *settled]})


def is_worth_giving(
    learned: Learned,
    remedy: Remedy,
    findings: Sequence[Finding],
    primary: Cause | None,
) -> bool:
    """Whether a found fault stands behind the repaired model, and it does better."""
    proven = {f.cause for f in findings if f.verdict in ("found", "suspected")}
    proven -= OF_THE_DATA
    is_hopeless = primary is Cause.NO_LEARNABLE_SIGNAL
    return bool(proven) and is_better(learned, remedy) and not is_hopeless


def is_better(learned: Learned, remedy: Remedy) -> bool:
    """Whether the repaired model does better than the delivered one, by whatever.

    The last rows may be few. Where they show nothing of it, they are weighed against
    what fresh seeds showed on those that decided. Wrong labels in them show less.
    """
    last = remedy.gain
    if last is None or last.value > 0:
        return True
    decided = _decided(learned)
    if decided is None:
        return False
    of_the_recipe, of_the_delivered = (_weighed(gain, last) for gain in decided)
    least = Floors().fault * seen_of_gains(learned.measures)
    return of_the_delivered >= least or 0 < of_the_delivered < least <= of_the_recipe


def _decided(learned: Learned) -> tuple[PairedGain, PairedGain] | None:
    """What the chosen mends gain on the rows that decide, if that was confirmed.

    Returns:
        Over the recipe as it was and over the delivered model; twice the latter, where
        that is no training like others by the recipe.
    """
    whole, confirm = name(learned.chosen), learned.confirm
    mask = delivered_hits(learned.measures)
    if confirm is None or mask is None or not whole or whole not in confirm:
        return None
    over_delivered = against_delivered(confirm, mask, whole)
    if BASELINE not in confirm:
        return over_delivered, over_delivered
    anew = against_delivered(confirm, mask)
    is_typical = anew.low <= 0 <= anew.high
    return confirm.gain(whole) if is_typical else over_delivered, over_delivered


def _weighed(decided: PairedGain, last: Gain) -> float:
    """Balanced accuracy gained, by what decided and by the last rows."""
    assert last.low is not None
    assert last.high is not None
    errors = [decided.error, (last.high - last.low) / (2 * normal_quantile())]
    weights = [1 / max(error, LEAST_ERROR) ** 2 for error in errors]
    return float(np.average([decided.value, last.value], weights=weights))


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
