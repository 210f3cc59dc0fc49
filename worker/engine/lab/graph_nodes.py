"""Questions to the nodes of a captured step, and new nodes for it."""

from typing import Any

import torch
from torch.fx import Node

_aten = torch.ops.aten
RESHAPES = {
    _aten.view.default,
    _aten._unsafe_view.default,  # noqa: SLF001 - an operator's name
    _aten.reshape.default,
    _aten._reshape_alias.default,  # noqa: SLF001
}


def shape_of(node: Any) -> tuple[int, ...] | None:  # noqa: ANN401 - any argument
    """Return the shape that was noted when the graph was run."""
    return node.meta.get("shape") if isinstance(node, Node) else None


def reshaped(source: Any, shape: tuple[int, ...] | None) -> Node:  # noqa: ANN401
    """Add a reshape at the graph's point of insertion."""
    made: Node = source.graph.call_function(
        _aten.reshape.default, (source, list(shape or ()))
    )
    made.meta["shape"], made.meta["dtype"] = shape, source.meta.get("dtype")
    return made
