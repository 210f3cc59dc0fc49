"""Free a traced program from the batch size that it was traced with."""

from collections.abc import Callable
from dataclasses import replace

import torch

from worker.engine.network.program import (
    INPUT,
    Body,
    Constant,
    Node,
    Operand,
    Program,
    Slot,
)

_VIEWS = frozenset({"aten::view", "aten::reshape", "aten::expand"})
_MADE = frozenset({"aten::zeros", "aten::ones", "aten::full", "aten::randn"})


def baked_sizes(program: Program) -> list[int]:
    """List numbers that may be a batch size, from the places where one would stand."""
    found: dict[int, None] = {}
    for node in program.body.nodes:
        for size in _sizes_at(node):
            found[size] = None
    return [size for size in found if size > 1]


def _sizes_at(node: Node) -> list[int]:
    sizes = _listed(node)
    if node.kind in _VIEWS:
        return sizes[:1]
    return sizes[:-1] if node.kind in _MADE else []


def _listed(node: Node) -> list[int]:
    if node.kind not in _VIEWS | _MADE:
        return []
    operand = node.inputs[0 if node.kind in _MADE else 1]
    value = operand.value if isinstance(operand, Constant) else None
    return value if isinstance(value, list) else []


def freed(program: Program, baked: int) -> Program:
    """Copy a program with a baked batch size replaced by that of the input.

    Args:
        program: traced.
        baked: the number of rows it was traced with.
    """
    rows = program.size
    count = Node("aten::size.int", (INPUT, Constant(0)), (rows,))
    made, size = [count], rows + 1
    for node in program.body.nodes:
        sizes = _sizes_at(node)
        if baked not in sizes:
            made.append(node)
            continue
        place = sizes.index(baked)
        parts: list[Operand] = [Constant(value) for value in _listed(node)]
        parts[place] = Slot(rows)
        made.append(Node("prim::ListConstruct", tuple(parts), (size,)))
        inputs = list(node.inputs)
        inputs[0 if node.kind in _MADE else 1] = Slot(size)
        made.append(replace(node, inputs=tuple(inputs)))
        size += 1
    body = Body(program.body.inputs, tuple(made), program.body.outputs)
    return Program(body, size)


Forward = Callable[[torch.Tensor], torch.Tensor]


def takes(forward: Forward, x: torch.Tensor, rows: int) -> torch.Tensor | None:
    """Run on a number of rows, repeating samples; None where that fails."""
    try:
        raw = forward(x[torch.arange(rows) % len(x)])
    except (RuntimeError, ValueError, IndexError, TypeError):
        return None
    return raw if raw.dim() > 0 and raw.shape[0] == rows else None
