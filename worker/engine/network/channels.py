"""Width surgery: follow each axis of channels through the program and scale it.

Every hidden layer's outputs get a variable; operations that need two axes to agree tie
their variables; whatever is not understood pins the variables it touches to the size
they have. What stays free is scaled.
"""

from collections.abc import Callable
from dataclasses import replace

from worker.engine.network.axes import Axes
from worker.engine.network.channel_joins import JOINS, KEEPING, pool, same
from worker.engine.network.channel_layers import LAYERS
from worker.engine.network.channel_shapes import SHAPES
from worker.engine.network.editing import Edited, SurgeryImpossible
from worker.engine.network.facts import ACTIVATIONS, kind_of
from worker.engine.network.kernels import DROPOUTS
from worker.engine.network.program import Node

_BY_OPERATOR = {**JOINS, **SHAPES}


def widened(edited: Edited, factor: float, least: int = 1) -> Edited:
    """Scale every hidden axis that can be followed.

    Args:
        edited: the network.
        factor: times which its channels are due.
        least: channels that each has then.

    Raises:
        SurgeryImpossible: none can.
    """
    axes = Axes(edited, factor, least)
    for node in edited.nodes:
        _follow(axes, node)
    axes.pin_operand(edited.program.output)
    widths = axes.widths
    free = widths.free()
    if not free:
        raise SurgeryImpossible("no hidden width can be changed with certainty")
    if all(widths.size(v) == widths.sizes[v] for v in free):
        raise SurgeryImpossible("every hidden width stays as it is at this factor")
    return _resized(axes)


def _follow(axes: Axes, node: Node) -> None:
    """Follow the channels through a node, or pin what is not understood."""
    follow = _how_to_follow(axes, node)
    if follow is None or not follow(axes, node):
        for operand in node.inputs:
            axes.pin_operand(operand)
        for slot in node.outputs:
            axes.known.setdefault(slot, None)


def _how_to_follow(axes: Axes, node: Node) -> Callable[[Axes, Node], bool] | None:
    kind = str(kind_of(node, axes.producers))
    if kind in LAYERS:
        return LAYERS[kind]
    if node.kind in KEEPING or node.kind in DROPOUTS or node.kind in ACTIVATIONS:
        return same
    if kind == "pool":
        return pool
    return _BY_OPERATOR.get(node.kind)


def _resized(axes: Axes) -> Edited:
    """Give parameters, buffers and sizes in the program what the variables say."""
    made = axes.edited.replaced(axes.rewritten)
    parameters, buffers = dict(made.parameters), dict(made.buffers)
    shapes: dict[str, list[int]] = {}
    for claim in axes.claims:
        held = parameters if claim.name in parameters else buffers
        shape = shapes.setdefault(claim.name, list(held[claim.name].shape))
        shape[claim.place] = axes.widths.total(claim.parts) * claim.times
    for name, shape in shapes.items():
        held = parameters if name in parameters else buffers
        if list(held[name].shape) != shape:
            fill = 1.0 if name.endswith("running_var") else 0.0
            held[name] = held[name].new_full(shape, fill)
    return replace(made, parameters=parameters, buffers=buffers)
