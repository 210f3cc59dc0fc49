"""Width surgery: follow each axis of channels through the program and scale it.

Every hidden layer's outputs get a variable; operations that need two axes to agree tie
their variables; whatever is not understood pins the variables it touches to the size
they have. What stays free is scaled.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from worker.engine.network.editing import Edited, Shape, SurgeryImpossible
from worker.engine.network.facts import ACTIVATIONS, bias_of, kind_of, weight_of
from worker.engine.network.kernels import DROPOUTS, RecurrentSettings
from worker.engine.network.program import (
    BufferNames,
    Constant,
    Node,
    Operand,
    Parameter,
    Slot,
)


@dataclass(frozen=True)
class Part:
    """A run of an axis: a variable's size, times what was folded into it."""

    variable: int
    times: int = 1


@dataclass(frozen=True)
class Axis:
    """The axis of a tensor on which the variables lie."""

    place: int
    parts: tuple[Part, ...]


@dataclass
class _Claim:
    """An axis of a parameter or buffer whose size follows variables."""

    name: str
    place: int
    parts: tuple[Part, ...]
    times: int = 1  # gates of a recurrent layer


def widened(edited: Edited, factor: float) -> Edited:
    """Scale every hidden axis that can be followed.

    Raises:
        SurgeryImpossible: none can.
    """
    return _Widening(edited, factor).run()


class _Widening:
    def __init__(self, edited: Edited, factor: float) -> None:
        self.edited = edited
        self.factor = factor
        self.producers = edited.program.producers()
        self.last = edited.last_weighted()
        self.sizes: list[int] = []
        self.ties: list[int] = []
        self.pinned: set[int] = set()
        self.steps: dict[int, int] = {}
        self.axes: dict[int, Axis | None] = {0: None}
        self.claims: list[_Claim] = []
        self.rewrites: dict[int, list[Callable[[Node], Node]]] = {}

    def run(self) -> Edited:
        for node in self.edited.nodes:
            self._node(node)
        self._pin_operand(self.edited.program.output)
        free = [
            v
            for v in range(len(self.sizes))
            if self._root(v) == v and v not in self.pinned
        ]
        if not free:
            raise SurgeryImpossible("no hidden width can be changed with certainty")
        if all(self.size(v) == self.sizes[v] for v in free):
            raise SurgeryImpossible("every hidden width stays as it is at this factor")
        made = self.edited.replaced(self._rewritten)
        parameters, buffers = dict(made.parameters), dict(made.buffers)
        shapes: dict[str, list[int]] = {}
        for claim in self.claims:
            held = parameters if claim.name in parameters else buffers
            shape = shapes.setdefault(claim.name, list(held[claim.name].shape))
            shape[claim.place] = self.total(claim.parts) * claim.times
        for name, shape in shapes.items():
            held = parameters if name in parameters else buffers
            if list(held[name].shape) != shape:
                fill = 1.0 if name.endswith("running_var") else 0.0
                held[name] = held[name].new_full(shape, fill)
        return replace(made, parameters=parameters, buffers=buffers)

    # variables

    def _variable(self, size: int) -> int:
        self.sizes.append(size)
        self.ties.append(len(self.ties))
        return len(self.ties) - 1

    def _root(self, variable: int) -> int:
        while self.ties[variable] != variable:
            variable = self.ties[variable]
        return variable

    def _tie(self, one: int, other: int) -> None:
        one, other = self._root(one), self._root(other)
        if one == other:
            return
        self.ties[other] = one
        step = math.lcm(self.steps.get(one, 1), self.steps.get(other, 1))
        self.steps[one] = step
        if other in self.pinned:
            self.pinned.add(one)

    def _pin(self, axis: Axis | None) -> None:
        for part in axis.parts if axis else ():
            self.pinned.add(self._root(part.variable))

    def _pin_operand(self, operand: Operand) -> None:
        if not isinstance(operand, Slot):
            return
        self._pin(self.axes.get(operand.number))
        listed = self.producers.get(operand.number)
        if listed is not None and listed.kind == "prim::ListConstruct":
            for part in listed.inputs:
                self._pin_operand(part)

    def size(self, variable: int) -> int:
        """New size of a variable."""
        root = self._root(variable)
        if root in self.pinned:
            return self.sizes[root]
        step = self.steps.get(root, 1)
        return max(step, round(self.sizes[root] * self.factor / step) * step)

    def total(self, parts: tuple[Part, ...]) -> int:
        """New size of an axis."""
        return sum(self.size(part.variable) * part.times for part in parts)

    # nodes

    def _axis(self, operand: Operand) -> Axis | None:
        return self.axes.get(operand.number) if isinstance(operand, Slot) else None

    def _shape(self, slot: int) -> Shape:
        return self.edited.shapes.get(slot, ())

    def _node(self, node: Node) -> None:
        handler = self._handler(node)
        if handler is None or not handler(node):
            for operand in node.inputs:
                self._pin_operand(operand)
            for slot in node.outputs:
                self.axes.setdefault(slot, None)

    def _handler(self, node: Node) -> Callable[[Node], bool] | None:
        kind = kind_of(node, self.producers)
        if kind in {"linear", "conv", "embedding", "recurrent", "norm"}:
            return {
                "linear": self._linear,
                "conv": self._conv,
                "embedding": self._embedding,
                "recurrent": self._recurrent,
                "norm": self._norm,
            }[str(kind)]
        if node.kind in _SAME or node.kind in DROPOUTS or node.kind in ACTIVATIONS:
            return self._same
        if kind == "pool":
            return self._pool
        return {
            "aten::add": self._together,
            "aten::sub": self._together,
            "aten::mul": self._together,
            "aten::div": self._together,
            "aten::cat": self._cat,
            "aten::stack": self._stack,
            "prim::ListConstruct": self._list,
            "aten::flatten": self._flatten,
            "aten::view": self._view,
            "aten::reshape": self._view,
            "aten::permute": self._permute,
            "aten::transpose": self._transpose,
            "aten::select": self._select,
            "aten::slice": self._select,
            "aten::mean": self._reduce,
            "aten::amax": self._reduce,
            "aten::sum": self._reduce,
            "aten::squeeze": self._squeeze,
            "aten::unsqueeze": self._unsqueeze,
            "aten::size": self._nothing,
            "aten::zeros": self._nothing,
            "prim::device": self._nothing,
            "prim::dtype": self._nothing,
        }.get(node.kind)

    def _nothing(self, node: Node) -> bool:
        """A size that varies with the batch, or zeros that a recurrent layer claims."""
        if node.kind == "aten::size":
            axis = self._axis(node.inputs[0])
            dim = _constant(node, 1)
            rank = self._rank(node.inputs[0])
            if axis is not None and (dim is None or dim % max(rank, 1) == axis.place):
                return False
        self.axes[node.outputs[0]] = None
        return True

    def _rank(self, operand: Operand) -> int:
        return len(self._shape(operand.number)) if isinstance(operand, Slot) else 0

    def _set(self, node: Node, axis: Axis | None) -> bool:
        self.axes[node.outputs[0]] = axis
        return True

    def _claim(
        self, operand: Operand, place: int, parts: tuple[Part, ...], times: int = 1
    ) -> bool:
        if not isinstance(operand, Parameter):
            return not (isinstance(operand, Constant) and operand.value is not None)
        self.claims.append(_Claim(operand.name, place, parts, times))
        return True

    def _outputs(self, node: Node, size: int) -> int:
        variable = self._variable(size)
        if node is self.last:
            self.pinned.add(variable)
        return variable

    def _linear(self, node: Node) -> bool:
        found = weight_of(node, self.producers)
        source = node.inputs[1 if node.kind == "aten::addmm" else 0]
        if found is None:
            return False
        weight, turned = found
        shape = self.edited.parameters[weight.name].shape
        axis = self._axis(source)
        rank = self._rank(source)
        if len(shape) != 2 or rank == 0:  # noqa: PLR2004
            return False
        if axis is not None:
            if axis.place != rank - 1:
                return False
            self.claims.append(_Claim(weight.name, 0 if turned else 1, axis.parts))
        variable = self._outputs(node, shape[1] if turned else shape[0])
        parts = (Part(variable),)
        self.claims.append(_Claim(weight.name, 1 if turned else 0, parts))
        bias = bias_of(node)
        if bias is not None:
            self.claims.append(_Claim(bias.name, 0, parts))
        return self._set(node, Axis(rank - 1, parts))

    def _conv(self, node: Node) -> bool:
        weight = node.inputs[1]
        axis = self._axis(node.inputs[0])
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
        groups = _constant(node, place)
        if place == 8 and _constant(node, 6):  # noqa: PLR2004
            return False
        shape = self.edited.parameters[weight.name].shape
        if (
            axis is not None
            and axis.place != self._rank(node.inputs[0]) - len(shape) + 1
        ):
            return False
        ins, outs = (0, 1) if "transpose" in node.kind else (1, 0)
        if groups == 1:
            if axis is not None:
                self.claims.append(_Claim(weight.name, ins, axis.parts))
            parts: tuple[Part, ...] = (Part(self._outputs(node, shape[outs])),)
        elif (
            axis is not None and outs == 0 and groups == shape[0] and shape[1] == 1
        ):  # depthwise
            parts = axis.parts
            if node is self.last:
                self._pin(axis)
            self._rewrite(node, lambda n: _with(n, place, self.total(parts)))
        else:
            return False
        self.claims.append(_Claim(weight.name, outs, parts))
        if not self._claim(node.inputs[2], 0, parts):
            return False
        return self._set(
            node, Axis(self._rank(Slot(node.outputs[0])) - len(shape) + 1, parts)
        )

    def _embedding(self, node: Node) -> bool:
        weight = node.inputs[0]
        if not isinstance(weight, Parameter) or node.kind != "aten::embedding":
            return False
        variable = self._outputs(node, self.edited.parameters[weight.name].shape[1])
        parts = (Part(variable),)
        self.claims.append(_Claim(weight.name, 1, parts))
        return self._set(node, Axis(self._rank(Slot(node.outputs[0])) - 1, parts))

    def _recurrent(self, node: Node) -> bool:  # noqa: C901
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
        source = self._axis(node.inputs[1])
        if source is not None and source.place != self._rank(node.inputs[1]) - 1:
            return False
        starts = [self._zeros(operand) for operand in node.inputs[2 : 2 + states]]
        second = weights[1]
        if None in starts or not isinstance(second, Parameter):
            return False
        hidden = self.edited.parameters[second.name].shape[1]
        variable = self._outputs(node, hidden)
        own = (Part(variable),)
        for place, operand in enumerate(weights):
            if not isinstance(operand, Parameter):
                return False
            layer, which = divmod(place, apiece * directions)[0], place % apiece
            self.claims.append(_Claim(operand.name, 0, own, gates))
            if which == 1:
                self.claims.append(_Claim(operand.name, 1, own))
            elif which == 0 and layer > 0:
                self.claims.append(_Claim(operand.name, 1, own * directions))
            elif which == 0 and source is not None:
                self.claims.append(_Claim(operand.name, 1, source.parts))
        for start in starts:
            if start is not None:
                self._rewrite(start[0], partial(self._resized, start[1], own))
        rank = self._rank(Slot(node.outputs[0]))
        self._set(node, Axis(rank - 1, own * directions))
        for slot in node.outputs[1:]:
            self.axes[slot] = Axis(self._rank(Slot(slot)) - 1, own)
        return True

    def _zeros(self, operand: Operand) -> tuple[Node, bool] | None:
        """Find what holds the size of an initial state: a list, or the zeros."""
        zeros = (
            self.producers.get(operand.number) if isinstance(operand, Slot) else None
        )
        if zeros is None or zeros.kind != "aten::zeros":
            return None
        sizes = zeros.inputs[0]
        if isinstance(sizes, Slot):
            listed = self.producers.get(sizes.number)
            return None if listed is None else (listed, True)
        return zeros, False

    def _resized(self, listed: bool, parts: tuple[Part, ...], node: Node) -> Node:  # noqa: FBT001
        if listed:
            return replace(
                node, inputs=(*node.inputs[:-1], Constant(self.total(parts)))
            )
        sizes = list(_constant(node, 0))
        sizes[-1] = self.total(parts)
        return _with(node, 0, sizes)

    def _norm(self, node: Node) -> bool:
        source = node.inputs[0]
        axis, rank = self._axis(source), self._rank(source)
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
                    self.claims.append(_Claim(name, 0, parts))
            weights = node.inputs[1:3]
        elif node.kind == "aten::layer_norm":
            if axis.place != rank - 1 or len(list(_constant(node, 1) or ())) != 1:
                return False
            self._rewrite(node, lambda n: _with(n, 1, [self.total(parts)]))
            weights = node.inputs[2:4]
        elif node.kind == "aten::group_norm":
            groups = _constant(node, 1)
            if axis.place != 1 or not isinstance(groups, int) or len(parts) != 1:
                return False
            root = self._root(parts[0].variable)
            self.steps[root] = math.lcm(self.steps.get(root, 1), groups)
            weights = node.inputs[2:4]
        else:
            return False
        return all(self._claim(w, 0, parts) for w in weights) and self._set(node, axis)

    def _same(self, node: Node) -> bool:
        axis = self._axis(node.inputs[0])
        if node.kind == "aten::prelu" and isinstance(node.inputs[1], Parameter):
            held = self.edited.parameters[node.inputs[1].name]
            if held.numel() > 1 and axis is not None:
                self.claims.append(_Claim(node.inputs[1].name, 0, axis.parts))
        if node.kind == "aten::glu":
            return False
        return self._set(node, axis)

    def _pool(self, node: Node) -> bool:
        if len(node.outputs) > 1:
            return False
        axis = self._axis(node.inputs[0])
        spatial = int(node.kind[-2]) if node.kind[-1] == "d" else 0
        if axis is not None and axis.place != self._rank(node.inputs[0]) - spatial - 1:
            return False
        return self._set(node, axis)

    def _together(self, node: Node) -> bool:  # noqa: C901
        """Element-wise with another: the axes must agree, counted from the right."""
        rank = self._rank(Slot(node.outputs[0]))
        found: list[tuple[int, tuple[Part, ...]]] = []
        for operand in node.inputs[:2]:
            if isinstance(operand, Slot) and self._rank(operand):
                axis = self._axis(operand)
                if axis is None:
                    shape = self._shape(operand.number)
                    if any(size != 1 for size in shape[1:]):
                        return False
                    continue
                found.append((axis.place - self._rank(operand), axis.parts))
        if not found or any(place != found[0][0] for place, _ in found):
            return False
        place, parts = found[0]
        for _, others in found[1:]:
            if not self._tie_all(parts, others):
                return False
        for operand in node.inputs[:2]:
            if isinstance(operand, Parameter):
                shape = self.edited.parameters[operand.name].shape
                if len(shape) >= -place and shape[place] != 1:
                    self.claims.append(_Claim(operand.name, len(shape) + place, parts))
            elif _is_large(operand):
                return False
        return self._set(node, Axis(rank + place, parts))

    def _tie_all(self, one: tuple[Part, ...], other: tuple[Part, ...]) -> bool:
        if [part.times for part in one] != [part.times for part in other]:
            return False
        pairs = list(zip(one, other, strict=True))
        if any(
            self.sizes[self._root(a.variable)] != self.sizes[self._root(b.variable)]
            for a, b in pairs
        ):
            return False
        for a, b in pairs:
            self._tie(a.variable, b.variable)
        return True

    def _list(self, node: Node) -> bool:
        """Lists are seen through where they are read."""
        self.axes[node.outputs[0]] = None
        return True

    def _cat(self, node: Node) -> bool:
        held = node.inputs[0]
        listed = self.producers.get(held.number) if isinstance(held, Slot) else None
        dim = _constant(node, 1)
        if listed is None or not isinstance(dim, int):
            return False
        rank = self._rank(Slot(node.outputs[0]))
        axes = [self._axis(operand) for operand in listed.inputs]
        known = [axis for axis in axes if axis is not None]
        if len(known) != len(axes) or len({axis.place for axis in known}) != 1:
            for axis in known:
                self._pin(axis)
            return False
        place = known[0].place
        if dim % rank == place:
            parts = tuple(part for axis in known for part in axis.parts)
            return self._set(node, Axis(place, parts))
        for axis in known[1:]:
            if not self._tie_all(known[0].parts, axis.parts):
                for one in known:
                    self._pin(one)
                return False
        return self._set(node, known[0])

    def _stack(self, node: Node) -> bool:
        held, dim = node.inputs[0], _constant(node, 1)
        listed = self.producers.get(held.number) if isinstance(held, Slot) else None
        if listed is None or not isinstance(dim, int):
            return False
        axes = [self._axis(operand) for operand in listed.inputs]
        first = axes[0]
        if first is None:
            return False
        for axis in axes[1:]:
            if axis is None or not self._tie_all(first.parts, axis.parts):
                return False
        place = dim % self._rank(Slot(node.outputs[0]))
        return self._set(node, Axis(first.place + (place <= first.place), first.parts))

    def _flatten(self, node: Node) -> bool:
        source = node.inputs[0]
        axis, rank = self._axis(source), self._rank(source)
        start, end = _constant(node, 1), _constant(node, 2)
        if axis is None or not isinstance(start, int) or not isinstance(end, int):
            return False
        start, end = start % rank, end % rank
        return self._set(node, self._folded(source, axis, start, end))

    def _folded(self, source: Operand, axis: Axis, start: int, end: int) -> Axis | None:
        """Where an axis goes when a run of dimensions becomes one."""
        if axis.place < start:
            return axis
        if axis.place > end:
            return Axis(axis.place - (end - start), axis.parts)
        shape = self._shape(source.number) if isinstance(source, Slot) else ()
        others = [shape[dim] for dim in range(start, end + 1) if dim != axis.place]
        known = [size for size in others if size is not None]
        if len(known) != len(others):
            self._pin(axis)
            return None
        times = math.prod(known)
        parts = tuple(Part(part.variable, part.times * times) for part in axis.parts)
        return Axis(start, parts)

    def _view(self, node: Node) -> bool:
        """A view that only flattens everything from some dimension on."""
        source = node.inputs[0]
        axis = self._axis(source)
        old = self._shape(source.number) if isinstance(source, Slot) else ()
        new = self._shape(node.outputs[0])
        if axis is None or not new or old[: len(new) - 1] != new[:-1]:
            return False
        folded = self._folded(source, axis, len(new) - 1, len(old) - 1)
        if folded is None or folded.place != len(new) - 1:
            return False
        parts = folded.parts
        sizes = node.inputs[1]
        if isinstance(sizes, Constant):
            last = sizes.value[-1]
            if last != -1:
                self._rewrite(
                    node,
                    lambda n: _with(
                        n, 1, [*list(_constant(n, 1) or ())[:-1], self.total(parts)]
                    ),
                )
        else:
            listed = self.producers[sizes.number] if isinstance(sizes, Slot) else None
            final = listed.inputs[-1] if listed is not None else None
            if listed is None or not isinstance(final, Constant):
                return False
            if final.value != -1:
                self._rewrite(
                    listed,
                    lambda n: replace(
                        n, inputs=(*n.inputs[:-1], Constant(self.total(parts)))
                    ),
                )
        return self._set(node, folded)

    def _permute(self, node: Node) -> bool:
        axis, order = self._axis(node.inputs[0]), _constant(node, 1)
        rank = self._rank(node.inputs[0])
        if axis is None or not isinstance(order, list):
            return False
        turned = [dim % rank for dim in order]
        return self._set(node, Axis(turned.index(axis.place), axis.parts))

    def _transpose(self, node: Node) -> bool:
        axis, rank = self._axis(node.inputs[0]), self._rank(node.inputs[0])
        one, other = _constant(node, 1), _constant(node, 2)
        if axis is None or not isinstance(one, int) or not isinstance(other, int):
            return False
        one, other = one % rank, other % rank
        place = {one: other, other: one}.get(axis.place, axis.place)
        return self._set(node, Axis(place, axis.parts))

    def _select(self, node: Node) -> bool:
        """Select or slice along another dimension."""
        axis, rank = self._axis(node.inputs[0]), self._rank(node.inputs[0])
        dim = _constant(node, 1)
        if axis is None or not isinstance(dim, int) or dim % rank == axis.place:
            return False
        gone = node.kind == "aten::select" and dim % rank < axis.place
        return self._set(node, Axis(axis.place - gone, axis.parts))

    def _reduce(self, node: Node) -> bool:
        axis, rank = self._axis(node.inputs[0]), self._rank(node.inputs[0])
        dims = _constant(node, 1)
        dims = [dims] if isinstance(dims, int) else dims
        if axis is None or not isinstance(dims, list) or not dims:
            return False
        gone = {dim % rank for dim in dims}
        if axis.place in gone:
            return False
        kept = self._rank(Slot(node.outputs[0])) == rank
        shift = 0 if kept else sum(dim < axis.place for dim in gone)
        return self._set(node, Axis(axis.place - shift, axis.parts))

    def _squeeze(self, node: Node) -> bool:
        axis, rank = self._axis(node.inputs[0]), self._rank(node.inputs[0])
        dims = _constant(node, 1)
        dims = [dims] if isinstance(dims, int) else dims
        if axis is None or not isinstance(dims, list):
            return False
        shape = (
            self._shape(node.inputs[0].number)
            if isinstance(node.inputs[0], Slot)
            else ()
        )
        gone = {dim % rank for dim in dims if shape[dim % rank] == 1}
        if axis.place in gone:
            return False
        return self._set(
            node, Axis(axis.place - sum(dim < axis.place for dim in gone), axis.parts)
        )

    def _unsqueeze(self, node: Node) -> bool:
        axis, dim = self._axis(node.inputs[0]), _constant(node, 1)
        if axis is None or not isinstance(dim, int):
            return False
        place = dim % (self._rank(node.inputs[0]) + 1)
        return self._set(node, Axis(axis.place + (place <= axis.place), axis.parts))

    def _rewrite(self, node: Node, change: Callable[[Node], Node]) -> None:
        self.rewrites.setdefault(id(node), []).append(change)

    def _rewritten(self, node: Node) -> Node:
        for change in self.rewrites.get(id(node), []):
            node = change(node)
        return node


_SAME = frozenset(
    {
        "aten::contiguous",
        "aten::to",
        "aten::detach",
        "aten::clone",
        "aten::neg",
        "aten::abs",
    }
)


def _is_large(operand: Operand) -> bool:
    """Tell whether an operand is a constant tensor of more than one value."""
    value = operand.value if isinstance(operand, Constant) else None
    return isinstance(value, torch.Tensor) and value.numel() > 1


def _constant(node: Node, place: int) -> Any:  # noqa: ANN401
    operand = node.inputs[place] if place < len(node.inputs) else None
    return operand.value if isinstance(operand, Constant) else None


def _with(node: Node, place: int, value: object) -> Node:
    inputs = list(node.inputs)
    inputs[place] = Constant(value)
    return replace(node, inputs=tuple(inputs))
