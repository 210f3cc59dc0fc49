"""Ways to fill a parameter: uniform, normal or constant."""

from collections.abc import Callable

import torch

Fill = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


def uniform(bound: float) -> Fill:
    """Draw between -bound and bound."""

    def fill(tensor: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        drawn = torch.rand(tensor.shape, generator=rng, dtype=torch.float64)
        return (drawn * 2 - 1) * bound

    return fill


def normal(deviation: float) -> Fill:
    """Draw around zero."""

    def fill(tensor: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        drawn = torch.randn(tensor.shape, generator=rng, dtype=torch.float64)
        return drawn * deviation

    return fill


def constant(value: float) -> Fill:
    """Set every element to one value."""

    def fill(tensor: torch.Tensor, _rng: torch.Generator) -> torch.Tensor:
        return torch.full(tensor.shape, value, dtype=torch.float64)

    return fill
