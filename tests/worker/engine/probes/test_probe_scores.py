"""Scores and the delivered model's figures."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from probe_subjects import fit, mlp, subject
from sklearn.metrics import balanced_accuracy_score, log_loss

from service.contract.report import Scores
from worker.engine.data import channel_axis
from worker.engine.head import Head
from worker.engine.lab.experiment import unpack_mask
from worker.engine.lab.materials import Material
from worker.engine.probes import inputs_as_trained
from worker.engine.probes.delivered import _spoiled, measure
from worker.engine.probes.inputs_as_trained import (
    outputs,
    prepared,
    training_figures,
)
from worker.engine.probes.material import batches, sample_places
from worker.engine.probes.scores import score

LOGITS = Head(kind="logits", outputs=3, classes=3)


def test_scores_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    raw = rng.standard_normal((200, 3))
    y = rng.integers(0, 3, 200)

    scores = score(
        LOGITS, torch.from_numpy(raw), y, class_names=("a", "b", "c"), split="test"
    )

    predicted = raw.argmax(1)
    assert scores.accuracy.value == pytest.approx((predicted == y).mean())
    assert scores.balanced_accuracy.value == pytest.approx(
        balanced_accuracy_score(y, predicted)
    )
    shares = np.exp(raw) / np.exp(raw).sum(1, keepdims=True)
    assert scores.log_loss.value == pytest.approx(log_loss(y, shares), rel=1e-6)
    assert np.array(scores.confusion).sum() == 200
    assert scores.confusion[1][2] == ((y == 1) & (predicted == 2)).sum()


def test_only_the_most_confused_of_many_classes_are_shown():
    names = tuple(f"c{k}" for k in range(50))
    y = np.repeat(np.arange(50), 4)
    predicted = y.copy()
    predicted[y == 7] = 9
    raw = torch.nn.functional.one_hot(torch.from_numpy(predicted), 50).double() * 9
    head = Head(kind="logits", outputs=50, classes=50)

    scores = score(head, raw, y, class_names=names, split="test")

    shown = scores.confusion_classes
    assert len(shown) == 31
    assert shown[-1] == "other"
    assert scores.confusion[shown.index("c7")][shown.index("c9")] == 4
    assert np.array(scores.confusion).sum() == 200
    assert len(scores.per_class) == 50


def test_no_rows_give_unknown_scores():
    scores = score(
        LOGITS,
        torch.empty(0, 3),
        np.array([], dtype=np.int64),
        class_names=("a", "b", "c"),
        split="test",
    )

    assert scores.n == 0
    assert scores.accuracy.value is None


def test_the_delivered_model_is_scored_on_every_held_out_row(healthy_digits: Material):
    values = measure(healthy_digits, {})

    json.dumps(values, allow_nan=False)
    scores = {name: Scores.model_validate(s) for name, s in values["scores"].items()}
    assert scores["held_out"].n == 697
    assert scores["decide"].n + scores["final"].n == 697
    assert (scores["held_out"].accuracy.value or 0) > 0.94
    assert values["train_log_loss"] == scores["train"].log_loss.value
    hits = sum(
        sum(unpack_mask(values["correct"][name], len(part)))
        for name, part in (
            ("decide", healthy_digits.decide),
            ("final", healthy_digits.final),
        )
    )
    assert hits / 697 == pytest.approx(scores["held_out"].accuracy.value)
    assert values["always"] is None
    assert values["spoiled"] == 0


def test_the_recipes_normalisation_reaches_the_model(healthy_cancer: Material):
    values = measure(healthy_cancer, {})

    assert values["balanced_accuracy"] > 0.93
    x = prepared(healthy_cancer, healthy_cancer.train.x)
    assert x.mean(0).abs().max() < 1e-4
    assert x.std(0, correction=0).sub(1).abs().max() < 1e-3


def test_fixed_figures_are_applied_by_channel():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (40, 3, 4, 4)).astype(np.float32)
    y = rng.integers(0, 2, 40)
    module = torch.nn.Sequential(torch.nn.Flatten(), mlp(48, 2))
    material = subject(
        module,
        (x, y),
        (x, y),
        kind="image",
        layout="NCHW",
        normalization={"mean": [0.1, 0.2, 0.3], "std": [1, 2, 4]},
    )

    result = prepared(material, x).numpy()

    assert result[:, 2] == pytest.approx((x[:, 2] - 0.3) / 4, abs=1e-6)


def test_training_figures_leave_out_what_is_not_finite(healthy_cancer: Material):
    train = healthy_cancer.train
    x = train.x.copy()
    x[0, 0], x[1, 0] = np.nan, np.inf

    split = type(train)(x=x, y=train.y, rows=train.rows, source="train")
    affine = training_figures(split, healthy_cancer.dataset)

    assert affine.mean[0] == pytest.approx(train.x[2:, 0].mean(), rel=1e-5)
    assert np.isfinite(affine.std).all()


def test_the_channel_axis_follows_the_layout():
    assert channel_axis("image", "NCHW", 3) == 0
    assert channel_axis("image", "NHWC", 3) == 2
    assert channel_axis("image", None, 2) is None
    assert channel_axis("table", None, 1) == 0
    assert channel_axis("series", None, 1) is None


def test_a_model_that_always_answers_the_same_is_named():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((90, 4)).astype(np.float32)
    y = rng.integers(0, 3, 90)
    module = mlp(4, 3)
    with torch.no_grad():
        module[2].bias[1] = 100.0

    values = measure(subject(module, (x, y), (x, y)), {})

    assert values["always"] == "class 1"
    assert values["predicted_shares"] == [0.0, 1.0, 0.0]


class Rooted(torch.nn.Module):
    """Takes a root of what is negative for some samples."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(torch.cat([x[:, :3], x[:, 3:].sqrt()], 1))


@pytest.mark.parametrize("missing", [False, True])
def test_outputs_that_are_no_numbers_are_counted_where_the_inputs_are(missing):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((90, 4)).astype(np.float32)
    x[:, 3] = 1.0
    module = fit(mlp(4, 2), x, rng.integers(0, 2, 90), epochs=1)
    y = rng.integers(0, 2, 90)
    broken = x.copy()
    broken[:9, 3] = np.nan if missing else -1.0

    values = measure(subject(Rooted(module), (x, y), (broken, y)), {})

    json.dumps(values, allow_nan=False)
    assert values["spoiled"] == pytest.approx(0.0 if missing else 0.1)
    assert any("no numbers for 9 of 90" in n for n in values["notes"]) is not missing


def test_a_logarithm_of_nought_is_a_number_unless_every_class_has_it():
    rows = torch.tensor(
        [[0.0, -torch.inf], [-torch.inf, -torch.inf], [torch.inf, 0.0], [1.0, 2.0]]
    )

    assert _spoiled(rows).tolist() == [False, True, True, False]


def test_a_sample_of_training_rows_is_announced(healthy_digits: Material, monkeypatch):
    monkeypatch.setattr(inputs_as_trained, "MOST_TRAIN_ROWS", 200)

    values = measure(replace(healthy_digits, answers={}), {})

    assert values["scores"]["train"]["n"] == 200
    assert "200 of 1100" in values["notes"][0]


def test_samples_keep_every_class_and_are_repeatable():
    y = np.array([0] * 980 + [1] * 18 + [2] * 2)

    places = sample_places(y, 50)

    assert len(places) == 50
    assert set(y[places]) == {0, 1, 2}
    assert (places == sample_places(y, 50)).all()


def test_batches_cover_all_rows_and_leave_none_alone():
    cut = batches(513, 10)

    sizes = [len(range(513)[part]) for part in cut]
    assert sizes == [256, 257]


def test_outputs_do_not_depend_on_the_batches(healthy_digits: Material):
    x = healthy_digits.decide.x

    whole = outputs(healthy_digits, x)

    torch.testing.assert_close(outputs(healthy_digits, x[:7]), whole[:7])
