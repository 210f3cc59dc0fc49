"""Whether weights look as they did before any training.

Two things have to agree: the values are distributed as a uniform or normal draw
(Kolmogorov-Smirnov), and the largest singular value is that of independent draws, which
training moves first since gradients are of low rank (Martin & Mahoney 2021, JMLR
22:165). Both are free of scale, so the scheme of initialisation does not matter.
"""

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from torch import Tensor

Floats = npt.NDArray[np.float64]

RANDOM_DRAWS = 8
LEAST_VALUES = 64  # values below which a distribution says too little
MOST_VALUES = 20_000  # of a tensor, for the distribution
LEAST_P = 0.01  # below, the values are not distributed as fresh ones
SPECTRAL_MARGIN = 0.02  # relative excess over random singular values that is chance
MOST_SIDE = 512  # rows and columns of a matrix drawn for its singular value


def as_array(value: Tensor) -> Floats:
    """Look at a tensor's own numbers; types that numpy lacks are converted.

    Of a sparse one these are the numbers that it stores.
    """
    value = value.detach().cpu()
    if value.layout != torch.strided:
        is_listed = value.layout == torch.sparse_coo
        value = (value.coalesce() if is_listed else value).values()
    value = value.resolve_neg()
    if value.dtype not in {torch.float32, torch.float64}:
        value = value.double()
    numbers: Floats = value.numpy()
    return numbers


def is_constant(value: Floats) -> bool:
    """Whether all of several values are equal."""
    return value.size > 1 and bool((value == value.flat[0]).all())


def comparable(value: Floats, draw: Floats | None) -> bool:
    """Whether a fresh draw is a random matrix, large enough to be told apart."""
    return (
        value.ndim >= 2  # noqa: PLR2004 - biases say too little
        and value.size >= LEAST_VALUES
        and bool(np.isfinite(value).all())
        and float(value.std()) > 0
        and draw is not None
        and not is_constant(draw)
    )


def looks_fresh(value: Floats, side: int = MOST_SIDE) -> bool:
    """Whether a weight looks like independent draws, uniform or normal, around 0.

    Args:
        value: as `comparable` says.
        side: rows and columns of it that are looked at, at most.
    """
    rng = np.random.default_rng(0)
    size = np.sqrt(np.mean(np.square(value, dtype=np.float64)))
    sample = value.ravel()
    if len(sample) > MOST_VALUES:
        sample = rng.choice(sample, MOST_VALUES, replace=False)
    sample = sample / size
    bound = float(np.sqrt(3))
    uniform = stats.kstest(sample, stats.uniform(-bound, 2 * bound).cdf).pvalue
    normal = stats.kstest(sample, stats.norm.cdf).pvalue
    if max(float(uniform), float(normal)) < LEAST_P:
        return False
    matrix = _drawn_part(value.reshape(len(value), -1), side, rng) / size
    own = float(np.linalg.norm(matrix, 2))
    drawn = [
        float(np.linalg.norm(rng.standard_normal(matrix.shape), 2))
        for _ in range(RANDOM_DRAWS)
    ]
    margin = max(SPECTRAL_MARGIN * max(drawn), max(drawn) - min(drawn))
    return own <= max(drawn) + margin


def _drawn_part(matrix: Floats, side: int, rng: np.random.Generator) -> Floats:
    """Draw rows and columns; what is left of independent draws is independent."""
    rows, columns = matrix.shape
    if rows > side:
        matrix = matrix[rng.choice(rows, side, replace=False)]
    if columns > side:
        matrix = matrix[:, rng.choice(columns, side, replace=False)]
    return matrix
