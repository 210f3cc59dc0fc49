"""Held-out rows that are trained on by turns, and never by what they score."""

from dataclasses import replace

import lab_material as lab
import numpy as np
import pytest
import torch
from torch import nn

from worker.engine.lab.bench import Bench
from worker.engine.lab.experiment import (
    Arm,
    DataChange,
    RecipeChange,
    Training,
    pack_mask,
    unpack_mask,
)
from worker.engine.splits import LENT_PARTS, lent_rows

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

ROWS = 24
LEND = DataChange(name="lend")
LENT = Arm(name="lent", changes=(LEND,))
BASE = Arm(name="base")


def make_material():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, lab.CLASSES))
    return lab.make_material(module, (5,), rows=ROWS)


def outcome_of(material, *arms, seeds=(1,), **settings):
    training = Training(round="t", question="", arms=arms, seeds=seeds, **settings)
    return Bench(material).run(training)


def spoiled(material, places):
    x = material.decide.x.copy()
    x[places] = np.nan
    return replace(material, decide=replace(material.decide, x=x))


@pytest.mark.parametrize(("train", "lent"), [(400, 75), (20, 60)])
def test_every_row_scores_once_and_is_not_lent_where_it_scores(train, lent):
    y = np.arange(100) % 2

    ways = lent_rows(y, train)

    assert len(ways) == LENT_PARTS
    scored = np.sum([flags for _, flags in ways], axis=0)
    assert scored.max() == 1
    assert scored.sum() >= 96  # what does not go into equal parts is always lent
    for places, flags in ways:
        assert not flags[places].any()
        assert len(places) == pytest.approx(lent, abs=2)
        assert np.bincount(y[places]).min() >= len(places) // 2 - 1


@pytest.mark.parametrize("seed", [1, 2])
def test_rows_that_score_a_seed_are_not_trained_on_and_lent_ones_are(seed):
    material = make_material()
    lent, scored = lent_rows(material.decide.y, ROWS)[seed % LENT_PARTS]
    others = np.flatnonzero(scored)

    sound = outcome_of(material, LENT, seeds=(seed,)).arms[0].trials[0]
    apart = outcome_of(spoiled(material, others), LENT, seeds=(seed,))
    inside = outcome_of(spoiled(material, lent), LENT, seeds=(seed,))

    assert apart.arms[0].trials[0].train_loss == sound.train_loss
    assert inside.arms[0].trials[0].diverged


def test_scores_are_those_of_rows_that_were_not_lent():
    material = make_material()
    _, scored = lent_rows(material.decide.y, ROWS)[1]

    trial = outcome_of(material, LENT).arms[0].trials[0]

    hits = np.array(unpack_mask(trial.correct, len(material.decide)))
    assert trial.accuracy == pytest.approx(hits[scored].mean())


def test_an_arm_beside_is_trained_as_if_nothing_were_lent():
    material = make_material()

    alone = outcome_of(material, BASE).arms[0]
    beside = outcome_of(material, BASE, LENT).arms[0]

    assert beside.trials[0].correct == alone.trials[0].correct
    assert beside.trials[0].train_loss == pytest.approx(alone.trials[0].train_loss)


def test_lent_rows_go_with_labels_that_are_dropped_or_changed():
    material = make_material()
    flags = np.arange(ROWS) % 5 == 0
    drop = DataChange(name="drop", mask=pack_mask(flags))
    epochs = RecipeChange(patch={"epochs": 1})

    both = outcome_of(
        material,
        Arm(name="both", changes=(drop, LEND, epochs)),
        Arm(name="other way", changes=(LEND, drop, epochs)),
    )

    lent, _ = lent_rows(material.decide.y, ROWS)[1]
    batches = -(-(ROWS - flags.sum() + len(lent)) // material.recipe.batch_size)
    assert both.arms[0].failure is None
    assert both.arms[0].trials == both.arms[1].trials
    assert both.member_steps in {batches, 2 * batches}


def test_rows_that_judge_the_remedy_are_never_lent():
    outcome = outcome_of(make_material(), BASE, LENT, split="final")

    assert outcome.arms[0].failure is None
    assert "not lent" in outcome.arms[1].failure
