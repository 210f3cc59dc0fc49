import io

import numpy as np
import torch

from worker.engine.data import Split
from worker.engine.lab.inputs import repair_step
from worker.engine.lab.packaging import Prepared


def test_a_repair_that_was_written_out_does_what_it_did_in_training():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)).astype(np.float32)
    x[3, 1], x[4, 0], x[5, 2] = np.nan, -999.0, 1e6
    split = Split(x, np.zeros(200, np.int64), np.arange(200), "train")
    step = repair_step(split, limit=8.0)
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
