"""What the delivered weights look like: non-finite, dead, duplicated, never trained.

That a weight looks untouched since initialisation (`network/freshness.py`) is a hint: a
briefly trained wide layer looks the same.

Values:
    non_finite: `{tensor: count}`.
    constant: tensors of several equal values that fresh ones do not have.
    zero_rows: `{tensor: rows of zeros}` (a unit without input) that fresh ones lack.
    zeros: `{tensor: share of values that are exactly 0}`, of matrices, from a half on.
    duplicate_rows: `{tensor: rows equal to an earlier row}`.
    outliers: `{tensor: largest |value| over the others' size}` beyond `outlier_limit`.
    untouched: `{tensor that looks freshly drawn: its share of the comparable values}`.
    untouched_norms: batch norms whose stored statistics are those of a fresh layer.
    dead: `{activation: share of units never active on the data}`.
    tensors, parameters: how much was read.
"""

import re

import numpy as np
from pydantic import JsonValue

from service.contract.errors import UnusableModel
from worker.engine.network.freshness import (
    LEAST_VALUES,
    as_array,
    comparable,
    is_constant,
    looks_fresh,
)
from worker.engine.probes.activity import dead_units
from worker.engine.probes.duplicates import repeated
from worker.engine.probes.material import Floats, Material, Values, note

OUTLIER_LIMIT = 50.0  # times the root mean square of the others
MOST_LISTED = 50
MANY_ZEROS = 0.5  # share of a matrix


def measure(material: Material, settings: Values) -> Values:
    """Read the weights; settings: `activity` (default true), to look for dead units."""
    network = material.network
    parameters = {name: as_array(value) for name, value in network.parameters.items()}
    buffers = {name: as_array(value) for name, value in network.buffers.items()}
    fresh = {name: as_array(value) for name, value in network.initial(0)[0].items()}
    values: Values = {
        "notes": [],
        "tensors": len(parameters) + len(buffers),
        "parameters": int(sum(value.size for value in parameters.values())),
        "outlier_limit": OUTLIER_LIMIT,
    }
    values["non_finite"] = _counts(
        {
            name: int((~np.isfinite(value)).sum())
            for name, value in {**parameters, **buffers}.items()
        }
    )
    constant: list[JsonValue] = [
        name
        for name, value in parameters.items()
        if is_constant(value) and not is_constant(fresh.get(name, value))
    ]
    values["constant"] = constant[:MOST_LISTED]
    values["zero_rows"] = _counts(
        {name: _zero_rows(value, fresh.get(name)) for name, value in parameters.items()}
    )
    values["zeros"] = {
        name: share
        for name, value in parameters.items()
        if (share := _zeros(value)) >= MANY_ZEROS
    }
    values["duplicate_rows"] = _counts(
        {name: _duplicate_rows(value) for name, value in parameters.items()}
    )
    values["outliers"] = _outliers(parameters)
    _untouched(values, parameters, fresh)
    values["untouched_norms"] = _untouched_norms(buffers)
    values["dead"] = None
    if settings.get("activity", True):
        try:
            values["dead"] = dead_units(material)
        except UnusableModel as problem:
            note(values, f"Dead units were not looked for. {problem.detail}")
    return values


def _counts(found: dict[str, int]) -> Values:
    worst = sorted(found.items(), key=lambda item: -item[1])[:MOST_LISTED]
    return {name: count for name, count in worst if count}


def _zero_rows(value: Floats, fresh: Floats | None) -> int:
    if value.ndim < 2 or not value.size:  # noqa: PLR2004 - biases have no rows
        return 0
    zero = (value.reshape(len(value), -1) == 0).all(1)
    if fresh is not None and fresh.shape == value.shape:
        # The row of an embedding that pads is so from the beginning.
        zero &= (fresh.reshape(len(fresh), -1) != 0).any(1)
    return int(zero.sum())


def _zeros(value: Floats) -> float:
    """Share of a matrix' values that are exactly 0, as none is that was trained."""
    if value.ndim < 2 or value.size < LEAST_VALUES:  # noqa: PLR2004
        return 0.0
    return float((value == 0).mean())


def _duplicate_rows(value: Floats) -> int:
    if value.ndim < 2 or value.size <= len(value):  # noqa: PLR2004
        return 0  # one value repeats easily
    rows = value.reshape(len(value), -1)
    rows = rows[(rows != 0).any(1) & np.isfinite(rows).all(1)]
    return int((repeated(rows) >= 0).sum())


def _outliers(parameters: dict[str, Floats]) -> Values:
    """Name tensors whose largest value dwarfs the others, the largest 0.1 % apart.

    Against the root mean square, not the median: weight decay leaves sound networks
    with most weights near 0.
    """
    found: dict[str, float] = {}
    for name, value in parameters.items():
        sizes = np.abs(value[np.isfinite(value)])
        if value.ndim < 2 or len(sizes) < LEAST_VALUES:  # noqa: PLR2004
            continue
        largest = float(sizes.max())
        most = len(sizes) - max(1, len(sizes) // 1000)
        sizes.partition(most)
        usual = float(np.sqrt(np.mean(np.square(sizes[:most], dtype=np.float64))))
        if usual > 0 and largest / usual > OUTLIER_LIMIT:
            found[name] = largest / usual
    worst = sorted(found.items(), key=lambda item: -item[1])[:MOST_LISTED]
    return dict(worst)


def _untouched(
    values: Values, parameters: dict[str, Floats], fresh: dict[str, Floats]
) -> None:
    compared = [
        name for name, value in parameters.items() if comparable(value, fresh.get(name))
    ]
    size = sum(parameters[name].size for name in compared)
    alike = [name for name in compared if looks_fresh(parameters[name])]
    shares = {name: parameters[name].size / max(1, size) for name in alike}
    total = max(1, sum(value.size for value in parameters.values()))
    values["untouched"] = dict(list(shares.items())[:MOST_LISTED])
    values["compared_share"] = size / total


def _untouched_norms(buffers: dict[str, Floats]) -> list[JsonValue]:
    """Name batch norms whose running mean is 0 and variance 1 throughout."""
    names: list[JsonValue] = []
    for name, mean in buffers.items():
        match = re.fullmatch(r"(.*)running_mean", name)
        variance = buffers.get(f"{match[1]}running_var") if match else None
        if (
            match
            and variance is not None
            and bool((mean == 0).all() and (variance == 1).all())
        ):
            names.append(match[1].rstrip(".") or name)
    return names[:MOST_LISTED]
