"""What is known of a program's axes of channels while they are followed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from worker.engine.network.editing import Edited, Shape
from worker.engine.network.program import Constant, Node, Operand, Parameter, Slot
from worker.engine.network.widths import Part, Parts, Widths


@dataclass(frozen=True)
class Axis:
    """The axis of a tensor on which the variables lie."""

    place: int
    parts: Parts


@dataclass
class Claim:
    """An axis of a parameter or buffer whose size follows variables."""

    name: str
    place: int
    parts: Parts
    times: int = 1  # gates of a recurrent layer


class Axes:
    """Where the channels of each result lie, and whose sizes follow them.

    Attributes:
        widths: the variables.
        known: axis of channels, by slot; None where there is none.
        claims: axes of parameters and buffers that follow variables.
    """

    def __init__(self, edited: Edited, factor: float, least: int = 1) -> None:
        self.edited = edited
        self.widths = Widths(factor, least)
        self.producers = edited.program.producers()
        self.last = edited.last_weighted()
        self.known: dict[int, Axis | None] = {0: None}
        self.claims: list[Claim] = []
        self._rewrites: dict[int, list[Callable[[Node], Node]]] = {}

    def axis(self, operand: Operand) -> Axis | None:
        """The axis of channels of an operand."""
        return self.known.get(operand.number) if isinstance(operand, Slot) else None

    def shape(self, operand: Operand) -> Shape:
        """Shape of a result, None where it varies; empty for what is no tensor."""
        number = operand.number if isinstance(operand, Slot) else None
        return () if number is None else self.edited.shapes.get(number, ())

    def rank(self, operand: Operand) -> int:
        """Number of dimensions of a result."""
        return len(self.shape(operand))

    def put(self, node: Node, axis: Axis | None) -> bool:
        """Say where the channels of a node's result lie; it is understood."""
        self.known[node.outputs[0]] = axis
        return True

    def pin(self, axis: Axis | None) -> None:
        """Keep an axis at the size it has."""
        if axis is not None:
            self.widths.pin(axis.parts)

    def pin_operand(self, operand: Operand) -> None:
        """Keep the channels of an operand, or of a list's parts, as they are."""
        if not isinstance(operand, Slot):
            return
        self.pin(self.known.get(operand.number))
        listed = self.maker(operand)
        if listed is not None and listed.kind == "prim::ListConstruct":
            for part in listed.inputs:
                self.pin_operand(part)

    def maker(self, operand: Operand) -> Node | None:
        """The node that made an operand; None where none did."""
        return self.producers.get(operand.number) if isinstance(operand, Slot) else None

    def outputs(self, node: Node, size: int) -> Parts:
        """Make a variable for what a layer puts out; the last layer keeps its size."""
        parts = (Part(self.widths.variable(size)),)
        if node is self.last:
            self.widths.pin(parts)
        return parts

    def claim(self, name: str, place: int, parts: Parts, times: int = 1) -> None:
        """Have an axis of a parameter or buffer follow variables."""
        self.claims.append(Claim(name, place, parts, times))

    def claim_vector(self, operand: Operand, parts: Parts) -> bool:
        """Claim a bias or scale, which may be absent; False where it is computed."""
        if not isinstance(operand, Parameter):
            return not (isinstance(operand, Constant) and operand.value is not None)
        self.claim(operand.name, 0, parts)
        return True

    def rewrite(self, node: Node, change: Callable[[Node], Node]) -> None:
        """Change a node once all sizes are known."""
        self._rewrites.setdefault(id(node), []).append(change)

    def rewritten(self, node: Node) -> Node:
        """The node after its changes."""
        for change in self._rewrites.get(id(node), []):
            node = change(node)
        return node


def constant(node: Node, place: int) -> Any:  # noqa: ANN401
    """Value of an input; None where it is computed or missing."""
    operand = node.inputs[place] if place < len(node.inputs) else None
    return operand.value if isinstance(operand, Constant) else None


def with_constant(node: Node, place: int, value: object) -> Node:
    """Copy a node with another value for one input."""
    inputs = list(node.inputs)
    inputs[place] = Constant(value)
    return replace(node, inputs=tuple(inputs))
