"""What is scored, and written out, of weights that nobody trains again."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from service.contract.causes import Cause
from service.contract.report import Evidence, Finding
from tests.builders_engine import World, make_subject, no_effect
from tests.worker.engine.lab import lab_material as lab
from worker.engine.check import AS_IN_TRAINING
from worker.engine.lab.bench import Bench
from worker.engine.lab.experiment import (
    Arm,
    Change,
    DataChange,
    NetworkChange,
    Training,
    unpack_mask,
)
from worker.engine.mended_delivery import mend_the_delivery
from worker.engine.trainer import Trainer

AS_DELIVERED = NetworkChange(name="as_delivered")
KEPT = "as delivered"


class AlwaysDrops(nn.Module):
    """Forgets that dropout is for training."""

    def __init__(self, first: nn.Linear) -> None:
        super().__init__()
        self.first, self.norm = first, nn.BatchNorm1d(first.out_features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(nn.functional.dropout(self.first(x), 0.5, True))  # noqa: FBT003


def kept(material, *more: Change):
    arm = Arm(name=KEPT, changes=(AS_DELIVERED, *more))
    training = Training(
        round="remedy", question="", arms=(arm,), seeds=(1,), split="final", keep=KEPT
    )
    outcome = Bench(material).run(training)
    assert outcome.arms[0].failure is None
    module = torch.jit.load(material.scratch / outcome.file)
    said = module(torch.from_numpy(material.final.x)).argmax(1).numpy()
    hits = unpack_mask(outcome.arms[0].trials[0].correct, len(material.final))
    assert (said == material.final.y).tolist() == hits
    assert outcome.member_steps == 0
    return np.mean(hits), module


def fitted(shape: tuple[int, ...]) -> tuple[nn.Linear, torch.Tensor, torch.Tensor]:
    """A layer that tells the classes of `make_split` apart, and rows to try it on."""
    size = int(np.prod(shape))
    train = lab.make_split(400, shape)
    x = torch.from_numpy(train.x).reshape(-1, size)
    layer = nn.Linear(size, lab.CLASSES)
    hot = torch.eye(lab.CLASSES)[torch.from_numpy(train.y)]
    with_one = torch.cat([x, torch.ones(len(x), 1)], 1)
    solved = torch.linalg.lstsq(with_one, hot).solution
    with torch.no_grad():
        layer.weight.copy_(solved[:-1].T)
        layer.bias.copy_(solved[-1])
    return layer, x, hot


def test_delivered_weights_are_kept_in_evaluation_mode(tmp_path):
    layer, x, _ = fitted((5,))
    network = AlwaysDrops(layer)
    with torch.no_grad():
        network.norm.running_mean.copy_(layer(x).mean(0))
    material = lab.make_material(network, (5,), scratch=tmp_path)

    level, module = kept(material)

    assert level > 0.8
    rows = torch.from_numpy(material.final.x)
    assert torch.equal(module(rows), module(rows))
    alone = torch.cat([module(row[None]) for row in rows])
    torch.testing.assert_close(alone, module(rows))


def test_outputs_are_put_into_the_order_of_the_classes(tmp_path):
    layer, _, _ = fitted((5,))
    stands_for = [2, 0, 1]  # class of each output
    with torch.no_grad():
        layer.weight.copy_(layer.weight[stands_for])
        layer.bias.copy_(layer.bias[stands_for])
    material = lab.make_material(nn.Sequential(layer), (5,), scratch=tmp_path)
    order = tuple(np.argsort(stands_for).tolist())

    before, _ = kept(material)
    after, _ = kept(material, NetworkChange(name="reorder", order=order))

    assert before < 0.3
    assert after > 0.8


@pytest.mark.parametrize(
    "form",
    ["divide_255", "invert", "flip_horizontal+divide_255", "affine(0.025,-3)",
     "flip_horizontal+affine(0.025,-3)"],
)  # fmt: skip
def test_inputs_are_brought_into_the_form_of_the_training(form: str, tmp_path):
    layer, _, _ = fitted((1, 3, 3))
    network = nn.Sequential(nn.Flatten(), layer)
    material = lab.make_material(network, (1, 3, 3), scratch=tmp_path)
    undone = {
        "divide_255": lambda x: x * 255,
        "invert": lambda x: material.train.x.min() + material.train.x.max() - x,
        "flip_horizontal+divide_255": lambda x: x[..., ::-1].copy() * 255,
        "affine(0.025,-3)": lambda x: 40 * (x + 3),
        "flip_horizontal+affine(0.025,-3)": lambda x: 40 * (x[..., ::-1].copy() + 3),
    }[form]
    given = {
        name: replace(part, x=undone(part.x).astype(np.float32))
        for name in ("train", "decide", "final")
        for part in [getattr(material, name)]
    }
    material = replace(material, **given)

    level, _ = kept(material, DataChange(name="transform", transform=form))

    assert level > 0.8


def finding(cause: Cause) -> Finding:
    return Finding(
        cause=cause, group="deployment", verdict="found", summary="", docs=""
    )


def asked(cause: Cause, measures: dict, subject=None) -> list[Change]:
    trainer = Trainer(subject or make_subject())
    rounds = mend_the_delivery(trainer, [finding(cause)], measures)
    ask = next(rounds, None)
    return [] if ask is None else list(ask.experiments[0].arms[0].changes)


def test_the_mend_is_what_was_found():
    order = {"label_order": {"permutation": [2, 0, 1]}}
    form = {"preprocessing": {"best": "divide_255"}}

    assert asked(Cause.TRAINING_MODE_LEFT_ON, {}) == [AS_DELIVERED]
    assert asked(Cause.LABEL_ORDER_MISMATCH, order) == [
        AS_DELIVERED,
        NetworkChange(name="reorder", order=(1, 2, 0)),
    ]
    assert asked(Cause.PREPROCESSING_MISMATCH, form) == [
        AS_DELIVERED,
        DataChange(name="transform", transform="divide_255"),
    ]
    assert asked(Cause.LEARNING_RATE_TOO_LOW, order | form) == []


@pytest.mark.parametrize(("kind", "mended"), [(AS_IN_TRAINING, True), ("other", False)])
def test_a_suspected_form_is_made_up_for_where_it_undoes_a_move(kind, mended):
    evidence = [Evidence(kind=kind, statement="")]
    update = {"verdict": "suspected", "evidence": evidence}
    suspected = finding(Cause.PREPROCESSING_MISMATCH).model_copy(update=update)
    measures = {"preprocessing": {"best": "affine(0.9 1.1,2 0)"}}

    ask = next(mend_the_delivery(Trainer(make_subject()), [suspected], measures), None)

    assert (ask is not None) is mended


@pytest.mark.parametrize(
    ("form", "undone"),
    [
        ("affine(1 2 1 1 1,3 -3 3 -3 3)",
         lambda x: (x - [3, -3, 3, -3, 3]) / [1, 2, 1, 1, 1]),
        ("order(3 0 4 1 2)", lambda x: x[:, [1, 3, 4, 0, 2]]),
    ],
)  # fmt: skip
def test_columns_are_brought_into_the_form_of_the_training(form, undone, tmp_path):
    layer, _, _ = fitted((5,))
    material = lab.make_material(nn.Sequential(layer), (5,), scratch=tmp_path)
    given = {
        name: replace(part, x=undone(part.x).astype(np.float32))
        for name in ("train", "decide", "final")
        for part in [getattr(material, name)]
    }
    material = replace(material, **given)

    before, _ = kept(material)
    level, _ = kept(material, DataChange(name="transform", transform=form))

    assert level > 0.8
    assert level > before + 0.1


def test_no_form_is_given_to_what_the_recipe_normalises():
    recipe = make_subject().given.model_copy(update={"normalization": "standardize"})
    form = {"preprocessing": {"best": "divide_255"}}

    changes = asked(Cause.PREPROCESSING_MISMATCH, form, make_subject(recipe=recipe))

    assert changes == []


def test_a_world_without_such_a_fault_mends_no_delivery():
    assert World(make_subject(), base=0.7, effect=no_effect).audit().mended is None
