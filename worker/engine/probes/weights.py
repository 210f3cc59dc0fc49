"""What the delivered weights look like: non-finite, dead, duplicated, never trained.

A weight counts as untouched since initialisation only where two things agree: its
values are distributed as a uniform or normal draw (Kolmogorov-Smirnov), and its largest
singular value is that of independent draws, which training moves first since gradients
are of low rank (Martin & Mahoney 2021, JMLR 22:165). Both are free of scale, so the
scheme of initialisation does not matter. It stays a hint: a briefly trained wide layer
looks the same.

Values:
    non_finite: `{tensor: count}`.
    constant: tensors of several equal values that fresh ones do not have.
    zero_rows: `{tensor: rows of zeros}` (a unit without input).
    duplicate_rows: `{tensor: rows equal to an earlier row}`.
    outliers: `{tensor: largest |value| over the others' size}` beyond `outlier_limit`.
    untouched: tensors that look freshly drawn; `untouched_share` of comparable values.
    untouched_norms: batch norms whose stored statistics are those of a fresh layer.
    dead: `{activation: share of units never active on the data}`.
    tensors, parameters: how much was read.
"""

import re

import numpy as np
import torch
from pydantic import JsonValue
from scipy import stats
from torch import Tensor

from service.contract.errors import UnusableModel
from worker.engine.probes.activity import dead_units
from worker.engine.probes.duplicates import repeated
from worker.engine.probes.material import Floats, Material, Values, note

RANDOM_DRAWS = 8
LEAST_VALUES = 64  # values below which a distribution says too little
MOST_VALUES = 20_000  # of a tensor, for the distribution
LEAST_P = 0.01  # below, the values are not distributed as fresh ones
SPECTRAL_MARGIN = 0.02  # relative excess over random singular values that is chance
OUTLIER_LIMIT = 50.0  # times the root mean square of the others
MOST_SIDE = 512  # rows and columns of a matrix drawn for its singular value
MOST_LISTED = 50


def measure(material: Material, settings: Values) -> Values:
    """Read the weights; settings: `activity` (default true), to look for dead units."""
    network = material.network
    parameters = {name: _array(value) for name, value in network.parameters.items()}
    buffers = {name: _array(value) for name, value in network.buffers.items()}
    fresh = {name: _array(value) for name, value in network.initial(0)[0].items()}
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
        if _is_constant(value) and not _is_constant(fresh.get(name, value))
    ]
    values["constant"] = constant[:MOST_LISTED]
    values["zero_rows"] = _counts(
        {name: _zero_rows(value) for name, value in parameters.items()}
    )
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


def _array(value: Tensor) -> Floats:
    """Look at a tensor's own numbers; types that numpy lacks are converted."""
    value = value.detach().cpu()
    if value.dtype not in {torch.float32, torch.float64}:
        value = value.double()
    numbers: Floats = value.numpy()
    return numbers


def _counts(found: dict[str, int]) -> Values:
    worst = sorted(found.items(), key=lambda item: -item[1])[:MOST_LISTED]
    return {name: count for name, count in worst if count}


def _is_constant(value: Floats) -> bool:
    return value.size > 1 and bool((value == value.flat[0]).all())


def _zero_rows(value: Floats) -> int:
    if value.ndim < 2 or not value.size:  # noqa: PLR2004 - biases have no rows
        return 0
    return int((value.reshape(len(value), -1) == 0).all(1).sum())


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
    untouched: list[str] = []
    compared, alike = 0, 0
    for name, value in parameters.items():
        if not _comparable(value, fresh.get(name)):
            continue
        compared += value.size
        if looks_fresh(value):
            untouched.append(name)
            alike += value.size
    total = max(1, sum(value.size for value in parameters.values()))
    values["untouched"] = list(untouched[:MOST_LISTED])
    values["untouched_share"] = alike / compared if compared else None
    values["compared_share"] = compared / total


def _comparable(value: Floats, draw: Floats | None) -> bool:
    """Whether a fresh draw is a random matrix, large enough to be told apart."""
    return (
        value.ndim >= 2  # noqa: PLR2004 - biases say too little
        and value.size >= LEAST_VALUES
        and bool(np.isfinite(value).all())
        and float(value.std()) > 0
        and draw is not None
        and not _is_constant(draw)
    )


def looks_fresh(value: Floats) -> bool:
    """Whether a weight looks like independent draws, uniform or normal, around 0."""
    rng = np.random.default_rng(0)
    size = np.sqrt(np.mean(np.square(value, dtype=np.float64)))
    sample = value.ravel()
    if len(sample) > MOST_VALUES:
        sample = rng.choice(sample, MOST_VALUES, replace=False)
    sample = sample / size
    side = float(np.sqrt(3))
    uniform = stats.kstest(sample, stats.uniform(-side, 2 * side).cdf).pvalue
    normal = stats.kstest(sample, stats.norm.cdf).pvalue
    if max(float(uniform), float(normal)) < LEAST_P:
        return False
    matrix = _drawn_part(value.reshape(len(value), -1), rng) / size
    own = float(np.linalg.norm(matrix, 2))
    drawn = [
        float(np.linalg.norm(rng.standard_normal(matrix.shape), 2))
        for _ in range(RANDOM_DRAWS)
    ]
    margin = max(SPECTRAL_MARGIN * max(drawn), max(drawn) - min(drawn))
    return own <= max(drawn) + margin


def _drawn_part(matrix: Floats, rng: np.random.Generator) -> Floats:
    """Draw rows and columns; what is left of independent draws is independent."""
    rows, columns = matrix.shape
    if rows > MOST_SIDE:
        matrix = matrix[rng.choice(rows, MOST_SIDE, replace=False)]
    if columns > MOST_SIDE:
        matrix = matrix[:, rng.choice(columns, MOST_SIDE, replace=False)]
    return matrix


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
