"""Variables for the sizes of hidden axes: tied, pinned, or free to be scaled."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """A run of an axis: a variable's size, times what was folded into it."""

    variable: int
    times: int = 1


Parts = tuple[Part, ...]


class Widths:
    """The variables of a network, and what is known of each.

    Attributes:
        factor: by which free variables are scaled.
        least: size that each of them has then.
        sizes: as they are, by variable.
        pinned: roots that keep their size.
        steps: of which a root's new size must be a multiple.
    """

    def __init__(self, factor: float, least: int = 1) -> None:
        self.factor = factor
        self.least = least
        self.sizes: list[int] = []
        self.ties: list[int] = []
        self.pinned: set[int] = set()
        self.steps: dict[int, int] = {}

    def variable(self, size: int) -> int:
        """Make a variable."""
        self.sizes.append(size)
        self.ties.append(len(self.ties))
        return len(self.ties) - 1

    def root(self, variable: int) -> int:
        """The variable that stands for all that are tied to this one."""
        while self.ties[variable] != variable:
            variable = self.ties[variable]
        return variable

    def tie(self, one: Parts, other: Parts) -> bool:
        """Tie axes part by part; False where they do not agree."""
        if [part.times for part in one] != [part.times for part in other]:
            return False
        pairs = list(zip(one, other, strict=True))
        if any(
            self.sizes[self.root(a.variable)] != self.sizes[self.root(b.variable)]
            for a, b in pairs
        ):
            return False
        for a, b in pairs:
            self._tie(a.variable, b.variable)
        return True

    def _tie(self, one: int, other: int) -> None:
        one, other = self.root(one), self.root(other)
        if one == other:
            return
        self.ties[other] = one
        step = math.lcm(self.steps.get(one, 1), self.steps.get(other, 1))
        self.steps[one] = step
        if other in self.pinned:
            self.pinned.add(one)

    def pin(self, parts: Parts) -> None:
        """Keep an axis at the size it has."""
        for part in parts:
            self.pinned.add(self.root(part.variable))

    def step(self, variable: int, step: int) -> None:
        """Have a variable's new size be a multiple of `step`."""
        root = self.root(variable)
        self.steps[root] = math.lcm(self.steps.get(root, 1), step)

    def free(self) -> list[int]:
        """Roots that may be scaled."""
        return [
            v
            for v in range(len(self.sizes))
            if self.root(v) == v and v not in self.pinned
        ]

    def size(self, variable: int) -> int:
        """New size of a variable."""
        root = self.root(variable)
        if root in self.pinned:
            return self.sizes[root]
        step = self.steps.get(root, 1)
        scaled = round(self.sizes[root] * self.factor / step)
        return max(scaled, math.ceil(self.least / step)) * step

    def total(self, parts: Parts) -> int:
        """New size of an axis."""
        return sum(self.size(part.variable) * part.times for part in parts)
