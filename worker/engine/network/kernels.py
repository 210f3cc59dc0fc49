"""Operations that know of the training flag, of given noise and of buffers.

All are functional and work under `torch.func.vmap`: random masks come from noise that
the caller may give, running statistics are returned instead of written.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional as F

from worker.engine.network.program import BufferNames


@dataclass
class Run:
    """One pass through a network.

    Attributes:
        training: whether dropout and batch statistics are on.
        buffers: as given; what the pass renews is replaced, the tensors never written.
        noise: one tensor of uniform [0, 1) a dropout site, in order of execution.
        sites: shapes of the noise asked for so far.
    """

    training: bool
    buffers: dict[str, torch.Tensor]
    noise: Sequence[torch.Tensor] | None = None
    sites: list[tuple[int, ...]] = field(default_factory=list)

    def uniform(self, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """Take the next noise, or draw it from torch's generator."""
        place = len(self.sites)
        self.sites.append(shape)
        if self.noise is None:
            return torch.rand(shape, device=like.device, dtype=like.dtype)
        return self.noise[place].reshape(shape)


def is_batched(*tensors: object) -> bool:
    """Tell whether any tensor is wrapped by torch.func (vmap, grad)."""
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor  # noqa: SLF001
    return any(isinstance(t, torch.Tensor) and wrapped(t) for t in tensors)


def dropout(run: Run, x: torch.Tensor, p: float) -> torch.Tensor:
    """Keep each value where its noise is at least p, scaled by 1 / (1 - p)."""
    return _dropped(run, x, p, tuple(x.shape))


def feature_dropout(run: Run, x: torch.Tensor, p: float) -> torch.Tensor:
    """Drop whole channels."""
    return _dropped(run, x, p, (*x.shape[:2], *[1] * (x.dim() - 2)))


def _dropped(
    run: Run, x: torch.Tensor, p: float, shape: tuple[int, ...]
) -> torch.Tensor:
    if not run.training or p == 0:
        return x
    noise = run.uniform(shape, x)
    if p >= 1:
        return x * 0
    return x * (noise >= p).to(x.dtype) * (1 / (1 - p))


def alpha_dropout(run: Run, x: torch.Tensor, p: float) -> torch.Tensor:
    """Dropout that keeps mean and variance of self-normalising networks.

    Source: Klambauer et al. 2017, arXiv:1706.02515; constants as in torch.
    """
    return _alpha_dropped(run, x, p, tuple(x.shape))


def feature_alpha_dropout(run: Run, x: torch.Tensor, p: float) -> torch.Tensor:
    """Alpha dropout of whole channels."""
    return _alpha_dropped(run, x, p, (*x.shape[:2], *[1] * (x.dim() - 2)))


def _alpha_dropped(
    run: Run, x: torch.Tensor, p: float, shape: tuple[int, ...]
) -> torch.Tensor:
    if not run.training or p == 0:
        return x
    keep = (run.uniform(shape, x) >= p).to(x.dtype)
    if p >= 1:
        return x * 0
    alpha = 1.7580993408473766
    scale = 1 / math.sqrt((alpha**2 * p + 1) * (1 - p))
    shift = (keep - 1) * (alpha * scale) + alpha * scale * p
    return x * (keep * scale) + shift


def batch_norm(  # noqa: PLR0913, PLR0917
    run: Run,
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    names: BufferNames,
    momentum: float | None,
    eps: float,
) -> torch.Tensor:
    """Normalise by batch statistics in training, by running ones otherwise.

    A batch of a single value a channel leaves the running statistics as they were.

    Args:
        run: the pass; its buffers get the new running statistics.
        x: float, (rows, channels, ...).
        weight: float, (channels,), or None.
        bias: float, (channels,), or None.
        names: buffers of running mean, running variance and number of batches.
        momentum: of the running statistics; None: plain average over batches.
        eps: added to the variance.
    """
    mean_name, var_name, count_name = names
    mean = run.buffers[mean_name] if mean_name else None
    var = run.buffers[var_name] if var_name else None
    if mean is None or var is None or mean_name is None or var_name is None:
        return torch.batch_norm(x, weight, bias, None, None, True, 0.0, eps, False)  # noqa: FBT003
    if not run.training:
        return torch.batch_norm(x, weight, bias, mean, var, False, 0.0, eps, False)  # noqa: FBT003
    dims = [dim for dim in range(x.dim()) if dim != 1]
    count = x.numel() // x.shape[1]
    if count_name:
        run.buffers[count_name] = run.buffers[count_name] + 1
    if momentum is None:
        batches = run.buffers[count_name] if count_name else 1
        factor: Any = 1.0 / batches
    else:
        factor = momentum
    if is_batched(x, mean, var, weight) or isinstance(factor, torch.Tensor):
        batch_var, batch_mean = torch.var_mean(x, dims, correction=0)
        shape = [1, -1, *[1] * (x.dim() - 2)]
        out = (x - batch_mean.view(shape)) * torch.rsqrt(batch_var + eps).view(shape)
        if weight is not None:
            out = out * weight.view(shape)
        if bias is not None:
            out = out + bias.view(shape)
        if count > 1:
            unbiased = batch_var.detach() * (count / (count - 1))
            run.buffers[mean_name] = mean + (batch_mean.detach() - mean) * factor
            run.buffers[var_name] = var + (unbiased - var) * factor
        return out
    mean, var = mean.clone(), var.clone()
    out = torch.batch_norm(x, weight, bias, mean, var, True, factor, eps, False)  # noqa: FBT003
    if count > 1:
        run.buffers[mean_name], run.buffers[var_name] = mean, var
    return out


def instance_norm(  # noqa: PLR0913, PLR0917
    run: Run,
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    names: BufferNames,
    momentum: float | None,
    eps: float,
) -> torch.Tensor:
    """Normalise each sample's channels; running statistics as in batch norm."""
    mean_name, var_name, _ = names  # torch does not count batches
    if mean_name is None or var_name is None:
        return torch.instance_norm(x, weight, bias, None, None, True, 0.0, eps, False)  # noqa: FBT003
    mean, var = run.buffers[mean_name], run.buffers[var_name]
    if not run.training:
        return torch.batch_norm(x, weight, bias, mean, var, False, 0.0, eps, False)  # noqa: FBT003
    dims = list(range(2, x.dim()))
    batch_var, batch_mean = torch.var_mean(x.detach(), dims, correction=1)
    factor = 0.1 if momentum is None else momentum
    run.buffers[mean_name] = mean + (batch_mean.mean(0) - mean) * factor
    run.buffers[var_name] = var + (batch_var.mean(0) - var) * factor
    return torch.instance_norm(x, weight, bias, None, None, True, 0.0, eps, False)  # noqa: FBT003


def attention(  # noqa: PLR0913, PLR0917
    run: Run,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    p: float,
    is_causal: bool,  # noqa: FBT001
    scale: float | None,
    grouped: bool,  # noqa: FBT001
) -> torch.Tensor:
    """Scaled dot-product attention, written out so that it stacks.

    Source: Vaswani et al. 2017, arXiv:1706.03762, equation 1; arguments as in
    `torch.nn.functional.scaled_dot_product_attention`.
    """
    if grouped:
        times = query.shape[-3] // key.shape[-3]
        key = key.repeat_interleave(times, -3)
        value = value.repeat_interleave(times, -3)
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (query * scale) @ key.transpose(-2, -1)
    if is_causal:
        rows, columns = query.shape[-2], key.shape[-2]
        seen = torch.ones(rows, columns, dtype=torch.bool, device=query.device).tril()
        scores = scores.masked_fill(~seen, -torch.inf)
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, -torch.inf)
    elif mask is not None:
        scores = scores + mask
    return dropout(run, torch.softmax(scores, -1), p) @ value


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
    r, z, n = gates.chunk(3, -1)
    hr, hz, hn = inner.chunk(3, -1)
    reset, update = torch.sigmoid(r + hr), torch.sigmoid(z + hz)
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

    Outside of torch.func the fused kernel runs; inside, and wherever dropout between
    layers needs its noise, the steps are written out, one after the other.

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
    if not drops and not is_batched(x, *operands):
        given = start if states == 2 else start[0]  # noqa: PLR2004
        fused = getattr(torch._VF, settings.cell)  # noqa: SLF001
        return fused(  # type: ignore[no-any-return]
            x,
            given,
            weights,
            settings.biases,
            settings.layers,
            0.0,
            run.training,
            settings.bidirectional,
            settings.batch_first,
        )
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
    return _written_out(run, settings, x, start, weights)


def _written_out(
    run: Run,
    settings: RecurrentSettings,
    x: torch.Tensor,
    start: list[torch.Tensor],
    weights: list[torch.Tensor],
) -> tuple[torch.Tensor, ...]:
    directions = 2 if settings.bidirectional else 1
    apiece = len(weights) // (settings.layers * directions)
    sequence = x.transpose(0, 1) if settings.batch_first else x
    finals: list[list[torch.Tensor]] = []
    for layer in range(settings.layers):
        outputs: list[torch.Tensor] = []
        for direction in range(directions):
            place = layer * directions + direction
            own = weights[place * apiece : (place + 1) * apiece]
            out, final = _one_direction(
                settings,
                sequence,
                [state[place] for state in start],
                own,
                backwards=direction == 1,
            )
            outputs.append(out)
            finals.append(final)
        sequence = torch.cat(outputs, -1) if directions > 1 else outputs[0]
        if layer + 1 < settings.layers:
            sequence = dropout(run, sequence, settings.p)
    out = sequence.transpose(0, 1) if settings.batch_first else sequence
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
    steps = range(sequence.shape[0])
    outs: list[torch.Tensor] = []
    for step in reversed(steps) if backwards else steps:
        state = cell(gates[step], F.linear(state[0], weights[1], biases[1]), state)
        if projection is not None:
            state = [F.linear(state[0], projection), *state[1:]]
        outs.append(state[0])
    return torch.stack(outs[::-1] if backwards else outs), state


KERNELS: dict[str, Callable[..., Any]] = {
    "net::dropout": dropout,
    "net::feature_dropout": feature_dropout,
    "net::alpha_dropout": alpha_dropout,
    "net::feature_alpha_dropout": feature_alpha_dropout,
    "net::batch_norm": batch_norm,
    "net::instance_norm": instance_norm,
    "net::attention": attention,
    "net::recurrent": recurrent,
}
DROPOUTS = frozenset(kind for kind in KERNELS if kind.endswith("dropout"))
