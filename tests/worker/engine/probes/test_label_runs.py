"""Wrong labels that stand together in the upload."""

import json

import numpy as np
import pytest
from probe_subjects import digits, mlp, shuffled, subject

from service.contract.recipe import Recipe
from tests.builders_engine import make_subject
from worker.engine.check import Case
from worker.engine.checks.label_noise import LabelNoise
from worker.engine.lab.experiment import unpack_flags
from worker.engine.probes import noise
from worker.engine.probes.label_runs import worst_run

# What is audited are TorchScript archives, deprecated as they are.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")

ROWS, CLASSES = 900, 4


def told(y: np.ndarray, sure: float = 0.9) -> np.ndarray:
    """What a reference says that knows the right labels."""
    said = np.full((len(y), CLASSES), (1 - sure) / (CLASSES - 1))
    said[np.arange(len(y)), y] = sure
    return said


@pytest.fixture
def labels():
    return np.random.default_rng(0).integers(0, CLASSES, ROWS)


@pytest.mark.parametrize(("by", "moved_by"), [(1, 1), (-1, -1)])
def test_labels_that_slipped_in_one_file_are_found(labels, by, moved_by):
    given = labels.copy()
    given[300:600] = np.roll(labels, by)[300:600]

    run = worst_run(told(labels), given, np.arange(ROWS))

    assert run is not None
    assert abs(run.places[0] - 300) <= 10
    assert abs(run.places[-1] - 600) <= 10
    assert run.contradicted > 0.6
    assert run.elsewhere < 0.05
    assert run.moved_by == moved_by


def test_labels_that_were_guessed_in_one_file_are_found_wherever_rows_lie(labels):
    rng = np.random.default_rng(1)
    given = labels.copy()
    given[700:] = rng.integers(0, CLASSES, 200)
    order = rng.permutation(ROWS)

    run = worst_run(told(labels)[order], given[order], order)

    assert run is not None
    assert set(order[run.places]) <= set(range(690, ROWS))
    assert len(run.places) > 180
    assert run.moved_by == 0


@pytest.mark.parametrize("kind", ["none", "scattered", "a hard class", "few"])
def test_nothing_stands_out_where_mistakes_do_not_stand_together(labels, kind):
    """A class that is hard stands together where rows are sorted by class."""
    rng = np.random.default_rng(2)
    labels = np.sort(labels) if kind == "a hard class" else labels
    wrong = {
        "none": np.zeros(ROWS, np.bool_),
        "scattered": rng.random(ROWS) < 0.3,
        "a hard class": (labels == 2) & (rng.random(ROWS) < 0.5),
        "few": np.arange(ROWS) < 12,
    }[kind]
    other = (labels + rng.integers(1, CLASSES, ROWS)) % CLASSES
    mistaken = np.where(wrong, other, labels)
    # Of a hard class every label is right, and the reference is not.
    given, known = (labels, mistaken) if kind == "a hard class" else (mistaken, labels)

    assert worst_run(told(known), given, np.arange(ROWS)) is None


def test_a_file_whose_labels_slipped_is_named_and_put_right():
    x, y = shuffled(*digits())
    x, wrong = x / 16, y.copy()
    wrong[600:1000] = np.roll(y, 1)[600:1000]

    values = noise.measure(
        subject(mlp(64, 10), (x[:1200], wrong[:1200]), (x[1200:], y[1200:])), {}
    )

    json.dumps(values, allow_nan=False)
    run = values["run"]
    assert run["moved_by"] == 1
    assert abs(run["first"] - 600) <= 15
    assert abs(run["last"] - 1000) <= 15
    moved = unpack_flags(values["moved_mask"], 1200)
    put_right = wrong[:1200].copy()
    put_right[moved] = values["moved_labels"]
    assert (put_right == y[:1200]).mean() > 0.97 > (wrong[:1200] == y[:1200]).mean()

    recipe = Recipe(epochs=10, batch_size=32)
    check, about = LabelNoise(), {"noise": values}
    mends = {m.key: m for m in check.mends(make_subject(recipe=recipe), about)}
    said = check.judge(make_subject(), Case(measures=about)).evidence[0].statement
    assert "stand one row too late" in mends["run of labels moved"].text
    assert mends["run of rows dropped"].control
    assert f"Of the rows {run['first']} to {run['last']}" in said
    assert "as if they had slipped" in said


def test_no_run_is_named_where_labels_are_right():
    x, y = shuffled(*digits())
    values = noise.measure(
        subject(mlp(64, 10), (x[:1200] / 16, y[:1200]), (x[1200:] / 16, y[1200:])), {}
    )

    assert "run" not in values
    assert "run_mask" not in values
