"""The network as a program: a flat list of operations on numbered slots.

A program is what surgery rewrites, what `machine.py` compiles and runs, and what
`scripting.py` prints as TorchScript. Control flow that depends on constants or on the
training flag is gone from it; what depends on the input stays as nodes with bodies.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch


@dataclass(frozen=True)
class Slot:
    """The result of an earlier node; slot 0 is the network's input."""

    number: int


@dataclass(frozen=True)
class Parameter:
    """A trainable tensor, by name."""

    name: str


@dataclass(frozen=True)
class Buffer:
    """A tensor that training keeps but does not optimise, by name."""

    name: str


@dataclass(frozen=True, eq=False)
class Constant:
    """A value known when the program was made."""

    value: Any


class BufferNames(NamedTuple):
    """Buffers of a norm: running mean, running variance, number of batches."""

    mean: str | None
    var: str | None
    counter: str | None


Operand = Slot | Parameter | Buffer | Constant
INPUT = Slot(0)


@dataclass(frozen=True)
class Node:
    """One operation.

    Attributes:
        op: qualified name with overload (`aten::add.Tensor`), or `net::…` for the
            operations that know of training, noise and buffers.
        inputs: operands, in the order of the operator's schema.
        outputs: numbers of the slots it fills.
        bodies: of `prim::If` (then, else) and `prim::Loop` (body).
        scope: path of the module it came from, where known.
    """

    op: str
    inputs: tuple[Operand, ...]
    outputs: tuple[int, ...]
    bodies: tuple["Body", ...] = ()
    scope: str = ""

    @property
    def kind(self) -> str:
        """Name without the overload."""
        return self.op.partition(".")[0]


@dataclass(frozen=True)
class Body:
    """Nodes run in order; `inputs` are slots filled by the caller."""

    inputs: tuple[int, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Operand, ...]


@dataclass(frozen=True)
class Program:
    """A whole network.

    Attributes:
        body: takes slot 0, returns one operand.
        size: number of slots.
    """

    body: Body
    size: int = field(default=0)

    @property
    def output(self) -> Operand:
        """What the program returns."""
        return self.body.outputs[0]

    def producers(self) -> dict[int, Node]:
        """Slot number to the node, at the top level, that fills it."""
        return {slot: node for node in self.body.nodes for slot in node.outputs}

    def readers(self) -> dict[int, list[Node]]:
        """Slot number to the top-level nodes that read it, bodies included."""
        found: dict[int, list[Node]] = {}
        for node in self.body.nodes:
            for slot in set(reads(node)):
                found.setdefault(slot, []).append(node)
        return found


def walk(body: Body) -> Iterator[Node]:
    """Yield all nodes, those of inner bodies after their owner."""
    for node in body.nodes:
        yield node
        for inner in node.bodies:
            yield from walk(inner)


def reads(node: Node) -> Iterator[int]:
    """Yield the slots that a node, or a node in its bodies, reads."""
    for operand in node.inputs:
        if isinstance(operand, Slot):
            yield operand.number
    for body in node.bodies:
        yield from body_reads(body)


def body_reads(body: Body) -> Iterator[int]:
    """Yield the slots read in a body."""
    for inner in body.nodes:
        yield from reads(inner)
    for operand in body.outputs:
        if isinstance(operand, Slot):
            yield operand.number


def names(program: Program, kind: type[Parameter] | type[Buffer]) -> list[str]:
    """List the parameters, or buffers, that a program reads, in order of first use."""
    found: dict[str, None] = {}
    for node in walk(program.body):
        for operand in node.inputs:
            if isinstance(operand, kind):
                found[operand.name] = None
            elif isinstance(operand, Constant) and kind is Buffer:
                held = operand.value if isinstance(operand.value, BufferNames) else ()
                found.update({name: None for name in held if name is not None})
    for operand in program.body.outputs:
        if isinstance(operand, kind):
            found[operand.name] = None
    return list(found)


def map_operands(node: Node, change: Callable[[Operand], Operand]) -> Node:
    """Copy a node with every operand replaced, bodies included."""
    return replace(
        node,
        inputs=tuple(change(operand) for operand in node.inputs),
        bodies=tuple(map_body(body, change) for body in node.bodies),
    )


def map_body(body: Body, change: Callable[[Operand], Operand]) -> Body:
    """Copy a body with every operand replaced."""
    return Body(
        body.inputs,
        tuple(map_operands(node, change) for node in body.nodes),
        tuple(change(operand) for operand in body.outputs),
    )


def rename(body: Body, renamed: Mapping[int, Operand]) -> Body:
    """Copy a body with slots replaced by other operands, followed to the end."""

    def change(operand: Operand) -> Operand:
        while isinstance(operand, Slot) and operand.number in renamed:
            operand = renamed[operand.number]
        return operand

    return map_body(body, change)


# Nodes that change the list they are given.
LIST_MUTATORS = frozenset(
    {
        "aten::append",
        "aten::insert",
        "aten::extend",
        "aten::pop",
        "aten::clear",
        "aten::reverse",
        "aten::sort",
        "aten::_set_item",
        "aten::Delete",
    }
)
# Nodes that act on something else than their outputs.
_EFFECTS = LIST_MUTATORS | {"net::batch_norm", "net::instance_norm"}


def _has_effect(node: Node) -> bool:
    return node.kind in _EFFECTS or any(
        _has_effect(inner) for body in node.bodies for inner in body.nodes
    )


def without_dead_nodes(body: Body) -> Body:
    """Drop nodes whose results nobody reads.

    Checks that only raise (a batch too small for batch norm, say) go with them.
    """
    needed = {o.number for o in body.outputs if isinstance(o, Slot)}
    kept: list[Node] = []
    for node in reversed(body.nodes):
        if _has_effect(node) or any(slot in needed for slot in node.outputs):
            slim = replace(
                node, bodies=tuple(without_dead_nodes(inner) for inner in node.bodies)
            )
            kept.append(slim)
            needed.update(reads(slim))
    return Body(body.inputs, tuple(reversed(kept)), body.outputs)


def text(program: Program, *, drop: frozenset[str] = frozenset()) -> str:  # noqa: C901
    """Print a program with slots renumbered, so that equal programs print equal.

    Args:
        program: what to print.
        drop: kinds of dropout to leave out; their output stands for their first input.
    """
    numbers: dict[int, str] = {0: "%0"}
    lines: list[str] = []

    def show(operand: Operand) -> str:
        match operand:
            case Slot(number):
                return numbers.setdefault(number, f"%{len(numbers)}")
            case Parameter(name):
                return f"parameter {name}"
            case Buffer(name):
                return f"buffer {name}"
            case Constant(value):
                return show_value(value)

    def block(body: Body, indent: str) -> None:
        for slot in body.inputs:
            show(Slot(slot))
        for node in body.nodes:
            if node.kind in drop:
                numbers[node.outputs[0]] = show(node.inputs[0])
                continue
            shown = [show(operand) for operand in node.inputs]
            if drop and node.kind == "net::attention":
                shown[4] = "p"  # its dropout, which scripts switch off at inference
            given = ", ".join(shown)
            made = ", ".join(show(Slot(slot)) for slot in node.outputs)
            lines.append(f"{indent}{made} = {node.op}({given})")
            for inner in node.bodies:
                block(inner, indent + "  ")
        lines.append(f"{indent}-> {', '.join(show(o) for o in body.outputs)}")

    block(program.body, "")
    return "\n".join(lines)


def show_value(value: object) -> str:
    """Print a constant so that equal ones print equal."""
    if isinstance(value, torch.Tensor):
        raw = value.detach().cpu().contiguous().reshape(-1)
        data = raw.view(torch.uint8).numpy().tobytes() if raw.numel() else b""
        digest = hashlib.sha256(data).hexdigest()[:16]
        return f"tensor {value.dtype} {tuple(value.shape)} {digest}"
    return repr(value)


class CannotLift(Exception):  # noqa: N818
    """The graph holds something that no pure function can stand for."""


class StateKept(Exception):  # noqa: N818
    """The graph writes to the module itself."""
