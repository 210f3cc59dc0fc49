"""The scale of the inputs as the network sees them."""

import numpy as np
import torch
from torch import Tensor

from worker.engine.data import channel_axis
from worker.engine.probes.inputs_as_trained import AsTrained
from worker.engine.probes.material import (
    Floats,
    Material,
    Values,
    choose,
    finite,
    sample_places,
)

VARIED = 20  # values of a feature at least; a few are codes or counts
LONG = 2.75  # times as far from the middle as the quartiles are the octiles
MOST_ROWS = 5_000
MOST_VALUES = 5_000_000


def _sample(material: Material) -> Tensor:
    most = min(MOST_ROWS, max(2, MOST_VALUES // max(1, material.train.x[:1].size)))
    places = sample_places(material.train.y, most)
    return AsTrained(material)(choose(material.train, places).x)


def input_scale(material: Material) -> Values:
    """Compare the features' deviations and sizes, non-finite values left out.

    Features are columns of tables, channels of images. Constant ones have no scale.
    """
    x = _sample(material).double().cpu().numpy()
    axis = channel_axis(material.dataset.kind, material.dataset.layout, x.ndim - 1)
    by_feature = (
        x.reshape(-1, 1)
        if axis is None
        else np.moveaxis(x, axis + 1, -1).reshape(-1, x.shape[axis + 1])
    )
    good = np.isfinite(by_feature)
    count = np.maximum(good.sum(0), 1)
    centred = np.where(good, by_feature, 0)  # worked on in place, to save memory
    mean = centred.sum(0) / count
    centred -= mean
    centred[~good] = 0
    std = np.sqrt(np.square(centred, out=centred).sum(0) / count)
    moving = std[std > 0]
    return {
        "smallest_std": finite(float(moving.min())) if len(moving) else None,
        "median_std": finite(float(np.median(moving))) if len(moving) else None,
        "largest_std": finite(float(moving.max())) if len(moving) else None,
        # Over the lowest decile: a pixel that is hardly ever lit is no feature apart.
        "spread": finite(float(moving.max() / np.quantile(moving, 0.1)))
        if len(moving)
        else None,
        "long_tailed": _long_tailed(by_feature)
        if material.dataset.kind == "table"
        else 0.0,
        "largest_magnitude": finite(float(np.maximum(np.abs(mean), std).max())),
        "low": finite(float(by_feature.min(where=good, initial=np.inf))),
        "high": finite(float(by_feature.max(where=good, initial=-np.inf))),
    }


def _long_tailed(columns: Floats) -> float:
    """Share of the features of which an outer eighth lies far beyond the middle half.

    Of a normal variable the octiles are 1.7 times as far out as the quartiles, of an
    exponential one 2.0 times. What repeats, as codes for missing values do, is no tail.
    """
    known = np.where(np.isfinite(columns), columns, np.nan)
    known = known[:, [len(np.unique(column)) >= VARIED for column in columns.T]]
    if not known.size:
        return 0.0
    low, first, middle, third, high = np.nanquantile(
        known, [0.125, 0.25, 0.5, 0.75, 0.875], axis=0
    )
    above = (high - middle) >= LONG * (third - middle)
    below = (middle - low) >= LONG * (middle - first)
    apart = (third > middle) & (middle > first)
    return float(((above | below) & apart).sum() / columns.shape[1])


def first_pre_activation(material: Material, seed: int = 0) -> float | None:
    """Return the deviation of the first layer's output under fresh weights.

    Healthy layers keep it near 1 (He et al. 2015, arXiv:1502.01852, section 2.2;
    torch's default gives about 0.58 for standardised inputs).

    Returns:
        None where the first weighted layer is neither dense nor a convolution.
    """
    x = _sample(material)[:512]
    if not x.is_floating_point():
        return None
    x = torch.nan_to_num(x.cpu(), nan=0.0, posinf=0.0, neginf=0.0)
    parameters, _ = material.network.initial(seed)
    weights = [value.cpu() for value in parameters.values() if value.ndim > 1]
    if not weights:
        return None
    weight, flat = weights[0].to(x.dtype), x.reshape(len(x), -1)
    if weight.ndim == 2 and weight.shape[1] == flat.shape[1]:  # noqa: PLR2004
        result = flat @ weight.T
    elif weight.ndim == x.ndim == 4 and weight.shape[1] == x.shape[1]:  # noqa: PLR2004
        result = torch.nn.functional.conv2d(x, weight)
    else:
        return None
    # Around each unit's own mean: what it says of the sample, not of all samples.
    unit = result if result.ndim == 2 else result.movedim(1, -1).flatten(0, -2)  # noqa: PLR2004
    return finite(float(unit.double().std(0).mean()))
