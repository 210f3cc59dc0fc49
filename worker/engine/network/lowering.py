"""TorchScript graphs to programs.

The graph is read twice, once with the training flag on and once off; everything that
depends on constants is worked out on the way. Where both readings differ only in
dropout, the first serves for both, since dropout and norms know the flag themselves.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from worker.engine.network import fused
from worker.engine.network.kernels import DROPOUTS, RecurrentSettings
from worker.engine.network.operators import (
    FOLDABLE,
    function,
    overload,
    scalar_type,
    scalar_type_positions,
)
from worker.engine.network.program import (
    INPUT,
    Body,
    Buffer,
    BufferNames,
    CannotLift,
    Constant,
    Node,
    Operand,
    Parameter,
    Program,
    Slot,
    StateKept,
    text,
    without_dead_nodes,
)

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
_MUTATORS = frozenset(
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
_VIEWS = frozenset(
    {
        "aten::view",
        "aten::reshape",
        "aten::flatten",
        "aten::select",
        "aten::slice",
        "aten::transpose",
        "aten::permute",
        "aten::squeeze",
        "aten::unsqueeze",
        "aten::expand",
        "aten::unflatten",
        "aten::narrow",
        "aten::t",
        "aten::view_as",
        "aten::reshape_as",
        "aten::expand_as",
        "aten::contiguous",
        "aten::to",
        "aten::chunk",
        "aten::split",
        "aten::unbind",
        "aten::detach",
    }
)
_DROPOUT_KINDS = frozenset(kind.replace("net::", "aten::") for kind in DROPOUTS)
RECURRENT = {
    "aten::lstm.input": "lstm",
    "aten::gru.input": "gru",
    "aten::rnn_tanh.input": "rnn_tanh",
    "aten::rnn_relu.input": "rnn_relu",
}
_UNROLL_LIMIT = 256


@dataclass(frozen=True)
class _Module:
    path: str

    def of(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name


@dataclass
class Lifted:
    """What reading a module gave.

    Attributes:
        train: the program with the training flag on.
        evaluate: the same with the flag off; the same object where they agree.
        parameters: delivered values, by name.
        buffers: delivered values, by name.
        origin: `scripted`, `traced` or `exported`.
        baked_training: dropout or batch statistics are on whatever the flag says.
        notes: what a reader of the report should know.
    """

    train: Program
    evaluate: Program
    parameters: dict[str, torch.Tensor]
    buffers: dict[str, torch.Tensor]
    origin: Literal["traced", "scripted", "exported", "made"]
    baked_training: bool
    notes: list[str] = field(default_factory=list)


def lift(module: torch.jit.ScriptModule) -> Lifted:
    """Read a module's forward method.

    Raises:
        CannotLift: no pure function can stand for it.
        StateKept: it writes to itself.
    """
    origin: Literal["traced", "scripted"] = (
        "traced" if is_traced(module) else "scripted"
    )
    train = _Reading(module, training=True, traced=origin == "traced")
    try:
        train_program = train.read()
    except CannotLift:
        # State kept at inference is the graver finding: see whether there is any.
        _Reading(module, training=False, traced=origin == "traced").read()
        raise
    evaluation = _Reading(
        module, training=False, traced=origin == "traced", momenta=train.momenta
    )
    eval_program = evaluation.read()
    drop = frozenset(DROPOUTS)
    if text(train_program, drop=drop) == text(eval_program, drop=drop):
        eval_program = train_program
    notes = []
    if eval_program is not train_program:
        notes.append(
            "The forward method does other work in training than at inference."
        )
    parameters = {
        name: tensor.detach().clone() for name, tensor in module.named_parameters()
    }
    parameters.update(train.promoted)
    if train.promoted:
        notes.append(
            f"The archive is frozen: {len(train.promoted)} constant tensors that stand "
            "where weights belong were taken for its parameters."
        )
    notes.extend(dict.fromkeys(train.notes))
    return Lifted(
        train=train_program,
        evaluate=eval_program,
        parameters=parameters,
        buffers={name: b.detach().clone() for name, b in module.named_buffers()},
        origin=origin,
        baked_training=evaluation.baked,
        notes=notes,
    )


def is_traced(module: torch.jit.ScriptModule) -> bool:
    """Tell whether a module was traced: its nodes then carry Python call stacks."""
    traced = scripted = 0
    for node in module.inlined_graph.nodes():
        if node.kind() in {"prim::If", "prim::Loop"}:
            return False
        if node.kind() == "prim::GetAttr" and node.s("name") == "training":
            return False
        source = str(node.sourceRange())
        if source.lstrip().startswith('File "'):
            scripted += 1
        elif source:
            traced += 1
    return traced > scripted


class _Reading:
    """One reading of a graph under one value of the training flag."""

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
        self.traced = traced
        self.momenta: dict[str, float | None] = {} if momenta is None else momenta
        self.baked = False
        self.notes: list[str] = []
        self.promoted: dict[str, torch.Tensor] = {}
        self.operands: dict[str, Operand] = {}
        self.producers: dict[int, Node] = {}
        self.depths: dict[int, int] = {0: 0}
        self.roots: dict[int, int] = {}
        self.hazards: list[tuple[int, int]] = []
        self.size = 1
        self.depth = 0
        self.device: Operand = Constant(None)
        self.out: list[Node] = []
        self.buffers = dict(module.named_buffers())
        self.names = _canonical_names(module)
        self.by_storage = {
            _storage(tensor): name for name, tensor in module.named_parameters()
        }

    def read(self) -> Program:
        graph = self.module.inlined_graph
        first, *given = graph.inputs()
        self.operands[first.debugName()] = Constant(_Module(""))
        if len(given) != 1:
            raise CannotLift(f"forward takes {len(given)} inputs")
        self.operands[given[0].debugName()] = INPUT
        [self.device] = self.emit("prim::device", (INPUT,))
        self._nodes(graph.nodes())
        outputs = tuple(self._operand(value) for value in graph.outputs())
        self._check_hazards()
        body = without_dead_nodes(Body((0,), tuple(self.out), outputs))
        return Program(body, self.size)

    def _operand(self, value: Any) -> Operand:  # noqa: ANN401
        return self.operands[value.debugName()]

    def _bind(self, node: Any, results: Iterable[Operand]) -> None:  # noqa: ANN401
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

    def _nodes(self, nodes: Iterable[Any]) -> None:
        for node in nodes:
            self._node(node)

    def _node(self, node: Any) -> None:  # noqa: ANN401, C901
        kind = node.kind()
        if kind == "prim::Constant":
            self._constant(node)
        elif kind == "prim::GetAttr":
            owner = self._operand(next(iter(node.inputs())))
            self._bind(node, [self._attribute(owner, node.s("name"))])
        elif kind == "prim::SetAttr":
            raise StateKept(f"it writes to its attribute `{node.s('name')}`")
        elif kind == "prim::If":
            self._choice(node)
        elif kind == "prim::Loop":
            self._loop(node)
        elif kind in _SAME:
            self._bind(node, [self._operand(next(iter(node.inputs())))])
        elif kind in _TRUE:
            self._bind(node, [Constant(value=True)])
        elif kind == "prim::Uninitialized":
            self._bind(node, [Constant(None)])
        elif kind in _IGNORED:
            self._bind(node, [Constant(None) for _ in node.outputs()])
        elif kind in {"prim::CallMethod", "prim::CallFunction", "prim::fork"}:
            raise CannotLift(f"it calls what cannot be read ({kind})")
        else:
            self._operation(node)

    def _constant(self, node: Any) -> None:  # noqa: ANN401
        output = node.output()
        value = None if output.type().kind() == "FunctionType" else output.toIValue()
        if (
            isinstance(value, torch.Tensor)
            and value.dim() == 0
            and value.dtype == torch.int64
        ):
            value = int(value)  # traced size arithmetic
        # Tracing bakes the device in; what runs elsewhere has to follow its input.
        baked = isinstance(value, torch.device)
        self.operands[output.debugName()] = self.device if baked else Constant(value)

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

    def _choice(self, node: Any) -> None:  # noqa: ANN401
        condition = self._operand(next(iter(node.inputs())))
        blocks = list(node.blocks())
        if isinstance(condition, Constant):
            block = blocks[0 if condition.value else 1]
            self._nodes(block.nodes())
            self._bind(node, [self._operand(value) for value in block.outputs()])
            return
        bodies = tuple(self._body(block, []) for block in blocks)
        outputs = tuple(self.slot() for _ in node.outputs())
        self.out.append(Node("prim::If", (condition,), outputs, bodies))
        self._bind(node, [Slot(number) for number in outputs])

    def _body(self, block: Any, entering: list[int]) -> Body:  # noqa: ANN401
        outer, self.out = self.out, []
        self.depth += 1
        self._nodes(block.nodes())
        outputs = tuple(self._operand(value) for value in block.outputs())
        nodes, self.out = tuple(self.out), outer
        self.depth -= 1
        return Body(tuple(entering), nodes, outputs)

    def _loop(self, node: Any) -> None:  # noqa: ANN401
        trips, going, *carried = (self._operand(value) for value in node.inputs())
        [block] = node.blocks()
        counter, *entering = block.inputs()
        returned_going, *returned = block.outputs()
        if (
            isinstance(trips, Constant)
            and trips.value <= _UNROLL_LIMIT
            and isinstance(going, Constant)
            and going.value
            and self.operands.get(returned_going.debugName(), going) is not None
            and _is_true(returned_going, self.operands)
        ):
            for turn in range(trips.value):
                self.operands[counter.debugName()] = Constant(turn)
                for value, operand in zip(entering, carried, strict=True):
                    self.operands[value.debugName()] = operand
                self._nodes(block.nodes())
                carried = [self._operand(value) for value in returned]
            self._bind(node, carried)
            return
        slots = []
        self.depth += 1
        for value in (counter, *entering):
            slots.append(self.slot())
            self.operands[value.debugName()] = Slot(slots[-1])
        self.depth -= 1
        body = self._body(block, slots)
        outputs = tuple(self.slot() for _ in node.outputs())
        self.out.append(Node("prim::Loop", (trips, going, *carried), outputs, (body,)))
        self._bind(node, [Slot(number) for number in outputs])

    def _operation(self, node: Any) -> None:  # noqa: ANN401
        op = _qualified(node)
        kind = op.partition(".")[0]
        inputs = [self._operand(value) for value in node.inputs()]
        if kind.endswith("_") and not kind.endswith("__") and kind != "aten::_":
            self._in_place(node, op, inputs)
            return
        count = len(list(node.outputs()))
        if self._unpacked(node, kind, inputs) or self._folded(node, op, inputs):
            return
        results = self._emitted(op, inputs, count, _scope(node))
        self._bind(node, results)
        if kind in _VIEWS and isinstance(inputs[0], Slot):
            root = self.roots.get(inputs[0].number, inputs[0].number)
            for result in results:
                if isinstance(result, Slot):
                    self.roots[result.number] = root

    def _unpacked(self, node: Any, kind: str, inputs: list[Operand]) -> bool:  # noqa: ANN401
        """See through tuples whose parts are known."""
        if kind not in {"prim::TupleUnpack", "prim::TupleIndex"}:
            return False
        parts: tuple[Operand, ...]
        match inputs[0]:
            case Constant(value):
                parts = tuple(Constant(part) for part in value)
            case Slot(number) if number in self.producers and (
                self.producers[number].kind == "prim::TupleConstruct"
            ):
                parts = self.producers[number].inputs
            case _:
                return False
        if kind == "prim::TupleUnpack":
            self._bind(node, parts)
        elif isinstance(inputs[1], Constant):
            self._bind(node, [parts[inputs[1].value]])
        else:
            return False
        return True

    def _folded(self, node: Any, op: str, inputs: list[Operand]) -> bool:  # noqa: ANN401
        """Work out what depends on constants alone."""
        if op.partition(".")[0] not in FOLDABLE or _is_mutated(node):
            return False
        values = []
        for operand in inputs:
            if not isinstance(operand, Constant):
                return False
            if isinstance(operand.value, torch.Tensor | _Module):
                return False
            values.append(operand.value)
        result = function(op)(*values)
        count = len(list(node.outputs()))
        self._bind(node, [Constant(r) for r in (result if count > 1 else [result])])
        return True

    def _emitted(  # noqa: PLR0911
        self, op: str, inputs: list[Operand], count: int, scope: str
    ) -> tuple[Operand, ...]:
        kind = op.partition(".")[0]
        if kind in _DROPOUT_KINDS:
            return (self._dropout(kind, inputs, scope),)
        if kind == "aten::native_dropout":
            return (self._dropout("aten::dropout", inputs, scope), Constant(None))
        if kind in {"aten::batch_norm", "aten::instance_norm"}:
            return self._norm(kind, inputs, scope)
        if kind == "aten::scaled_dot_product_attention":
            return self.emit("net::attention", inputs[:8], scope=scope)
        if op in RECURRENT:
            return self._recurrent(RECURRENT[op], inputs, count, scope)
        if kind in fused.DECOMPOSED:
            return self._decomposed(kind, inputs, count, scope)
        for place in scalar_type_positions(op):
            operand = inputs[place] if place < len(inputs) else None
            if isinstance(operand, Constant):
                inputs[place] = Constant(scalar_type(operand.value))
        inputs = self._promote(kind, inputs)
        return self.emit(op, inputs, count, scope)

    def _decomposed(
        self, kind: str, inputs: list[Operand], count: int, scope: str
    ) -> tuple[Operand, ...]:
        if self.depth == 0:
            self.notes.append(
                "The archive holds a fused transformer operator; it was written out, "
                "without the dropout, which such archives no longer hold."
            )
        try:
            return fused.DECOMPOSED[kind](self.emit, inputs, scope)
        except CannotLift as found:
            if self.depth == 0:
                raise
            # A script's fast path, which is not taken while gradients are wanted.
            self.emit("prim::RaiseException", (Constant(str(found)),), 0)
            return (Constant(None),) * count

    def _dropout(self, kind: str, inputs: list[Operand], scope: str) -> Operand:
        x, p, train = inputs[:3]
        if not isinstance(train, Constant):
            raise CannotLift("dropout under a computed flag")
        if self.training and not train.value and not self.traced:
            return x
        if train.value and not self.training:
            self.baked = True
        [out] = self.emit(kind.replace("aten::", "net::"), (x, p), scope=scope)
        return out

    def _norm(
        self, kind: str, inputs: list[Operand], scope: str
    ) -> tuple[Operand, ...]:
        x, weight, bias, mean, var, train, momentum, eps = inputs[:8]
        weight, bias = self._promote(kind, [x, weight, bias])[1:]
        mean_name = mean.name if isinstance(mean, Buffer) else None
        var_name = var.name if isinstance(var, Buffer) else None
        if isinstance(mean, Constant) and isinstance(mean.value, torch.Tensor):
            raise CannotLift("frozen batch norm")
        count_name = None
        if mean_name is not None:
            sibling = mean_name.rpartition(".")[0]
            candidate = f"{sibling}.num_batches_tracked".lstrip(".")
            count_name = candidate if candidate in self.buffers else None
            on = isinstance(train, Constant) and bool(train.value)
            if not self.training and on:
                self.baked = True
        factor = momentum.value if isinstance(momentum, Constant) else None
        factor = factor or None  # torch passes 0 for a plain average at inference
        if mean_name is not None:
            factor = self.momenta.setdefault(mean_name, factor)
        names = Constant(BufferNames(mean_name, var_name, count_name))
        op = kind.replace("aten::", "net::")
        return self.emit(
            op, (x, weight, bias, names, Constant(factor), eps), scope=scope
        )

    def _recurrent(
        self, cell: str, inputs: list[Operand], count: int, scope: str
    ) -> tuple[Operand, ...]:
        x, start, weights = inputs[:3]
        flags = [o.value if isinstance(o, Constant) else None for o in inputs[3:]]
        states = self._parts(start) if cell == "lstm" else (start,)
        settings = settings_of(cell, flags)
        if flags[3] and not self.training and settings.p and settings.layers > 1:
            self.baked = True
        given = (Constant(settings), x, *states, *self._parts(weights))
        return self.emit("net::recurrent", given, count, scope)

    def _parts(self, operand: Operand) -> tuple[Operand, ...]:
        if isinstance(operand, Constant) and isinstance(operand.value, list):
            found = [self.by_storage.get(_storage(part)) for part in operand.value]
            known = tuple(Parameter(name) for name in found if name is not None)
            if len(known) == len(found):
                return known
        if isinstance(operand, Slot):
            node = self.producers.get(operand.number)
            if node is not None and node.kind == "prim::ListConstruct":
                return node.inputs
        raise CannotLift("a list of weights that is computed")

    def _promote(self, kind: str, inputs: list[Operand]) -> list[Operand]:
        """Take constant tensors that stand where weights belong for parameters."""
        for place in _WEIGHT_PLACES.get(kind, ()):
            operand = inputs[place] if place < len(inputs) else None
            if (
                isinstance(operand, Constant)
                and isinstance(operand.value, torch.Tensor)
                and operand.value.is_floating_point()
            ):
                name = f"constant_{len(self.promoted)}"
                self.promoted[name] = operand.value.detach().clone()
                inputs[place] = Parameter(name)
        return inputs

    def _in_place(self, node: Any, op: str, inputs: list[Operand]) -> None:  # noqa: ANN401, C901
        """Replace a write by a new value for every later reader."""
        target = inputs[0]
        kind, _, which = op.partition(".")
        if isinstance(target, Buffer):
            if not target.name.endswith("num_batches_tracked"):
                word = f"it writes to its buffer `{target.name}`"
                raise StateKept(word) if not self.training else CannotLift(word)
            self._bind(node, [target])
            return
        if not isinstance(target, Slot):
            raise CannotLift(f"{op} writes to a parameter or constant")
        if self.depths[target.number] != self.depth:
            raise CannotLift(f"{op} inside a branch or loop writes outside of it")
        if target.number in self.roots:
            self.hazards.append((self.roots[target.number], len(self.out)))
        functional = kind[:-1] + (f".{which}" if which else "")
        if functional.partition(".")[0] not in _DROPOUT_KINDS:
            try:
                overload(functional)
            except LookupError as error:
                raise CannotLift(f"{op} has no form that leaves its input") from error
        [result] = self._emitted(functional, inputs, 1, _scope(node))
        for name, operand in list(self.operands.items()):
            if operand == target:
                self.operands[name] = result
        self._bind(node, [result])
        if target.number in self.roots and isinstance(result, Slot):
            self.roots[result.number] = self.roots[target.number]

    def _check_hazards(self) -> None:
        """Refuse writes through a view whose base is read later."""
        for root, place in self.hazards:
            written = {n for n, base in self.roots.items() if base == root} | {root}
            before = {s for node in self.out[:place] for s in node.outputs} | {0}
            for node in self.out[place + 1 :]:
                for operand in node.inputs:
                    if isinstance(operand, Slot) and operand.number in (
                        written & before
                    ):
                        raise CannotLift("a write through a view is read back")


_WEIGHT_PLACES: dict[str, tuple[int, ...]] = {
    "aten::linear": (1, 2),
    "aten::addmm": (0, 2),
    "aten::matmul": (1,),
    "aten::conv1d": (1, 2),
    "aten::conv2d": (1, 2),
    "aten::conv3d": (1, 2),
    "aten::_convolution": (1, 2),
    "aten::batch_norm": (1, 2),
    "aten::instance_norm": (1, 2),
    "aten::layer_norm": (2, 3),
    "aten::group_norm": (2, 3),
    "aten::embedding": (0,),
    "aten::prelu": (1,),
}


def settings_of(cell: str, flags: list[Any]) -> RecurrentSettings:
    """Read a recurrent operator's settings, in the order of its schema.

    Raises:
        CannotLift: one is computed.
    """
    if None in flags:
        raise CannotLift(f"{cell} with computed settings")
    biases, layers, p, _, bidirectional, batch_first = flags
    return RecurrentSettings(
        cell=cell,
        biases=bool(biases),
        layers=int(layers),
        p=float(p),
        bidirectional=bool(bidirectional),
        batch_first=bool(batch_first),
    )


def _storage(tensor: torch.Tensor) -> tuple[int, tuple[int, ...]]:
    """What two views of one parameter share."""
    return tensor.data_ptr(), tuple(tensor.shape)


def _canonical_names(
    module: torch.jit.ScriptModule,
) -> dict[str, Parameter | Buffer]:
    """Map every path to a parameter or buffer to its first name; tied ones share it."""
    found: dict[str, Parameter | Buffer] = {}
    known: dict[tuple[int, tuple[int, ...]], str] = {}
    for name, tensor in module.named_parameters():
        known[_storage(tensor)] = name
        found[name] = Parameter(name)
    for name, _ in module.named_buffers():
        found[name] = Buffer(name)
    for name, tensor in module.named_parameters(remove_duplicate=False):
        found.setdefault(name, Parameter(known.get(_storage(tensor), name)))
    return found


def _is_true(value: Any, operands: dict[str, Operand]) -> bool:  # noqa: ANN401
    """Tell whether a value is the constant True, also before its node was read."""
    node = value.node()
    if node.kind() == "prim::Constant":
        return bool(value.toIValue())
    known = operands.get(value.debugName())
    return isinstance(known, Constant) and known.value is True


def _is_mutated(node: Any) -> bool:  # noqa: ANN401
    """Tell whether a list is written to after it was made, or might be."""
    for output in node.outputs():
        if not str(output.type()).endswith(("[]", ")")) and "List" not in str(
            output.type()
        ):
            continue
        for use in output.uses():
            if use.user.kind() in _MUTATORS | {"prim::Loop", "prim::If"}:
                return True
    return node.kind() in _MUTATORS


def _qualified(node: Any) -> str:  # noqa: ANN401
    schema = node.schema()
    if not schema.startswith(node.kind()):  # prim::ListConstruct and the like have none
        return str(node.kind())
    return str(schema.partition("(")[0])


def _scope(node: Any) -> str:  # noqa: ANN401
    return str(node.scopeName()).rpartition("__module.")[2]
