"""Cheap numbers for reference learners, made from inputs of any kind.

Fitted on training inputs alone: tables are imputed by medians and standardised,
pictures pooled to at most 16 by 16, token ids counted. Many columns are reduced by
principal components.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.decomposition import PCA

from worker.engine.data import Dataset, channel_axis
from worker.engine.probes.material import Array, Floats

POOLED_SIDE = 16
MOST_COLUMNS = 1_024
VOCABULARY = 1_024
COMPONENTS = 48
_BLOCK = 64  # columns whose figures are worked out at once
CLIP = 10.0  # deviations beyond which a value says no more than that it is far


def plain_columns(dataset: Dataset, x: Array) -> Floats:
    """Lay out inputs as float64, (rows, columns), not yet scaled; NaN stays NaN."""
    if dataset.kind == "tokens":
        return _counts(x)
    if dataset.kind == "image" and x.ndim >= 3:  # noqa: PLR2004
        return _pooled(dataset, x)
    flat = x.reshape(len(x), -1).astype(np.float64)
    if flat.shape[1] > MOST_COLUMNS:
        keep = np.linspace(0, flat.shape[1] - 1, MOST_COLUMNS).astype(np.int64)
        flat = flat[:, keep]
    return flat


def _counts(x: Array) -> Floats:
    flat = x.reshape(len(x), -1).astype(np.int64)
    counts = np.zeros((len(flat), VOCABULARY))
    rows = np.repeat(np.arange(len(flat)), flat.shape[1])
    np.add.at(counts, (rows, flat.ravel() % VOCABULARY), 1.0)
    return np.asarray(np.log1p(counts), dtype=np.float64)


def pictures(dataset: Dataset, x: Array) -> torch.Tensor:
    """Lay out pictures as float32, (rows, channels, height, width)."""
    tensor = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
    if tensor.ndim == 3:  # noqa: PLR2004 - (rows, height, width)
        return tensor[:, None]
    axis = channel_axis(dataset.kind, dataset.layout, tensor.ndim - 1)
    return tensor.movedim(-1, 1) if axis == 2 else tensor  # noqa: PLR2004


def _pooled(dataset: Dataset, x: Array) -> Floats:
    parts = []
    step = max(1, 8_000_000 // max(1, x[:1].size))
    for start in range(0, len(x), step):
        image = pictures(dataset, x[start : start + step])
        height, width = image.shape[-2:]
        side = min(POOLED_SIDE, height), min(POOLED_SIDE, width)
        pooled = torch.nn.functional.adaptive_avg_pool2d(image, side)
        parts.append(pooled.reshape(len(image), -1).double().numpy())
    return np.concatenate(parts)


@dataclass(frozen=True)
class Features:
    """Turns inputs into columns, with figures of the training inputs.

    Attributes:
        centre, scale: float64, (columns,), median and deviation of training columns.
        reduction: principal components, None where there are few columns.
    """

    dataset: Dataset
    centre: Floats
    scale: Floats
    reduction: PCA | None

    @classmethod
    def fit(cls, dataset: Dataset, x: Array) -> "Features":
        """Measure training inputs, (rows, *sample shape)."""
        columns = plain_columns(dataset, x)  # a copy, which is worked on in place
        columns[~np.isfinite(columns)] = np.nan
        columns[:, np.isnan(columns).all(0)] = 0.0
        centre = _by_block(columns, lambda block: np.nanmedian(block, axis=0))
        np.copyto(columns, centre, where=np.isnan(columns))
        columns -= centre
        if dataset.kind == "table":
            scale = _by_block(columns, _robust_scale)
        else:
            # One scale for all pixels: those that hardly vary should not shout.
            scale = np.full(columns.shape[1], float(columns.std()) or 1.0)
        reduction = None
        if columns.shape[1] > COMPONENTS and len(columns) > COMPONENTS:
            reduction = PCA(COMPONENTS, svd_solver="randomized", random_state=0)
            reduction.fit(np.clip(columns[: 5 * MOST_COLUMNS] / scale, -CLIP, CLIP))
        return cls(dataset, centre, scale, reduction)

    def columns(self, x: Array) -> Floats:
        """Return scaled columns: float64, (rows, columns)."""
        columns = plain_columns(self.dataset, x)
        np.copyto(columns, self.centre, where=~np.isfinite(columns))
        columns -= self.centre
        columns /= self.scale
        return np.clip(columns, -CLIP, CLIP, out=columns)

    def reduced(self, x: Array) -> Floats:
        """Return at most 48 components: float64, (rows, components)."""
        columns = self.columns(x)
        if self.reduction is None:
            return columns
        return np.asarray(self.reduction.transform(columns), dtype=np.float64)


def _by_block(columns: Floats, figure: Callable[[Floats], Floats]) -> Floats:
    """Work a figure of each column out for some columns at a time, to save memory."""
    starts = range(0, columns.shape[1], _BLOCK)
    return np.concatenate(
        [figure(columns[:, start : start + _BLOCK]) for start in starts]
    )


def _robust_scale(centred: Floats) -> Floats:
    """Deviation of the middle 98 %, so that an outlier does not shrink the rest."""
    low, high = np.quantile(centred, [0.01, 0.99], axis=0)
    std = np.clip(centred, low, high).std(0)
    whole = centred.std(0)
    chosen = np.where(std > 0, std, whole)
    return np.asarray(np.where(chosen > 0, chosen, 1.0), dtype=np.float64)


def edges(dataset: Dataset, x: Array) -> Floats:
    """Describe pictures by the energy of their gradients on a 4 by 4 grid.

    Catches textures and strokes whatever their place, which pixels miss.

    Returns:
        float64, (rows, 64).
    """
    grey = pictures(dataset, x).mean(1, keepdim=True)
    grey = torch.nan_to_num(grey)
    down = grey[..., 1:, :-1] - grey[..., :-1, :-1]
    right = grey[..., :-1, 1:] - grey[..., :-1, :-1]
    maps = torch.cat(
        [right.abs(), down.abs(), (right + down).abs(), (right - down).abs()], 1
    )
    height, width = maps.shape[-2:]
    side = min(4, height), min(4, width)
    grid = torch.nn.functional.adaptive_avg_pool2d(maps, side)
    return np.asarray(np.log1p(grid.reshape(len(grid), -1).double().numpy()))
