"""One reading of a TorchScript graph: control flow, constants and attributes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from worker.engine.network.draft import Draft
from worker.engine.network.layer_operators import LayerOperators
from worker.engine.network.operators import FOLDABLE, function
from worker.engine.network.program import (
    INPUT,
    Body,
    CannotLift,
    Constant,
    Node,
    Operand,
    Parameter,
    Program,
    Slot,
    StateKept,
    without_dead_nodes,
)
from worker.engine.network.tensor_names import canonical_names
from worker.engine.network.torch_nodes import (
    is_mutated,
    is_true,
    qualified_name,
    scope_of,
)
from worker.engine.network.writes import Writes, writes

_SAME = frozenset(
    {
        "prim::unchecked_cast",
        "prim::unchecked_unwrap_optional",
        "aten::_unwrap_optional",
        "prim::data",
    }
)
_TRUE = frozenset(
    {"prim::requires_grad", "aten::is_grad_enabled", "aten::is_scripting"}
)
_IGNORED = frozenset({"prim::Print", "aten::warn", "prim::profile"})
_UNROLL_LIMIT = 256
_WHOLE_NUMBERS = frozenset({0, 1, 2, 3, 4, 11})  # torch's numbers of such types


@dataclass(frozen=True)
class _Module:
    path: str

    def of(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name


class Reading:
    """One reading of a graph under one value of the training flag.

    Everything that depends on constants is worked out on the way.
    """

    def __init__(
        self,
        module: torch.jit.ScriptModule,
        *,
        training: bool,
        traced: bool,
        momenta: dict[str, float | None] | None = None,
    ) -> None:
        self.module = module
        self.training = training
        self.draft = Draft()
        self.layers = LayerOperators(
            module, self.draft, training=training, traced=traced, momenta=momenta
        )
        self.writes = Writes(self.draft, self.layers)
        self.names = canonical_names(module)
        self.device: Operand = Constant(None)

    def read(self) -> Program:
        """Write the program down.

        Raises:
            CannotLift: no pure function can stand for it.
            StateKept: it writes to itself.
        """
        graph = self.module.inlined_graph
        first, *given = graph.inputs()
        self.draft.operands[first.debugName()] = Constant(_Module(""))
        if len(given) != 1:
            raise CannotLift(f"forward takes {len(given)} inputs")
        self.draft.operands[given[0].debugName()] = INPUT
        [self.device] = self.draft.emit("prim::device", (INPUT,))
        self._nodes(graph.nodes())
        outputs = tuple(self.draft.operand(value) for value in graph.outputs())
        self.writes.read(outputs)
        body = without_dead_nodes(Body((0,), tuple(self.draft.out), outputs))
        return Program(body, self.draft.size)

    def _nodes(self, nodes: Iterable[Any]) -> None:
        for node in nodes:
            self._node(node)

    def _node(self, node: Any) -> None:  # noqa: ANN401, C901
        kind = node.kind()
        if kind == "prim::Constant":
            self._constant(node)
        elif kind == "prim::GetAttr":
            owner = self.draft.operand(next(iter(node.inputs())))
            self.draft.bind(node, [self._attribute(owner, node.s("name"))])
        elif kind == "prim::SetAttr":
            self._set_attribute(node)
        elif kind == "prim::If":
            self._choice(node)
        elif kind == "prim::Loop":
            self._loop(node)
        elif kind in _SAME:
            self.draft.bind(node, [self.draft.operand(next(iter(node.inputs())))])
        elif kind in _TRUE:
            self.draft.bind(node, [Constant(value=True)])
        elif kind == "prim::Uninitialized":
            self.draft.bind(node, [Constant(None)])
        elif kind in _IGNORED:
            self.draft.bind(node, [Constant(None) for _ in node.outputs()])
        elif kind in {"prim::CallMethod", "prim::CallFunction", "prim::fork"}:
            raise CannotLift(f"it calls what cannot be read ({kind})")
        else:
            self._operation(node)

    def _constant(self, node: Any) -> None:  # noqa: ANN401
        output = node.output()
        try:
            is_function = output.type().kind() == "FunctionType"
            value = None if is_function else output.toIValue()
        except UnicodeDecodeError as error:
            raise CannotLift("it holds a text that is no UTF-8") from error
        if (
            isinstance(value, torch.Tensor)
            and value.dim() == 0
            and value.dtype == torch.int64
        ):
            value = int(value)  # traced size arithmetic
        # Tracing bakes the device in; what runs elsewhere has to follow its input.
        baked = isinstance(value, torch.device)
        self.draft.bind(node, [self.device if baked else Constant(value)])

    def _attribute(self, owner: Operand, name: str) -> Operand:
        if not isinstance(owner, Constant):
            raise CannotLift(f"attribute `{name}` of a computed value")
        if not isinstance(owner.value, _Module):
            return Constant(getattr(owner.value, name))
        path = owner.value.of(name)
        if path in self.names:
            return self.names[path]
        if name == "training":
            return Constant(self.training)
        value: Any = self.module
        for part in path.split("."):
            value = getattr(value, part)
        if isinstance(value, torch.nn.Module):
            return Constant(_Module(path))
        if isinstance(value, torch.Tensor):
            return Constant(value.detach().clone())
        return Constant(value)

    def _set_attribute(self, node: Any) -> None:  # noqa: ANN401
        owner = self.draft.operand(next(iter(node.inputs())))
        if isinstance(owner, Constant) and isinstance(owner.value, _Module):
            raise StateKept(f"it writes to its attribute `{node.s('name')}`")
        # An object made in the call, such as a context that gradients are left out of.
        raise CannotLift(f"it writes to the attribute `{node.s('name')}` of an object")

    def _choice(self, node: Any) -> None:  # noqa: ANN401
        condition = self.draft.operand(next(iter(node.inputs())))
        blocks = list(node.blocks())
        if isinstance(condition, Constant):
            block = blocks[0 if condition.value else 1]
            self._nodes(block.nodes())
            self.draft.bind(node, map(self.draft.operand, block.outputs()))
            return
        bodies = tuple(self._body(block, []) for block in blocks)
        self._branch(node, (condition,), bodies)

    def _body(self, block: Any, entering: list[int]) -> Body:  # noqa: ANN401
        with self.draft.inner_body() as nodes:
            self._nodes(block.nodes())
            outputs = tuple(self.draft.operand(value) for value in block.outputs())
            self.writes.read(outputs)
        return Body(tuple(entering), tuple(nodes), outputs)

    def _branch(
        self,
        node: Any,  # noqa: ANN401
        inputs: tuple[Operand, ...],
        bodies: tuple[Body, ...],
    ) -> None:
        """Keep a branch or loop that depends on the input."""
        self.writes.read(inputs)
        outputs = tuple(self.draft.slot() for _ in node.outputs())
        found = [Slot(number) for number in outputs]
        for body in bodies:
            # A loop begins with what was carried in, and goes on with what it returned.
            skipped = len(body.outputs) - len(outputs)
            for number, operand in zip(outputs, body.outputs[skipped:], strict=True):
                self.writes.follow("prim::TupleUnpack", [operand], [Slot(number)])
            for number, operand in zip(body.inputs[1:], inputs[2:], strict=False):
                self.writes.follow("prim::TupleUnpack", [operand], [Slot(number)])
        self.draft.out.append(Node(node.kind(), inputs, outputs, bodies))
        is_choice = node.kind() == "prim::If"
        self.draft.bind(node, _same_either_way(found, bodies) if is_choice else found)

    def _loop(self, node: Any) -> None:  # noqa: ANN401
        draft = self.draft
        trips, going, *carried = (draft.operand(value) for value in node.inputs())
        [block] = node.blocks()
        counter, *entering = block.inputs()
        returned_going, *returned = block.outputs()
        if (
            isinstance(trips, Constant)
            and trips.value <= _UNROLL_LIMIT
            and isinstance(going, Constant)
            and going.value
            and draft.operands.get(returned_going.debugName(), going) is not None
            and is_true(returned_going, draft.operands)
        ):
            for turn in range(trips.value):
                draft.operands[counter.debugName()] = Constant(turn)
                for value, operand in zip(entering, carried, strict=True):
                    draft.operands[value.debugName()] = operand
                self._nodes(block.nodes())
                carried = [draft.operand(value) for value in returned]
            draft.bind(node, carried)
            return
        slots = []
        draft.depth += 1
        for value in (counter, *entering):
            slots.append(draft.slot())
            draft.operands[value.debugName()] = Slot(slots[-1])
        draft.depth -= 1
        body = self._body(block, slots)
        self._branch(node, (trips, going, *carried), (body,))

    def _operation(self, node: Any) -> None:  # noqa: ANN401
        op = qualified_name(node)
        kind = op.partition(".")[0]
        inputs = [self.draft.operand(value) for value in node.inputs()]
        self.writes.read(inputs)
        if kind.endswith("_") and not kind.endswith("__") and kind != "aten::_":
            self.writes.replace(node, op, inputs)
            return
        if writes(op):
            raise CannotLift(f"{op} writes to what it is given")
        if self._is_of_whole_numbers(op, inputs):
            self.draft.bind(node, [Constant(value=False)])
            return
        count = len(list(node.outputs()))
        if self._unpacked(node, kind, inputs) or self._folded(node, op, inputs):
            return
        results = self.layers.emit(op, inputs, count, scope_of(node))
        self.draft.bind(node, results)
        self.writes.follow(op, inputs, results)

    def _unpacked(self, node: Any, kind: str, inputs: list[Operand]) -> bool:  # noqa: ANN401
        """See through tuples whose parts are known."""
        if kind not in {"prim::TupleUnpack", "prim::TupleIndex"}:
            return False
        parts: tuple[Operand, ...]
        match inputs[0]:
            case Constant(value):
                parts = tuple(Constant(part) for part in value)
            case Slot(number) if number in self.draft.producers and (
                self.draft.producers[number].kind == "prim::TupleConstruct"
            ):
                parts = self.draft.producers[number].inputs
            case _:
                return False
        if kind == "prim::TupleUnpack":
            self.draft.bind(node, parts)
        elif isinstance(inputs[1], Constant):
            self.draft.bind(node, [parts[inputs[1].value]])
        else:
            return False
        return True

    def _is_of_whole_numbers(self, op: str, inputs: list[Operand]) -> bool:
        """Whether it asks if a parameter holds whole numbers, which none does."""
        match inputs:
            case [Slot(number), Constant(value)] if (
                op.startswith("aten::eq")
                and value in _WHOLE_NUMBERS
                and number in self.draft.producers
            ):
                node = self.draft.producers[number]
                return node.kind == "prim::dtype" and isinstance(
                    node.inputs[0], Parameter
                )
        return False

    def _folded(self, node: Any, op: str, inputs: list[Operand]) -> bool:  # noqa: ANN401
        """Work out what depends on constants alone."""
        if op.partition(".")[0] not in FOLDABLE or is_mutated(node):
            return False
        values = []
        for operand in inputs:
            if not isinstance(operand, Constant):
                return False
            if isinstance(operand.value, torch.Tensor | _Module):
                return False
            values.append(operand.value)
        try:
            result = function(op)(*values)
        except Exception:  # noqa: BLE001 - whatever it raises it would raise then
            return False  # of a branch for what is never given; it fails if it is taken
        count = len(list(node.outputs()))
        results = result if count > 1 else [result]
        self.draft.bind(node, [Constant(one) for one in results])
        return True


def _same_either_way(found: list[Slot], bodies: Sequence[Body]) -> list[Operand]:
    """Put constants and parameters in the place of what each branch returns as such."""
    known: list[Operand] = []
    ends = zip(*(body.outputs for body in bodies), strict=True)
    for slot, returned in zip(found, ends, strict=True):
        first = returned[0]
        fixed = isinstance(first, Parameter) or (
            isinstance(first, Constant) and first.value is None
        )
        same = fixed and all(other == first for other in returned)
        known.append(first if same else slot)
    return known
