"""Whether weights have learned: those that have are sure of what they hit.

Outputs of fresh weights lie close together. One form of the inputs or another order of
the outputs may put them on the right side; only training moves them apart.
"""

import math

from pydantic import JsonValue

from worker.engine.subject import Subject

IN_NATS = ("cross_entropy", "nll", "bce", "bce_with_logits")  # as the log loss is
LEAST = 0.5  # confidence over accuracy, both above chance


def has_not_learned(
    subject: Subject, sure: JsonValue, by_chance: float = math.inf
) -> bool:
    """Whether weights are far less sure than right.

    Args:
        subject: what is audited; losses that are no probabilities tell nothing.
        sure: `accuracy` and mean `confidence` on training rows.
        by_chance: nats an answer; hits that are worth more are no accident.
    """
    if subject.recipe.loss.name not in IN_NATS or not isinstance(sure, dict):
        return False
    accuracy, confidence = sure.get("accuracy"), sure.get("confidence")
    if not (isinstance(accuracy, float) and isinstance(confidence, float)):
        return False
    classes = subject.data.classes
    if _nats(accuracy, classes) > by_chance:
        return False
    return confidence - 1 / classes < LEAST * (accuracy - 1 / classes)


def _nats(hit: float, classes: int) -> float:
    """What an answer tells that is right so often, and else any other class.

    Source: Fano 1961, Transmission of information.
    """
    if not 1 / classes < hit < 1:
        return math.log(classes) if hit >= 1 else 0.0
    miss = 1 - hit
    doubt = -hit * math.log(hit) - miss * math.log(miss / (classes - 1))
    return math.log(classes) - doubt
