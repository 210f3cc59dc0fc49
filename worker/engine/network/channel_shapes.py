"""Channels through operations that move dimensions about."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from worker.engine.network.axes import Axes, Axis, constant, with_constant
from worker.engine.network.program import Constant, Node, Operand, Slot
from worker.engine.network.widths import Part


def flatten(axes: Axes, node: Node) -> bool:
    """A run of dimensions becomes one."""
    source = node.inputs[0]
    axis, rank = axes.axis(source), axes.rank(source)
    start, end = constant(node, 1), constant(node, 2)
    if axis is None or not isinstance(start, int) or not isinstance(end, int):
        return False
    start, end = start % rank, end % rank
    return axes.put(node, _folded(axes, source, axis, start, end))


def _folded(
    axes: Axes, source: Operand, axis: Axis, start: int, end: int
) -> Axis | None:
    """Where an axis goes when a run of dimensions becomes one."""
    if axis.place < start:
        return axis
    if axis.place > end:
        return Axis(axis.place - (end - start), axis.parts)
    shape = axes.shape(source)
    others = [shape[dim] for dim in range(start, end + 1) if dim != axis.place]
    known = [size for size in others if size is not None]
    if len(known) != len(others):
        axes.pin(axis)
        return None
    times = math.prod(known)
    parts = tuple(Part(part.variable, part.times * times) for part in axis.parts)
    return Axis(start, parts)


def view(axes: Axes, node: Node) -> bool:
    """A view that only flattens everything from some dimension on."""
    source = node.inputs[0]
    axis = axes.axis(source)
    old = axes.shape(source)
    new = axes.shape(Slot(node.outputs[0]))
    if axis is None or not new or old[: len(new) - 1] != new[:-1]:
        return False
    folded = _folded(axes, source, axis, len(new) - 1, len(old) - 1)
    if folded is None or folded.place != len(new) - 1:
        return False
    parts = folded.parts
    sizes = node.inputs[1]
    if isinstance(sizes, Constant):
        last = sizes.value[-1]
        if last != -1:
            axes.rewrite(
                node,
                lambda n: with_constant(
                    n, 1, [*list(constant(n, 1) or ())[:-1], axes.widths.total(parts)]
                ),
            )
    else:
        listed = axes.maker(sizes)
        final = listed.inputs[-1] if listed is not None else None
        if listed is None or not isinstance(final, Constant):
            return False
        if final.value != -1:
            axes.rewrite(
                listed,
                lambda n: replace(
                    n, inputs=(*n.inputs[:-1], Constant(axes.widths.total(parts)))
                ),
            )
    return axes.put(node, folded)


def permute(axes: Axes, node: Node) -> bool:
    """Dimensions change places."""
    axis, order = axes.axis(node.inputs[0]), constant(node, 1)
    rank = axes.rank(node.inputs[0])
    if axis is None or not isinstance(order, list):
        return False
    turned = [dim % rank for dim in order]
    return axes.put(node, Axis(turned.index(axis.place), axis.parts))


def transpose(axes: Axes, node: Node) -> bool:
    """Two dimensions change places."""
    axis, rank = axes.axis(node.inputs[0]), axes.rank(node.inputs[0])
    one, other = constant(node, 1), constant(node, 2)
    if axis is None or not isinstance(one, int) or not isinstance(other, int):
        return False
    one, other = one % rank, other % rank
    place = {one: other, other: one}.get(axis.place, axis.place)
    return axes.put(node, Axis(place, axis.parts))


def select(axes: Axes, node: Node) -> bool:
    """Select or slice along another dimension."""
    axis, rank = axes.axis(node.inputs[0]), axes.rank(node.inputs[0])
    dim = constant(node, 1)
    if axis is None or not isinstance(dim, int) or dim % rank == axis.place:
        return False
    gone = node.kind == "aten::select" and dim % rank < axis.place
    return axes.put(node, Axis(axis.place - gone, axis.parts))


def reduce(axes: Axes, node: Node) -> bool:
    """A mean, sum or maximum over other dimensions."""
    axis, rank = axes.axis(node.inputs[0]), axes.rank(node.inputs[0])
    dims = constant(node, 1)
    dims = [dims] if isinstance(dims, int) else dims
    if axis is None or not isinstance(dims, list) or not dims:
        return False
    gone = {dim % rank for dim in dims}
    if axis.place in gone:
        return False
    kept = axes.rank(Slot(node.outputs[0])) == rank
    shift = 0 if kept else sum(dim < axis.place for dim in gone)
    return axes.put(node, Axis(axis.place - shift, axis.parts))


def squeeze(axes: Axes, node: Node) -> bool:
    """Dimensions of size one go."""
    axis, rank = axes.axis(node.inputs[0]), axes.rank(node.inputs[0])
    dims = constant(node, 1)
    dims = [dims] if isinstance(dims, int) else dims
    if axis is None or not isinstance(dims, list):
        return False
    shape = axes.shape(node.inputs[0])
    gone = {dim % rank for dim in dims if shape[dim % rank] == 1}
    if axis.place in gone:
        return False
    return axes.put(
        node, Axis(axis.place - sum(dim < axis.place for dim in gone), axis.parts)
    )


def unsqueeze(axes: Axes, node: Node) -> bool:
    """A dimension of size one comes."""
    axis, dim = axes.axis(node.inputs[0]), constant(node, 1)
    if axis is None or not isinstance(dim, int):
        return False
    place = dim % (axes.rank(node.inputs[0]) + 1)
    return axes.put(node, Axis(axis.place + (place <= axis.place), axis.parts))


SHAPES: Mapping[str, Callable[[Axes, Node], bool]] = {
    "aten::flatten": flatten,
    "aten::view": view,
    "aten::reshape": view,
    "aten::permute": permute,
    "aten::transpose": transpose,
    "aten::select": select,
    "aten::slice": select,
    "aten::mean": reduce,
    "aten::amax": reduce,
    "aten::sum": reduce,
    "aten::squeeze": squeeze,
    "aten::unsqueeze": unsqueeze,
}
