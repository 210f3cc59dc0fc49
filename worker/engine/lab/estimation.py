"""Missing values estimated from the others of their sample."""

import numpy as np
import numpy.typing as npt
import torch
from sklearn.covariance import ledoit_wolf
from torch import Tensor

MOST_ROWS = 4000  # that the Gaussian is fitted to
FITS = 6  # times that missing values are filled in and the figures worked out anew
RIDGE = 1e-3  # of a standardised value's variance
STEPS = 8  # of conjugate gradients

Floats = npt.NDArray[np.float64]


def conditional_mean(
    z: Tensor, missing: Tensor, precision: Tensor, steps: int = STEPS
) -> Tensor:
    """Put in place of missing values what a Gaussian expects there, given the others.

    Solved for all samples at once, each with its own missing values, by conjugate
    gradients with the diagonal as preconditioner.

    Args:
        z: (samples, values), less the Gaussian's mean; what is missing is ignored.
        missing: bool, likewise.
        precision: (values, values), the inverse of the covariance; symmetric.
        steps: as many as there are missing values solve it exactly; few come close.

    Source: Hestenes & Stiefel 1952, Methods of conjugate gradients.
    """
    z = torch.where(missing, torch.zeros_like(z), z)
    free = missing.to(z.dtype)
    scale = free / precision.diagonal()
    residual = -(z @ precision) * free
    direction = scale * residual
    size = (residual * direction).sum(1, keepdim=True)
    for _ in range(steps):
        pushed = (direction @ precision) * free
        curvature = (direction * pushed).sum(1, keepdim=True)
        step = size / curvature.clamp_min(1e-12)
        z = z + step * direction
        residual = residual - step * pushed
        scaled = scale * residual
        next_size = (residual * scaled).sum(1, keepdim=True)
        direction = scaled + next_size / size.clamp_min(1e-12) * direction
        size = next_size
    return z


def fit_gaussian(x: Floats) -> tuple[Floats, Floats, Floats]:
    """Fit a Gaussian to samples with missing values, which are NaN.

    Missing values are filled in by what the fit before expects, beginning with the
    mean; the covariance is shrunk, as samples may be fewer than values.

    Args:
        x: (samples, values).

    Returns:
        Mean, deviation, both (values,), and the precision of the standardised values,
        (values, values).

    Source: Ledoit & Wolf 2004, A well-conditioned estimator for large-dimensional
    covariance matrices; Little & Rubin 2019, Statistical analysis with missing data.
    """
    x = x[:: max(1, -(-len(x) // MOST_ROWS))]
    mean = np.nan_to_num(np.nanmean(x, axis=0))
    deviation = np.nan_to_num(np.nanstd(x, axis=0))
    deviation = np.where(deviation > 0, deviation, 1.0)
    z = (x - mean) / deviation
    missing = np.isnan(z)
    filled = np.where(missing, 0.0, z)
    middle = np.zeros(x.shape[1])
    precision = np.eye(x.shape[1])
    for _ in range(FITS):
        middle = filled.mean(0)
        covariance, _ = ledoit_wolf(filled)
        precision = np.linalg.inv(covariance + RIDGE * np.eye(len(covariance)))
        precision = (precision + precision.T) / 2
        expected = conditional_mean(
            torch.from_numpy(filled - middle),
            torch.from_numpy(missing),
            torch.from_numpy(precision),
        )
        filled = np.where(missing, expected.numpy() + middle, z)
    return mean + deviation * middle, deviation, precision
