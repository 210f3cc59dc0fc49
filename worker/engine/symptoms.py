"""What scores on training and held-out data make unlikely, so that it is tried last.

A network that misses its own training data is not held back by too many weights or too
little regularisation, and one that has learned all of them by heart is not too small.
It is an order of trying, no verdict: one mend of each cause is tried whatever the
scores say, and more where that one helps. A fault of the delivery spoils the scores of
the delivered model, so those of trainings by the recipe count where there are any.

Source: Ng 2018, Machine Learning Yearning, chapters 20 to 27 (bias and variance).
"""

from collections.abc import Mapping

from service.contract.causes import Cause
from worker.engine.check import Measures, delivered_score
from worker.engine.told_apart import TOLD_APART

LEARNED_ALL = 0.995  # balanced accuracy on training data
NO_GAP = 0.02  # training minus held-out balanced accuracy
FAR_SHORT = 0.5  # of what a cheap learner is better than chance
SURELY = 0.0025  # p value; a twentieth of 5 %, since about twenty causes are judged
ALIKE = 0.56  # AUC of telling the splits' inputs apart
MIX_APART = 0.1  # total variation between the shares of the classes
WORTH_KNOWING = 0.2  # balanced accuracy above chance, that such a learner must reach

NEEDS_TRAINING_ERROR = frozenset(
    {
        Cause.INSUFFICIENT_CAPACITY,
        Cause.INSUFFICIENT_TRAINING,
        Cause.LEARNING_RATE_TOO_LOW,
        Cause.EXCESS_REGULARIZATION,
    }
)
NEEDS_GAP = frozenset(
    {
        Cause.INSUFFICIENT_REGULARIZATION,
        Cause.EXCESS_CAPACITY,
        Cause.INSUFFICIENT_DATA,
    }
)


def unlikely_causes(
    measures: Measures, retrained: Mapping[str, float] | None = None
) -> frozenset[Cause]:
    """Name the causes that scores speak against.

    Args:
        measures: of the probes; `delivered` holds the scores of the delivered model.
        retrained: figures of trainings by the recipe, instead of these.
    """
    learned = delivered_score(measures, "train_balanced_accuracy")
    gap = delivered_score(measures, "gap")
    if retrained:
        learned = retrained.get("train_balanced_accuracy")
        gap = retrained.get("gap")
    found: frozenset[Cause] = frozenset()
    if learned is not None and learned >= LEARNED_ALL:
        found |= NEEDS_TRAINING_ERROR
    if gap is not None and gap <= NO_GAP:
        found |= NEEDS_GAP
    return found


def missing_by_far(measures: Measures) -> float:
    """What the delivered model lacks where it knows less than half of what is easy.

    What is that wrong shows from few rows, too.

    Args:
        measures: of the probes; `signal` holds what cheap learners reach.

    Returns:
        Balanced accuracy of the best cheap learner less the delivered model's; 0 where
        that knows half of it, or where there is little to know.
    """
    delivered = delivered_score(measures, "balanced_accuracy")
    signal = measures.get("signal", {})
    reached, chance = signal.get("balanced_accuracy"), signal.get("chance")
    if isinstance(reached, dict):
        reached = reached.get("value")
    if delivered is None or not (
        isinstance(reached, int | float) and isinstance(chance, int | float)
    ):
        return 0.0
    known = reached - chance
    if known < WORTH_KNOWING or delivered - chance >= FAR_SHORT * known:
        return 0.0
    return float(reached - delivered)


def outdone_by_a_learner(measures: Measures) -> bool:
    """Whether a cheap learner surely does better than the delivered model.

    Args:
        measures: of the probes; `signal` holds what cheap learners reach.
    """
    delivered = delivered_score(measures, "balanced_accuracy")
    reached = measures.get("signal", {}).get("balanced_accuracy")
    low = reached.get("low") if isinstance(reached, dict) else None
    return delivered is not None and isinstance(low, float) and low > delivered


def mix_moved(measures: Measures) -> bool:
    """Whether training and held-out data hold other shares of the classes.

    Args:
        measures: of the probes; `shift` compares the splits.
    """
    labels = measures.get("shift", {}).get("label_shift")
    if not isinstance(labels, dict):
        return False
    p_value, distance = labels.get("p_value"), labels.get("distance")
    return (
        isinstance(p_value, int | float)
        and isinstance(distance, int | float)
        and p_value <= SURELY
        and distance >= MIX_APART
    )


def inputs_alike(measures: Measures) -> bool:
    """Whether the inputs of the splits, whatever their class, were seen to be alike.

    From few rows a classifier that tells them apart a little proves nothing either way.
    """
    p_value, auc = _of_any_class(measures)
    return p_value is not None and p_value > SURELY and (auc or 0.0) < ALIKE


def inputs_may_differ(measures: Measures) -> bool:
    """Whether nothing shows that the inputs of the splits, of any class, are one."""
    p_value, _ = _of_any_class(measures)
    return p_value is None or p_value <= SURELY


def _of_any_class(measures: Measures) -> tuple[float | None, float | None]:
    """The p value and the AUC of telling the splits apart, whatever the class."""
    found = measures.get("shift", {}).get("any_class")
    values = found if isinstance(found, dict) else {}
    p_value, auc = values.get("p_value"), values.get("value")
    return (
        float(p_value) if isinstance(p_value, int | float) else None,
        float(auc) if isinstance(auc, int | float) else None,
    )


def inputs_moved_far(measures: Measures) -> bool:
    """Whether held-out inputs are told from training ones at a glance.

    Args:
        measures: of the probes; `shift` compares the splits.
    """
    area = measures.get("shift", {}).get("auc")
    low = area.get("low") if isinstance(area, dict) else None
    return isinstance(low, float) and low >= TOLD_APART
