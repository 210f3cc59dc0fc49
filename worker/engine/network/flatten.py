"""Take the control flow out of a program, for samples of one shape.

The program is run on two batches of different sizes. What comes out equal in both and
is no tensor becomes a constant; what differs depends on the batch and stays. The result
is a straight list of operations that holds for any number of rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from worker.engine.network.dropouts import Run
from worker.engine.network.kernels import KERNELS
from worker.engine.network.operators import PLAIN, function
from worker.engine.network.program import (
    Body,
    Buffer,
    CannotLift,
    Constant,
    Node,
    Operand,
    Parameter,
    Program,
    Slot,
    without_dead_nodes,
)

Tensors = dict[str, torch.Tensor]
Shape = tuple[int | None, ...]
_SCALARS = (bool, int, float, str, type(None), torch.dtype, torch.layout)
_INTEGERS = {
    "aten::add": "aten::add.int",
    "aten::sub": "aten::sub.int",
    "aten::mul": "aten::mul.int",
    "aten::div": "aten::floordiv.int",
    "aten::floor_divide": "aten::floordiv.int",
    "aten::floordiv": "aten::floordiv.int",
}
_MOST_TURNS = 2_000


@dataclass
class Flat:
    """A straight program.

    Attributes:
        program: without branches and loops.
        shapes: of each tensor slot, None where it varies with the batch.
    """

    program: Program
    shapes: dict[int, Shape]


@dataclass(frozen=True)
class _Known:
    """A value that does not depend on the batch."""

    value: Any


@dataclass(frozen=True, eq=False)
class _Held:
    """A value that a slot, parameter or buffer holds, as seen in both batches."""

    operand: Operand
    seen: tuple[Any, Any]


def flattened(
    program: Program,
    parameters: Tensors,
    buffers: Tensors,
    batches: tuple[torch.Tensor, torch.Tensor],
    *,
    training: bool,
) -> Flat:
    """Flatten a program.

    Args:
        program: what to flatten.
        parameters: by name.
        buffers: by name.
        batches: two batches of samples, of different numbers of rows.
        training: value of the flag under which to look.

    Raises:
        CannotLift: the way through the program depends on the data or the batch.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        return _Flattening(parameters, buffers, batches, training=training).read(
            program
        )


@dataclass
class _Flattening:
    parameters: Tensors
    buffers: Tensors
    batches: tuple[torch.Tensor, torch.Tensor]
    training: bool = field(kw_only=True)

    def __post_init__(self) -> None:
        self.runs = tuple(
            Run(training=self.training, buffers=dict(self.buffers)) for _ in range(2)
        )
        self.values: dict[int, Any] = {0: _Held(Slot(0), self.batches)}
        self.shapes: dict[int, Shape] = {0: _shape(*self.batches)}
        self.out: list[Node] = []
        self.size = 1

    def read(self, program: Program) -> Flat:
        self._body(program.body)
        output = self._operand(self._value(program.output))
        body = without_dead_nodes(Body((0,), tuple(self.out), (output,)))
        return Flat(Program(body, self.size), self.shapes)

    def _body(self, body: Body) -> None:
        for node in body.nodes:
            self._node(node)

    def _value(self, operand: Operand) -> Any:  # noqa: ANN401
        match operand:
            case Slot(number):
                return self.values[number]
            case Parameter(name):
                return _Held(operand, (self.parameters[name],) * 2)
            case Buffer(name):
                return _Held(
                    operand, (self.runs[0].buffers[name], self.runs[1].buffers[name])
                )
            case Constant(value):
                if isinstance(value, list) and not value:
                    return []
                return _Known(value)

    def _node(self, node: Node) -> None:
        if node.kind == "prim::If":
            self._choice(node)
        elif node.kind == "prim::Loop":
            self._loop(node)
        else:
            values = [self._value(operand) for operand in node.inputs]
            results = self._operation(node, values)
            for slot, result in zip(node.outputs, results, strict=True):
                self.values[slot] = result

    def _choice(self, node: Node) -> None:
        chosen = self._agreed(self._value(node.inputs[0]))
        body = node.bodies[0 if chosen else 1]
        self._body(body)
        for slot, operand in zip(node.outputs, body.outputs, strict=True):
            self.values[slot] = self._value(operand)

    def _loop(self, node: Node) -> None:
        trips, going, *carried = (self._value(operand) for operand in node.inputs)
        [body] = node.bodies
        left, goes_on, turn = self._agreed(trips), self._agreed(going), 0
        while turn < left and goes_on:
            if turn >= _MOST_TURNS:
                raise CannotLift("a loop of too many turns")
            entering = [_Known(turn), *carried]
            for slot, value in zip(body.inputs, entering, strict=True):
                self.values[slot] = value
            self._body(body)
            condition, *carried = (self._value(o) for o in body.outputs)
            goes_on = self._agreed(condition)
            turn += 1
        for slot, value in zip(node.outputs, carried, strict=True):
            self.values[slot] = value

    def _agreed(self, value: Any) -> Any:  # noqa: ANN401
        """Return what decides the way, if it is no matter of data or batch."""
        if isinstance(value, _Known):
            return value.value
        raise CannotLift("the way through the network depends on data or batch size")

    def _operation(self, node: Node, values: list[Any]) -> Sequence[Any]:
        listed = self._on_lists(node, values)
        if listed is not None:
            return listed
        if node.kind == "prim::RaiseException":
            raise CannotLift("the model raises an error for this sample")
        if node.kind in {"prim::NumToTensor", "aten::Int"} and not _has_tensor(values):
            return values[:1]
        if node.kind == "aten::size" and len(values) == 1:
            return [self._sizes(values[0])]
        given = [[_seen(value, which) for value in values] for which in range(2)]
        if node.kind in KERNELS:
            kernel = KERNELS[node.kind]
            results = [
                kernel(run, *arguments)
                for run, arguments in zip(self.runs, given, strict=True)
            ]
        else:
            target = function(node.op)
            results = [target(*arguments) for arguments in given]
        return self._kept(node, values, (results[0], results[1]))

    def _on_lists(self, node: Node, values: list[Any]) -> Sequence[Any] | None:  # noqa: PLR0911
        """Work on lists and tuples of values, as Python does."""
        match node.kind:
            case "prim::ListConstruct":
                return [list(values)]
            case "prim::TupleConstruct":
                return [tuple(values)]
            case "prim::ListUnpack" | "prim::TupleUnpack":
                return _parts(values[0])
        if not isinstance(values[0] if values else None, list | tuple):
            return None
        kind = node.kind
        if kind in {"aten::slice", "aten::copy"} or (
            kind in PLAIN and kind not in {"aten::format", "aten::str"}
        ):
            plain = [
                self._agreed(v) if isinstance(v, _Known) else v for v in values[1:]
            ]
            if kind == "aten::append":
                plain = values[1:]
            if kind == "aten::_set_item":
                plain = [plain[0], values[2]]
            if kind == "aten::len":
                return [_Known(len(values[0]))]
            result = function(node.op)(values[0], *plain)
            return [result] if node.outputs else []
        if kind == "aten::add" and isinstance(values[1], list):
            return [values[0] + values[1]]
        return None

    def _sizes(self, value: Any) -> list[Any]:  # noqa: ANN401
        """Sizes of a tensor, those that vary with the batch as slots."""
        seen = [_seen(value, which).shape for which in range(2)]
        sizes: list[Any] = []
        for dim, (one, other) in enumerate(zip(*seen, strict=True)):
            if one == other:
                sizes.append(_Known(one))
            else:
                slot = self._emit("aten::size.int", [value, _Known(dim)])
                sizes.append(_Held(Slot(slot), (one, other)))
        return sizes

    def _emit(self, op: str, values: list[Any]) -> int:
        inputs = tuple(self._operand(value) for value in values)
        slot = self.size
        self.size += 1
        self.out.append(Node(op, inputs, (slot,)))
        return slot

    def _kept(
        self, node: Node, values: list[Any], seen: tuple[Any, Any]
    ) -> Sequence[Any]:
        if len(node.outputs) == 1 and _settled(*seen):
            return [_Known(seen[0])]
        op = node.op
        if isinstance(seen[0], int) and node.kind in _INTEGERS:
            # traced size arithmetic comes as that of tensors
            op, values = _INTEGERS[node.kind], values[:2]
        inputs = tuple(self._operand(value) for value in values)
        slots = tuple(range(self.size, self.size + len(node.outputs)))
        self.size += len(slots)
        self.out.append(Node(op, inputs, slots, scope=node.scope))
        parts = [seen] if len(slots) == 1 else list(zip(*seen, strict=True))
        made: list[Any] = []
        for slot, (one, other) in zip(slots, parts, strict=True):
            if isinstance(one, torch.Tensor):
                self.shapes[slot] = _shape(one, other)
            held: Any = _Held(Slot(slot), (one, other))
            made.append(self._spread(held) if isinstance(one, list | tuple) else held)
        return made

    def _spread(self, held: _Held) -> list[Any]:
        """Name the parts of a list that an operator returned."""
        one, other = held.seen
        if len(one) != len(other):
            raise CannotLift("a list whose length varies with the batch")
        slots = tuple(range(self.size, self.size + len(one)))
        self.size += len(slots)
        self.out.append(Node("prim::ListUnpack", (held.operand,), slots))
        made = []
        for slot, pair in zip(slots, zip(one, other, strict=True), strict=True):
            if isinstance(pair[0], torch.Tensor):
                self.shapes[slot] = _shape(*pair)
            made.append(_Held(Slot(slot), pair))
        return made

    def _operand(self, value: Any) -> Operand:  # noqa: ANN401
        if isinstance(value, _Known):
            return Constant(value.value)
        if isinstance(value, _Held):
            return value.operand
        if isinstance(value, dict):
            raise CannotLift("a dictionary of tensors")
        if all(isinstance(part, _Known) for part in value):
            return Constant(type(value)(part.value for part in value))
        tuples = isinstance(value, tuple)
        op = "prim::TupleConstruct" if tuples else "prim::ListConstruct"
        return Slot(self._emit(op, list(value)))


def _seen(value: Any, which: int) -> Any:  # noqa: ANN401
    if isinstance(value, _Known):
        return value.value
    if isinstance(value, _Held):
        return value.seen[which]
    return type(value)(_seen(part, which) for part in value)


def _parts(value: Any) -> Sequence[Any]:  # noqa: ANN401
    if isinstance(value, _Known):
        return [_Known(part) for part in value.value]
    if isinstance(value, _Held):
        raise CannotLift("a list that is computed as a whole")
    return list(value)


def _has_tensor(values: list[Any]) -> bool:
    return any(isinstance(_seen(value, 0), torch.Tensor) for value in values)


def _settled(one: Any, other: Any) -> bool:  # noqa: ANN401
    if isinstance(one, list | tuple):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(_settled(a, b) for a, b in pairs)
    return isinstance(one, _SCALARS) and bool(one == other)


def _shape(one: torch.Tensor, other: torch.Tensor) -> Shape:
    if one.dim() != other.dim():
        return ()
    return tuple(
        a if a == b else None for a, b in zip(one.shape, other.shape, strict=True)
    )
