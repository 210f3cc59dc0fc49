"""Reads a dataset of any format; the only door through which data comes in.

Every reader weighs what a file announces before it gives memory to it, unpickles
nothing, and says what is wrong in words: the field or file, what was found, what was
expected.
"""

from collections.abc import Callable
from typing import BinaryIO

from service.contract.errors import UnsupportedMediaType
from service.contract.request import DatasetSpec
from worker.engine.data import Dataset
from worker.engine.intake.assemble import assemble
from worker.engine.intake.csv_file import read_csv
from worker.engine.intake.limits import IntakeLimits
from worker.engine.intake.npz import read_npz
from worker.engine.intake.parquet_file import read_parquet
from worker.engine.intake.pictures import read_pictures
from worker.engine.intake.raw import Raw
from worker.engine.intake.safetensors_file import read_safetensors
from worker.engine.intake.tensor_file import read_tensor_file

_ARRAYS: dict[str, Callable[[BinaryIO, IntakeLimits], Raw]] = {
    "npz": read_npz,
    "safetensors": read_safetensors,
    "pt": read_tensor_file,
}
_SPECIFIED: dict[str, Callable[[BinaryIO, DatasetSpec, IntakeLimits], Raw]] = {
    "csv": read_csv,
    "parquet": read_parquet,
    "zip": read_pictures,
}


def read_dataset(
    file: BinaryIO,
    format: str,  # noqa: A002 - the contract's word
    spec: DatasetSpec,
    limits: IntakeLimits,
) -> Dataset:
    """Read and check an uploaded dataset.

    Args:
        file: opened for reading, seekable.
        format: `npz`, `safetensors`, `csv`, `parquet`, `zip` or `pt`.
        spec: how the caller says it is to be read.
        limits: what it may unfold to.

    Raises:
        BadRequest: it is cut off, damaged, or not of this format.
        UnusableDataset: it opens, but cannot be audited.
        TooLarge: it would unfold to more than is allowed.
        UnsupportedMediaType: there is no such format.
    """
    file.seek(0)
    if format in _ARRAYS:
        raw = _ARRAYS[format](file, limits)
    elif format in _SPECIFIED:
        raw = _SPECIFIED[format](file, spec, limits)
    else:
        known = ", ".join([*_ARRAYS, *_SPECIFIED])
        detail = f"datasets of the format {format!r} are not read; known are {known}"
        raise UnsupportedMediaType(detail)
    return assemble(raw, spec, limits)
