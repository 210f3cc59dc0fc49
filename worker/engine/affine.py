"""Names of transformations that have figures of their own: written and read.

A scale and a shift of the inputs is `affine(a,b)`, columns in another order are
`order(k)`; figures by channel or column stand apart by spaces.
"""

import re
from collections.abc import Iterable

LARGE = 1_000.0
_NAME = re.compile(r"affine\(([-0-9.e ]+),([-0-9.e ]+)\)")
_ORDER = re.compile(r"order\(([0-9 ]+)\)")


def affine_name(scale: Iterable[float], shift: Iterable[float]) -> str:
    """Name the transformation that multiplies and adds, by channel or all alike."""
    figures_of = [" ".join(_digits(v) for v in part) for part in (scale, shift)]
    return f"affine({','.join(figures_of)})"


def _digits(value: float) -> str:
    """Six digits, or nine of a large shift, of which most may be taken off again."""
    short = f"{value:.6g}" if abs(value) < LARGE else f"{value:.9g}"
    return short.replace("e+", "e")  # plus joins steps


def affine_figures(step: str) -> tuple[list[float], list[float]] | None:
    """Read scale and shift of a step; None where it is another transformation."""
    found = _NAME.fullmatch(step)
    if found is None:
        return None
    scale, shift = ([float(v) for v in part.split()] for part in found.groups())
    return (scale, shift) if len(scale) == len(shift) > 0 else None


def order_name(order: Iterable[int]) -> str:
    """Name the transformation that puts column `order[i]` at place i."""
    return f"order({' '.join(str(k) for k in order)})"


def order_figures(step: str) -> list[int] | None:
    """Read the order of a step; None where it is another transformation."""
    found = _ORDER.fullmatch(step)
    order = [int(k) for k in found.group(1).split()] if found else []
    return order if order and sorted(order) == list(range(len(order))) else None
