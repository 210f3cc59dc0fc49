"""Which learning rates, widths and durations are worth a try; shared by the checks."""

import math
from dataclasses import dataclass

from service.contract.causes import Cause
from service.contract.recipe import OptimizerName
from worker.engine.check import Mend
from worker.engine.lab.experiment import RecipeChange
from worker.engine.recipe import (
    CompleteOptimizer,
    CompleteRecipe,
    default_optimizer,
)
from worker.engine.subject import Subject

RATE_FACTORS = (0.001, 0.01, 0.03, 0.1, 0.3, 3.0, 10.0, 30.0, 100.0, 1000.0)
HIGHEST_RATE: dict[OptimizerName, float] = {
    "sgd": 10.0,
    "adam": 0.3,
    "adamw": 0.3,
    "nadam": 0.3,
    "rmsprop": 0.3,
    "adagrad": 3.0,
    "adadelta": 30.0,
}
CUSTOMARY_RATES: dict[OptimizerName, tuple[float, float]] = {
    "sgd": (0.005, 0.3),
    "adam": (1e-4, 0.01),
    "adamw": (1e-4, 0.01),
    "nadam": (1e-4, 0.01),
    "rmsprop": (1e-4, 0.01),
    "adagrad": (0.003, 0.3),
    "adadelta": (0.1, 3.0),
}
HEAVY = ("sgd", "rmsprop")  # whose momentum adds steps up instead of averaging them
LOWEST_RATE = 1e-6
NEAR = 20.0  # times the given rate
AROUND = 10.0  # times the customary one
LONGEST_FACTOR = 500
SHUFFLED = "shuffled"  # name of the arm that `shuffled_rows` makes
SMOOTHING = 0.2  # of labels, some of which are wrong
ENOUGH_UPDATES = 2000  # optimiser steps after which a small network has settled


def smoothed_labels(recipe: CompleteRecipe) -> RecipeChange | None:
    """Smooth the labels, where the loss is one that can and does not do so yet."""
    if recipe.loss.name != "cross_entropy" or recipe.loss.label_smoothing > 0:
        return None
    return RecipeChange(patch={"loss": {"label_smoothing": SMOOTHING}})


# An arm that several causes look at, by one name.
STANDARDIZE = "standardize"
STANDARDIZED = RecipeChange(patch={"normalization": "standardize"})


def as_many_updates(subject: Subject, share: float) -> RecipeChange:
    """Make as many updates from a share of the rows as the recipe does from all."""
    return RecipeChange(patch={"epochs": max(1, round(subject.recipe.epochs / share))})


def shuffled_rows(subject: Subject) -> tuple[RecipeChange, ...]:
    """Draw rows in a random order, where the recipe keeps that of the file."""
    if subject.recipe.sampler != "sequential":
        return ()
    return (RecipeChange(patch={"sampler": "shuffle"}),)


def round_rate(rate: float) -> float:
    """Round to two significant digits, so that a report reads well."""
    return float(f"{rate:.2g}")


def rate_change(rate: float) -> RecipeChange:
    """Train with another learning rate."""
    return RecipeChange(patch={"optimizer": {"lr": rate}})


@dataclass(frozen=True)
class _Custom:
    """The rate that an optimiser customarily has, and the range that is not unusual."""

    low: float
    rate: float
    high: float

    def holds(self, rate: float) -> bool:
        """Whether a rate is not unusual."""
        return self.low <= rate <= self.high


def _custom(optimizer: CompleteOptimizer) -> _Custom:
    """Look custom up; with momentum m a step goes 1/(1-m) times as far in the end."""
    low, high = CUSTOMARY_RATES[optimizer.name]
    rate = default_optimizer(optimizer.name).lr
    share = 1 - optimizer.momentum if optimizer.name in HEAVY else 1.0
    return _Custom(share * low, share * rate, high)


def rates(subject: Subject, *, higher: bool) -> list[float]:
    """List learning rates above (or below) the given one, nearest first.

    Where the given rate is far from custom, the customary one and its neighbours are
    among them, however far away they are.
    """
    optimizer = subject.recipe.optimizer
    given, custom = optimizer.lr, _custom(optimizer)
    candidates = [given * factor for factor in RATE_FACTORS]
    if not custom.holds(given):
        candidates += [custom.rate * factor for factor in (0.1, 1 / 3, 1, 3)]
    within = {
        round_rate(rate)
        for rate in candidates
        if (rate > given) == higher
        and LOWEST_RATE <= rate <= HIGHEST_RATE[optimizer.name]
    } - {given}
    return sorted(within, reverse=not higher)


def duration_factors(subject: Subject) -> list[int]:
    """List how many times longer to train: 2, 4 and, where 4 is still short, enough.

    What is enough may not fit the budget, so there is a step on the way to it.
    """
    factors = [2, 4]
    enough = min(-(-ENOUGH_UPDATES // subject.updates), LONGEST_FACTOR)
    if enough > 2 * factors[-1]:
        between = round(math.sqrt(factors[-1] * enough))
        factors += [between, enough]
    return factors


def rate_mends(
    subject: Subject, cause: Cause, *, higher: bool, high_rate: float = math.inf
) -> list[Mend]:
    """Train with each of `rates`, the customary one first.

    Args:
        subject: what is audited.
        cause: that these rates mend.
        higher: rates above the given one, or below it.
        high_rate: given rate from which all are urgent, where it is not unusual.
    """
    given, found = subject.recipe.optimizer.lr, rates(subject, higher=higher)
    custom = customary_rate(subject, found, higher=higher)
    found.sort(key=lambda rate: rate != custom)
    return [
        Mend(
            cause=cause,
            key=f"lr={rate:g}",
            text=f"{'Raise' if higher else 'Lower'} the learning rate "
            f"from {given:g} to {rate:g}",
            changes=(rate_change(rate),),
            sane=rate == custom,
            evident=custom is not None,
            urgent=is_tried_first(subject, rate)
            or (custom is None and given >= high_rate),
        )
        for rate in found
    ]


def customary_rate(
    subject: Subject, candidates: list[float], *, higher: bool
) -> float | None:
    """The candidate nearest to what the optimiser customarily uses.

    Returns:
        None where the given rate is customary, or off on the other side.
    """
    given = subject.recipe.optimizer.lr
    custom = _custom(subject.recipe.optimizer)
    off = given < custom.low if higher else given > custom.high
    if not candidates or not off:
        return None
    return min(candidates, key=lambda rate: abs(math.log(rate / custom.rate)))


def is_tried_first(subject: Subject, rate: float) -> bool:
    """Whether another learning rate belongs to the first look.

    Where the given rate is far from custom, those around the customary one do; else
    those near the given one.
    """
    given = subject.recipe.optimizer.lr
    custom = _custom(subject.recipe.optimizer)
    if custom.holds(given):
        return given / NEAR < rate < given * NEAR
    return custom.rate / AROUND <= rate <= custom.rate * AROUND
