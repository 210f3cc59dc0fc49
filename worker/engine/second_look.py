"""A second look at doubted labels: by the network itself, once it is mended.

The reference that doubted them first is cheap and knows nothing of pictures. A network
that learned without its suspects knows the data better: trained on four fifths of the
rows in turn, it says of the others what their labels should be. What comes of that is
compared with the first answer before the repaired model is given back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import JsonValue

from service.contract.causes import Cause
from worker.engine.check import Measures, Mend
from worker.engine.combination import arm_of
from worker.engine.doubted_labels import SECOND_LOOK, corrected, dropped
from worker.engine.lab.experiment import Change, Measurement, MeasurementOutcome
from worker.engine.ledger import Ask, Round
from worker.engine.sweeps import SMOOTHING, smoothed_labels
from worker.engine.trainer import FOLDS, Trainer

SHARE_OF_BUDGET = 0.1  # that it may take
SHARE_OF_LEFT = 0.3  # of the time left
LOOKS = (2, 1)  # trainings that leave a row out, as many as there is time for


@dataclass(frozen=True)
class SecondLook:
    """What it found.

    Attributes:
        values: of the probe; empty where nobody looked.
        answers: other mends of the labels.
    """

    values: dict[str, JsonValue]
    answers: tuple[Mend, ...] = ()


def look_at_labels_again(
    trainer: Trainer, repaired: Sequence[Mend], measures: Measures
) -> Round[SecondLook]:
    """Have the mended network doubt the labels, where wrong ones are being mended.

    Args:
        trainer: of the audit.
        repaired: the mends so far.
        measures: what was measured, among it the first look.
    """
    first = next((m for m in repaired if m.cause is Cause.LABEL_NOISE), None)
    if first is None or trainer.rows is not None:
        return SecondLook({})
    others = tuple(mend for mend in repaired if mend is not first)
    smoothing = _smoothing(trainer, others)
    missing = tuple(change for change in smoothing if change not in first.changes)
    learner = replace(first, changes=(*first.changes, *missing))
    arm = trainer.begun(arm_of((*others, learner)))
    allowance = min(
        SHARE_OF_BUDGET * trainer.effort.seconds, SHARE_OF_LEFT * trainer.left
    )
    seeds = next(
        (
            seeds
            for looks in LOOKS
            for seeds in [trainer.seeds("doubt", looks * FOLDS)]
            if trainer.cost([arm], seeds) <= allowance
        ),
        None,
    )
    if seeds is None:
        return SecondLook({})
    asked = Measurement(
        round="remedy",
        question="Which labels does the mended network contradict?",
        name=SECOND_LOOK,
        settings={
            "changes": [
                change.model_dump(mode="json", exclude_none=True)
                for change in arm.changes
            ],
            "seeds": list(seeds),
            "folds": FOLDS,
            "mask": measures.get("noise", {}).get("mask"),
        },
    )
    answers = yield Ask("remedy", "looking at the labels again", (asked,))
    [entry] = trainer.note((asked,), answers)
    outcome = entry.outcome
    if not isinstance(outcome, MeasurementOutcome) or "rate" not in outcome.values:
        return SecondLook({})
    return SecondLook(dict(outcome.values), _answers(first, outcome, smoothing))


def _smoothing(trainer: Trainer, others: Sequence[Mend]) -> tuple[Change, ...]:
    """Smooth the labels, where recipe and other mends do not do so and the loss can."""
    recipe = trainer.subject.recipe
    for mend in others:
        recipe = recipe.patched(mend.patch or {})
    smoothed = smoothed_labels(recipe)
    return () if smoothed is None else (smoothed,)


def _answers(
    first: Mend, outcome: MeasurementOutcome, smoothing: tuple[Change, ...]
) -> tuple[Mend, ...]:
    rate = outcome.values["rate"]
    share = float(str(rate["value"])) if isinstance(rate, dict) else 0.0
    text = (
        f"Review the {100 * share:.0f} % of the labels that the network itself "
        "contradicts, trained without them"
    )
    smooth = f", and smooth the labels that are left by {SMOOTHING:g}"
    found = []
    for what, how, changes in (
        (
            "corrected",
            "; correct those of which the right class is plain, drop the others",
            corrected(outcome.values),
        ),
        ("dropped", "; correct or drop them", dropped(outcome.values)),
    ):
        if not changes:
            continue
        key = f"suspects of a second look {what}"
        plain = replace(first, key=key, text=f"{text}{how}", changes=changes)
        if smoothing:
            found.append(
                replace(
                    plain,
                    key=f"{key}, labels smoothed",
                    text=f"{plain.text}{smooth}",
                    changes=(*changes, *smoothing),
                )
            )
        found.append(plain)
    return tuple(found)
