"""Before the screen: which initialisation yields the delivered model."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from worker.engine.check import Measures, delivered_score
from worker.engine.lab.experiment import (
    Arm,
    ArmOutcome,
    Change,
    NetworkChange,
    RecipeChange,
)
from worker.engine.ledger import Round
from worker.engine.outputs import may_lack_logarithm
from worker.engine.results import figures
from worker.engine.subject import Subject
from worker.engine.trainer import Trainer

OTHER_INITIALIZATIONS = ("he", "glorot")
CLEARLY_NEARER = 0.2  # balanced accuracy by which another initialisation must be nearer
BEYOND_CHANCE = 2.0  # deviations from seed to seed
SIZES_ALIKE = 0.25  # log of a ratio of root mean squares up to which layers are alike
SIZES_APART = 0.1  # by which another scheme's layers must be farther
SIZES_FACTOR = 2.0  # and how many times farther


def reproduce(trainer: Trainer, measures: Measures) -> Round[dict[str, float]]:
    """Find the initialisation under which the recipe yields the delivered model.

    No recipe records it, yet a rate that one scheme survives kills another. Trained by
    the recipe, layers have sizes that hardly vary from seed to seed, yet differ from
    scheme to scheme: the delivered ones tell where they came from. Where they do not,
    the customary scheme stays unless another comes much nearer to the delivered
    accuracy. Likewise for a loss whose name leaves open what it takes.

    Returns:
        Figures of the trainings by the recipe, as chosen; empty where there were none.
    """
    delivered = delivered_score(measures, "balanced_accuracy")
    if delivered is None:
        return {}
    ways = _ways(trainer.subject)
    arms = [
        Arm(name=f"initialization={name}", changes=way.changes)
        for name, way in ways.items()
    ]
    seeds = trainer.screening_seeds
    trainer.limit_effort()
    if trainer.cost(arms, seeds) > 0.1 * trainer.left:
        return {}
    trained: dict[str, ArmOutcome] = {}
    shown: dict[str, dict[str, float]] = {}
    # Another reading is only taken where it comes much nearer than the customary one.
    for question, part in (
        ("Does the recipe reproduce the delivered model?", arms[:1]),
        ("Which initialisation reproduces the delivered model?", arms[1:]),
    ):
        results = yield from trainer.train("screen", question, part, seeds)
        trained |= {
            name: results.arms[arm.name].outcome
            for name, arm in zip(ways, arms, strict=True)
            if arm.name in results
        }
        if "default" not in trained:
            return {}
        shown = {name: figures(outcome) for name, outcome in trained.items()}
        if _is_near(shown["default"], delivered):
            break
    spread = _spread(trained.values())
    chosen, why = _by_sizes(shown), "yields layers of the delivered sizes"
    if chosen is None:
        chosen = _by_accuracy(shown, delivered, spread)
        why = "comes nearest to the delivered model"
    if chosen != "default":
        trainer.start = ways[chosen].changes
        trainer.limit(f"{ways[chosen].says}, under which the recipe {why}.")
    trainer.limit_seeds(spread)
    return shown[chosen]


@dataclass(frozen=True)
class _Way:
    """One reading of what the recipe leaves open."""

    changes: tuple[Change, ...]
    says: str


def _ways(subject: Subject) -> dict[str, _Way]:
    """List the readings by name; `default` is the customary one."""
    found = {
        scheme: _Way(
            (NetworkChange(name="initialization", to=scheme),),
            f"Fresh weights are drawn by the scheme {scheme!r}",
        )
        for scheme in ("default", *OTHER_INITIALIZATIONS)
    }
    if may_lack_logarithm(subject):
        plain = RecipeChange(patch={"loss": {"probabilities": "plain"}})
        found |= {
            f"{scheme}, plain nll": _Way(
                (*way.changes, plain),
                f"{way.says}, and nll takes the probabilities themselves, not their "
                "logarithms",
            )
            for scheme, way in found.items()
        }
    return found


def _is_near(values: Mapping[str, float], delivered: float) -> bool:
    """Whether no other reading can come so much nearer that it would be taken."""
    return (
        values.get("size_distance", math.inf) <= SIZES_APART
        and abs(values["balanced_accuracy"] - delivered) <= CLEARLY_NEARER
    )


def _by_sizes(shown: dict[str, dict[str, float]]) -> str | None:
    """Choose the scheme whose layers are alike while those of all others differ."""
    off = {
        scheme: values["size_distance"]
        for scheme, values in shown.items()
        if "size_distance" in values
    }
    if len(off) < len(shown) or len(off) < 2:  # noqa: PLR2004 - nothing to choose from
        return None
    nearest = min(off, key=lambda scheme: off[scheme])
    others = [off[scheme] for scheme in off if scheme != nearest]
    # Another than the customary one only has to be told from that.
    rival = min(others) if nearest == "default" else off["default"]
    is_apart = (
        rival > off[nearest] + SIZES_APART and rival > SIZES_FACTOR * off[nearest]
    )
    return nearest if is_apart and off[nearest] <= SIZES_ALIKE else None


def _by_accuracy(
    shown: dict[str, dict[str, float]], delivered: float, spread: float
) -> str:
    """Choose the reading that comes much nearer than the customary one does by chance.

    Trainings by an unstable recipe differ more from seed to seed than from scheme to
    scheme: what the customary one may yield needs no other explanation.

    Args:
        shown: figures of each reading.
        delivered: balanced accuracy.
        spread: its deviation from seed to seed.
    """
    off = {
        scheme: abs(values["balanced_accuracy"] - delivered)
        for scheme, values in shown.items()
    }
    nearest = min(off, key=lambda scheme: off[scheme])
    needed = max(CLEARLY_NEARER, BEYOND_CHANCE * spread)
    return nearest if off[nearest] < off["default"] - needed else "default"


def _spread(trained: Iterable[ArmOutcome]) -> float:
    """Deviation of balanced accuracy from seed to seed, pooled; 0 from single seeds."""
    levels = [[t.balanced_accuracy for t in arm.trials] for arm in trained]
    several = [np.var(each, ddof=1) for each in levels if len(each) > 1]
    return float(np.sqrt(np.mean(several))) if several else 0.0
