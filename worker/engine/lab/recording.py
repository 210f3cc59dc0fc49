"""Writes a computation down as a graph while it runs once.

`make_fx` of `torch.fx` does so, too, and describes every value by a fake one besides,
which takes three quarters of its time and is not needed here: shapes never change.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node
from torch.utils._pytree import tree_map_only

from worker.engine.lab.passing import Passing

_READS = {torch.ops.aten._local_scalar_dense.default}  # noqa: SLF001 - operator's name


class DependsOnValuesError(RuntimeError):
    """A computation asks for a number that its inputs decide; no graph can hold it."""


class _Recorder(Passing):
    """Notes every operator."""

    def __init__(self) -> None:
        super().__init__()
        self.graph = Graph()
        self.root = nn.Module()
        self._nodes: dict[int, Node] = {}
        self._seen: list[Tensor] = []  # kept, so that no other gets its id
        self._given: set[int] = set()  # ids of what the inputs decide

    def give(self, name: str, value: Tensor) -> None:
        """Add an input."""
        self._note(value, self.graph.placeholder(name))
        self._given.add(id(value))

    def node(self, value: Tensor) -> Node:
        """Return what computes a value; what nobody computed is a constant."""
        if id(value) not in self._nodes:
            name = f"constant_{len(self._seen)}"
            self.root.register_buffer(name, value)
            self._note(value, self.graph.get_attr(name))
        return self._nodes[id(value)]

    def passes(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        """Run an operator and write it down."""
        asked: list[Tensor] = []
        tree_map_only(Tensor, asked.append, (args, kwargs))
        is_given = any(id(one) in self._given for one in asked)
        if func in _READS:
            if is_given:
                raise DependsOnValuesError(str(func))
            return func(*args, **kwargs)
        given = tree_map_only(Tensor, self.node, (args, kwargs))
        result = func(*args, **kwargs)
        node = self.graph.call_function(func, *given)
        parts = result if isinstance(result, tuple | list) else None
        for at, one in enumerate([result] if parts is None else parts):
            if not isinstance(one, Tensor):
                continue
            self._note(
                one,
                node
                if parts is None
                else self.graph.call_function(operator.getitem, (node, at)),
            )
            if is_given:
                self._given.add(id(one))
        return result

    def _note(self, value: Tensor, node: Node) -> None:
        self._nodes[id(value)] = node
        self._seen.append(value)
        node.meta["shape"] = tuple(value.shape)
        node.meta["stride"] = value.stride()
        node.meta["dtype"] = value.dtype


def recorded(
    function: Callable[..., Sequence[Tensor]], *examples: Tensor
) -> GraphModule:
    """Run a function once and return it as a graph of plain operators.

    Args:
        function: of tensors; it may use `torch.func`.
        examples: distinct tensors of the shapes that it will always be called with.

    Returns:
        A module of the same arguments and results (as a list); each node knows the
        `shape`, `stride` and `dtype` of its value.

    Raises:
        DependsOnValuesError: the function's way depends on the numbers given.
    """
    recorder = _Recorder()
    for at, one in enumerate(examples):
        recorder.give(f"input_{at}", one)
    with recorder:
        results = function(*examples)
    recorder.graph.output([recorder.node(one) for one in results])
    recorder.graph.eliminate_dead_code()
    return GraphModule(recorder.root, recorder.graph)
