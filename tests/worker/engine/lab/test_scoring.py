"""Every row of a scored split is scored: those who read the flags count on it."""

import numpy as np
import torch

from worker.engine.data import Split
from worker.engine.lab.residence import ResidentSplit
from worker.engine.lab.scoring import Scorer
from worker.engine.splits import MOST_SCORED


def test_a_split_that_rounding_made_a_little_too_large_is_scored_whole() -> None:
    rows = MOST_SCORED + 3  # stratified parts are rounded class by class
    split = Split(
        np.zeros((rows, 1), np.float32), np.arange(rows) % 7, np.arange(rows), "val"
    )
    resident = ResidentSplit(split, torch.device("cpu"))

    scorer = Scorer(resident, resident, np.arange(100))

    assert len(scorer.places) == rows
