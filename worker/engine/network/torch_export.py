"""Open a `torch.export` archive (`.pt2`) as the same kind of network.

Loading one runs Python from the archive: only ever called inside the confined process.
"""

from collections.abc import Mapping
from typing import Any, BinaryIO

import torch

from service.contract.errors import BadRequest, UnusableModel
from worker.engine.network.facts import facts_of
from worker.engine.network.layer_operators import RECURRENT, settings_of
from worker.engine.network.network import Network
from worker.engine.network.operators import overload
from worker.engine.network.program import (
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
    without_dead_nodes,
)

_EXPECTED = (
    "A classifier is expected: one tensor in; (batch, classes) floats out, or (batch,) "
    "or (batch, 1) for two classes; nothing kept between calls."
)
_DROPOUTS = {"aten::dropout", "aten::feature_dropout", "aten::alpha_dropout"}


def load_torch_export(file: BinaryIO) -> Network:
    """Load an archive.

    Raises:
        BadRequest: it is no such archive.
        UnusableModel: it is one, but no classifier that can be audited.
    """
    try:
        exported = torch.export.load(file)
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise BadRequest(
            f"The file does not open as a torch.export archive: {first[:300]}"
        ) from error
    return network_of_export(exported)


def network_of_export(exported: torch.export.ExportedProgram) -> Network:
    """Turn an exported program into a network.

    Raises:
        UnusableModel: it is no classifier that can be audited.
    """
    try:
        reading = _Reading(exported)
        program = reading.read()
    except CannotLift as found:
        raise UnusableModel(
            f"The model cannot be read: {found}. {_EXPECTED}"
        ) from found
    parameters = {
        name: exported.state_dict[name].detach().clone()
        for name in exported.graph_signature.parameters
    }
    if not parameters:
        raise UnusableModel(f"The model has no parameters. {_EXPECTED}")
    buffers = {
        name: exported.state_dict[name].detach().clone()
        for name in exported.graph_signature.buffers
        if name in exported.state_dict
    }
    return Network(
        train_program=program,
        eval_program=program,
        parameters=parameters,
        buffers=buffers,
        facts=facts_of(
            program,
            parameters,
            origin="exported",
            baked_training=reading.baked,
            notes=(),
        ),
    )


class _Reading:
    """Reads an exported graph into a program."""

    def __init__(self, exported: torch.export.ExportedProgram) -> None:
        self.exported = exported
        self.operands: dict[str, Operand] = {}
        self.out: list[Node] = []
        self.size = 1
        self.baked = False

    def read(self) -> Program:
        signature = self.exported.graph_signature
        held: dict[str, Operand] = {
            **{n: Parameter(p) for n, p in signature.inputs_to_parameters.items()},
            **{n: Buffer(b) for n, b in signature.inputs_to_buffers.items()},
            **{
                name: Constant(self.exported.constants[target])
                for name, target in (
                    signature.inputs_to_lifted_tensor_constants or {}
                ).items()
            },
        }
        written = [n for n in signature.buffers_to_mutate.values() if not _is_norm(n)]
        if written:
            raise CannotLift(f"it writes to its buffer `{written[0]}`")
        output: Operand = Constant(None)
        for node in self.exported.graph.nodes:
            if node.op == "placeholder":
                self._input(node, held)
            elif node.op == "output":
                wanted = set(signature.user_outputs)
                results = [n for n in node.args[0] if getattr(n, "name", "") in wanted]
                if len(results) != 1:
                    raise CannotLift(f"it returns {len(results)} values")
                output = self.operands[results[0].name]
            elif node.op == "call_function":
                self._call(node)
            else:
                raise CannotLift(f"it holds a node of kind {node.op}")
        body = without_dead_nodes(Body((0,), tuple(self.out), (output,)))
        return Program(body, self.size)

    def _input(self, node: Any, held: Mapping[str, Operand]) -> None:  # noqa: ANN401
        if node.name in held:
            self.operands[node.name] = held[node.name]
        elif Slot(0) in self.operands.values():
            raise CannotLift("it takes more than one input")
        else:
            self.operands[node.name] = Slot(0)

    def _operand(self, value: Any) -> Operand:  # noqa: ANN401
        if isinstance(value, torch.fx.Node):
            return self.operands[value.name]
        if isinstance(value, list | tuple) and any(
            isinstance(part, torch.fx.Node) for part in value
        ):
            return self._emit("prim::ListConstruct", [self._operand(p) for p in value])
        if isinstance(value, torch.device):  # exporting bakes it in
            return self._emit("prim::device", [Slot(0)])
        return Constant(list(value) if isinstance(value, list | tuple) else value)

    def _emit(self, op: str, inputs: list[Operand]) -> Slot:
        slot = self.size
        self.size += 1
        self.out.append(Node(op, tuple(inputs), (slot,)))
        return Slot(slot)

    def _call(self, node: Any) -> None:  # noqa: ANN401
        target = node.target
        if not isinstance(target, torch._ops.OpOverload):  # noqa: SLF001
            self.operands[node.name] = self._python_call(node)
            return
        which = target._overloadname  # noqa: SLF001
        op = target._schema.name + ("" if which == "default" else f".{which}")  # noqa: SLF001
        if op.partition(".")[0].startswith(("aten::_assert", "aten::sym_constrain")):
            return
        given = [
            self._operand(
                node.args[place]
                if place < len(node.args)
                else node.kwargs.get(argument.name, argument.default_value)
            )
            for place, argument in enumerate(target._schema.arguments)  # noqa: SLF001
        ]
        self.operands[node.name] = self._operation(op, given)

    def _python_call(self, node: Any) -> Operand:  # noqa: ANN401
        name = getattr(node.target, "__name__", str(node.target))
        given = [self._operand(value) for value in node.args]
        known = {"getitem": "aten::__getitem__.t", "mul": "aten::mul.int"}
        known |= {"add": "aten::add.int", "floordiv": "aten::floordiv.int"}
        if name not in known:
            raise CannotLift(f"it calls {name}")
        return self._emit(known[name], given)

    def _operation(self, op: str, given: list[Operand]) -> Operand:
        kind = op.partition(".")[0]
        if kind.endswith("_") and kind[:-1] in {"aten::relu", "aten::dropout"}:
            op = kind = kind[:-1]
        if kind.endswith("_") and not kind.endswith("__"):
            raise CannotLift(f"{op} writes in place")
        if kind in _DROPOUTS:
            train = given[2]
            self.baked |= isinstance(train, Constant) and bool(train.value)
            return self._emit(kind.replace("aten::", "net::"), given[:2])
        if kind == "aten::sym_size":
            return self._emit("aten::size.int", given)
        if kind == "aten::batch_norm":
            return self._norm(given)
        if kind == "aten::scaled_dot_product_attention":
            return self._emit("net::attention", given[:8])
        if op in RECURRENT:
            return self._recurrent(RECURRENT[op], given)
        overload(op)
        return self._emit(op, given)

    def _recurrent(self, cell: str, given: list[Operand]) -> Operand:
        x, start, weights = given[:3]
        flags = [o.value if isinstance(o, Constant) else None for o in given[3:]]
        states = self._parts(start) if cell == "lstm" else (start,)
        settings = settings_of(cell, flags)
        self.baked |= bool(flags[3]) and settings.p > 0 and settings.layers > 1
        inputs = (Constant(settings), x, *states, *self._parts(weights))
        first = self.size
        outputs = tuple(range(first, first + 1 + len(states)))
        self.size += len(outputs)
        self.out.append(Node("net::recurrent", inputs, outputs))
        return self._emit("prim::TupleConstruct", [Slot(slot) for slot in outputs])

    def _parts(self, operand: Operand) -> tuple[Operand, ...]:
        for node in self.out:
            if isinstance(operand, Slot) and operand.number in node.outputs:
                return node.inputs
        raise CannotLift("a list of weights that is computed")

    def _norm(self, given: list[Operand]) -> Operand:
        x, weight, bias, mean, var, train, momentum, eps = given[:8]
        mean_name = mean.name if isinstance(mean, Buffer) else None
        var_name = var.name if isinstance(var, Buffer) else None
        self.baked |= (
            mean_name is not None and isinstance(train, Constant) and bool(train.value)
        )
        count = f"{(mean_name or '').rpartition('.')[0]}.num_batches_tracked".lstrip(
            "."
        )
        held = count if count in self.exported.state_dict else None
        names = Constant(BufferNames(mean_name, var_name, held))
        return self._emit("net::batch_norm", [x, weight, bias, names, momentum, eps])


def _is_norm(name: str) -> bool:
    leaf = name.rpartition(".")[2]
    return leaf in {"running_mean", "running_var", "num_batches_tracked"}
