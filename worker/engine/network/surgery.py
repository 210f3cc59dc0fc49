"""Changes to a network, made on its straight program.

A change that cannot be made with certainty is refused with the reason; what comes out
was run on samples of two batch sizes before it is handed on.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from worker.engine.network.channels import widened
from worker.engine.network.editing import Change, Edited, SurgeryImpossible
from worker.engine.network.facts import (
    bias_of,
    feeds_attention,
    kind_of,
    missing_activations,
    weight_of,
)
from worker.engine.network.kernels import DROPOUTS
from worker.engine.network.program import Constant, Node, Operand, Parameter, Slot
from worker.engine.network.recurrent import RecurrentSettings

ACTIVATION_NODES: dict[str, tuple[str, tuple[object, ...]]] = {
    "relu": ("aten::relu", ()),
    "leaky_relu": ("aten::leaky_relu", (0.01,)),
    "tanh": ("aten::tanh", ()),
    "sigmoid": ("aten::sigmoid", ()),
    "gelu": ("aten::gelu", ("none",)),
    "elu": ("aten::elu", (1.0, 1, 1)),
    "selu": ("aten::selu", ()),
    "silu": ("aten::silu", ()),
}
KEEP_LAST = "last"  # of the output's activations
# Not element-wise, or no activation that a hidden layer of this shape could swap.
_NOT_SWAPPED = frozenset({"aten::glu", "aten::clamp"})


def _activation_node(name: str, source: Operand, slot: int) -> Node:
    op, settings = ACTIVATION_NODES[name]
    given = tuple(Constant(value) for value in settings)
    return Node(op, (source, *given), (slot,))


def _activation(edited: Edited, change: Change, _classes: int) -> Edited:
    name = change.to or ""
    if name not in ACTIVATION_NODES:
        known = ", ".join(ACTIVATION_NODES)
        raise SurgeryImpossible(f"no activation `{name}`; there are {known}")
    hidden = [n for n in edited.hidden_activations() if n.kind not in _NOT_SWAPPED]
    swapped = {node.outputs[0] for node in hidden}
    producers = edited.program.producers()
    readers = edited.program.readers()
    bare = [
        _after_norm(node, readers)
        for node in missing_activations(edited.program)
        if not feeds_attention(node, producers, readers)
    ]
    cells = [node for node in edited.nodes if _plain_cell(node)]
    fits_cells = bool(cells) and name in {"relu", "tanh"}
    if not hidden and not bare and not fits_cells:
        raise SurgeryImpossible("there is no hidden activation, and no place for one")

    def swap(node: Node) -> Node:
        if node.outputs[0] in swapped:
            return _activation_node(name, node.inputs[0], node.outputs[0])
        return node

    grown = edited.after(bare, lambda slot, new: _activation_node(name, slot, new))
    made = grown.replaced(swap) if hidden else grown
    return made.replaced(lambda n: _with_cell(n, name)) if fits_cells else made


def _after_norm(node: Node, readers: dict[int, list[Node]]) -> Node:
    """Step over the batch norm that follows a layer."""
    following = readers.get(node.outputs[0], [])
    if len(following) == 1 and following[0].kind == "net::batch_norm":
        return following[0]
    return node


def _plain_cell(node: Node) -> bool:
    held = node.inputs[0] if node.kind == "net::recurrent" else None
    settings = held.value if isinstance(held, Constant) else None
    return isinstance(settings, RecurrentSettings) and settings.cell.startswith("rnn_")


def _with_cell(node: Node, name: str) -> Node:
    if not _plain_cell(node) or not isinstance(node.inputs[0], Constant):
        return node
    settings = replace(node.inputs[0].value, cell=f"rnn_{name}")
    return replace(node, inputs=(Constant(settings), *node.inputs[1:]))


def _output(edited: Edited, change: Change, _classes: int) -> Edited:
    found = edited.output_activations()
    if change.to == KEEP_LAST:
        found = found[:-1]
    if not found:
        raise SurgeryImpossible("there is no such activation after the last layer")
    return edited.without(found)


def _dropout(edited: Edited, change: Change, _classes: int) -> Edited:
    p = change.p
    if p is None or not 0 <= p < 1:
        raise SurgeryImpossible(f"dropout of {p}; 0 <= p < 1 is expected")
    found = [node for node in edited.nodes if _drops(node)]
    if p == 0:
        if not found:
            raise SurgeryImpossible("there is no dropout to remove")
        plain = [node for node in found if node.kind in DROPOUTS]
        return edited.without(plain).replaced(lambda node: _with_p(node, 0.0))
    if found:
        return edited.replaced(lambda node: _with_p(node, p) if _drops(node) else node)
    places = edited.hidden_activations() or edited.weighted()[:-1]
    if not places:
        raise SurgeryImpossible("there is no hidden layer to put dropout after")

    def make(slot: Slot, new: int) -> Node:
        return Node("net::dropout", (slot, Constant(p)), (new,))

    return edited.after(places, make)


def _drops(node: Node) -> bool:
    held: Operand | None = None
    if node.kind in DROPOUTS:
        held = node.inputs[1]
    elif node.kind == "net::attention":
        held = node.inputs[4]
    elif node.kind == "net::recurrent":
        first = node.inputs[0]
        settings = first.value if isinstance(first, Constant) else None
        return isinstance(settings, RecurrentSettings) and (
            settings.p > 0 and settings.layers > 1
        )
    return isinstance(held, Constant) and held.value > 0


def _with_p(node: Node, p: float) -> Node:
    if node.kind in DROPOUTS:
        return replace(node, inputs=(node.inputs[0], Constant(p)))
    if node.kind == "net::attention":
        return replace(node, inputs=(*node.inputs[:4], Constant(p), *node.inputs[5:]))
    if node.kind == "net::recurrent" and isinstance(node.inputs[0], Constant):
        settings = replace(node.inputs[0].value, p=p)
        return replace(node, inputs=(Constant(settings), *node.inputs[1:]))
    return node


def _head(edited: Edited, _change: Change, classes: int) -> Edited:
    last = edited.last_weighted()
    producers = edited.program.producers()
    if kind_of(last, producers) != "linear":
        raise SurgeryImpossible("the last weighted layer is not a linear one")
    shape = edited.shapes.get(last.outputs[0], ())
    if len(shape) != 2:  # noqa: PLR2004
        raise SurgeryImpossible(
            f"the last layer returns shape {shape}, not one row a sample"
        )
    found = weight_of(last, producers)
    if found is None:
        raise SurgeryImpossible("the last layer's weight cannot be told")
    weight, turned = found
    if _reads_of(edited, weight.name) > 1:
        raise SurgeryImpossible("the last layer shares its weight with another")
    parameters = dict(edited.parameters)
    old = parameters[weight.name]
    inputs = old.shape[0] if turned else old.shape[1]
    size = (inputs, classes) if turned else (classes, inputs)
    parameters[weight.name] = old.new_zeros(size)
    bias = bias_of(last)
    if bias is not None:
        parameters[bias.name] = parameters[bias.name].new_zeros(classes)
    place = edited.nodes.index(last)
    kept = edited.with_nodes(edited.nodes[: place + 1], Slot(last.outputs[0]))
    return replace(kept, parameters=parameters)


def _reads_of(edited: Edited, name: str) -> int:
    return sum(
        isinstance(operand, Parameter) and operand.name == name
        for node in edited.nodes
        for operand in node.inputs
    )


def _width(edited: Edited, change: Change, _classes: int) -> Edited:
    if change.factor is None or not math.isfinite(change.factor) or change.factor <= 0:
        raise SurgeryImpossible(
            f"width times {change.factor}; a positive factor is due"
        )
    return widened(edited, change.factor, change.least or 1)


def _depth(edited: Edited, change: Change, _classes: int) -> Edited:
    square = [node for node in edited.weighted()[:-1] if _is_square(edited, node)]
    if change.factor == 2:  # noqa: PLR2004
        if not square:
            raise SurgeryImpossible("no hidden layer has as many outputs as inputs")
        return _deepened(edited, square)
    if change.factor == 0.5:  # noqa: PLR2004
        gone = square[1::2] or square[:1]
        if not gone:
            raise SurgeryImpossible("no hidden layer has as many outputs as inputs")
        following = [_own_activation(edited, node) for node in gone]
        return edited.without(
            [*gone, *[node for node in following if node is not None]]
        )
    raise SurgeryImpossible(f"depth times {change.factor}; 2 or 0.5 are expected")


def _is_square(edited: Edited, node: Node) -> bool:
    first = node.inputs[0]
    if any("_proj" in o.name for o in node.inputs if isinstance(o, Parameter)):
        return False  # part of attention
    if node.kind not in {"aten::linear", "aten::conv1d", "aten::conv2d"}:
        return False
    shapes = edited.shapes
    return (
        isinstance(first, Slot)
        and first.number != 0
        and shapes.get(first.number) == shapes.get(node.outputs[0])
    )


def _own_activation(edited: Edited, node: Node) -> Node | None:
    readers = edited.program.readers().get(node.outputs[0], [])
    hidden = {one.outputs[0] for one in edited.hidden_activations()}
    alone = len(readers) == 1 and readers[0].outputs[0] in hidden
    return readers[0] if alone else None


def _deepened(edited: Edited, square: list[Node]) -> Edited:
    parameters = dict(edited.parameters)
    made = edited
    for node in square:
        follower = _own_activation(made, node)
        renamed: dict[str, str] = {}
        for operand in node.inputs:
            if isinstance(operand, Parameter):
                owner, _, leaf = operand.name.rpartition(".")
                renamed[operand.name] = (
                    f"{owner}_again.{leaf}" if owner else f"{leaf}_again"
                )
                parameters[renamed[operand.name]] = parameters[operand.name].clone()

        def again(
            slot: Slot, new: int, node: Node = node, r: dict[str, str] = renamed
        ) -> Node:
            given = tuple(
                Parameter(r[o.name]) if isinstance(o, Parameter) else o
                for o in node.inputs[1:]
            )
            return replace(node, inputs=(slot, *given), outputs=(new,))

        made = made.after([follower or node], again)
        if follower is not None:
            place = [one.outputs[0] for one in made.nodes].index(follower.outputs[0])
            added = made.nodes[place + 1]

            def bend(slot: Slot, new: int, follower: Node = follower) -> Node:
                return replace(
                    follower, inputs=(slot, *follower.inputs[1:]), outputs=(new,)
                )

            made = made.after([added], bend)
    return replace(made, parameters=parameters)


def _batch_first(edited: Edited, _change: Change, _classes: int) -> Edited:
    """Let recurrent layers take the first axis for the batch, the second for time."""
    size = edited.program.size
    starts: dict[int, tuple[Node, ...]] = {}
    turned: set[int] = set()
    for node in edited.nodes:
        held = node.inputs[0] if node.kind == "net::recurrent" else None
        if not isinstance(held, Constant) or held.value.batch_first:
            continue
        turned.add(node.outputs[0])
        for start in edited.nodes:
            if Slot(start.outputs[0]) in node.inputs[2:] and start.outputs[0] not in (
                starts
            ):
                starts[start.outputs[0]] = _zeros_a_row(start, node.inputs[1], size)
                size += 2
    if not turned:
        raise SurgeryImpossible("no recurrent layer takes the first axis for time")

    def turn(node: Node) -> Node | tuple[Node, ...]:
        if node.outputs[0] in starts:
            return starts[node.outputs[0]]
        if node.outputs[0] not in turned or not isinstance(node.inputs[0], Constant):
            return node
        settings = replace(node.inputs[0].value, batch_first=True)
        return replace(node, inputs=(Constant(settings), *node.inputs[1:]))

    return edited.replaced(turn)


def _zeros_a_row(start: Node, x: Operand, size: int) -> tuple[Node, ...]:
    """A recurrent layer's initial state of zeros, for as many rows as there are."""
    shape = start.inputs[0] if start.kind == "aten::zeros" else None
    if not isinstance(shape, Constant) or len(shape.value) != 3:  # noqa: PLR2004
        raise SurgeryImpossible("the initial state is not made of zeros")
    layers, _, width = shape.value
    rows = Node("aten::size", (x, Constant(0)), (size,))
    listed = Node(
        "prim::ListConstruct",
        (Constant(layers), Slot(size), Constant(width)),
        (size + 1,),
    )
    return rows, listed, replace(start, inputs=(Slot(size + 1), *start.inputs[1:]))


def _reorder(edited: Edited, change: Change, _classes: int) -> Edited:
    """Put the outputs into another order, whatever made them."""
    order = Constant(torch.tensor(change.order or (), dtype=torch.int64))
    size = edited.program.size
    picked = Node(
        "aten::index_select", (edited.program.output, Constant(-1), order), (size,)
    )
    return edited.with_nodes((*edited.nodes, picked), Slot(size))


Surgeon = Callable[[Edited, Change, int], Edited]
SURGEONS: dict[str, Surgeon] = {
    "activation": _activation,
    "output": _output,
    "dropout": _dropout,
    "head": _head,
    "width": _width,
    "depth": _depth,
    "batch_first": _batch_first,
    "reorder": _reorder,
}
