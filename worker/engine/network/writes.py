"""Writes in place, as new values for every later reader."""

from collections.abc import Iterable
from typing import Any

from worker.engine.network.draft import Draft
from worker.engine.network.layer_operators import DROPOUT_KINDS, LayerOperators
from worker.engine.network.operators import overload
from worker.engine.network.program import (
    Buffer,
    CannotLift,
    Operand,
    Slot,
    StateKept,
)
from worker.engine.network.torch_nodes import scope_of

_VIEWS = frozenset(
    {
        "aten::view",
        "aten::reshape",
        "aten::flatten",
        "aten::select",
        "aten::slice",
        "aten::transpose",
        "aten::permute",
        "aten::squeeze",
        "aten::unsqueeze",
        "aten::expand",
        "aten::unflatten",
        "aten::narrow",
        "aten::t",
        "aten::view_as",
        "aten::reshape_as",
        "aten::expand_as",
        "aten::contiguous",
        "aten::to",
        "aten::chunk",
        "aten::split",
        "aten::unbind",
        "aten::detach",
    }
)


class Writes:
    """Replaces writes, and knows which slots are views of one another.

    Attributes:
        roots: the slot that a view looks into, by the view's slot.
        hazards: slots that were written through a view, and after how many nodes.
    """

    def __init__(self, draft: Draft, layers: LayerOperators) -> None:
        self.draft = draft
        self.layers = layers
        self.roots: dict[int, int] = {}
        self.hazards: list[tuple[int, int]] = []

    def follow(
        self, kind: str, inputs: list[Operand], results: Iterable[Operand]
    ) -> None:
        """Remember what an operator's results are views of."""
        if kind not in _VIEWS or not isinstance(inputs[0], Slot):
            return
        root = self.roots.get(inputs[0].number, inputs[0].number)
        for result in results:
            if isinstance(result, Slot):
                self.roots[result.number] = root

    def replace(self, node: Any, op: str, inputs: list[Operand]) -> None:  # noqa: ANN401, C901
        """Replace a write by a new value for every later reader."""
        target = inputs[0]
        kind, _, which = op.partition(".")
        if isinstance(target, Buffer):
            if not target.name.endswith("num_batches_tracked"):
                word = f"it writes to its buffer `{target.name}`"
                raise StateKept(word) if not self.layers.training else CannotLift(word)
            self.draft.bind(node, [target])
            return
        if not isinstance(target, Slot):
            raise CannotLift(f"{op} writes to a parameter or constant")
        if self.draft.depths[target.number] != self.draft.depth:
            raise CannotLift(f"{op} inside a branch or loop writes outside of it")
        if target.number in self.roots:
            self.hazards.append((self.roots[target.number], len(self.draft.out)))
        functional = kind[:-1] + (f".{which}" if which else "")
        if functional.partition(".")[0] not in DROPOUT_KINDS:
            try:
                overload(functional)
            except LookupError as error:
                raise CannotLift(f"{op} has no form that leaves its input") from error
        [result] = self.layers.emit(functional, inputs, 1, scope_of(node))
        for name, operand in list(self.draft.operands.items()):
            if operand == target:
                self.draft.operands[name] = result
        self.draft.bind(node, [result])
        if target.number in self.roots and isinstance(result, Slot):
            self.roots[result.number] = self.roots[target.number]

    def check(self) -> None:
        """Refuse writes through a view whose base is read later."""
        for root, place in self.hazards:
            written = {n for n, base in self.roots.items() if base == root} | {root}
            before = {s for node in self.draft.out[:place] for s in node.outputs} | {0}
            for node in self.draft.out[place + 1 :]:
                for operand in node.inputs:
                    if isinstance(operand, Slot) and operand.number in (
                        written & before
                    ):
                        raise CannotLift("a write through a view is read back")
