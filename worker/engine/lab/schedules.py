"""Learning rate schedules: the factor on the recipe's rate, epoch by epoch.

Epochs count from 0 and the factor is constant within an epoch, except during the
warm-up, which rises linearly with every step.
"""

import math

from service.contract.recipe import LearningRateSchedule

_GAMMA = {"step": 0.1, "exponential": 0.95}


def factor(
    schedule: LearningRateSchedule | None,
    *,
    step: int,
    steps_an_epoch: int,
    epochs: int,
) -> float:
    """Return the factor on the learning rate at a step (counted from 0).

    - `step`: gamma (default 0.1) to the number of drops; one drop every `step_epochs`
      (default: a third of the epochs).
    - `exponential`: gamma (default 0.95) to the epoch.
    - `cosine`: from 1 to 0 along half a cosine, as torch's CosineAnnealingLR.
    - `linear`: from 1 towards 0 in equal decrements.
    """
    if schedule is None:
        return 1.0
    epoch = step // steps_an_epoch
    gamma = schedule.gamma or _GAMMA.get(schedule.name, 1.0)
    if schedule.name == "step":
        every = schedule.step_epochs or max(1, epochs // 3)
        value = gamma ** (epoch // every)
    elif schedule.name == "exponential":
        value = gamma**epoch
    elif schedule.name == "cosine":
        value = 0.5 * (1 + math.cos(math.pi * epoch / epochs))
    else:
        value = 1 - epoch / epochs
    if schedule.warmup_epochs:
        warm = (step + 1) / (schedule.warmup_epochs * steps_an_epoch)
        value *= min(1.0, warm)
    return value


def depends_on_length(schedule: LearningRateSchedule | None) -> bool:
    """Say whether a longer training would have begun otherwise."""
    if schedule is None:
        return False
    if schedule.name == "step":
        return schedule.step_epochs is None
    return schedule.name in {"cosine", "linear"}
