"""What the repaired model is when no mend is proven."""

import numpy as np

from tests.builders_engine import make_subject
from tests.worker.engine.test_results import trained
from worker.engine.choices import retraining_helps
from worker.engine.lab.experiment import pack_mask
from worker.engine.repair import repair
from worker.engine.trainer import Trainer


def retrained(hits: dict[str, float], seeds: tuple[int, ...]) -> list[str]:
    """Arms trained for the remedy where the delivered model hits half of the rows."""
    delivered = {"correct": {"decide": pack_mask(np.arange(100) < 50)}}
    trainer = Trainer(make_subject())
    measures, results = {"delivered": delivered}, trained(hits, seeds)
    anew = retraining_helps(measures, results, trainer.floors)
    rounds = repair(trainer, (), anew=anew)
    asked = [e for ask in [next(rounds, None)] if ask for e in ask.experiments]
    return list({arm.name for training in asked for arm in training.arms})


def test_the_recipe_is_trained_anew_where_that_is_proven_to_help():
    assert retrained({"baseline": 62}, tuple(range(8))) == ["baseline"]


def test_nothing_is_trained_where_it_may_be_chance():
    assert retrained({"baseline": 62}, (0, 5)) == []
    assert retrained({"baseline": 36}, tuple(range(8))) == []
