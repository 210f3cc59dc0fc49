"""What a captured step does to weights before it computes: views, made once.

The optimiser writes into the weights where they lie, so that the pieces of a member's
row and their shapes stay what they were. A quarter of the calls of a small network's
step only make such views.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from worker.engine.lab.graph_nodes import RESHAPES

_aten = torch.ops.aten
_VIEWS = RESHAPES | {
    operator.getitem,
    _aten.split_with_sizes.default,
    _aten.transpose.int,
    _aten.unsqueeze.default,
    _aten.permute.default,
    _aten.expand.default,
}


@dataclass(frozen=True)
class Compiled:
    """A captured step.

    Attributes:
        views: given the weights, returns what `step` takes last.
        step: takes the weights, buffers and the batch, and those views.
    """

    views: Callable[[Tensor], Sequence[Tensor]]
    step: Callable[..., Sequence[Tensor]]

    def __call__(self, rows: Tensor, *given: Tensor) -> Sequence[Tensor]:
        """Make a step at once, as it was captured."""
        return self.step(rows, *given, *self.views(rows))


def hoisted(module: GraphModule, rows: Tensor) -> Callable[[Tensor], Sequence[Tensor]]:
    """Take the views of the weights out of a step.

    Args:
        module: a step whose first argument are the weights; its graph is rewritten to
            take the views last.
        rows: an example of them. What copies them, after all, stays where it is.

    Returns:
        The function that makes the views.
    """
    weights = next(iter(module.graph.nodes))
    views = [weights]
    for node in module.graph.nodes:
        if node.target in _VIEWS and node.args[0] in views:
            views.append(node)
    while True:
        taken, front = _made(views, module)
        results = taken(rows)
        copies = [
            node
            for node, result in zip(front, results, strict=True)
            if not _is_view(result, rows)
        ]
        if not copies:
            break
        views = [node for node in views if node not in copies]
    _put_in_place(module.graph, front)
    module.graph.eliminate_dead_code()
    return taken


def _is_view(result: Any, rows: Tensor) -> bool:  # noqa: ANN401 - what a node gave
    storage = rows.untyped_storage().data_ptr()
    return isinstance(result, Tensor) and result.untyped_storage().data_ptr() == storage


def _made(
    views: list[Node], module: GraphModule
) -> tuple[Callable[[Tensor], Sequence[Tensor]], list[Node]]:
    """Write the views down as a function, and list those that somebody else reads."""
    graph = Graph()
    copies: dict[Node, Node] = {}
    for node in views:
        copies[node] = graph.node_copy(node, lambda one: copies[one])
    front = [
        node for node in views[1:] if any(user not in copies for user in node.users)
    ]
    graph.output([copies[node] for node in front])
    return GraphModule(module, graph).forward, front


def _put_in_place(graph: Graph, front: list[Node]) -> None:
    """Let the step be given the views instead of making them."""
    last = [node for node in graph.nodes if node.op == "placeholder"][-1]
    for node in front:
        with graph.inserting_after(last):
            last = graph.placeholder(f"held_{node.name}")
        last.meta.update(node.meta)
        node.replace_all_uses_with(last)
