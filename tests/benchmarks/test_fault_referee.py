"""The referee reads outputs as the contract does."""

from dataclasses import replace

import pytest
import torch

from benchmarks.faults.program import Sketch
from benchmarks.faults.referee import _optimizer
from benchmarks.faults.referee_losses import predicted


@pytest.mark.parametrize(
    ("loss", "outputs", "classes"),
    [
        ("bce_with_logits", [-2.0, 0.3, 4.0], [0, 1, 1]),
        ("bce_with_logits", [0.1, 0.4, 0.9], [0, 0, 1]),  # behind a sigmoid
        ("bce", [0.1, 0.4, 0.9], [0, 0, 1]),
        ("mse", [-0.1, 0.4, 1.2], [0, 0, 1]),
    ],
)
def test_a_single_output_is_cut_at_a_half_where_it_is_a_probability(
    loss, outputs, classes
):
    assert predicted(loss, torch.tensor(outputs)[:, None]).tolist() == classes


def test_rmsprop_averages_as_torch_does_unless_a_program_says_otherwise():
    """No recipe has a word for it, so that any audit must take torch's default."""
    given = Sketch(data="wine", optimizer="rmsprop", lr=0.01)
    keras = replace(given, alpha=0.9)
    network = torch.nn.Linear(2, 2)
    default = torch.optim.RMSprop(network.parameters()).defaults["alpha"]

    assert _optimizer(given, network).defaults["alpha"] == default
    assert _optimizer(keras, network).defaults["alpha"] == 0.9
    assert given.digest() != keras.digest()
