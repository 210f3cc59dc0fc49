"""What a person can say of a sample: named numbers, by kind of data."""

import numpy as np

from worker.engine.data import CHANNELS_FIRST, Dataset
from worker.engine.probes.features import pictures
from worker.engine.probes.material import Array, Floats

MOST_COLUMNS = 200


def describe(dataset: Dataset, x: Array) -> tuple[Floats, list[str]]:
    """Describe each sample by named numbers.

    Tables: the columns. Pictures: brightness, contrast, sharpness, share of the
    commonest extreme. Series: level, deviation, length, trend. Token ids: length and
    variety.

    Returns:
        float64, (rows, descriptions), NaN where missing; and the names.
    """
    if dataset.kind == "table":
        columns = x.reshape(len(x), -1).astype(np.float64)[:, :MOST_COLUMNS]
        names = list(dataset.feature_names)[: columns.shape[1]]
        names += [f"feature {k}" for k in range(len(names), columns.shape[1])]
        return np.where(np.isfinite(columns), columns, np.nan), names
    if dataset.kind == "image" and x.ndim >= 3:  # noqa: PLR2004
        return _pictures(dataset, x)
    if dataset.kind == "tokens":
        return _tokens(x)
    turned = dataset.layout == CHANNELS_FIRST and x.ndim == 3  # noqa: PLR2004
    return _series(x.swapaxes(1, 2) if turned else x)


def _pictures(dataset: Dataset, x: Array) -> tuple[Floats, list[str]]:
    image = np.nan_to_num(pictures(dataset, x).double().numpy())
    grey = image.mean(1)
    flat = grey.reshape(len(grey), -1)
    across = np.abs(np.diff(grey, axis=2)).mean((1, 2))
    down = np.abs(np.diff(grey, axis=1)).mean((1, 2))
    contrast = flat.std(1)
    sharpness = (across + down) / np.maximum(contrast, 1e-12)
    columns = [flat.mean(1), contrast, sharpness]
    names = ["brightness", "contrast", "sharpness"]
    if image.shape[1] == 3:  # noqa: PLR2004 - red, green, blue
        columns.append(image.std(1).mean((1, 2)))
        names.append("colourfulness")
    return np.stack(columns, 1), names


def _series(x: Array) -> tuple[Floats, list[str]]:
    values = np.nan_to_num(x.reshape(len(x), x.shape[1], -1).astype(np.float64))
    level = values.mean((1, 2))
    deviation = values.std((1, 2))
    moving = np.any(values != 0, axis=2)
    length = np.where(
        moving.any(1), values.shape[1] - np.argmax(moving[:, ::-1], axis=1), 0
    )
    half = values.shape[1] // 2
    trend = values[:, half:].mean((1, 2)) - values[:, :half].mean((1, 2))
    roughness = np.abs(np.diff(values, axis=1)).mean((1, 2))
    columns = [level, deviation, length.astype(np.float64), trend, roughness]
    return np.stack(columns, 1), ["level", "deviation", "length", "trend", "roughness"]


def _tokens(x: Array) -> tuple[Floats, list[str]]:
    flat = x.reshape(len(x), -1).astype(np.int64)
    used = flat != 0
    ordered = np.sort(flat, axis=1)
    distinct = 1 + (np.diff(ordered, axis=1) != 0).sum(1)
    columns = [used.sum(1).astype(np.float64), distinct.astype(np.float64)]
    return np.stack(columns, 1), ["length", "distinct tokens"]
