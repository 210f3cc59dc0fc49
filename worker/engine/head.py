"""The head: how what a network returns becomes classes and probabilities."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional as F

from service.contract.errors import Mismatch, UnusableModel
from service.contract.recipe import LossName
from worker.engine.network.network import Network

HeadKind = Literal["logits", "log_probabilities", "probabilities", "scores"]

SMALLEST_PROBABILITY = 1e-12
_SUM_TOLERANCE = 1e-3  # of probabilities that should add up to one
_HALF = 0.5
_SHOWN = 1e4  # beyond this, a raw score says no more


@dataclass(frozen=True)
class Head:
    """How raw outputs are read.

    Attributes:
        kind: `logits` before a softmax or sigmoid; `log_probabilities`;
            `probabilities`, of independent sigmoids too; `scores` that were fitted to
            the labels 0 and 1 themselves (mean squared error, for one).
        outputs: number of outputs; 1 means one output for two classes.
        classes: number of classes.
        threshold: for one output, the value above which it says class 1.
    """

    kind: HeadKind
    outputs: int
    classes: int
    threshold: float = 0.0

    def log_probabilities(self, raw: torch.Tensor) -> torch.Tensor:
        """Turn raw outputs into log-probabilities, never NaN.

        Args:
            raw: float, (rows, outputs), or (rows,) for one output.

        Returns:
            float, (rows, classes), nats, finite: no probability is under 1e-12.
        """
        floor = math.log(SMALLEST_PROBABILITY)
        if self.outputs == 1:
            return self._of_one(_column(raw)).clamp(min=floor, max=0.0)
        values = _finite(raw)
        if self.kind == "logits":
            return F.log_softmax(values, -1).clamp(min=floor)
        if self.kind == "log_probabilities":
            return F.log_softmax(values.clamp(min=floor), -1).clamp(min=floor)
        shares = values.clamp(min=SMALLEST_PROBABILITY)
        return (shares / shares.sum(-1, keepdim=True)).log().clamp(min=floor)

    def _of_one(self, raw: torch.Tensor) -> torch.Tensor:
        values = _finite(raw)
        if self.kind == "log_probabilities":
            values = values.clamp(max=0.0).exp()
        if self.kind == "logits":
            shifted = values - self.threshold
            return torch.stack([F.logsigmoid(-shifted), F.logsigmoid(shifted)], -1)
        share = values.clamp(0.0, 1.0)
        pair = torch.stack([1 - share, share], -1)
        return pair.clamp(min=SMALLEST_PROBABILITY).log()

    def predict(self, raw: torch.Tensor) -> torch.Tensor:
        """Choose a class a row.

        Args:
            raw: float, (rows, outputs), or (rows,) for one output.

        Returns:
            int64, (rows,). A row that is not finite counts as class 0.
        """
        if self.outputs == 1:
            return (_column(raw) > self.threshold).to(torch.int64)
        return torch.nan_to_num(raw, nan=-torch.inf).argmax(-1)


def _column(raw: torch.Tensor) -> torch.Tensor:
    return raw.squeeze(-1) if raw.dim() == 2 else raw  # noqa: PLR2004


def _finite(raw: torch.Tensor) -> torch.Tensor:
    values = raw if raw.dtype == torch.float64 else raw.float()
    return torch.nan_to_num(values, nan=0.0, posinf=_SHOWN, neginf=-_SHOWN).clamp(
        -_SHOWN, _SHOWN
    )


def find_head(
    network: Network, raw: torch.Tensor, *, classes: int, loss: str | None
) -> Head:
    """Find out how a delivered model's outputs are to be read.

    Args:
        network: the delivered one; its last activation is a hint.
        raw: what the model returned for real data, (rows, ...).
        classes: number of classes in the dataset.
        loss: the loss it was trained with, where that is known.

    Raises:
        UnusableModel: the outputs are no floats, or have no class axis.
        Mismatch: the number of outputs does not fit the number of classes.
    """
    outputs = _outputs(raw, classes)
    values = _column(raw) if outputs == 1 else raw
    rows = values.reshape(len(values), -1)
    rows = rows[torch.isfinite(rows).all(-1)].double()
    activation = network.facts.output_activation
    if outputs == 1:
        return _single(_looks_like_probabilities(rows, loss), activation, loss)
    if len(rows) and _sums_to_one(rows):
        return Head("probabilities", outputs, classes)
    if len(rows) and rows.max() <= 0 and _sums_to_one(rows.exp()):
        return Head("log_probabilities", outputs, classes)
    return _several(activation, loss, outputs)


def _outputs(raw: torch.Tensor, classes: int) -> int:
    if not raw.is_floating_point():
        raise UnusableModel(
            f"The model returns {raw.dtype}; floating-point scores, one a class, are "
            "expected. Export the model without its final argmax."
        )
    if raw.dim() not in {1, 2}:
        raise UnusableModel(
            f"The model returns a tensor of shape {tuple(raw.shape)} for "
            f"{len(raw) if raw.dim() else 0} samples, which has no class axis; "
            f"(batch, {classes}) is expected, or (batch,) or (batch, 1) for two."
        )
    outputs = 1 if raw.dim() == 1 else int(raw.shape[1])
    if outputs == 1 and classes == 2:  # noqa: PLR2004
        return 1
    if outputs != classes:
        two = " (or one, for two classes)" if classes == 2 else ""  # noqa: PLR2004
        word = "output" if outputs == 1 else "outputs"
        more = ""
        if outputs > classes:
            more = (
                f" If it has none of the others yet, name all {outputs} in the "
                "dataset's `spec.class_names`."
            )
        raise Mismatch(
            f"The model returns {outputs} {word} a sample; the dataset has {classes} "
            f"classes, so {classes} are expected{two}.{more}"
        )
    return outputs


def _sums_to_one(rows: torch.Tensor) -> bool:
    inside = bool((rows >= -_SUM_TOLERANCE).all())
    return inside and bool(((rows.sum(-1) - 1).abs() <= _SUM_TOLERANCE).all())


def _looks_like_probabilities(rows: torch.Tensor, loss: str | None) -> bool:
    """Judge one output by its values: inside [0, 1], on both sides of a half."""
    if not len(rows) or rows.min() < 0 or rows.max() > 1:
        return False
    if loss in {"bce", "mse", "mae"}:
        return True
    if loss in {"bce_with_logits", "hinge"}:
        return False
    return bool(rows.min() < _HALF) and bool(rows.max() >= _HALF)


def _single(inside: bool, activation: str, loss: str | None) -> Head:  # noqa: FBT001
    if activation in {"sigmoid", "softmax", "hardsigmoid"}:
        return Head("probabilities", 1, 2, _HALF)
    if activation in {"log_sigmoid", "log_softmax"}:
        return Head("log_probabilities", 1, 2, math.log(_HALF))
    if loss in {"mse", "mae", "bce"}:
        return Head("scores", 1, 2, _HALF)
    if inside and activation == "none":
        return Head("probabilities", 1, 2, _HALF)
    return Head("logits", 1, 2, 0.0)


def _several(activation: str, loss: str | None, outputs: int) -> Head:
    if activation in {"sigmoid", "softmax", "hardsigmoid"}:
        return Head("probabilities", outputs, outputs)
    if activation == "log_softmax":
        return Head("log_probabilities", outputs, outputs)
    if loss in {"mse", "mae", "bce"}:
        return Head("scores", outputs, outputs)
    return Head("logits", outputs, outputs)


def head_after(network: Network, loss: str, classes: int) -> Head:
    """Say how a changed network's outputs are read once it is trained with a loss.

    There are no delivered outputs to look at, so its last activation decides.

    Args:
        network: the changed one.
        loss: what it is trained with.
        classes: number of classes.
    """
    activation = network.facts.output_activation
    if network.facts.outputs == 1 and classes == 2:  # noqa: PLR2004
        return _single(False, activation, loss)  # noqa: FBT003
    return _several(activation, loss, classes)


def fitting_loss(subject: Network | Head) -> LossName:
    """Name the loss that fits the outputs."""
    if isinstance(subject, Network):
        outputs = subject.facts.outputs
        classes = 2 if outputs == 1 else outputs
        subject = head_after(subject, "cross_entropy", classes)
    if subject.outputs == 1:
        return "bce_with_logits" if subject.kind == "logits" else "bce"
    return "cross_entropy" if subject.kind in {"logits", "scores"} else "nll"
