"""Optimisers for a whole stack: a few in-place operations on flat rows.

Every member is one row of `[members, parameters]`, so an update costs the same handful
of operations whatever the number of layers. Settings are a number where the members
agree and a column `[members, 1]` where they do not. The formulas are those of
`torch.optim`, to which the tests compare them member by member.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from worker.engine.recipe import CompleteOptimizer

Setting = float | Tensor
_Piece = tuple[slice, CompleteOptimizer, Tensor, Tensor, Tensor]

_BETA2 = 0.999  # adam family; torch's default
_RMSPROP_ALPHA = 0.99  # torch's default; Keras has .9
_ADADELTA_RHO = 0.9
_NADAM_DECAY = 4e-3
# Values of members that agree from which one pass over all, with a call of its own,
# is quicker than six passes of everybody together.
_FUSED_VALUES = 8_000
_SLOTS: dict[str, tuple[str, ...]] = {
    "sgd": ("buffer",),
    "adam": ("mean", "square"),
    "adamw": ("mean", "square"),
    "nadam": ("mean", "square"),
    "rmsprop": ("square", "buffer"),
    "adagrad": ("square",),
    "adadelta": ("square", "delta"),
}


def column(values: Sequence[float], like: Tensor) -> Setting:
    """Return one number where all agree, else a column of them."""
    if len(set(values)) == 1:
        return values[0]
    return torch.tensor(values, dtype=like.dtype, device=like.device).unsqueeze(1)


def _multiplied(target: Tensor, source: Tensor, by: Setting) -> None:
    """Add `source * by` to `target` in place."""
    if isinstance(by, Tensor):
        target.addcmul_(source, by)
    else:
        target.add_(source, alpha=by)


def _divided(target: Tensor, above: Tensor, below: Tensor, by: Setting) -> None:
    """Add `above / below * by` to `target` in place; `below` is spent."""
    if isinstance(by, Tensor):
        target.addcmul_(torch.div(above, below, out=below), by)
    else:
        target.addcdiv_(above, below, value=by)


@dataclass
class StackedOptimizer:
    """State and settings of one kind of optimiser for all members of a stack.

    Attributes:
        name: the kind.
        settings: of every member, in the order of the rows.
        state: float, each (members, parameters).
        steps: updates made so far.
    """

    name: str
    settings: list[CompleteOptimizer]
    state: dict[str, Tensor]
    steps: int = 0
    nadam_product: Setting = 1.0
    lr: Setting = field(init=False)
    momentum: Setting = field(init=False)
    weight_decay: Setting = field(init=False)
    eps: Setting = field(init=False)
    _agreeing: list[tuple[int, int]] = field(init=False)
    _scratch: Tensor | None = field(default=None, repr=False)
    _pieces: list[_Piece] | None = field(default=None, repr=False)
    _count: Tensor = field(default_factory=lambda: torch.zeros(()), repr=False)

    @classmethod
    def fresh(
        cls, settings: Sequence[CompleteOptimizer], rows: Tensor
    ) -> "StackedOptimizer":
        """Start from zero state, one setting a row of `rows`.

        Args:
            settings: one a member, all of one name.
            rows: float, (members, parameters).
        """
        name = settings[0].name
        slots = list(_SLOTS[name])
        if name in {"sgd", "rmsprop"} and not any(one.momentum for one in settings):
            slots.remove("buffer")
        state = {slot: torch.zeros_like(rows) for slot in slots}
        made = cls(name, list(settings), state)
        made._arrange(rows)
        return made

    def _arrange(self, like: Tensor) -> None:
        """Lay the settings out as numbers or columns, and find who agrees."""
        self.lr = column([one.lr for one in self.settings], like)
        self.momentum = column([one.momentum for one in self.settings], like)
        self.weight_decay = column([one.weight_decay for one in self.settings], like)
        self.eps = column([one.eps for one in self.settings], like)
        self._scratch = self._pieces = None
        places = range(1, len(self.settings))
        bounds = [k for k in places if self.settings[k] != self.settings[k - 1]]
        self._agreeing = list(pairwise([0, *bounds, len(self.settings)]))

    def keep(self, members: Tensor, rows: Tensor) -> None:
        """Drop the members that are not listed.

        Args:
            members: int64, (kept,).
            rows: float, (kept, parameters).
        """
        self.settings = [self.settings[k] for k in members.tolist()]
        if isinstance(self.nadam_product, Tensor):
            self.nadam_product = self.nadam_product[members]
        self.state = {slot: value[members] for slot, value in self.state.items()}
        self._arrange(rows)

    def step(self, rows: Tensor, gradient: Tensor, factor: Setting = 1.0) -> None:
        """Update `rows` in place; `gradient` is spent.

        Args:
            rows: float, (members, parameters); the same tensor until `keep`.
            gradient: float, (members, parameters).
            factor: of the schedule, on the learning rate.
        """
        self.steps += 1
        if self._is_fused(rows, factor):
            self._fused(rows, gradient, float(factor))
            return
        lr = self.lr * factor
        if self._scratch is None:
            self._scratch = torch.empty_like(rows)
        if self.name == "adamw":
            if not _is_zero(self.weight_decay):
                rows.mul_(1 - lr * self.weight_decay)
        elif not _is_zero(self.weight_decay):
            _multiplied(gradient, rows, self.weight_decay)
        _UPDATES[self.name](self, rows, gradient, lr, self._scratch)

    def _is_fused(self, rows: Tensor, factor: Setting) -> bool:
        """Whether torch's single pass, once for all who agree, is the quicker way."""
        return (
            self.name in _FUSED
            and rows.device.type == "cpu"
            and not isinstance(factor, Tensor)
            and rows.numel() >= _FUSED_VALUES * len(self._agreeing)
        )

    def _fused(self, rows: Tensor, gradient: Tensor, factor: float) -> None:
        self._count.fill_(self.steps)
        if self._pieces is None:  # state and weights stay where they are
            self._pieces = [
                (
                    slice(start, stop),
                    self.settings[start],
                    rows[start:stop],
                    self.state["mean"][start:stop],
                    self.state["square"][start:stop],
                )
                for start, stop in self._agreeing
            ]
        for where, own, weights, mean, square in self._pieces:
            _FUSED[self.name](
                [weights],
                [gradient if len(self._pieces) == 1 else gradient[where]],
                [mean],
                [square],
                [],
                [self._count],
                lr=own.lr * factor,
                beta1=own.momentum,
                beta2=_BETA2,
                weight_decay=own.weight_decay,
                eps=own.eps,
                amsgrad=False,
                maximize=False,
            )


_FUSED: dict[str, Callable[..., None]] = {
    "adam": torch._fused_adam_,  # what torch.optim calls, too
    "adamw": torch._fused_adamw_,
}


def _is_zero(value: Setting) -> bool:
    return not isinstance(value, Tensor) and value == 0.0


def _sgd(
    self: StackedOptimizer, rows: Tensor, gradient: Tensor, lr: Setting, _: Tensor
) -> None:
    buffer = self.state.get("buffer")
    if buffer is not None:
        gradient = buffer.mul_(self.momentum).add_(gradient)
    _multiplied(rows, gradient, -lr)


def _moments(self: StackedOptimizer, gradient: Tensor) -> tuple[Tensor, Tensor]:
    mean, square = self.state["mean"], self.state["square"]
    mean.lerp_(gradient, 1 - self.momentum)
    square.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
    return mean, square


def _adam(
    self: StackedOptimizer,
    rows: Tensor,
    gradient: Tensor,
    lr: Setting,
    scratch: Tensor,
) -> None:
    mean, square = _moments(self, gradient)
    below = torch.sqrt(square, out=scratch)
    below.div_((1 - _BETA2**self.steps) ** 0.5).add_(self.eps)
    _divided(rows, mean, below, -lr / (1 - self.momentum**self.steps))


def _nadam(
    self: StackedOptimizer,
    rows: Tensor,
    gradient: Tensor,
    lr: Setting,
    scratch: Tensor,
) -> None:
    now = self.momentum * (1 - 0.5 * 0.96 ** (self.steps * _NADAM_DECAY))
    then = self.momentum * (1 - 0.5 * 0.96 ** ((self.steps + 1) * _NADAM_DECAY))
    self.nadam_product = product = self.nadam_product * now
    mean, square = _moments(self, gradient)
    below = torch.sqrt(square, out=scratch)
    below.div_((1 - _BETA2**self.steps) ** 0.5).add_(self.eps)
    # One division serves both terms of the update.
    ahead = gradient.mul_((1 - now) / (1 - product))
    _multiplied(ahead, mean, then / (1 - product * then))
    _divided(rows, ahead, below, -lr)


def _rmsprop(
    self: StackedOptimizer,
    rows: Tensor,
    gradient: Tensor,
    lr: Setting,
    scratch: Tensor,
) -> None:
    square = self.state["square"]
    square.mul_(_RMSPROP_ALPHA)
    square.addcmul_(gradient, gradient, value=1 - _RMSPROP_ALPHA)
    below = torch.sqrt(square, out=scratch).add_(self.eps)
    buffer = self.state.get("buffer")
    if buffer is None:
        _divided(rows, gradient, below, -lr)
        return
    buffer.mul_(self.momentum).addcdiv_(gradient, below)
    _multiplied(rows, buffer, -lr)


def _adagrad(
    self: StackedOptimizer,
    rows: Tensor,
    gradient: Tensor,
    lr: Setting,
    scratch: Tensor,
) -> None:
    square = self.state["square"]
    square.addcmul_(gradient, gradient)
    _divided(rows, gradient, torch.sqrt(square, out=scratch).add_(self.eps), -lr)


def _adadelta(
    self: StackedOptimizer,
    rows: Tensor,
    gradient: Tensor,
    lr: Setting,
    scratch: Tensor,
) -> None:
    square, delta = self.state["square"], self.state["delta"]
    square.mul_(_ADADELTA_RHO)
    square.addcmul_(gradient, gradient, value=1 - _ADADELTA_RHO)
    below = torch.add(square, self.eps, out=scratch).sqrt_()
    change = gradient.mul_((delta + self.eps).sqrt_()).div_(below)
    delta.mul_(_ADADELTA_RHO).addcmul_(change, change, value=1 - _ADADELTA_RHO)
    _multiplied(rows, change, -lr)


_UPDATES: dict[
    str, Callable[[StackedOptimizer, Tensor, Tensor, Setting, Tensor], None]
] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adam,
    "nadam": _nadam,
    "rmsprop": _rmsprop,
    "adagrad": _adagrad,
    "adadelta": _adadelta,
}
