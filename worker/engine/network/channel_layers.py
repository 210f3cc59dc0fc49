"""Channels through layers with weights: each makes, or follows, an axis."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from worker.engine.network.axes import Axes, Axis, constant, with_constant
from worker.engine.network.facts import bias_of, weight_of
from worker.engine.network.program import (
    BufferNames,
    Constant,
    Node,
    Operand,
    Parameter,
    Slot,
)
from worker.engine.network.recurrent import RecurrentSettings
from worker.engine.network.widths import Parts


def linear(axes: Axes, node: Node) -> bool:
    """A dense layer: its inputs follow, its outputs are a variable of their own."""
    found = weight_of(node, axes.producers)
    source = node.inputs[1 if node.kind == "aten::addmm" else 0]
    if found is None:
        return False
    weight, turned = found
    shape = axes.edited.parameters[weight.name].shape
    axis = axes.axis(source)
    rank = axes.rank(source)
    if len(shape) != 2 or rank == 0:  # noqa: PLR2004
        return False
    if axis is not None:
        if axis.place != rank - 1:
            return False
        axes.claim(weight.name, 0 if turned else 1, axis.parts)
    parts = axes.outputs(node, shape[1] if turned else shape[0])
    axes.claim(weight.name, 1 if turned else 0, parts)
    bias = bias_of(node)
    if bias is not None:
        axes.claim(bias.name, 0, parts)
    return axes.put(node, Axis(rank - 1, parts))


def conv(axes: Axes, node: Node) -> bool:
    """A convolution; a depthwise one carries its channels on."""
    weight = node.inputs[1]
    axis = axes.axis(node.inputs[0])
    if not isinstance(weight, Parameter) or node.kind not in {
        "aten::conv1d",
        "aten::conv2d",
        "aten::conv3d",
        "aten::conv_transpose1d",
        "aten::conv_transpose2d",
        "aten::conv_transpose3d",
        "aten::_convolution",
    }:
        return False
    place = 8 if node.kind == "aten::_convolution" else 6
    groups = constant(node, place)
    if place == 8 and constant(node, 6):  # noqa: PLR2004
        return False
    shape = axes.edited.parameters[weight.name].shape
    if axis is not None and axis.place != axes.rank(node.inputs[0]) - len(shape) + 1:
        return False
    ins, outs = (0, 1) if "transpose" in node.kind else (1, 0)
    if groups == 1:
        if axis is not None:
            axes.claim(weight.name, ins, axis.parts)
        parts = axes.outputs(node, shape[outs])
    elif (
        axis is not None and outs == 0 and groups == shape[0] and shape[1] == 1
    ):  # depthwise
        parts = axis.parts
        if node is axes.last:
            axes.pin(axis)
        axes.rewrite(node, lambda n: with_constant(n, place, axes.widths.total(parts)))
    else:
        return False
    axes.claim(weight.name, outs, parts)
    if not axes.claim_vector(node.inputs[2], parts):
        return False
    return axes.put(
        node, Axis(axes.rank(Slot(node.outputs[0])) - len(shape) + 1, parts)
    )


def embedding(axes: Axes, node: Node) -> bool:
    """A table of vectors: their length is a variable."""
    weight = node.inputs[0]
    if not isinstance(weight, Parameter) or node.kind != "aten::embedding":
        return False
    parts = axes.outputs(node, axes.edited.parameters[weight.name].shape[1])
    axes.claim(weight.name, 1, parts)
    return axes.put(node, Axis(axes.rank(Slot(node.outputs[0])) - 1, parts))


def recurrent(axes: Axes, node: Node) -> bool:  # noqa: C901
    """A recurrent layer: all its layers and gates share one hidden size."""
    held = node.inputs[0]
    settings = held.value if isinstance(held, Constant) else None
    if not isinstance(settings, RecurrentSettings):
        return False
    states = 2 if settings.cell == "lstm" else 1
    gates = {"lstm": 4, "gru": 3}.get(settings.cell, 1)
    weights = node.inputs[2 + states :]
    directions = 2 if settings.bidirectional else 1
    apiece = len(weights) // (settings.layers * directions)
    if apiece != (4 if settings.biases else 2):
        return False  # projections
    source = axes.axis(node.inputs[1])
    if source is not None and source.place != axes.rank(node.inputs[1]) - 1:
        return False
    starts = [_zeros(axes, operand) for operand in node.inputs[2 : 2 + states]]
    second = weights[1]
    if None in starts or not isinstance(second, Parameter):
        return False
    hidden = axes.edited.parameters[second.name].shape[1]
    own = axes.outputs(node, hidden)
    for place, operand in enumerate(weights):
        if not isinstance(operand, Parameter):
            return False
        layer, which = divmod(place, apiece * directions)[0], place % apiece
        axes.claim(operand.name, 0, own, gates)
        if which == 1:
            axes.claim(operand.name, 1, own)
        elif which == 0 and layer > 0:
            axes.claim(operand.name, 1, own * directions)
        elif which == 0 and source is not None:
            axes.claim(operand.name, 1, source.parts)
    for start in starts:
        if start is not None:
            axes.rewrite(start[0], partial(_resized, axes, own, listed=start[1]))
    rank = axes.rank(Slot(node.outputs[0]))
    axes.put(node, Axis(rank - 1, own * directions))
    for slot in node.outputs[1:]:
        axes.known[slot] = Axis(axes.rank(Slot(slot)) - 1, own)
    return True


def _zeros(axes: Axes, operand: Operand) -> tuple[Node, bool] | None:
    """Find what holds the size of an initial state: a list, or the zeros."""
    zeros = axes.maker(operand)
    if zeros is None or zeros.kind != "aten::zeros":
        return None
    sizes = zeros.inputs[0]
    if isinstance(sizes, Slot):
        listed = axes.maker(sizes)
        return None if listed is None else (listed, True)
    return zeros, False


def _resized(axes: Axes, parts: Parts, node: Node, *, listed: bool) -> Node:
    if listed:
        return replace(
            node, inputs=(*node.inputs[:-1], Constant(axes.widths.total(parts)))
        )
    sizes = list(constant(node, 0))
    sizes[-1] = axes.widths.total(parts)
    return with_constant(node, 0, sizes)


def norm(axes: Axes, node: Node) -> bool:
    """A norm: one scale and shift a channel."""
    source = node.inputs[0]
    axis, rank = axes.axis(source), axes.rank(source)
    if axis is None:
        return False
    parts = axis.parts
    if node.kind in {"net::batch_norm", "net::instance_norm"}:
        if axis.place != 1:
            return False
        stats = node.inputs[3]
        names = stats.value if isinstance(stats, Constant) else None
        for name in names[:2] if isinstance(names, BufferNames) else ():
            if name is not None:
                axes.claim(name, 0, parts)
        weights = node.inputs[1:3]
    elif node.kind == "aten::layer_norm":
        if axis.place != rank - 1 or len(list(constant(node, 1) or ())) != 1:
            return False
        axes.rewrite(node, lambda n: with_constant(n, 1, [axes.widths.total(parts)]))
        weights = node.inputs[2:4]
    elif node.kind == "aten::group_norm":
        groups = constant(node, 1)
        if axis.place != 1 or not isinstance(groups, int) or len(parts) != 1:
            return False
        axes.widths.step(parts[0].variable, groups)
        weights = node.inputs[2:4]
    else:
        return False
    return all(axes.claim_vector(w, parts) for w in weights) and axes.put(node, axis)


LAYERS: Mapping[str, Callable[[Axes, Node], bool]] = {
    "linear": linear,
    "conv": conv,
    "embedding": embedding,
    "recurrent": recurrent,
    "norm": norm,
}
