import io

import numpy as np
import pytest
import torch
from torch import nn

from service.contract.causes import Cause
from service.contract.errors import Mismatch
from tests.worker.engine.opened import (
    RECIPE,
    audited,
    dataset,
    network,
    open_session,
)
from worker.frames import encode


class Fixed(nn.Module):
    """A forward that makes a tensor of numbers and picks columns by a list."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.order = [3, 2, 1, 0]

    def forward(self, x):
        return self.layer(x[:, self.order]) * torch.tensor([1.0, 2.0, 3.0])


def test_samples_that_the_model_does_not_take_are_refused_with_their_shape(tmp_path):
    with pytest.raises(Mismatch, match=r"\[4\]"):
        open_session(tmp_path, network(features=7))


def test_too_few_outputs_for_the_classes_are_refused(tmp_path):
    with pytest.raises(Mismatch, match=r"2.*3|3.*2"):
        open_session(tmp_path, network(classes=2))


def test_a_normalisation_of_another_length_is_the_callers_error(tmp_path):
    wrong = RECIPE | {"normalization": {"mean": [1.0, 2.0], "std": [1.0, 2.0]}}

    with pytest.raises(Mismatch, match=r"normalization\.mean has 2 values"):
        open_session(tmp_path, network(), recipe=wrong)


@pytest.mark.parametrize(
    ("field", "values"),
    [("class_weights", [1.0, 2.0]), ("transition_matrix", [[0.9, 0.1], [0.0, 1.0]])],
)
def test_lists_of_another_length_are_the_callers_error(tmp_path, field, values):
    wrong = RECIPE | {"loss": {"name": "cross_entropy", field: values}}

    with pytest.raises(Mismatch, match=f"{field} has 2 values"):
        open_session(tmp_path, network(), recipe=wrong)


def test_a_model_that_makes_tensors_and_picks_by_lists_can_be_audited(tmp_path):
    session = open_session(tmp_path, Fixed())

    outcome = session.run(
        {"kind": "measurement", "question": "?", "name": "delivered", "settings": {}}
    )

    assert 0 <= outcome["values"]["balanced_accuracy"] <= 1


def test_outputs_that_all_sit_at_one_half_tell_of_broadcast_labels(tmp_path):
    class Undecided(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 2)
            nn.init.zeros_(self.layer.weight)
            nn.init.zeros_(self.layer.bias)

        def forward(self, x):
            return torch.softmax(self.layer(x), 1)

    recipe = RECIPE | {"loss": {"name": "bce"}}

    session = open_session(
        tmp_path, Undecided(), recipe=recipe, data=dataset(classes=2)
    )

    assert session.subject is not None
    assert session.subject.recipe.loss.targets == "index"


def pictures(shape: tuple[int, ...]) -> io.BytesIO:
    x = np.random.default_rng(0).integers(0, 256, (60, *shape), np.uint8)
    file = io.BytesIO()
    np.savez(file, x=x, y=np.arange(60) % 3)
    file.seek(0)
    return file


def convolution() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )


@pytest.mark.parametrize("shape", [(3, 8, 8), (8, 8, 3)])
def test_pictures_are_normalised_along_their_channels(tmp_path, shape):
    means = [0.25, 0.5, 0.75]
    spec = {"image": {"mean": means, "std": [0.5]}}

    plain = open_session(tmp_path, convolution(), data=pictures(shape))
    session = open_session(tmp_path, convolution(), data=pictures(shape), spec=spec)

    given = plain.material.train.x / 255 - np.reshape(means, (3, 1, 1))
    assert np.allclose(session.material.train.x, given / 0.5, atol=1e-6)


def test_pictures_that_had_to_be_turned_leave_the_network_stackable(tmp_path):
    session = open_session(tmp_path, convolution(), data=pictures((8, 8, 3)))

    assert session.material.network.stackable


def test_normalisation_by_the_recipe_goes_along_the_channels_too(tmp_path):
    wrong = RECIPE | {"normalization": {"mean": [0.5] * 8, "std": [0.5] * 8}}

    with pytest.raises(Mismatch, match=r"normalization\.mean has 8 values"):
        open_session(tmp_path, convolution(), recipe=wrong, data=pictures((3, 8, 8)))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_what_is_measured_of_broken_weights_can_be_sent(tmp_path, value):
    broken = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    for tensor in (*broken.parameters(), *broken.buffers()):
        if tensor.is_floating_point():
            tensor.data.fill_(value)
    session = open_session(tmp_path, broken)

    for asked in session.advance([])["experiments"]:
        assert encode(session.run(asked))


def test_a_frozen_archive_is_audited_though_it_has_no_mode(tmp_path):
    frozen = torch.jit.freeze(torch.jit.script(network().eval()))
    session = open_session(tmp_path, frozen)

    for asked in session.advance([])["experiments"]:
        assert encode(session.run(asked))


@pytest.mark.slow
def test_a_whole_audit_yields_every_cause_once(tmp_path):
    session = open_session(tmp_path, network(), budget={"seconds": 20})

    findings = audited(session)["findings"]

    assert sorted(finding["cause"] for finding in findings) == sorted(Cause)
    assert all(finding["check"] != "crashed" for finding in findings)
