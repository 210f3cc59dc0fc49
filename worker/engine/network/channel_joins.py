"""Channels through what keeps them in place, and where several results meet."""

from collections.abc import Callable, Mapping

import torch

from worker.engine.network.axes import Axes, Axis, constant
from worker.engine.network.program import Constant, Node, Operand, Parameter, Slot
from worker.engine.network.widths import Parts

KEEPING = frozenset(
    {
        "aten::contiguous",
        "aten::to",
        "aten::detach",
        "aten::clone",
        "aten::neg",
        "aten::abs",
    }
)


def nothing(axes: Axes, node: Node) -> bool:
    """A size that varies with the batch, or zeros that a recurrent layer claims."""
    if node.kind == "aten::size":
        axis = axes.axis(node.inputs[0])
        dim = constant(node, 1)
        rank = axes.rank(node.inputs[0])
        if axis is not None and (dim is None or dim % max(rank, 1) == axis.place):
            return False
    axes.known[node.outputs[0]] = None
    return True


def same(axes: Axes, node: Node) -> bool:
    """What works on each value by itself keeps the axis where it is."""
    axis = axes.axis(node.inputs[0])
    if node.kind == "aten::prelu" and isinstance(node.inputs[1], Parameter):
        held = axes.edited.parameters[node.inputs[1].name]
        if held.numel() > 1 and axis is not None:
            axes.claim(node.inputs[1].name, 0, axis.parts)
    if node.kind == "aten::glu":
        return False
    return axes.put(node, axis)


def pool(axes: Axes, node: Node) -> bool:
    """Pooling over the dimensions beside the channels."""
    axis = axes.axis(node.inputs[0])
    digits = [int(sign) for sign in node.kind if sign.isdigit()]  # max_pool2d, say
    spatial = digits[0] if digits else 0
    if axis is not None and axis.place != axes.rank(node.inputs[0]) - spatial - 1:
        return False
    for places in node.outputs[1:]:  # where the largest were lies as they do
        axes.known[places] = axis
    return axes.put(node, axis)


def listing(axes: Axes, node: Node) -> bool:
    """Lists are seen through where they are read."""
    axes.known[node.outputs[0]] = None
    return True


def together(axes: Axes, node: Node) -> bool:  # noqa: C901
    """Element-wise with another: the axes must agree, counted from the right."""
    rank = axes.rank(Slot(node.outputs[0]))
    found: list[tuple[int, Parts]] = []
    for operand in node.inputs[:2]:
        if isinstance(operand, Slot) and axes.rank(operand):
            axis = axes.axis(operand)
            if axis is None:
                shape = axes.shape(operand)
                if any(size != 1 for size in shape[1:]):
                    return False
                continue
            found.append((axis.place - axes.rank(operand), axis.parts))
    if not found or any(place != found[0][0] for place, _ in found):
        return False
    place, parts = found[0]
    for _, others in found[1:]:
        if not axes.widths.tie(parts, others):
            return False
    for operand in node.inputs[:2]:
        if isinstance(operand, Parameter):
            shape = axes.edited.parameters[operand.name].shape
            if len(shape) >= -place and shape[place] != 1:
                axes.claim(operand.name, len(shape) + place, parts)
        elif _is_large(operand):
            return False
    return axes.put(node, Axis(rank + place, parts))


def cat(axes: Axes, node: Node) -> bool:
    """Results side by side: along the channels, or along another dimension."""
    listed, dim = axes.maker(node.inputs[0]), constant(node, 1)
    if listed is None or not isinstance(dim, int):
        return False
    rank = axes.rank(Slot(node.outputs[0]))
    found = [axes.axis(operand) for operand in listed.inputs]
    known = [axis for axis in found if axis is not None]
    if len(known) != len(found) or len({axis.place for axis in known}) != 1:
        for axis in known:
            axes.pin(axis)
        return False
    place = known[0].place
    if dim % rank == place:
        parts = tuple(part for axis in known for part in axis.parts)
        return axes.put(node, Axis(place, parts))
    for axis in known[1:]:
        if not axes.widths.tie(known[0].parts, axis.parts):
            for one in known:
                axes.pin(one)
            return False
    return axes.put(node, known[0])


def stack(axes: Axes, node: Node) -> bool:
    """Results along a new dimension."""
    listed, dim = axes.maker(node.inputs[0]), constant(node, 1)
    if listed is None or not isinstance(dim, int):
        return False
    found = [axes.axis(operand) for operand in listed.inputs]
    first = found[0]
    if first is None:
        return False
    for axis in found[1:]:
        if axis is None or not axes.widths.tie(first.parts, axis.parts):
            return False
    place = dim % axes.rank(Slot(node.outputs[0]))
    return axes.put(node, Axis(first.place + (place <= first.place), first.parts))


def _is_large(operand: Operand) -> bool:
    """Tell whether an operand is a constant tensor of more than one value."""
    value = operand.value if isinstance(operand, Constant) else None
    return isinstance(value, torch.Tensor) and value.numel() > 1


JOINS: Mapping[str, Callable[[Axes, Node], bool]] = {
    "aten::add": together,
    "aten::sub": together,
    "aten::mul": together,
    "aten::div": together,
    "aten::cat": cat,
    "aten::stack": stack,
    "prim::ListConstruct": listing,
    "aten::size": nothing,
    "aten::zeros": nothing,
    "prim::device": nothing,
    "prim::dtype": nothing,
}
