import math

import pytest
import torch

from worker.engine.lab.signs import size_distance


def test_sizes_are_compared_layer_by_layer_and_the_middle_counts():
    delivered = {f"{k}.weight": torch.ones(4, 4) for k in range(3)}
    trained = {
        "0.weight": torch.ones(4, 4) * 2,
        "1.weight": torch.ones(4, 4) / 2,
        "2.weight": torch.ones(4, 4) * 100,
    }

    assert size_distance(trained, delivered) == pytest.approx(math.log(2))
    assert size_distance(delivered, delivered) == 0


def test_what_cannot_be_compared_is_left_out():
    delivered = {
        "a": torch.ones(4, 4),
        "b": torch.ones(4),
        "c": torch.ones(2, 2),
        "d": torch.zeros(2, 2),
        "e": torch.full((2, 2), float("nan")),
    }
    trained = {name: torch.full((4, 4), 3.0) for name in "acde"} | {"b": torch.ones(4)}
    trained["d"] = trained["e"] = torch.ones(2, 2)

    assert size_distance(trained, delivered) == pytest.approx(math.log(3))
    assert size_distance({"z": torch.ones(4, 4)}, delivered) is None


def test_a_scheme_shows_in_the_sizes_after_training():
    """Equal recipes from one scheme end alike, from another apart."""
    x = torch.randn(200, 20, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] * x[:, 1] > 0).long()

    def trained(gain: float, seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        network = torch.nn.Sequential(
            torch.nn.Linear(20, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2)
        )
        with torch.no_grad():
            network[0].weight *= gain
            network[2].weight *= gain
        descent = torch.optim.Adam(network.parameters(), lr=1e-2)
        for _ in range(60):
            descent.zero_grad()
            torch.nn.functional.cross_entropy(network(x), y).backward()
            descent.step()
        return {k: v.detach() for k, v in network.named_parameters()}

    same = size_distance(trained(1.0, 1), trained(1.0, 2))
    other = size_distance(trained(2.4, 1), trained(1.0, 2))

    assert same is not None
    assert other is not None
    assert other > 3 * same
