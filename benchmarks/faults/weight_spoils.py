"""What goes wrong with trained weights before they are delivered."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Spoiler = Callable[[list[Tensor], float], None]


def _matrices(weights: list[Tensor]) -> list[Tensor]:
    return [weight for weight in weights if weight.dim() > 1]


def nan_entries(weights: list[Tensor], share: float) -> None:
    """Overwrite a share of the last matrix with NaN."""
    matrix = _matrices(weights)[-1].flatten()
    matrix[: max(1, round(share * len(matrix)))] = float("nan")


def zero_layer(weights: list[Tensor], which: float) -> None:
    """Set one matrix to zero, counted from the first."""
    _matrices(weights)[int(which)].zero_()


def zero_units(weights: list[Tensor], share: float) -> None:
    """Set a share of the first layer's units to zero: they are dead."""
    matrix = _matrices(weights)[0]
    matrix[: round(share * len(matrix))] = 0


def forgotten_head(weights: list[Tensor], _strength: float) -> None:
    """Deliver the last matrix as a fresh initialisation, never trained."""
    bound = _matrices(weights)[-1].shape[-1] ** -0.5
    generator = torch.Generator().manual_seed(41)
    _matrices(weights)[-1].uniform_(-bound, bound, generator=generator)


def forgotten_all(weights: list[Tensor], _strength: float) -> None:
    """Deliver every matrix as a fresh initialisation."""
    generator = torch.Generator().manual_seed(42)
    for matrix in _matrices(weights):
        bound = matrix.flatten(1).shape[1] ** -0.5
        matrix.uniform_(-bound, bound, generator=generator)


def rounded(weights: list[Tensor], step: float) -> None:
    """Round matrices to multiples of a step of their largest entry."""
    for matrix in _matrices(weights):
        unit = step * float(matrix.abs().max())
        matrix.copy_((matrix / unit).round() * unit)


SPOILS: dict[str, Spoiler] = {
    function.__name__: function
    for function in (
        nan_entries,
        zero_layer,
        zero_units,
        forgotten_head,
        forgotten_all,
        rounded,
    )
}


def spoil_weights(network: nn.Module, spoils: tuple[tuple[str, float], ...]) -> None:
    """Spoil a network's weights in place."""
    with torch.no_grad():
        for name, strength in spoils:
            SPOILS[name]([*network.parameters()], strength)
