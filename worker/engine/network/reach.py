"""Whether any gradient of the outputs reaches the weights."""

from collections.abc import Iterator

import torch

from worker.engine.network.network import Network

_DRAWS = 2  # fresh networks that are tried beside the delivered one
_KEPT = 1 - 2**-20  # of noise in [0, 1)


def learns(network: Network, x: torch.Tensor) -> bool:
    """Whether a loss of what the network returns can move any parameter.

    Outputs that were rounded, cut off from the graph or turned into decisions have no
    derivative, whatever the loss. A softmax that is full on large inputs has none there
    either, so inputs of other sizes and fresh weights are tried as well: one gradient
    anywhere is enough.

    Args:
        network: as delivered.
        x: a few rows, (rows, *sample shape).

    Raises:
        RuntimeError, ValueError, …: the network fails in training.
    """
    starts = [(network.parameters, network.buffers)]
    starts += [network.initial(seed) for seed in range(_DRAWS)]
    return any(
        _moves(network, parameters, buffers, inputs)
        for parameters, buffers in starts
        for inputs in _inputs(network, x)
    )


def _inputs(network: Network, x: torch.Tensor) -> Iterator[torch.Tensor]:
    yield x
    if not network.facts.takes_tokens:
        noise = torch.Generator().manual_seed(0)
        yield torch.randn(x.shape, generator=noise).to(x.device)


def _moves(
    network: Network,
    parameters: dict[str, torch.Tensor],
    buffers: dict[str, torch.Tensor],
    x: torch.Tensor,
) -> bool:
    held = {
        name: value.detach().to(x.device).requires_grad_(value.is_floating_point())
        for name, value in parameters.items()
    }
    # Dropout keeps what draws no less than its rate: all, be that .9 behind the last
    # layer.
    noise = [torch.full(shape, _KEPT) for shape in network.noise_shapes(x)]
    with torch.enable_grad():
        raw, _ = network.forward(
            held,
            {name: value.to(x.device) for name, value in buffers.items()},
            x,
            training=True,
            noise=[one.to(x.device) for one in noise],
        )
        if not raw.requires_grad:
            return False
        # Unlike the sum, these products do not cancel within a row of probabilities.
        weights = torch.linspace(-1, 1, raw.numel(), device=raw.device) ** 3
        total = (raw.double().flatten() * weights).sum()
        leaves = [value for value in held.values() if value.requires_grad]
        gradients: tuple[torch.Tensor | None, ...] = torch.autograd.grad(
            total, leaves, allow_unused=True
        )
    return any(one is not None and bool((one != 0).any()) for one in gradients)
