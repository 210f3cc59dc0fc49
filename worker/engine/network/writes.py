"""Writes in place, as new values for every later reader.

A write changes every view of the storage, and the storage of every view. Here only what
was written to gets a new value, so whatever else shares the storage is stale from then
on: where it is read again, the network is not lifted.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import torch

from worker.engine.network.draft import Draft
from worker.engine.network.layer_operators import DROPOUT_KINDS, LayerOperators
from worker.engine.network.operators import overload
from worker.engine.network.program import (
    LIST_MUTATORS,
    Buffer,
    CannotLift,
    Constant,
    Operand,
    Parameter,
    Slot,
    StateKept,
)
from worker.engine.network.torch_nodes import scope_of

_RENORMS = "aten::embedding_renorm_"
_COLLECTIONS = frozenset(
    {"prim::ListConstruct", "prim::TupleConstruct", "prim::DictConstruct"}
)
_PARTS = frozenset(
    {
        "prim::ListUnpack",
        "prim::TupleUnpack",
        "prim::TupleIndex",
        "prim::TupleSlice",
        "aten::__getitem__",
        "aten::copy",
        "aten::items",
        "aten::list",
        "aten::pop",
        "aten::slice",
        "aten::values",
    }
)


class Writes:
    """Replaces writes, and knows which slots share their storage.

    Attributes:
        parents: a slot of the same storage, nearer to the one that stands for all.
        owners: the parameter, buffer or constant whose storage slots share, by the slot
            that stands for them.
        held: the slots that a list, tuple or dictionary holds, by its slot.
        stale: slots whose storage was written to otherwise than through them.
    """

    def __init__(self, draft: Draft, layers: LayerOperators) -> None:
        self.draft = draft
        self.layers = layers
        self.parents: dict[int, int] = {}
        self.owners: dict[int, Operand] = {}
        self.held: dict[int, set[int]] = {}
        self.stale: set[int] = set()

    def read(self, operands: Iterable[Operand]) -> None:
        """Hear what is read.

        Raises:
            CannotLift: the storage was written to through another view.
        """
        for number in _numbers(operands):
            if self.stale & {number, *self.held.get(number, ())}:
                raise CannotLift("what a write through a view changed is read again")

    def follow(
        self, op: str, inputs: list[Operand], results: Iterable[Operand]
    ) -> None:
        """Remember what an operator's results share their storage with."""
        kind = op.partition(".")[0]
        made, given = _numbers(results), _numbers(inputs)
        first = _numbers(inputs[:1])
        if kind in _COLLECTIONS or kind in LIST_MUTATORS:
            inside = set(given)
            for number in given:
                inside |= self.held.get(number, set())
            changed = first if kind in LIST_MUTATORS else []
            for number in (*made, *changed):
                self.held.setdefault(number, set()).update(inside)
        elif kind in _PARTS:
            self.same(made, first)
            for number in first:
                for part in made:
                    self.held.setdefault(part, set()).update(self.held.get(number, ()))
                self.same(made, self.held.get(number, ()))
        elif kind in DROPOUT_KINDS or shares(op):
            self.same(made, given)
            for owner in filter(_is_held, inputs):
                for number in made:
                    self.owners.setdefault(self._root(number), owner)

    def same(self, some: Iterable[int], others: Iterable[int]) -> None:
        """Say that slots share their storage, each of some with each of the others."""
        others = list(others)
        for number in some:
            for other in others:
                one, two = self._root(number), self._root(other)
                if one != two:
                    self.parents[two] = one
                    if two in self.owners:
                        self.owners[one] = self.owners.pop(two)

    def replace(self, node: Any, op: str, inputs: list[Operand]) -> None:  # noqa: ANN401
        """Replace a write by a new value for every later reader."""
        target = inputs[0]
        if not isinstance(target, Slot):
            self._write_outside(node, op, target)
            return
        owner = self.owners.get(self._root(target.number))
        if owner is not None:
            self._write_outside(node, op, owner)
            return
        together = self._together(target.number)
        depths = self.draft.depths
        if min(depths[number] for number in together) < self.draft.depth or (
            depths[target.number] != self.draft.depth
        ):
            raise CannotLift(f"{op} inside a branch or loop writes outside of it")
        kind, _, which = op.partition(".")
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
        if result != target:
            self.stale |= together
            self.same(_numbers([result]), [target.number])

    def _write_outside(self, node: Any, op: str, target: Operand) -> None:  # noqa: ANN401
        if not isinstance(target, Parameter | Buffer):
            raise CannotLift(f"{op} writes to a constant")
        if op.partition(".")[0] == _RENORMS:  # to what it stays at
            raise CannotLift(f"{op} writes to its parameter `{target.name}`")
        is_buffer = isinstance(target, Buffer)
        if not is_buffer or not target.name.endswith("num_batches_tracked"):
            kind = "buffer" if is_buffer else "parameter"
            word = f"it writes to its {kind} `{target.name}`"
            raise StateKept(word) if not self.layers.training else CannotLift(word)
        self.draft.bind(node, [target])

    def _root(self, number: int) -> int:
        while number in self.parents:
            number = self.parents[number]
        return number

    def _together(self, number: int) -> set[int]:
        """Slots of the same storage."""
        root = self._root(number)
        known = {*self.parents, root, number}
        return {one for one in known if self._root(one) == root}


def _numbers(operands: Iterable[Operand]) -> list[int]:
    return [operand.number for operand in operands if isinstance(operand, Slot)]


def _is_held(operand: Operand) -> bool:
    """Tell whether it is a tensor that outlives the call."""
    if isinstance(operand, Constant):
        return isinstance(operand.value, torch.Tensor)
    return isinstance(operand, Parameter | Buffer)


@lru_cache(maxsize=4096)
def shares(op: str) -> bool:
    """Tell whether an operator's results may share the storage of its inputs."""
    return any(result.alias_info is not None for result in _schema(op, "returns"))


@lru_cache(maxsize=4096)
def writes(op: str) -> bool:
    """Tell whether an operator writes to an argument, as those with `out` do."""
    arguments = _schema(op, "arguments")
    return op.partition(".")[0] not in LIST_MUTATORS and any(
        argument.alias_info is not None and argument.alias_info.is_write
        for argument in arguments
    )


def _schema(op: str, part: str) -> list[Any]:
    try:
        return list(getattr(overload(op)._schema, part))  # noqa: SLF001
    except LookupError:
        return []
