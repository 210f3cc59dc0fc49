"""Brings network and samples together, where it is sure how."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from service.contract.errors import Mismatch, Problem
from service.contract.recipe import Standardization
from service.contract.request import AuditRequest, DatasetSpec, ImageSpec
from worker.engine.data import Dataset, channel_axis
from worker.engine.memory import is_out_of_memory
from worker.engine.network.network import Network
from worker.engine.network.own_code import FAILURES, cause_of

PICTURE_RANK = 3


def fit_inputs(
    network: Network, data: Dataset, spec: DatasetSpec
) -> tuple[Network, Dataset]:
    """Bring network and samples together, where it is sure how.

    The samples get the type and layout that the network takes; the network is freed of
    branches that these samples never take and of a batch size baked in by tracing.

    Raises:
        Mismatch: the network does not take such samples.
    """
    kind = data.kind
    if network.facts.takes_tokens:
        kind = "tokens"
        data = _map(data, lambda x: x.astype(np.int64, copy=False))
    elif data.kind == "tokens":
        kind = "table" if len(data.sample_shape) == 1 else "series"
    if kind != "tokens":
        data = _map(data, _as_float_unless_bytes)
    image = spec.image
    if image is not None and (image.mean is not None or image.std is not None):
        axis = channel_axis(kind, data.layout, len(data.sample_shape))
        data = _map(data, lambda x: _image_scale(x, image, axis))
    data = replace(data, kind=kind)
    sample = next(iter(data.splits.values())).x[:2]
    fitted = _fitted(network, sample)
    first = _complaint(fitted, sample)
    if first is None:
        return fitted, data
    if len(data.sample_shape) == PICTURE_RANK:
        turned = np.ascontiguousarray(np.moveaxis(sample, -1, 1))
        fitted = _fitted(network, turned)
        if _complaint(fitted, turned) is None:
            data = _map(data, lambda x: np.ascontiguousarray(np.moveaxis(x, -1, 1)))
            note = "Pictures were turned from NHWC to NCHW."
            return fitted, replace(data, layout="NCHW", notes=(*data.notes, note))
    raise Mismatch(
        f"the model does not take samples of shape {list(data.sample_shape)}: {first}"
    )


def check_recipe(asked: AuditRequest, data: Dataset) -> None:
    """See that lists in the recipe are as long as the data ask for.

    Raises:
        Mismatch: they are not.
    """
    loss, classes = asked.recipe.loss, len(data.class_names)
    for field, values in loss.by_class.items() if loss else ():
        if len(values) != classes:
            raise Mismatch(
                f"recipe.loss.{field} has {len(values)} values, the dataset has "
                f"{classes} classes"
            )
    given = asked.recipe.normalization
    if isinstance(given, Standardization):
        _check_normalization(given, data)


def _check_normalization(given: Standardization, data: Dataset) -> None:
    """Means and deviations are one number, one a channel, or one a feature."""
    shape = data.sample_shape
    axis = channel_axis(data.kind, data.layout, len(shape))
    fitting = {1, shape[-1 if axis is None else axis]}
    for name, values in (("mean", given.mean), ("std", given.std)):
        if isinstance(values, list) and len(values) not in fitting:
            raise Mismatch(
                f"recipe.normalization.{name} has {len(values)} values; samples have "
                f"the shape {list(shape)}"
            )


def _as_float_unless_bytes(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return x if x.dtype == np.uint8 else x.astype(np.float32, copy=False)


def _image_scale(
    x: np.ndarray[Any, Any], image: ImageSpec, axis: int | None
) -> np.ndarray[Any, Any]:
    """Apply the spec's mean and deviation; bytes are first brought to 0 to 1.

    Args:
        x: (rows, *sample shape).
        image: with one figure, or one a channel.
        axis: of a sample, along which its channels lie.
    """
    scaled = x.astype(np.float32) / (255 if x.dtype == np.uint8 else 1)
    shape = [1] * x.ndim
    shape[-1 if axis is None else axis + 1] = -1
    mean = np.asarray(image.mean or 0.0, np.float32).reshape(shape)
    std = np.asarray(image.std or 1.0, np.float32).reshape(shape)
    return (scaled - mean) / std


def _map(data: Dataset, change: Callable[[Any], Any]) -> Dataset:
    return replace(
        data,
        splits={n: replace(s, x=change(s.x)) for n, s in data.splits.items()},
    )


def _fitted(network: Network, sample: np.ndarray[Any, Any]) -> Network:
    """Fit a network to samples; one that fails on them stays as it is."""
    try:
        return network.fitted(as_tensor(sample, torch.device("cpu")))
    except FAILURES:
        return network


def _complaint(network: Network, sample: np.ndarray[Any, Any]) -> str | None:
    """What the network says against a sample; None where it takes it.

    Raises:
        Exception: memory ran out.
    """
    try:
        with torch.no_grad():
            network.forward(
                network.parameters,
                network.buffers,
                as_tensor(sample, torch.device("cpu")),
                training=False,
            )
    except Problem as problem:
        return problem.detail
    except FAILURES as error:
        if is_out_of_memory(error):
            raise
        return cause_of(error)
    return None


def as_tensor(x: np.ndarray[Any, Any], device: torch.device) -> torch.Tensor:
    """Turn stored samples into what a network takes; bytes become numbers."""
    tensor = torch.from_numpy(np.ascontiguousarray(x)).to(device)
    return tensor.float() if tensor.dtype == torch.uint8 else tensor
