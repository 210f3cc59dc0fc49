"""A program while it is written: slots, nodes and what each value stands for."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from worker.engine.network.program import Node, Operand, Slot


class Draft:
    """Collects the nodes of a program, one body inside another.

    Attributes:
        operands: what every value of the graph stands for, by its name there.
        producers: the node that fills a slot.
        depths: how deep inside branches and loops a slot was made.
        size: number of slots.
        depth: of the body that is being written.
        out: nodes of that body.
    """

    def __init__(self) -> None:
        self.operands: dict[str, Operand] = {}
        self.producers: dict[int, Node] = {}
        self.depths: dict[int, int] = {0: 0}
        self.size = 1
        self.depth = 0
        self.out: list[Node] = []

    def operand(self, value: Any) -> Operand:  # noqa: ANN401
        """What a value of the graph stands for."""
        return self.operands[value.debugName()]

    def bind(self, node: Any, results: Iterable[Operand]) -> None:  # noqa: ANN401
        """Say what the outputs of a graph's node stand for."""
        for value, operand in zip(node.outputs(), results, strict=True):
            self.operands[value.debugName()] = operand

    def slot(self) -> int:
        """Make a new slot."""
        number = self.size
        self.size += 1
        self.depths[number] = self.depth
        return number

    def emit(
        self, op: str, inputs: Iterable[Operand], count: int = 1, scope: str = ""
    ) -> tuple[Slot, ...]:
        """Append a node; return its outputs."""
        outputs = tuple(self.slot() for _ in range(count))
        node = Node(op, tuple(inputs), outputs, scope=scope)
        self.out.append(node)
        for number in outputs:
            self.producers[number] = node
        return tuple(Slot(number) for number in outputs)

    @contextmanager
    def inner_body(self) -> Iterator[list[Node]]:
        """Write into a body of its own for a while; yields its nodes."""
        outer, self.out = self.out, []
        self.depth += 1
        yield self.out
        self.out = outer
        self.depth -= 1
