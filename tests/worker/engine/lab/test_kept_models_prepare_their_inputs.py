import io

import numpy as np
import pytest
import torch

from worker.engine.data import Split
from worker.engine.lab.inputs import repair_step
from worker.engine.lab.packaging import Prepared


@pytest.mark.parametrize("estimate", [False, True])
def test_a_repair_that_was_written_out_does_what_it_did_in_training(estimate):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)).astype(np.float32)
    x[3, 1], x[4, 0], x[5, 2] = np.nan, -999.0, 1e6
    split = Split(x, np.zeros(200, np.int64), np.arange(200), "train")
    step = repair_step(split, limit=8.0, is_table=True, estimate=estimate)
    assert step.layer is not None
    network = torch.jit.script(torch.nn.Sequential(torch.nn.Identity()))

    file = io.BytesIO()
    torch.jit.save(torch.jit.script(Prepared(step.layer, network).eval()), file)
    file.seek(0)
    written = torch.jit.load(file)

    repaired = step.apply(torch.from_numpy(x))
    assert torch.equal(written(torch.from_numpy(x)), repaired)
    assert torch.isfinite(repaired).all()
    assert repaired.abs().max() < 20
    assert torch.equal(repaired[10:], torch.from_numpy(x)[10:])


def test_a_repair_knows_the_codes_of_the_data_in_tables_and_pictures():
    rng = np.random.default_rng(0)
    table = rng.uniform(1, 9, size=(200, 3)).astype(np.float32)
    table[:6, 1] = -77.0
    pictures = rng.uniform(0, 1, size=(200, 1, 4, 4)).astype(np.float32)
    pictures[:, 0, 2, 3] = np.where(rng.random(200) < 0.6, -77.0, 0.5)

    for x in (table, pictures):
        split = Split(x, np.zeros(200, np.int64), np.arange(200), "train")
        step = repair_step(split, limit=None, is_table=x is table)
        repaired = step.apply(torch.from_numpy(x)).numpy()

        coded = x == -77.0
        assert np.array_equal(repaired[~coded], x[~coded])
        assert repaired[coded].min() > 0.4


def test_a_code_of_one_feature_is_a_value_of_another():
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 9, size=(200, 2)).astype(np.float32)
    x[:6, 0] = -77.0
    x[:, 1] = rng.uniform(-99, 99, size=200)
    x[9, 1] = -77.0
    split = Split(x, np.zeros(200, np.int64), np.arange(200), "train")

    repaired = repair_step(split, limit=None, is_table=True).apply(torch.from_numpy(x))

    assert repaired[0, 0] > 1
    assert repaired[9, 1] == -77.0
