"""Batch statistics of many members at once, by the kernel of one network.

Written out, the mean, the variance and their gradients pass a dozen times over every
activation. Members folded into channels are so many channels more, for which torch has
one kernel each way.
"""

from typing import Any

import torch
from torch import Tensor

_BY_THE_BATCH = True  # and not by running statistics


def normalized(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise by the batch's own statistics; under `vmap`, each member's by its own.

    Args:
        x: float, (rows, channels, ...).
        weight: float, (channels,), or None.
        bias: float, (channels,), or None.
        eps: added to the variance.

    Returns:
        The normalised x; mean and 1 / sqrt(variance + eps) of each channel, detached.
    """
    out, mean, scale = _Normalized.apply(x, weight, bias, eps)  # type: ignore[no-untyped-call]
    return out, mean, scale


def _kernel(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    given = (x, weight, bias, None, None, _BY_THE_BATCH, 0.0, eps)
    out, mean, scale = torch.native_batch_norm(*given)
    return out, mean.detach(), scale.detach()


class _Normalized(torch.autograd.Function):
    """Tells `vmap` to fold members into channels; gradients are those of the kernel."""

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        return _kernel(x, weight, bias, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401
        x, weight, bias, ctx.eps = inputs
        _, mean, scale = output
        ctx.has_bias = bias is not None
        ctx.mark_non_differentiable(mean, scale)
        ctx.save_for_backward(x, weight, mean, scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        x, weight, mean, scale = ctx.saved_tensors
        wanted = [True, weight is not None, ctx.has_bias]
        saved = (weight, None, None, mean, scale, _BY_THE_BATCH, ctx.eps)
        found = torch.ops.aten.native_batch_norm_backward(gradient, x, *saved, wanted)
        pairs = zip(found, wanted, strict=True)
        return (*(one if is_wanted else None for one, is_wanted in pairs), None)

    @staticmethod
    def vmap(
        info: Any,  # noqa: ANN401
        places: tuple[int | None, ...],
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
    ) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[int, int, int]]:
        members = info.batch_size
        turned = _members_first(x, places[0], members).transpose(0, 1)
        rows, _, channels, *rest = turned.shape
        out, mean, scale = _kernel(
            turned.reshape(rows, members * channels, *rest),
            _flat(weight, places[1], members),
            _flat(bias, places[2], members),
            eps,
        )
        unfolded = out.view(rows, members, channels, *rest).transpose(0, 1)
        each = (members, channels)
        return (unfolded, mean.view(each), scale.view(each)), (0, 0, 0)


def _members_first(value: Tensor, at: int | None, members: int) -> Tensor:
    if at is None:
        return value.expand(members, *value.shape)
    return value.movedim(at, 0)


def _flat(value: Tensor | None, at: int | None, members: int) -> Tensor | None:
    return None if value is None else _members_first(value, at, members).reshape(-1)
