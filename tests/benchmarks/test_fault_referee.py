"""The referee reads outputs as the contract does."""

import pytest
import torch

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
