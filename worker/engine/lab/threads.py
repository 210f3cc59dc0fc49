"""How many threads the operators of a network use.

Several threads share one operator's work and wait for each other after it. Where that
work is small they mostly wait: a step of 48 small dense networks takes twice as long
with two threads as with one, one of a wide network half as long. So a network gets all
threads only where its operators have enough to do; what is small is best shared out
among several workers.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from worker.engine.lab.passing import Passing

MOST = int(os.environ.get("MODEL_AUDIT_THREADS") or torch.get_num_threads())
A_FEW_ROWS = 2  # batch statistics of one do not exist
ENOUGH = 30e6  # multiplications and additions of an operator, about half a millisecond


@dataclass(frozen=True)
class Work:
    """What a computation asks of the processor.

    Attributes:
        operations: multiplications and additions of products and convolutions.
        calls: how many of these there are.
    """

    operations: float
    calls: int

    def threads(self, times: float = 1.0) -> int:
        """Return how many threads pay for `times` as much in as many calls."""
        return MOST if self.operations * times >= ENOUGH * max(1, self.calls) else 1


class _Counter(Passing):
    """Counts what passes."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0.0
        self.calls = 0
        self.operators = 0  # of any kind, however little they do

    def passes(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        """Run an operator and count its work."""
        result = super().passes(func, args, kwargs)
        self.operators += 1
        count = flop_registry.get(getattr(func, "overloadpacket", func))
        if count is not None:
            self.operations += count(*args, **kwargs, out_val=result)
            self.calls += 1
        return result

    @property
    def work(self) -> Work:
        """What has passed so far."""
        return Work(self.operations, self.calls)


@contextmanager
def counted() -> Iterator[_Counter]:
    """Count what is done within; its `work` tells afterwards."""
    with _Counter() as counter:
        yield counter


class Runs(Protocol):
    """The part of a network that is asked here."""

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """Delivered parameters."""
        ...

    @property
    def buffers(self) -> Mapping[str, Tensor]:
        """Delivered buffers."""
        ...

    def forward(
        self,
        parameters: dict[str, Tensor],
        buffers: dict[str, Tensor],
        x: Tensor,
        *,
        training: bool,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Run it without changing it."""
        ...


_known: "WeakKeyDictionary[Runs, Work]" = WeakKeyDictionary()


def work_a_row(network: Runs, x: Tensor) -> Work:
    """Return what a network's pass in evaluation mode does with one of these rows.

    Where nothing could be counted, as in fused recurrent layers, each weight is used
    once in as many calls as there are layers.
    """
    if network not in _known:
        held = [one.to(x.device) for one in network.parameters.values()]
        parameters = dict(zip(network.parameters, held, strict=True))
        buffers = {name: one.to(x.device) for name, one in network.buffers.items()}
        with torch.no_grad(), counted() as seen:
            network.forward(parameters, buffers, x[:A_FEW_ROWS], training=False)
        rows = min(A_FEW_ROWS, len(x))
        work = replace(seen.work, operations=seen.operations / rows)
        if not work.calls:
            work = Work(2.0 * sum(one.numel() for one in held), len(held) // 2)
        _known[network] = work
    return _known[network]


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Use so many threads within."""
    before = torch.get_num_threads()
    if count != before:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count != before:
            torch.set_num_threads(before)
