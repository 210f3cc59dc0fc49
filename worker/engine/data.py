"""The dataset as the engine holds it, after intake: arrays in memory, read once."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["table", "image", "series", "tokens"]
CHANNELS_FIRST = "NCL"  # layout of series as convolutions take them, (features, time)


@dataclass(frozen=True)
class Split:
    """Rows of one split.

    Attributes:
        x: float32, uint8 or int64 (token ids), (rows, *sample shape). Never copied.
        y: int64, (rows,), values 0 to classes - 1.
        rows: int64, (rows,), index of each row in the uploaded split `source`.
        source: the uploaded split it was taken from: `train`, `val`, `test` or `all`.
    """

    x: npt.NDArray[np.generic]
    y: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    source: str

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Dataset:
    """What intake read, before the audit's own splitting.

    Attributes:
        splits: `train` and, where given, `val` and `test`; or `all` alone.
        class_names: one a class.
        feature_names: one a column for tables, else empty.
        kind: what a sample is.
        layout: `NCHW` or `NHWC` for images, else None.
        notes: what was assumed or converted while reading, for the report's limits.
    """

    splits: dict[str, Split]
    class_names: tuple[str, ...]
    feature_names: tuple[str, ...]
    kind: Kind
    layout: str | None = None
    notes: tuple[str, ...] = ()
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return next(iter(self.splits.values())).x.shape[1:]


def channel_axis(kind: Kind, layout: str | None, sample_rank: int) -> int | None:
    """Return the axis of one sample along which normalisation has its own figures.

    Tables: the feature. Images: the channel, None where there is no such axis.
    Series: the features of a time step, which stand last unless the layout is `NCL`;
    None for a single variable.
    """
    if kind == "table":
        return sample_rank - 1
    if kind == "image" and sample_rank == 3:  # noqa: PLR2004 - (C, H, W) or (H, W, C)
        return 2 if layout == "NHWC" else 0
    if kind == "series" and sample_rank >= 2:  # noqa: PLR2004
        return 0 if layout == CHANNELS_FIRST else sample_rank - 1
    return None
