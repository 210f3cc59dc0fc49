"""A straight program opened for surgery."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch

from worker.engine.network.facts import (
    ACTIVATIONS,
    WEIGHTED,
    is_activation,
    is_attention_softmax,
    kind_of,
)
from worker.engine.network.program import (
    Body,
    Node,
    Operand,
    Program,
    Slot,
    rename,
    without_dead_nodes,
)

Tensors = dict[str, torch.Tensor]
Shape = tuple[int | None, ...]


class SurgeryImpossible(Exception):  # noqa: N818
    """The network does not admit the change; the message says why."""


class Change(Protocol):
    """What surgery reads of a change: `NetworkChange` of the lab, for one."""

    @property
    def name(self) -> str:
        """Which surgery."""

    @property
    def to(self) -> str | None:
        """Activation, or family of reference networks."""

    @property
    def order(self) -> tuple[int, ...] | None:
        """Of the outputs: which of them stands at each place."""

    @property
    def codes(self) -> tuple[int, ...] | None:
        """Of the columns of a table: how many codes each has, 0 for a quantity."""

    @property
    def factor(self) -> float | None:
        """Of width or depth."""

    @property
    def least(self) -> int | None:
        """Of width: channels that every hidden layer has."""

    @property
    def p(self) -> float | None:
        """Probability of dropout."""


@dataclass
class Edited:
    """A straight program with its tensors, as surgery works on it.

    Attributes:
        program: straight.
        parameters: by name; shapes decide, values are drawn afresh before training.
        buffers: by name.
        shapes: of each tensor slot before surgery, None where it varies.
    """

    program: Program
    parameters: Tensors
    buffers: Tensors
    shapes: dict[int, Shape] = field(default_factory=dict)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, in order."""
        return self.program.body.nodes

    def replaced(self, change: Callable[[Node], Node | Iterable[Node]]) -> "Edited":
        """Copy with every node replaced by what `change` makes of it."""
        made: list[Node] = []
        for node in self.nodes:
            new = change(node)
            made.extend([new] if isinstance(new, Node) else new)
        return self.with_nodes(made, self.program.output)

    def with_nodes(self, nodes: Iterable[Node], output: Operand) -> "Edited":
        """Copy with other nodes and another output; dead nodes go."""
        kept = tuple(nodes)
        size = 1 + max((slot for node in kept for slot in node.outputs), default=0)
        body = without_dead_nodes(Body((0,), kept, (output,)))
        return replace(self, program=Program(body, size))

    def without(self, gone: Iterable[Node]) -> "Edited":
        """Copy without some nodes; their readers get their first input instead."""
        dropped = list(gone)
        renamed = {node.outputs[0]: node.inputs[0] for node in dropped}
        kept = tuple(node for node in self.nodes if node.outputs[0] not in renamed)
        body = rename(Body((0,), kept, self.program.body.outputs), renamed)
        return self.with_nodes(body.nodes, body.outputs[0])

    def after(
        self, places: Iterable[Node], make: Callable[[Slot, int], Node]
    ) -> "Edited":
        """Copy with a node put after each of some, for all its readers.

        Args:
            places: nodes whose result is to be changed.
            make: from the result's slot and a fresh slot number, the node to add.
        """
        wanted = {node.outputs[0] for node in places}
        size = self.program.size
        renamed: dict[int, Operand] = {}
        made: list[Node] = []
        for node in self.nodes:
            [own] = rename(Body((0,), (node,), ()), renamed).nodes
            made.append(own)
            if node.outputs[0] in wanted:
                added = make(Slot(node.outputs[0]), size)
                made.append(added)
                renamed[node.outputs[0]] = Slot(size)
                if node.outputs[0] in self.shapes:
                    self.shapes[size] = self.shapes[node.outputs[0]]
                size += 1
        output = self.program.output
        if isinstance(output, Slot):
            output = renamed.get(output.number, output)
        return self.with_nodes(made, output)

    def weighted(self) -> list[Node]:
        """Linear, convolutional and recurrent nodes, in order."""
        producers = self.program.producers()
        return [node for node in self.nodes if kind_of(node, producers) in WEIGHTED]

    def last_weighted(self) -> Node:
        """The layer that makes the outputs.

        Raises:
            SurgeryImpossible: there is none.
        """
        found = self.weighted()
        if not found:
            raise SurgeryImpossible("the network has no weighted layer")
        return found[-1]

    def hidden_activations(self) -> list[Node]:
        """Element-wise activations before the last weighted layer, gates left out."""
        readers = self.program.readers()
        last = self.nodes.index(self.last_weighted())
        return [
            node
            for node in self.nodes[:last]
            if is_activation(node)
            and not is_attention_softmax(node, readers)
            and not self._is_gate(node, readers)
        ]

    def output_activations(self) -> list[Node]:
        """Activations after the last weighted layer."""
        last = self.nodes.index(self.last_weighted())
        return [node for node in self.nodes[last + 1 :] if is_activation(node)]

    def _is_gate(self, node: Node, readers: dict[int, list[Node]]) -> bool:
        """Tell whether an activation scales another result (gates, SE blocks)."""
        if ACTIVATIONS[node.kind] not in {"sigmoid", "hardsigmoid", "softmax"}:
            return False
        for reader in readers.get(node.outputs[0], []):
            if reader.kind != "aten::mul":
                continue
            others = [o for o in reader.inputs[:2] if o != Slot(node.outputs[0])]
            if others and isinstance(others[0], Slot):
                return others[0].number in self.shapes
        return False
