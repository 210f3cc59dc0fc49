"""The gradient of every member of a stack, in one call.

Three ways with one meaning. `captured`: forward and backward of all members are traced
once into a flat list of operations, which a step then merely repeats. `direct`:
`torch.func` works it out anew each time; for stacks too short to pay for the capture.
`looped`: member by member, for networks that cannot be stacked, and recurrent ones that
are faster so.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import vmap

from worker.engine.lab.hoisting import Compiled
from worker.engine.lab.losses import Form, batch_loss
from worker.engine.lab.peephole import streamlined
from worker.engine.lab.recording import recorded
from worker.engine.lab.threads import counted
from worker.engine.network.network import Network

Buffers = dict[str, Tensor]
Graphs = dict[tuple[object, ...], Compiled]
_Answer = tuple[Tensor, Tensor, Buffers]
_Ready = tuple[Callable[..., Sequence[Tensor]], Sequence[Tensor]]

# What forward keeps for backward, of all members of a block. Measured on convolutions
# of 28 x 28 pictures (2 MB a member): 4 to 8 at once were fastest.
_CACHE_BYTES = 16 << 20
# Recurrent ones make many small calls, which cost less the more members share them.
_RECURRENT_BYTES = 128 << 20
# Operators of a forward pass. To trace one takes half a millisecond, beyond which the
# first hundred steps do not earn it; and a layer's steps gain less and less by company.
_MOST_TRACED, _MOST_WRITTEN_OUT = 1_500, 5_000
_MANY_STEPS, _MOST_TRACED_FOR_MANY = 200, 3_000


class Batch(NamedTuple):
    """One batch a member.

    Attributes:
        x: (members, rows, *sample shape).
        noise: one a dropout site, (members, *shape of the site).
        target: (members, rows, columns), see `losses.targets`.
        weight: (members, rows).
    """

    x: Tensor
    noise: tuple[Tensor, ...]
    target: Tensor
    weight: Tensor

    def members(self, start: int, stop: int) -> "Batch":
        """Take some of the members."""
        return Batch(
            self.x[start:stop],
            tuple(noise[start:stop] for noise in self.noise),
            self.target[start:stop],
            self.weight[start:stop],
        )


@dataclass(frozen=True)
class Layout:
    """Where each parameter lies in a member's row, whose type holds all of theirs."""

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    sizes: tuple[int, ...]
    dtypes: tuple[torch.dtype, ...]

    @classmethod
    def of(cls, parameters: dict[str, Tensor]) -> "Layout":
        """Lay out parameters in their own order."""
        return cls(
            tuple(parameters),
            tuple(value.shape for value in parameters.values()),
            tuple(value.numel() for value in parameters.values()),
            tuple(value.dtype for value in parameters.values()),
        )

    def row(self, parameters: dict[str, Tensor]) -> Tensor:
        """Flatten: (parameters,)."""
        return torch.cat([parameters[name].detach().reshape(-1) for name in self.names])

    def parameters(self, row: Tensor) -> dict[str, Tensor]:
        """Give the pieces of a row their shapes and, of several types, their own."""
        pieces = torch.split(row, list(self.sizes))
        found = {
            name: piece.view(shape)
            for name, piece, shape in zip(self.names, pieces, self.shapes, strict=True)
        }
        if len(set(self.dtypes)) == 1:
            return found
        return {
            name: found[name].to(dtype)
            for name, dtype in zip(self.names, self.dtypes, strict=True)
        }

    def span(self, name: str) -> slice:
        """Where a parameter lies."""
        at = self.names.index(name)
        start = sum(self.sizes[:at])
        return slice(start, start + self.sizes[at])


@dataclass
class Gradients:
    """Computes gradients of a stack in the chosen way.

    Attributes:
        network: common to the members but for its parameters and buffers.
        form: of the loss.
        layout: of a row.
        capture: trace a step once a shape, instead of working it out every time; given
            up where the network has too many operators for that.
        graphs: what was traced so far; stacks of one network may share it.
        steps: how many will be made.
        trace_seconds: what the last trace took.
        threads: that pay for a step, known after the first one.
    """

    network: Network
    form: Form
    layout: Layout
    capture: bool
    graphs: Graphs = field(default_factory=dict, repr=False)
    steps: int = 0
    trace_seconds: float = 0.0
    threads: int = 1
    _block: int | None = None
    _is_alone: bool = False
    _ready: dict[tuple[int, torch.Size], _Ready] = field(
        default_factory=dict, repr=False
    )

    def __call__(self, rows: Tensor, buffers: Buffers, batch: Batch) -> _Answer:
        """Return gradients, losses and new buffers.

        Args:
            rows: float, (members, parameters).
            buffers: each (members, ...).
            batch: of every member.

        Returns:
            float, (members, parameters); float, (members,); each (members, ...).
        """
        if self._block is None:
            self._prepare(rows, buffers, batch)
        assert self._block is not None
        if self._is_alone:
            return self._looped(rows, buffers, batch)
        if len(rows) <= self._block:
            return self._together(rows, buffers, batch)
        answers = [
            self._together(
                rows[start:stop],
                {name: value[start:stop] for name, value in buffers.items()},
                batch.members(start, stop),
            )
            for start, stop in _blocks(len(rows), self._block)
        ]
        return (
            torch.cat([gradient for gradient, _, _ in answers]),
            torch.cat([loss for _, loss, _ in answers]),
            {name: torch.cat([one[name] for _, _, one in answers]) for name in buffers},
        )

    def _together(self, rows: Tensor, buffers: Buffers, batch: Batch) -> _Answer:
        if not self.capture:
            return self._direct(rows, buffers, batch)
        key = (rows.data_ptr(), batch.x.shape)
        if key not in self._ready:
            graph = self._graph(rows, buffers, batch)
            self._ready[key] = graph.step, graph.views(rows)
        step, views = self._ready[key]
        flat = step(rows, *buffers.values(), *_tensors(batch), *views)
        return flat[0], flat[1], dict(zip(buffers, flat[2:], strict=True))

    def moved(self) -> None:
        """Hear that the weights lie elsewhere from now on."""
        self._ready.clear()

    def _graph(self, rows: Tensor, buffers: Buffers, batch: Batch) -> Compiled:
        key = (
            self.network,
            self.form,
            tuple(batch.x.shape),
            batch.x.dtype,
            rows.dtype,
        )
        if key not in self.graphs:
            self.graphs[key] = self._captured(rows, buffers, batch)
        return self.graphs[key]

    def _prepare(self, rows: Tensor, buffers: Buffers, batch: Batch) -> None:
        """See how many members fit the caches, whether to trace, and threads that pay.

        One member's loss is worked out for that.
        """
        held: dict[int, int] = {}

        def see(tensor: Tensor) -> Tensor:
            held[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
            return tensor

        row = rows[0].detach().requires_grad_()
        with (
            torch.enable_grad(),
            torch.autograd.graph.saved_tensors_hooks(see, lambda tensor: tensor),
            counted() as seen,
        ):
            self._loss(
                row,
                {name: value[0] for name, value in buffers.items()},
                batch.x[0],
                tuple(noise[0] for noise in batch.noise),
                batch.target[0],
                batch.weight[0],
            )
        is_long_run = self.steps >= _MANY_STEPS
        most = _MOST_TRACED_FOR_MANY if is_long_run else _MOST_TRACED
        self.capture &= seen.operators <= most
        is_long = bool(self.network.cells) and seen.operators > _MOST_WRITTEN_OUT
        self._is_alone = is_long or not self.network.stacked
        self._block = len(rows)
        if rows.device.type != "cpu":
            return
        room = _RECURRENT_BYTES if self.network.cells else _CACHE_BYTES
        self._block = max(1, room // max(1, sum(held.values())))
        together = 1 if self._is_alone else min(self._block, len(rows))
        self.threads = seen.work.threads(together)

    def _loss(
        self,
        row: Tensor,
        buffers: Buffers,
        x: Tensor,
        noise: tuple[Tensor, ...],
        target: Tensor,
        weight: Tensor,
    ) -> tuple[Tensor, Buffers]:
        raw, fresh = self.network.forward(
            self.layout.parameters(row), buffers, x, training=True, noise=list(noise)
        )
        return batch_loss(self.form, raw, target, weight), fresh

    def _direct(self, rows: Tensor, buffers: Buffers, batch: Batch) -> _Answer:
        # The sum's gradient holds each member's own: no loss depends on another's row.
        # (`torch.func.grad` would do, too, and imports the compiler for that.)
        with torch.enable_grad():
            held = rows.detach().requires_grad_()
            losses, fresh = vmap(self._loss)(
                held, buffers, batch.x, batch.noise, batch.target, batch.weight
            )
            if losses.requires_grad:
                [gradient] = torch.autograd.grad(losses.sum(), [held])
            else:
                gradient = torch.zeros_like(rows)
        return (
            gradient,
            losses.detach(),
            {name: one.detach() for name, one in fresh.items()},
        )

    def _captured(self, rows: Tensor, buffers: Buffers, batch: Batch) -> Compiled:
        names, sites = list(buffers), len(batch.noise)

        def step(rows: Tensor, *rest: Tensor) -> list[Tensor]:
            held = dict(zip(names, rest[: len(names)], strict=True))
            x, target, weight, *noise = rest[len(names) :]
            again = Batch(x, tuple(noise[:sites]), target, weight)
            gradient, loss, fresh = self._direct(rows, held, again)
            return [gradient, loss, *(fresh[name] for name in names)]

        began = time.perf_counter()
        graph = recorded(step, rows, *buffers.values(), *_tensors(batch))
        compiled = streamlined(graph, rows, len(rows))
        self.trace_seconds = time.perf_counter() - began
        return compiled

    def _looped(self, rows: Tensor, buffers: Buffers, batch: Batch) -> _Answer:
        gradients, losses, fresh = [], [], []
        for k in range(len(rows)):
            row = rows[k].detach().requires_grad_()
            with torch.enable_grad():
                loss, new = self._loss(
                    row,
                    {name: value[k] for name, value in buffers.items()},
                    batch.x[k],
                    tuple(noise[k] for noise in batch.noise),
                    batch.target[k],
                    batch.weight[k],
                )
                if loss.requires_grad:
                    [gradient] = torch.autograd.grad(loss, [row])
                else:
                    gradient = torch.zeros_like(row)
            gradients.append(gradient)
            losses.append(loss.detach())
            fresh.append({name: value.detach() for name, value in new.items()})
        joined = {name: torch.stack([one[name] for one in fresh]) for name in buffers}
        return torch.stack(gradients), torch.stack(losses), joined


def _tensors(batch: Batch) -> tuple[Tensor, ...]:
    return (batch.x, batch.target, batch.weight, *batch.noise)


def _blocks(members: int, most: int) -> list[tuple[int, int]]:
    """Cut members into blocks of nearly equal size, so that few shapes are captured."""
    count = -(-members // most)
    size = -(-members // count)
    return [(start, min(start + size, members)) for start in range(0, members, size)]
