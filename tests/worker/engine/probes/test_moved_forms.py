"""Held-out inputs that alone came in another form: told without labels."""

import json

import numpy as np
import pytest
import torch
from probe_subjects import breast_cancer, digits, fit, mlp, shuffled, subject

from worker.engine.affine import (
    affine_figures,
    affine_name,
    order_figures,
    order_name,
)
from worker.engine.probes import moved_forms, preprocessing
from worker.engine.probes.input_scale import input_scale
from worker.engine.probes.transforms import figures, is_known, transform
from worker.engine.told_apart import is_undone

# What is audited are TorchScript archives, deprecated as they are.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


@pytest.fixture(scope="module")
def table():
    """A network on standardised columns, its training rows, and held-out rows."""
    x, y = shuffled(*breast_cancer())
    x = ((x - x[:380].mean(0)) / x[:380].std(0)).astype(np.float32)
    return fit(mlp(30, 2), x[:380], y[:380]), (x[:380], y[:380]), (x[380:], y[380:])


def measured(parts, spoiled, **kind):
    module, train, (_, y) = parts
    values = preprocessing.measure(subject(module, train, (spoiled, y), **kind), {})
    json.dumps(values, allow_nan=False)
    return values


def test_columns_that_nobody_standardised_get_the_figures_of_the_training_rows(table):
    spread = np.geomspace(0.05, 60, 30).astype(np.float32)
    x = table[2][0] * spread + 7 * spread

    values = measured(table, x)

    scale, shift = affine_figures(values["best"])
    assert scale == pytest.approx(1 / spread, rel=0.35)
    assert np.abs(np.array(shift) + 7).max() < 2.5
    assert values["before"] < 0.7
    assert values["after"] > 0.9
    assert is_undone(values["told_apart"])
    assert set(values["tried"]) == {"identity", values["best"]}


def test_columns_in_another_order_are_put_in_theirs(table):
    order = np.random.default_rng(3).permutation(30)

    values = measured(table, table[2][0][:, order])

    found = order_figures(values["best"])
    agree = np.mean(order[found] == np.arange(30))
    assert agree > 0.8  # some columns are nearly the same as another
    assert values["after"] > 0.9 > values["before"]
    assert is_undone(values["told_apart"])


@pytest.mark.parametrize("which", ["range", "bytes"])
def test_pictures_that_nobody_scaled_are_brought_to_the_range_of_training(which):
    x, y = shuffled(*digits())
    x = (x / 16).reshape(-1, 1, 8, 8)
    train = x[:1100] if which == "bytes" else (x[:1100] - 0.1307) / 0.3081
    inner = fit(mlp(64, 10), train.reshape(1100, -1), y[:1100])
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Tanh(), inner)
    inner_too = fit(module, train, y[:1100], epochs=10)
    parts = inner_too, (train, y[:1100]), (x[1100:], y[1100:])

    values = measured(parts, 255 * x[1100:], kind="image", layout="NCHW")

    if which == "bytes":
        assert values["best"] == "divide_255"
    else:
        [scale], [shift] = affine_figures(values["best"])
        assert scale == pytest.approx(1 / (255 * 0.3081), rel=1e-3)
        assert shift == pytest.approx(-0.1307 / 0.3081, rel=1e-3)
    assert values["after"] > values["before"] + 0.03
    assert values["told_apart"]["in_form"] < 0.6 < values["told_apart"]["as_given"]


def test_what_did_not_move_is_left_alone(table):
    _, (x, y), (held, _) = table
    known = figures(
        subject(mlp(30, 2), (x, y), (held, y[:189])).train,
        subject(mlp(30, 2), (x, y), (held, y[:189])).dataset,
    )

    assert moved_forms.forms(held, x, known) == []
    assert moved_forms.forms(held[:20] * 50, x, known) == []  # too few rows
    assert moved_forms.order_of(held, x) is None


def test_columns_far_from_zero_keep_their_figures():
    """Dates, say: the shift takes most digits off again."""
    rng = np.random.default_rng(0)
    train = rng.standard_normal((400, 2)).astype(np.float64)
    held = 1e3 * rng.standard_normal((400, 2)) + 1.7e7
    material = subject(mlp(2, 2), (train, np.arange(400) % 2), (held, np.zeros(400)))
    known = figures(material.train, material.dataset)

    [name] = moved_forms.forms(held, train, known)

    scale, shift = (np.array(part) for part in affine_figures(name))
    made = held * scale + shift
    assert np.abs(made.mean(0) - train.mean(0)).max() < 1e-3
    assert made.std(0) == pytest.approx([1, 1], rel=0.1)


@pytest.mark.parametrize("value", [1e30, np.inf, np.nan])
def test_values_near_the_largest_are_no_form(value):
    x = np.random.default_rng(0).standard_normal((200, 3)).astype(np.float32)
    held = x.copy()
    held[:, 1] = value if np.isfinite(value) else np.where(x[:, 1] > 0, value, x[:, 1])
    held[:9, 0] = value
    material = subject(mlp(3, 2), (x, np.arange(200) % 2), (x[:60], np.zeros(60)))

    found = moved_forms.forms(held, x, figures(material.train, material.dataset))

    assert all(is_known(name) for name in found)


def test_columns_that_are_distributed_alike_are_told_by_what_goes_together():
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((600, 3))
    pairs = np.repeat(hidden, 2, 1) + 0.3 * rng.standard_normal((600, 6))
    columns = np.concatenate([pairs, np.exp(rng.standard_normal((600, 1)))], 1)
    order = np.array([6, 0, 2, 1, 3, 4, 5])

    found = moved_forms.order_of(columns[300:][:, order], columns[:300])

    assert found is not None
    together = order[found][:6].reshape(3, 2) // 2
    assert (together[:, 0] == together[:, 1]).all()
    assert order[found][6] == 6


def test_an_order_is_written_and_read():
    assert order_figures(order_name([2, 0, 1])) == [2, 0, 1]
    assert order_figures("order(0 0)") is None
    assert order_figures("affine(1,2)") is None
    assert is_known("order(1 0)")
    assert not is_known("order(1 1)")


def test_normal_scores_stand_in_the_place_of_ranks():
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((4_000, 2))
    x = np.stack([np.exp(3 * hidden[:, 0]), np.round(hidden[:, 1])], 1)
    x = x.astype(np.float32)
    material = subject(mlp(2, 2), (x, np.arange(4_000) % 2), (x[:60], np.zeros(60)))
    known = figures(material.train, material.dataset, ranked=True)

    made = transform("normal_scores", torch.from_numpy(x), known).numpy()

    inner = np.abs(hidden[:, 0]) < 2
    assert np.abs(made[inner, 0] - hidden[inner, 0]).max() < 0.15
    assert np.abs(made).max() <= 3
    levels = {float(v): made[x[:, 1] == v, 1] for v in (-1, 0, 1)}
    assert all(np.ptp(level) < 1e-4 for level in levels.values())
    assert levels[-1.0][0] < -0.5 < levels[0.0][0] < 0.5 < levels[1.0][0]
    far = transform("normal_scores", torch.tensor([[1e9, -50.0]]), known)
    assert far.tolist() == [[3.0, -3.0]]


@pytest.mark.parametrize(
    ("column", "share"),
    [
        (np.exp(2 * np.random.default_rng(0).standard_normal(900)), 0.5),
        (-np.exp(2 * np.random.default_rng(0).standard_normal(900)), 0.5),
        (np.random.default_rng(0).exponential(size=900), 0.0),
        (np.repeat([0, 1, 2, 50, 400], 180), 0.0),  # a few values have no tail
        (np.full(900, np.nan), 0.0),
    ],
)
def test_features_with_a_long_tail_are_counted(column, share):
    x = np.stack([column, np.random.default_rng(1).standard_normal(900)], 1)
    x = x.astype(np.float32)
    material = subject(mlp(2, 2), (x, np.arange(900) % 2), (x[:60], np.zeros(60)))

    found = input_scale(material)["long_tailed"]

    varied = 2 if len(np.unique(column[np.isfinite(column)])) > 20 else 1
    assert found == share * 2 / varied


def test_figures_by_column_are_applied_by_column(table):
    _, (x, y), (held, _) = table
    material = subject(mlp(30, 2), (x, y), (held, y[:189]))
    known = figures(material.train, material.dataset)
    scale, shift = np.arange(1, 31), np.arange(30)

    made = transform(affine_name(scale, shift), torch.ones(2, 30), known)
    turned = transform("order(1 0 2)", torch.tensor([[5.0, 6.0, 7.0]]), known)

    assert made[0].tolist() == (scale + shift).tolist()
    assert turned.tolist() == [[6.0, 5.0, 7.0]]


@pytest.mark.parametrize(
    ("areas", "undone"),
    [
        ({"as_given": 1.0, "in_form": 0.52}, True),
        ({"as_given": 1.0, "in_form": 0.7}, False),
        ({"as_given": 0.6, "in_form": 0.5}, False),  # hardly moved
        ({}, False),
    ],
)
def test_a_move_is_undone_where_little_of_it_is_left(areas, undone):
    assert is_undone(areas) is undone
