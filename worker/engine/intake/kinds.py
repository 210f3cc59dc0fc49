"""What a sample is, as far as the array alone can tell."""

import numpy as np

from service.contract.request import DatasetSpec
from worker.engine.data import CHANNELS_FIRST, Kind, channel_axis
from worker.engine.intake.complaints import refuse
from worker.engine.intake.raw import AnyArray

_TABLE, _SERIES, _PICTURE = 2, 3, 4  # dimensions, rows included
_CHANNELS = (1, 3, 4)
_SMOOTHER = 0.8  # times as unlike as along the other axis are neighbours in time
_FEW_FEATURES, _LONG = 9, 4  # of a time step; times as many steps
_SOME_ROWS = 500


def kind_of(x: AnyArray, spec: DatasetSpec, *, is_table: bool) -> Kind:
    """Say what the samples are.

    Whole numbers from 0 on, several a sample, are called token ids here; whether
    they are is for the model's first layer to say.

    Args:
        x: float32, uint8 or int64, (rows, *sample shape).
        spec: what the caller said of them.
        is_table: columns with names.
    """
    if x.ndim == _PICTURE:
        return "image"
    if x.ndim == _SERIES:
        is_picture = spec.image is not None or x.dtype == np.uint8
        return "image" if is_picture else "series"
    may_be_tokens = (
        not is_table
        and not spec.features
        and x.ndim == _TABLE
        and x.shape[1] > 1
        and x.dtype == np.int64
        and x.size > 0
        and int(x.min()) >= 0
        and int(x.max()) > 1
    )
    return "tokens" if may_be_tokens else "table"


def layout_of(x: AnyArray, spec: DatasetSpec, kind: Kind) -> str | None:
    """Say where channels are; None where they have no axis, or the usual one."""
    if kind == "series" and x.ndim == _SERIES:
        return CHANNELS_FIRST if _time_is_last(x) else None
    if kind != "image" or x.ndim != _PICTURE:
        return None
    if spec.image is not None and spec.image.layout is not None:
        return spec.image.layout
    is_last = x.shape[-1] in _CHANNELS and x.shape[1] not in _CHANNELS
    return "NHWC" if is_last else "NCHW"


def _time_is_last(x: AnyArray) -> bool:
    """Whether a series is (rows, features, time), by its shape or by its course.

    Neighbours in time are alike. Where they are along neither axis, or both, an axis
    of a few features beside one that is much longer tells.
    """
    features, steps = x.shape[1:]
    if 1 in (features, steps):
        return bool(features == 1 and steps > 1)
    first, last = _unlike_neighbours(x, 1), _unlike_neighbours(x, 2)
    if min(first, last) < _SMOOTHER * max(first, last):
        return last < first
    return bool(features <= _FEW_FEATURES and steps >= _LONG * features)


def _unlike_neighbours(x: AnyArray, axis: int) -> float:
    """How unlike neighbours along an axis are, as a share of how unlike all are."""
    some = np.nan_to_num(x[:_SOME_ROWS].astype(np.float64), posinf=0.0, neginf=0.0)
    spread = some.std(0)
    some = (some - some.mean(0)) / np.where(spread > 0, spread, 1.0)
    some = np.moveaxis(some, axis, 1)
    order = np.random.default_rng(0).permutation(some.shape[1])
    near = np.abs(np.diff(some, axis=1)).mean()
    any_two = np.abs(some - some[:, order]).mean()
    return float(near / any_two) if any_two > 0 else 1.0


def check_figures(
    x: AnyArray, spec: DatasetSpec, kind: Kind, layout: str | None
) -> None:
    """Demand one mean and one deviation, or as many as there are channels.

    Raises:
        UnusableDataset: there are others; points to them in the spec.
    """
    if spec.image is None:
        return
    axis = channel_axis(kind, layout, x.ndim - 1)
    channels = 1 if axis is None else x.shape[axis + 1]
    for name, values in (("mean", spec.image.mean), ("std", spec.image.std)):
        if isinstance(values, list) and len(values) not in {1, channels}:
            expected = f"one number, or {channels}" if channels > 1 else "one number"
            refuse(
                f"spec.image.{name} has {len(values)} values; samples have the shape "
                f"{list(x.shape[1:])}"
                + (f" ({layout})" if layout else "")
                + f", so {expected} is expected",
                at=f"/spec/image/{name}",
            )
