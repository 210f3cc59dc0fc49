"""Columns that hold codes of categories, which a network takes for quantities."""

import json

import numpy as np
import pytest
from probe_subjects import breast_cancer, mlp, split_of, subject

from worker.engine.probes import codes

# What is audited are TorchScript archives, deprecated as they are.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


def categories(rows: int = 500, seed: int = 0):
    """Labels that hang on names: no order of the codes tells them."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 8, (rows, 4)).astype(np.float32)
    worth = rng.permutation(np.repeat([-1.0, 1.0], 4))
    y = (worth[x[:, :3].astype(int)].sum(1) > 0).astype(np.int64)
    return x, y


def test_names_are_told_from_quantities():
    x, y = categories()

    values = codes.measure(
        subject(mlp(4, 2), (x[:350], y[:350]), (x[350:], y[350:])), {}
    )

    json.dumps(values, allow_nan=False)
    assert values["sizes"] == [8, 8, 8, 8]
    assert values["codes"] > 0.95
    assert values["numbers"] < 0.75
    assert values["gain"]["low"] > 0.1
    assert values["level"]["low"] > 0.9


def test_measurements_hold_no_codes():
    x, y = breast_cancer()

    values = codes.measure(
        subject(mlp(30, 2), (x[:400], y[:400]), (x[400:], y[400:])), {}
    )

    assert values["columns"] == 0
    assert values["sizes"] == []
    assert values["gain"] is None


@pytest.mark.parametrize(
    ("column", "size"),
    [
        (np.tile([0, 1, 4], 20), 5),
        (np.tile([0, 1], 30), 0),  # two: as good as a number
        (np.tile([0.5, 1, 2], 20), 0),
        (np.tile([-1, 1, 2], 20), 0),
        (np.tile([0, 1, 5_000], 20), 0),
        (np.arange(60), 0),  # another one in each row
        (np.tile([0, 1, np.nan], 20), 0),
    ],
)
def test_what_may_be_a_code(column, size):
    x = np.stack([column, np.tile([0, 1, 2], 20)], 1).astype(np.float32)
    split = split_of(x, np.zeros(60), "train")

    assert codes.code_sizes(split) == [size, 3]


def test_of_very_many_rows_some_tell_the_codes():
    x = np.tile(np.arange(5, dtype=np.float32), 60_000)[:, None]
    split = split_of(np.repeat(x, 3, 1), np.zeros(len(x)), "train")
    wide = split_of(np.zeros((3, 3_000), dtype=np.float32), np.zeros(3), "train")

    assert codes.code_sizes(split) == [5, 5, 5]
    assert codes.code_sizes(wide) == []


def test_quantities_stand_beside_what_is_looked_up():
    columns = codes.looked_up(np.array([[1.0, 0.25], [0.0, 0.5]]), [2, 0])

    assert columns.tolist() == [[0, 1, 0.25], [1, 0, 0.5]]
