"""Losses of the recipe, in their literal meaning on what the network returns.

`bce` has Keras's completion: probabilities are clamped to [1e-7, 1 - 1e-7], so that
the gradient is zero outside. `bce_broadcast` cannot be written in a recipe: integer
labels compared with every output of a network that has one output a class.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

TINY = 1e-7


def referee_loss(name: str, out: Tensor, y: Tensor, smoothing: float) -> Tensor:
    """Average loss of a batch.

    Args:
        name: of the recipe's loss, or `bce_broadcast`.
        out: float32, (rows, outputs).
        y: int64, (rows,).
        smoothing: label smoothing, fraction; only for `cross_entropy`.
    """
    if name == "cross_entropy":
        return F.cross_entropy(out, y, label_smoothing=smoothing)
    if name == "bce_broadcast":
        return _binary(out, y.to(out.dtype)[:, None].expand_as(out))
    return _LOSSES[name](out, y)


def _wanted(out: Tensor, y: Tensor) -> Tensor:
    if out.shape[1] == 1:
        return y.to(out.dtype)[:, None]
    return F.one_hot(y, out.shape[1]).to(out.dtype)


def _hinge(out: Tensor, y: Tensor) -> Tensor:
    if out.shape[1] == 1:
        return F.relu(1 - (2 * _wanted(out, y) - 1) * out).mean()
    return F.multi_margin_loss(out, y)


def _focal(out: Tensor, y: Tensor) -> Tensor:
    chosen = F.log_softmax(out, 1).gather(1, y[:, None])
    return -(((1 - chosen.exp()) ** 2) * chosen).mean()


def _binary(out: Tensor, wanted: Tensor) -> Tensor:
    """Binary cross-entropy; NaN outputs give a NaN loss instead of an error."""
    share = out.clamp(TINY, 1 - TINY)
    return -(wanted * share.log() + (1 - wanted) * (1 - share).log()).mean()


def _negative_log(out: Tensor, y: Tensor) -> Tensor:
    """Read probabilities as such, log-probabilities and raw scores literally."""
    low, high = float(out.detach().min()), float(out.detach().max())
    if low >= 0 and high <= 1:
        share = out / out.sum(1, keepdim=True).clamp_min(TINY)
        return -share.clamp_min(TINY).log().gather(1, y[:, None]).mean()
    return -out.gather(1, y[:, None]).mean()


_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "nll": _negative_log,
    "bce": lambda out, y: _binary(out, _wanted(out, y)),
    "bce_with_logits": lambda out, y: F.binary_cross_entropy_with_logits(
        out, _wanted(out, y)
    ),
    "mse": lambda out, y: F.mse_loss(out, _wanted(out, y)),
    "mae": lambda out, y: F.l1_loss(out, _wanted(out, y)),
    "hinge": _hinge,
    "focal": _focal,
}


def predicted(name: str, out: Tensor) -> Tensor:
    """Class of each row; int64, (rows,).

    A single output is cut where the contract says: probabilities, which all lie from
    0 to 1, at a half, whatever loss they were given to.
    """
    if out.dim() == 1:
        out = out[:, None]
    if out.shape[1] > 1:
        return torch.nan_to_num(out, nan=-1e30).argmax(1)
    are_shares = bool(((out >= 0) & (out <= 1)).all())
    scores = name in {"bce_with_logits", "hinge"} and not are_shares
    return (out[:, 0] > (0.0 if scores else 0.5)).long()
