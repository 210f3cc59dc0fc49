"""What was measured, and the table of it."""

import operator
from collections.abc import Iterable
from dataclasses import dataclass

_KEEPS = {"≥": operator.ge, "<": operator.lt, "": lambda *_: True}


@dataclass(frozen=True)
class Figure:
    """One figure with its target, where there is one."""

    name: str
    value: float
    unit: str
    relation: str = ""
    target: float = 0.0

    @property
    def is_kept(self) -> bool:
        """Whether the target is met."""
        return bool(_KEEPS[self.relation](self.value, self.target))


def table(figures: Iterable[Figure]) -> str:
    """Write figures as a table in Markdown."""
    lines = ["| figure | target | seen | |", "| --- | --- | --- | --- |"]
    for figure in figures:
        target = (
            f"{figure.relation} {_number(figure.target)} {figure.unit}"
            if figure.relation
            else ""
        )
        kept = "" if not figure.relation else "met" if figure.is_kept else "**missed**"
        seen = f"{_number(figure.value)} {figure.unit}"
        lines.append(f"| {figure.name} | {target.strip()} | {seen.strip()} | {kept} |")
    return "\n".join(lines)


def _number(value: float) -> str:
    if value >= 100:  # noqa: PLR2004 - three digits tell enough
        return f"{value:,.0f}"
    return f"{value:.3g}"
