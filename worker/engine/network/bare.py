"""Fresh values of parameters that belong to no layer: positions, class tokens, gains.

Nothing in the graph says how they were drawn, but what is done with them says what they
are, and custom says how those begin. To start from delivered values instead would let
every training begin with what the delivered one had learned.

Source: Dosovitskiy et al. 2021, arXiv:2010.11929 (positions and class tokens of
deviation .02); `torch.nn.Embedding` (deviation 1).
"""

import math
from collections.abc import Iterable

import torch

from worker.engine.network.draws import Fill, constant, normal, uniform
from worker.engine.network.program import Node, Operand, Parameter, Program, Slot, walk

SMALL, WIDE = 0.02, 1.0  # customary deviations of what is added to samples
SURELY_WIDE = 0.8  # root mean square, which training does not make of the small one
GAINS = (0.5, 2.0)  # mean of what began as ones

_SHAPES = frozenset(
    f"aten::{name}"
    for name in (
        "expand", "expand_as", "repeat", "unsqueeze", "squeeze", "view", "reshape",
        "flatten", "transpose", "permute", "t", "slice", "select", "narrow", "to",
        "contiguous", "clone", "type_as",
    )
)  # fmt: skip
_SUMS = frozenset({"aten::add", "aten::sub", "aten::cat", "aten::stack"})
_PRODUCTS = frozenset({"aten::matmul", "aten::bmm", "aten::einsum", "aten::baddbmm"})


def bare_fills(
    program: Program, parameters: dict[str, torch.Tensor], names: Iterable[str]
) -> dict[str, Fill]:
    """Choose how to fill parameters that no layer owns, by what is done with them.

    Args:
        program: of the network.
        parameters: as delivered.
        names: of those that no layer owns.

    Returns:
        By name; one is absent where custom says nothing, such as a temperature.
    """
    uses = _first_uses(program)
    found = {
        name: _fill(parameters[name].detach(), uses.get(name, frozenset()))
        for name in names
    }
    return {name: fill for name, fill in found.items() if fill is not None}


def _fill(delivered: torch.Tensor, uses: frozenset[str]) -> Fill | None:
    if not delivered.is_floating_point() or delivered.numel() < 2:  # noqa: PLR2004
        return None
    if uses & _PRODUCTS and delivered.dim() > 1:
        inputs = delivered.shape[-2]  # they stand before outputs
        return uniform(1 / math.sqrt(inputs))
    if uses & _SUMS:
        if delivered.dim() == 1:
            return constant(0.0)
        size = float(delivered.double().square().mean().sqrt())
        return normal(WIDE if size >= SURELY_WIDE else SMALL)
    low, high = GAINS
    if "aten::mul" in uses and low <= float(delivered.double().mean()) <= high:
        return constant(1.0)
    return None


def _first_uses(program: Program) -> dict[str, frozenset[str]]:
    """What each parameter goes into first, whatever shape it is brought to before."""
    carried: dict[int, set[str]] = {}
    uses: dict[str, set[str]] = {}
    for node in walk(program.body):
        names = set().union(*(_names(operand, carried) for operand in node.inputs))
        if not names:
            continue
        if _passes_on(node):
            for slot in node.outputs:
                carried[slot] = names
            continue
        for name in names:
            uses.setdefault(name, set()).add(node.kind)
    return {name: frozenset(kinds) for name, kinds in uses.items()}


def _names(operand: Operand, carried: dict[int, set[str]]) -> set[str]:
    if isinstance(operand, Parameter):
        return {operand.name}
    return carried.get(operand.number, set()) if isinstance(operand, Slot) else set()


def _passes_on(node: Node) -> bool:
    return node.kind in _SHAPES or node.kind == "prim::ListConstruct"
