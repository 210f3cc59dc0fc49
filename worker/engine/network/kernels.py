"""Operations that know of the training flag, of given noise and of buffers.

All are functional and work under `torch.func.vmap`: random masks come from noise that
the caller may give, running statistics are returned instead of written.
"""

import math
from collections.abc import Callable
from typing import Any

import torch

from worker.engine.network.dropouts import (
    Run,
    alpha_dropout,
    dropout,
    feature_alpha_dropout,
    feature_dropout,
    is_batched,
)
from worker.engine.network.normalizing import normalized
from worker.engine.network.program import BufferNames
from worker.engine.network.recurrent import recurrent


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
    count = x.numel() // x.shape[1]
    if count_name:
        run.buffers[count_name] = run.buffers[count_name] + 1
    if momentum is None:
        batches = run.buffers[count_name].to(mean.dtype) if count_name else 1
        factor: Any = 1.0 / batches
    else:
        factor = momentum
    if is_batched(x, mean, var, weight) or isinstance(factor, torch.Tensor):
        out, batch_mean, scale = normalized(x, weight, bias, eps)
        if count > 1:
            batch_var = scale.pow(-2) - eps
            unbiased = batch_var * (count / (count - 1))
            run.buffers[mean_name] = mean + (batch_mean - mean) * factor
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


def embedding_bag(
    _run: Run,
    weight: torch.Tensor,
    indices: torch.Tensor,
    offsets: torch.Tensor,
    mode: int,
    padding: int | None,
) -> tuple[torch.Tensor, None, None, None]:
    """Add up, or average, the rows of a table that stand in each bag.

    Args:
        weight: float, (rows, columns).
        indices: int, (members of all bags,).
        offsets: int, (bags,), where each bag begins.
        mode: 0 for the sum, 1 for the mean; of an empty bag both are zero.
        padding: row that does not count; None, or negative, where all do.

    Returns:
        float, (bags, columns), and what nobody reads of `torch.embedding_bag`.
    """
    places = torch.arange(indices.shape[0], device=indices.device)
    bag = torch.searchsorted(offsets.to(places.dtype), places, right=True) - 1
    counts = torch.ones_like(indices)
    if padding is not None and padding >= 0:
        counts = (indices != padding).long()
    counted = counts.to(weight.dtype)
    rows = torch.nn.functional.embedding(indices, weight) * counted[:, None]
    empty = torch.zeros(offsets.shape[0], weight.shape[1]).to(weight)
    total = empty.index_add(0, bag, rows)
    if mode == 0:
        return total, None, None, None
    many = torch.zeros(offsets.shape[0]).to(weight).index_add(0, bag, counted)
    return total / many.clamp(min=1)[:, None], None, None, None


KERNELS: dict[str, Callable[..., Any]] = {
    "net::dropout": dropout,
    "net::feature_dropout": feature_dropout,
    "net::alpha_dropout": alpha_dropout,
    "net::feature_alpha_dropout": feature_alpha_dropout,
    "net::batch_norm": batch_norm,
    "net::instance_norm": instance_norm,
    "net::attention": attention,
    "net::recurrent": recurrent,
    "net::embedding_bag": embedding_bag,
}
DROPOUTS = frozenset(kind for kind in KERNELS if kind.endswith("dropout"))
