"""Write a straight program out as a TorchScript module.

The module holds the parameters and buffers under their own names and runs as at
inference: it loads with plain `torch.jit.load` and knows nothing of us.
"""

import keyword
import math
from typing import Any

import torch
from torch import nn

from worker.engine.network.kernels import DROPOUTS
from worker.engine.network.program import (
    Buffer,
    BufferNames,
    Constant,
    Node,
    Operand,
    Parameter,
    Program,
    Slot,
    names,
)
from worker.engine.network.recurrent import RecurrentSettings

Tensors = dict[str, torch.Tensor]


class CannotScript(Exception):  # noqa: N818
    """The program holds something that has no TorchScript text."""


class _Holder(nn.Module):
    """Holds what a generated forward method reads."""


def scripted(
    program: Program, parameters: Tensors, buffers: Tensors
) -> torch.jit.ScriptModule:
    """Make a module that runs a program as at inference.

    Args:
        program: straight, as `flatten.py` and surgery make it.
        parameters: by name.
        buffers: by name.

    Raises:
        CannotScript: the program holds a branch, a loop or an unprintable constant.
    """
    root = _Holder()
    for name in names(program, Parameter):
        value = parameters[name].detach().cpu().clone()
        _hold(root, name, nn.Parameter(value))
    kept = {
        name: buffers[name].detach().cpu().clone() for name in names(program, Buffer)
    }
    for name, value in kept.items():
        _hold(root, name, value)
    printer = _Printer(program)
    for name, value in printer.tensors.items():
        root.register_buffer(name, value)
    root.eval()
    recursive: Any = torch.jit._recursive  # noqa: SLF001 - the only way
    module: torch.jit.ScriptModule = recursive.create_script_module(
        root, lambda _: (), share_types=False
    )
    module.define(printer.source)
    return module


def _hold(root: nn.Module, path: str, value: torch.Tensor) -> None:
    *owners, leaf = path.split(".")
    for owner in owners:
        if owner not in root._modules:  # noqa: SLF001
            root.add_module(owner, _Holder())
        root = root.get_submodule(owner)
    if isinstance(value, nn.Parameter):
        root.register_parameter(leaf, value)
    else:
        root.register_buffer(leaf, value)


class _Printer:
    """Prints a program as the source of a forward method."""

    def __init__(self, program: Program) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        lines = ["def forward(self, x):"]
        lines += [
            f"  {line}" for node in program.body.nodes for line in self._node(node)
        ]
        lines.append(f"  return {self._show(program.output)}")
        self.source = "\n".join(lines) + "\n"

    def _show(self, operand: Operand) -> str:
        match operand:
            case Slot(number):
                return "x" if number == 0 else f"s{number}"
            case Parameter(name) | Buffer(name):
                return _access(name)
            case Constant(value):
                return self._literal(value)

    def _literal(self, value: Any) -> str:  # noqa: ANN401, PLR0911
        if value is None or isinstance(value, bool | int | str):
            return repr(value)
        if isinstance(value, float):
            return repr(value) if math.isfinite(value) else f"float('{value}')"
        if isinstance(value, list):
            return f"[{', '.join(self._literal(part) for part in value)}]"
        if isinstance(value, tuple):
            return f"({', '.join(self._literal(part) for part in value)},)"
        if isinstance(value, torch.dtype):
            return str(value)
        if isinstance(value, torch.device):
            return f"torch.device('{value}')"
        if isinstance(value, torch.Tensor):
            name = f"constant_tensor_{len(self.tensors)}"
            self.tensors[name] = value.detach().cpu().clone()
            return f"self.{name}"
        raise CannotScript(f"a constant of type {type(value).__name__}")

    def _node(self, node: Node) -> list[str]:
        if node.bodies:
            raise CannotScript(f"{node.op} depends on the data")
        made = ", ".join(f"s{slot}" for slot in node.outputs)
        if node.kind == "net::recurrent":
            return [f"{made} = {self._recurrent(node)}"]
        given = [self._show(operand) for operand in node.inputs]
        if node.kind in {"prim::ListUnpack", "prim::TupleUnpack"}:
            comma = "," if len(node.outputs) == 1 else ""
            return [f"{made}{comma} = {given[0]}"]
        return [f"{made} = {self._expression(node, given)}"]

    def _expression(self, node: Node, given: list[str]) -> str:  # noqa: C901, PLR0911
        kind = node.kind
        if kind in DROPOUTS:
            return given[0]
        if kind in {"net::batch_norm", "net::instance_norm"}:
            return self._norm(node, given)
        if kind == "net::embedding_bag":
            weight, indices, offsets, mode, padding = given
            return (
                f"torch.embedding_bag({weight}, {indices}, {offsets}, False, {mode}, "
                f"False, None, False, {padding})"
            )
        if kind == "net::attention":
            query, key, value, mask, _, causal, scale, grouped = given
            return (
                f"torch.ops.aten.scaled_dot_product_attention({query}, {key}, {value}, "
                f"{mask}, 0.0, {causal}, scale={scale}, enable_gqa={grouped})"
            )
        if kind == "prim::ListConstruct":
            return f"[{', '.join(given)}]"
        if kind == "prim::TupleConstruct":
            return f"({', '.join(given)},)"
        if kind in {"aten::size", "aten::dim", "aten::numel"}:
            return f"{given[0]}.{kind[6:]}({', '.join(given[1:])})"
        if kind in {"prim::dtype", "prim::device", "prim::layout"}:
            return f"{given[0]}.{kind[6:]}"
        if kind in _SIGNS and not node.op.partition(".")[2].startswith(
            ("Tensor", "Scalar")
        ):
            return f"{given[0]} {_SIGNS[kind]} {given[1]}"
        if kind.startswith("aten::"):
            return f"torch.ops.aten.{kind[6:]}({', '.join(self._named(node, given))})"
        raise CannotScript(f"operator {node.op}")

    def _named(self, node: Node, given: list[str]) -> list[str]:
        """Name the arguments that may only be given by name."""
        from worker.engine.network.operators import overload  # noqa: PLC0415

        try:
            arguments = overload(node.op)._schema.arguments  # noqa: SLF001
        except LookupError:
            return given
        return [
            f"{argument.name}={text}" if argument.kwarg_only else text
            for argument, text in zip(arguments, given, strict=False)
        ]

    def _norm(self, node: Node, given: list[str]) -> str:
        held = node.inputs[3]
        stats = held.value if isinstance(held, Constant) else None
        if not isinstance(stats, BufferNames) or not stats.mean or not stats.var:
            op = node.kind.partition("::")[2]
            return (
                f"torch.{op}({', '.join(given[:3])}, None, None, True, 0.0, "
                f"{given[5]}, False)"
            )
        mean, var = self._show(Buffer(stats.mean)), self._show(Buffer(stats.var))
        return (
            f"torch.batch_norm({', '.join(given[:3])}, {mean}, {var}, False, 0.0, "
            f"{given[5]}, False)"
        )

    def _recurrent(self, node: Node) -> str:
        held = node.inputs[0]
        settings = held.value if isinstance(held, Constant) else None
        if not isinstance(settings, RecurrentSettings):
            raise CannotScript("a recurrent layer with computed settings")
        states = 2 if settings.cell == "lstm" else 1
        x, *rest = (self._show(operand) for operand in node.inputs[1:])
        start = f"[{', '.join(rest[:states])}]" if states > 1 else rest[0]
        return (
            f"torch.{settings.cell}({x}, {start}, [{', '.join(rest[states:])}], "
            f"{settings.biases}, {settings.layers}, 0.0, False, "
            f"{settings.bidirectional}, {settings.batch_first})"
        )


_SIGNS = {
    "aten::add": "+",
    "aten::sub": "-",
    "aten::mul": "*",
    "aten::floordiv": "//",
    "aten::floor_divide": "//",
}


def _access(path: str) -> str:
    """Read an attribute; numbered submodules have no syntax of their own."""
    shown = "self"
    for part in path.split("."):
        plain = part.isidentifier() and not keyword.iskeyword(part)
        shown = f"{shown}.{part}" if plain else f"getattr({shown}, {part!r})"
    return shown
