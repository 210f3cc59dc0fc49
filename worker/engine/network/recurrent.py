"""Recurrent layers: by torch's own kernels, or written out so that they stack."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F

from worker.engine.network.dropouts import Run, dropout, is_batched


@dataclass(frozen=True)
class RecurrentSettings:
    """Settings of a recurrent layer, as torch names them."""

    cell: str  # lstm, gru, rnn_tanh, rnn_relu
    biases: bool
    layers: int
    p: float
    bidirectional: bool
    batch_first: bool


def _lstm_cell(
    gates: torch.Tensor, inner: torch.Tensor, state: list[torch.Tensor]
) -> list[torch.Tensor]:
    i, f, g, o = (gates + inner).chunk(4, -1)
    cell = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return [torch.sigmoid(o) * torch.tanh(cell), cell]


def _gru_cell(
    gates: torch.Tensor, inner: torch.Tensor, state: list[torch.Tensor]
) -> list[torch.Tensor]:
    sizes = [2 * state[0].shape[-1], state[0].shape[-1]]
    (rz, n), (hrz, hn) = (torch.split(one, sizes, -1) for one in (gates, inner))
    reset, update = torch.sigmoid(rz + hrz).chunk(2, -1)
    new = torch.tanh(n + reset * hn)
    return [new + update * (state[0] - new)]


def _tanh_cell(
    gates: torch.Tensor, inner: torch.Tensor, _state: list[torch.Tensor]
) -> list[torch.Tensor]:
    return [torch.tanh(gates + inner)]


def _relu_cell(
    gates: torch.Tensor, inner: torch.Tensor, _state: list[torch.Tensor]
) -> list[torch.Tensor]:
    return [torch.relu(gates + inner)]


Layer = Callable[
    [Run, RecurrentSettings, torch.Tensor, list[torch.Tensor], list[torch.Tensor]],
    tuple[torch.Tensor, ...],
]
Cell = Callable[[torch.Tensor, torch.Tensor, list[torch.Tensor]], list[torch.Tensor]]
_CELLS: dict[str, Cell] = {
    "lstm": _lstm_cell,
    "gru": _gru_cell,
    "rnn_tanh": _tanh_cell,
    "rnn_relu": _relu_cell,
}


def recurrent(
    run: Run,
    settings: RecurrentSettings,
    x: torch.Tensor,
    *operands: torch.Tensor,
) -> tuple[torch.Tensor, ...]:
    """Run an LSTM, GRU or plain recurrent layer.

    Outside of torch.func the fused kernel runs, once a layer where dropout between them
    needs its noise; inside, the steps are written out, one after the other.

    Args:
        run: the pass.
        settings: of the layer.
        x: float, (rows, steps, features), the first two swapped unless `batch_first`.
        operands: initial states (two for an LSTM, one otherwise), then the weights.

    Returns:
        Output of the last layer and the final states.
    """
    states = 2 if settings.cell == "lstm" else 1
    start, weights = list(operands[:states]), list(operands[states:])
    drops = run.training and settings.p > 0 and settings.layers > 1
    is_plain = not is_batched(x, *operands)
    if is_plain and not drops:
        return _fused(run, settings, x, start, weights)
    if x.dim() == 2:  # noqa: PLR2004
        inner = recurrent(
            run,
            settings,
            x.unsqueeze(0 if settings.batch_first else 1),
            *[state.unsqueeze(1) for state in start],
            *weights,
        )
        return (
            inner[0].squeeze(0 if settings.batch_first else 1),
            *[state.squeeze(1) for state in inner[1:]],
        )
    one_layer = _fused if is_plain else _written_out
    return _layer_by_layer(run, settings, x, start, weights, one_layer)


def _fused(
    run: Run,
    settings: RecurrentSettings,
    x: torch.Tensor,
    start: list[torch.Tensor],
    weights: list[torch.Tensor],
) -> tuple[torch.Tensor, ...]:
    kernel = getattr(torch._VF, settings.cell)  # noqa: SLF001
    return kernel(  # type: ignore[no-any-return]
        x,
        start if len(start) > 1 else start[0],
        weights,
        settings.biases,
        settings.layers,
        0.0,
        run.training,
        settings.bidirectional,
        settings.batch_first,
    )


def _layer_by_layer(
    run: Run,
    settings: RecurrentSettings,
    x: torch.Tensor,
    start: list[torch.Tensor],
    weights: list[torch.Tensor],
    one_layer: Layer,
) -> tuple[torch.Tensor, ...]:
    directions = 2 if settings.bidirectional else 1
    apiece = len(weights) // settings.layers
    alone = replace(settings, layers=1, batch_first=False)
    x = x.transpose(0, 1) if settings.batch_first else x
    finals: list[list[torch.Tensor]] = []
    for layer in range(settings.layers):
        mine = slice(layer * directions, (layer + 1) * directions)
        own = weights[layer * apiece : (layer + 1) * apiece]
        x, *final = one_layer(run, alone, x, [state[mine] for state in start], own)
        finals.append(final)
        if layer + 1 < settings.layers:
            x = dropout(run, x, settings.p)
    out = x.transpose(0, 1) if settings.batch_first else x
    return (out, *[torch.cat(states) for states in zip(*finals, strict=True)])


def _written_out(
    _run: Run,
    settings: RecurrentSettings,
    x: torch.Tensor,
    start: list[torch.Tensor],
    weights: list[torch.Tensor],
) -> tuple[torch.Tensor, ...]:
    directions = 2 if settings.bidirectional else 1
    apiece = len(weights) // directions
    outputs, finals = [], []
    for direction in range(directions):
        out, final = _one_direction(
            settings,
            x,
            [state[direction] for state in start],
            weights[direction * apiece : (direction + 1) * apiece],
            backwards=direction == 1,
        )
        outputs.append(out)
        finals.append(final)
    out = torch.cat(outputs, -1) if directions > 1 else outputs[0]
    return (out, *[torch.stack(states) for states in zip(*finals, strict=True)])


def _one_direction(
    settings: RecurrentSettings,
    sequence: torch.Tensor,
    state: list[torch.Tensor],
    weights: list[torch.Tensor],
    *,
    backwards: bool,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    cell = _CELLS[settings.cell]
    biases = weights[2:4] if settings.biases else [None, None]
    projection = weights[-1] if len(weights) in (3, 5) else None
    gates = F.linear(sequence, weights[0], biases[0])  # (steps, rows, gates)
    outs: list[torch.Tensor] = []
    # To take them one by one would fill all of their gradient once a step.
    steps = gates.unbind()
    for gate in reversed(steps) if backwards else steps:
        state = cell(gate, F.linear(state[0], weights[1], biases[1]), state)
        if projection is not None:
            state = [F.linear(state[0], projection), *state[1:]]
        outs.append(state[0])
    return torch.stack(outs[::-1] if backwards else outs), state
