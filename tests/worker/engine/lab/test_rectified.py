"""Rectifying after pooling is worked out on fewer numbers and gives the same."""

import torch
import torch.nn.functional as F

from worker.engine.lab.peephole import streamlined
from worker.engine.lab.recording import recorded


def _gradient(x: torch.Tensor) -> list[torch.Tensor]:
    def loss(x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(torch.relu(x * 2), 2).square().sum()

    return [torch.func.grad(loss)(x)]


def test_a_layer_is_pooled_before_it_is_rectified() -> None:
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    expected = _gradient(x)
    graph = recorded(_gradient, x)

    found = streamlined(graph, x, 1)(x)

    rectified = [n for n in graph.graph.nodes if "relu" in str(n.target)]
    assert [node.meta["shape"][-2:] for node in rectified] == [(4, 4)]
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=0)
