"""What a format's reader hands on: arrays as they were found, not yet judged."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from worker.engine.intake.complaints import quoted, refuse, refuse_size
from worker.engine.intake.limits import IntakeLimits

AnyArray = npt.NDArray[np.generic]
SPLITS = ("train", "val", "test")
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
MISSING = (
    "", "NA", "N/A", "n/a", "na", "NaN", "nan", "-nan", "NULL", "null", "None", "?",
)  # fmt: skip
_ALL = "all"  # rows of a file that divides nothing


def number_in(text: str) -> float:
    """Read a number; Python's `float` alone takes `1_000` and other scripts' digits.

    Raises:
        ValueError: it is none.
    """
    if "_" in text or not text.isascii():
        raise ValueError(text)
    return float(text)


def is_number(text: str) -> bool:
    """Whether a text is a number."""
    try:
        number_in(text)
    except ValueError:
        return False
    return True


def shown(split: str) -> str:
    """Name a split for people."""
    return "the data" if split == _ALL else split


_NAMES = (
    "x",
    "y",
    *(f"{part}_{split}" for split in SPLITS for part in ("x", "y")),
)
EXPECTED = (
    "x_train and y_train, with x_val and y_val or x_test and y_test where given; "
    "or x and y alone"
)


@dataclass
class Raw:
    """Arrays by split, before labels are read and anything is checked.

    Attributes:
        x: split -> samples; float32, uint8 or int64, (rows, *sample shape).
        y: split -> labels of any type, (rows,), (rows, 1) or one-hot.
        feature_names: columns of a table, else empty.
        class_names: where the file itself names them (folders), else None.
        is_table: columns of a table, so never pictures or token ids.
        layout: `NCHW` where pictures were decoded here, else None.
        notes: what was assumed or converted.
    """

    x: dict[str, AnyArray]
    y: dict[str, AnyArray]
    feature_names: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None
    is_table: bool = False
    layout: str | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Found:
    """An array that a file announces, before it is read.

    Attributes:
        name: as the file calls it.
        shape: as announced.
        dtype: numpy's, as stored.
        read: reads it; the argument asks for samples (converted) or labels (as is).
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    read: Callable[[], AnyArray]


def sample_dtype(name: str, dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    """Choose how samples lie in memory: float32, uint8 or int64.

    Raises:
        UnusableDataset: they are no numbers.
    """
    if dtype == np.uint8:
        return np.dtype(np.uint8)
    if dtype.kind in "fb":
        return np.dtype(np.float32)
    if dtype.kind not in "iu":
        found = {"U": "text", "S": "text", "c": "complex numbers"}
        refuse(
            f"the array {quoted(name)} holds {found.get(dtype.kind, str(dtype))} "
            "where numbers belong"
        )
    return np.dtype(np.int64)


def convert(values: AnyArray, dtype: np.dtype[np.generic]) -> AnyArray:
    """Bring values to `dtype` without a copy where they have it already.

    What is beyond float32 becomes infinite, and is then counted as such.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(dtype, copy=False)


def by_split(
    found: Iterable[Found], limits: IntakeLimits
) -> tuple[dict[str, Found], dict[str, Found], list[str]]:
    """Sort named arrays into samples and labels a split.

    Returns:
        Samples, labels, and notes on what was left out. A pair `x`, `y` is `all`.

    Raises:
        UnusableDataset: something is missing or stands twice.
        TooLarge: they unfold to more than is allowed.
    """
    arrays: dict[str, Found] = {}
    others: list[str] = []
    for array in found:
        name = array.name.lower()
        if name not in _NAMES:
            others.append(array.name)
        elif name in arrays:
            refuse(f"the array {quoted(array.name)} stands in the file twice")
        else:
            arrays[name] = array
    _check_names(arrays, others)
    _check_size(arrays.values(), limits)
    notes = []
    if others:
        listed = ", ".join(quoted(name) for name in others[:5])
        notes.append(f"Left out of the file: {listed}.")
    pairs = ("all",) if "x" in arrays else SPLITS
    suffix = {"all": "", **{split: f"_{split}" for split in SPLITS}}
    present = [split for split in pairs if f"x{suffix[split]}" in arrays]
    return (
        {split: arrays[f"x{suffix[split]}"] for split in present},
        {split: arrays[f"y{suffix[split]}"] for split in present},
        notes,
    )


def _check_names(arrays: Mapping[str, Found], others: list[str]) -> None:
    if not arrays:
        listed = ", ".join(quoted(name) for name in others[:10]) or "no arrays"
        refuse(f"the file holds {listed}; expected are {EXPECTED}")
    for name in arrays:
        partner = ("y" if name[0] == "x" else "x") + name[1:]
        if partner not in arrays:
            refuse(f"the file holds {name} without {partner}")
    if "x" in arrays and len(arrays) > 2:  # noqa: PLR2004 - x and y
        refuse(f"the file holds x beside splits; expected are {EXPECTED}")
    if "x" not in arrays and "x_train" not in arrays:
        refuse(f"the file holds no x_train; expected are {EXPECTED}")


def _check_size(arrays: Iterable[Found], limits: IntakeLimits) -> None:
    total = 0
    for array in arrays:
        count = 1
        for size in array.shape:
            count *= size
        width = array.dtype.itemsize
        if array.name.lower().startswith("x"):
            width = sample_dtype(array.name, array.dtype).itemsize
        total += count * width
    if total > limits.total_bytes:
        refuse_size(
            "the arrays in memory",
            found=total,
            allowed=limits.total_bytes,
            unit="bytes",
        )


def gather(found: Iterable[Found], limits: IntakeLimits) -> Raw:
    """Read named arrays, each once.

    Raises:
        Problem: as `by_split`, and what reading finds.
    """
    samples, labels, notes = by_split(found, limits)
    return Raw(
        x={split: array.read() for split, array in samples.items()},
        y={split: array.read() for split, array in labels.items()},
        notes=notes,
    )
