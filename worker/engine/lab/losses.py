"""Losses with the literal meaning of the recipe, for one member or a stack.

Each is written on the last dimensions, so the same code serves `(rows, outputs)` and
`(members, rows, outputs)`. What a mistaken recipe would have computed is computed:
probabilities given to `cross_entropy` go through a second softmax, raw scores given to
`nll` are taken for log-probabilities, and `cross_entropy` on one output is constant.
See docs/recipes.md.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from service.contract.recipe import LossName
from worker.engine.recipe import CompleteLoss

_TINY = 1e-7  # Keras' epsilon
_DISTRIBUTION = {"cross_entropy", "nll", "focal"}  # target: weighted distribution


class LossImpossible(Exception):  # noqa: N818 - names what is the case
    """This loss is not defined on what the network returns."""

    def __init__(self, *, reason: str) -> None:
        super().__init__(reason)


@dataclass(frozen=True)
class Form:
    """What decides the formula; members of a stack agree on it.

    Attributes:
        name: of the loss.
        outputs: numbers the network returns for a sample.
        classes: of the data set.
        activation: the network's last activation, as its facts name it.
        probabilities: see `CompleteLoss`.
        transition_matrix: see `CompleteLoss`.
    """

    name: LossName
    outputs: int
    classes: int
    activation: str
    probabilities: Literal["log", "plain"] = "log"
    transition_matrix: tuple[tuple[float, ...], ...] | None = None

    def __post_init__(self) -> None:
        if self.outputs == 1:
            if self.name == "nll" and self.activation != "sigmoid":
                raise LossImpossible(
                    reason="nll needs one output a class; the network has 1"
                )
        elif self.outputs < self.classes:
            raise LossImpossible(
                reason=f"{self.outputs} outputs cannot tell {self.classes} classes"
            )
        matrix = self.transition_matrix
        if matrix and (self.name != "cross_entropy" or self.outputs != len(matrix)):
            raise LossImpossible(
                reason=f"a transition matrix of {len(matrix)} classes needs "
                f"cross_entropy and as many outputs; there is {self.name} on "
                f"{self.outputs}"
            )

    @property
    def is_probability(self) -> bool:
        """The network itself ends in probabilities."""
        return self.activation in {"softmax", "sigmoid"}

    @property
    def columns(self) -> int:
        """Width of the targets."""
        if self.outputs == 1 and self.name in {"nll", "focal"}:
            return 2
        return self.outputs


def targets(
    form: Form, loss: CompleteLoss, y: Tensor, real: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Turn labels into what the loss compares with, for batches of one loss.

    Args:
        form: of the loss.
        loss: its settings.
        y: int64, (..., rows).
        real: bool, (..., rows): False where a short batch was padded.
        dtype: of the network.

    Returns:
        target: (..., rows, columns). For losses on a distribution it is weighted,
        so that minus its product with the log-probabilities sums to the batch's mean.
        weight: (..., rows): what to multiply each row's loss by before summing.
    """
    row_weight = real.to(dtype)
    class_weight = None
    if loss.class_weights is not None:
        class_weight = torch.tensor(loss.class_weights, dtype=dtype, device=y.device)
        row_weight = row_weight * class_weight[y]
    total = row_weight.sum(-1, keepdim=True)
    # A batch whose rows all weigh nothing has no loss rather than an undefined one.
    weight = row_weight / torch.where(total > 0, total, torch.ones_like(total))
    columns, smoothing = form.columns, loss.label_smoothing
    if columns == 1:
        if form.name == "cross_entropy":
            return weight.unsqueeze(-1), weight
        target = y.to(dtype).unsqueeze(-1)
        if smoothing and form.classes == 2:  # noqa: PLR2004
            target = target * (1 - smoothing) + smoothing / 2
        return target, weight
    if loss.targets == "index" and form.name not in _DISTRIBUTION:
        return y.to(dtype).unsqueeze(-1).expand(*y.shape, columns), weight
    target = F.one_hot(y, columns).to(dtype)
    if form.name not in _DISTRIBUTION:
        if smoothing and form.name != "hinge":
            target = target * (1 - smoothing) + smoothing / columns
        return target, weight
    target = target * (weight * (1 - smoothing)).unsqueeze(-1)
    if smoothing:
        # torch spreads the smoothed share with the weight of each class, and divides
        # by the weight of the labels.
        scale = real.to(dtype) / torch.where(total > 0, total, torch.ones_like(total))
        spread = scale.unsqueeze(-1) * (smoothing / columns)
        if class_weight is not None:
            padded = torch.ones(columns, dtype=dtype, device=y.device)
            padded[: len(class_weight)] = class_weight
            spread = spread * padded
        target = target + spread
    return target, weight


def batch_loss(form: Form, raw: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the loss of each batch.

    Args:
        form: of the loss.
        raw: what the network returned, (..., rows, outputs) or (..., rows).
        target: (..., rows, columns), from `targets`.
        weight: (..., rows), from `targets`.

    Returns:
        (...), the mean over the batch's real rows.
    """
    if raw.dim() == weight.dim():
        raw = raw.unsqueeze(-1)
    if form.name in _DISTRIBUTION:
        logs = _log_probabilities(form, raw)
        if form.name == "focal":
            logs = (1 - logs.exp()).square() * logs
        return -(target * logs).sum((-2, -1))
    return (_row_losses(form, raw, target) * weight).sum(-1)


def _log_probabilities(form: Form, raw: Tensor) -> Tensor:
    if form.name == "cross_entropy":
        logs = torch.log_softmax(raw, -1)
        return logs if form.transition_matrix is None else _mistaken(form, logs)
    if form.is_probability:
        if form.outputs == 1:
            raw = torch.cat((1 - raw, raw), -1)
        elif form.name == "nll" and form.probabilities == "plain":
            return raw
        else:
            raw = raw / raw.sum(-1, keepdim=True)
        return raw.clamp(_TINY, 1 - _TINY).log()
    if form.name == "nll":
        return raw
    if form.outputs == 1:
        raw = torch.cat((torch.zeros_like(raw), raw), -1)
    return torch.log_softmax(raw, -1)


def _mistaken(form: Form, logs: Tensor) -> Tensor:
    """Log-probabilities of the labels as they are given, mistakes included.

    Source: forward correction, Patrini et al. 2017, arXiv:1609.03683.
    """
    matrix = logs.new_tensor(form.transition_matrix)
    return (logs.exp() @ matrix).clamp_min(_TINY).log()


def _row_losses(form: Form, raw: Tensor, target: Tensor) -> Tensor:
    """Return (..., rows)."""
    if form.name == "bce":
        # clamp has no gradient outside its limits, as in Keras: a relu or a linear
        # output is legal, and stuck where it leaves [0, 1].
        p = raw.clamp(_TINY, 1 - _TINY)
        each = -(target * p.log() + (1 - target) * (1 - p).log())
    elif form.name == "bce_with_logits":
        each = raw.clamp_min(0) - raw * target + F.softplus(-raw.abs())
    elif form.name == "mse":
        each = (raw - target).square()
    elif form.name == "mae":
        each = (raw - target).abs()
    elif form.outputs == 1:
        each = (1 - (2 * target - 1) * raw).clamp_min(0)
    else:
        right = (raw * target).sum(-1, keepdim=True)
        return ((1 - right + raw).clamp_min(0) * (1 - target)).sum(-1) / form.outputs
    return each.mean(-1)
