"""What a sample is, as far as the array alone can tell."""

import numpy as np

from service.contract.request import DatasetSpec
from worker.engine.data import Kind, channel_axis
from worker.engine.intake.complaints import refuse
from worker.engine.intake.raw import AnyArray

_TABLE, _SERIES, _PICTURE = 2, 3, 4  # dimensions, rows included
_CHANNELS = (1, 3, 4)


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
    """Say where a picture's channels are; None where it has no axis for them."""
    if kind != "image" or x.ndim != _PICTURE:
        return None
    if spec.image is not None and spec.image.layout is not None:
        return spec.image.layout
    is_last = x.shape[-1] in _CHANNELS and x.shape[1] not in _CHANNELS
    return "NHWC" if is_last else "NCHW"


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
