"""The delivered weights, delivered as they should have been.

Dropout that was left on, outputs in another order and inputs in another form are no
faults of the weights: what was trained well need not be trained again. The mended
delivery costs nothing but its score, so it is made wherever such a fault is found, and
is the repaired model unless training made a better one by the rows that decide.
"""

from collections.abc import Iterable

import numpy as np

from service.contract.causes import Cause
from service.contract.report import Finding
from worker.engine.check import AS_IN_TRAINING, Measures
from worker.engine.lab.experiment import (
    Arm,
    Change,
    DataChange,
    NetworkChange,
    Training,
    TrainingOutcome,
)
from worker.engine.ledger import Entry, Round
from worker.engine.trainer import Trainer

NAME = "mended delivery"
ONE_OUTPUT = 1  # for two classes: there is nothing to reorder

MENDED = frozenset(
    {
        Cause.TRAINING_MODE_LEFT_ON,
        Cause.LABEL_ORDER_MISMATCH,
        Cause.PREPROCESSING_MISMATCH,
    }
)


def mend_the_delivery(
    trainer: Trainer, findings: Iterable[Finding], measures: Measures
) -> Round[Entry | None]:
    """Score the delivered weights as they should have been delivered.

    Args:
        trainer: of the audit.
        findings: what is said of each cause by then.
        measures: of the probes.

    Returns:
        None where nothing of that kind is found, or it cannot be mended.
    """
    named = [f for f in findings if f.verdict == "found" or makes_up_for_a_move(f)]
    found = {f.cause for f in named} & MENDED
    changes = _changes(trainer, found, measures)
    if not found or changes is None:
        return None
    training = Training(
        round="remedy",
        question="How good are the delivered weights, delivered as they should be?",
        arms=(Arm(name=NAME, changes=changes),),
        seeds=trainer.seeds("remedy", 1),
        rows=trainer.rows,
        split="final",
        keep=NAME,
        max_seconds=trainer.at_most("remedy"),
    )
    [entry] = yield from trainer.ask("remedy", "mending the delivery", [training])
    outcome = entry.outcome
    if isinstance(outcome, TrainingOutcome) and outcome.file is not None:
        return entry
    return None


def makes_up_for_a_move(finding: Finding) -> bool:
    """Whether a form is suspected that makes held-out inputs look as in training."""
    return comes_otherwise(finding) and finding.verdict == "suspected"


def comes_otherwise(finding: Finding) -> bool:
    """Whether held-out inputs alone came in another form than the training's."""
    is_form = finding.cause == Cause.PREPROCESSING_MISMATCH
    return is_form and any(e.kind == AS_IN_TRAINING for e in finding.evidence)


def _changes(
    trainer: Trainer, found: set[Cause], measures: Measures
) -> tuple[Change, ...] | None:
    """What is done to the delivered weights; None where that cannot be told."""
    subject = trainer.subject
    changes: list[Change] = [NetworkChange(name="as_delivered")]
    if Cause.LABEL_ORDER_MISMATCH in found:
        stands_for = measures.get("label_order", {}).get("permutation")
        if not isinstance(stands_for, list) or subject.network.outputs == ONE_OUTPUT:
            return None
        order = np.argsort(np.array(stands_for, dtype=np.int64))
        changes.append(NetworkChange(name="reorder", order=tuple(order.tolist())))
    if Cause.PREPROCESSING_MISMATCH in found:
        form = measures.get("preprocessing", {}).get("best")
        # The form was sought behind what the recipe does to its inputs.
        if not isinstance(form, str) or subject.recipe.normalization != "none":
            return None
        changes.append(DataChange(name="transform", transform=form))
    return tuple(changes)
