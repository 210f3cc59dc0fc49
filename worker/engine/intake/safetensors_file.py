"""Reads `.safetensors`: a length, a JSON header, plain values.

Source: https://huggingface.co/docs/safetensors, "Format". Read here and not by its
library, which would hold the whole file in memory beside the arrays.
"""

import json
import os
import struct
from functools import partial
from typing import BinaryIO

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from worker.engine.intake.complaints import quoted, refuse, refuse_unreadable
from worker.engine.intake.limits import IntakeLimits
from worker.engine.intake.raw import AnyArray, Found, Raw, gather, sample_dtype
from worker.engine.intake.streams import read_exactly, read_values

_MAX_HEADER_BYTES = 10 << 20
_BFLOAT16 = "BF16"
_DTYPES = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "F16": "<f2",
    _BFLOAT16: "<u2",
    "U32": "<u4",
    "I32": "<i4",
    "F32": "<f4",
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
}


class _Entry(BaseModel):
    dtype: str
    shape: list[int] = Field(max_length=32)
    data_offsets: tuple[int, int]


def read_safetensors(file: BinaryIO, limits: IntakeLimits) -> Raw:
    """Read the arrays that the contract names.

    Raises:
        Problem: see `worker.engine.intake.reader`.
    """
    file_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    (length,) = struct.unpack("<Q", read_exactly(file, 8, name="the header"))
    if length > min(_MAX_HEADER_BYTES, file_bytes):
        refuse_unreadable(f"the header is said to be {length:,} bytes long")
    entries = _entries(read_exactly(file, length, name="the header"))
    begin = 8 + length
    return gather(
        [
            _announce(file, name, entry, begin, file_bytes)
            for name, entry in entries.items()
        ],
        limits,
    )


def _entries(header: bytes) -> dict[str, _Entry]:
    try:
        content = json.loads(header)
        if not isinstance(content, dict):
            refuse_unreadable("the header is no JSON object")
        content.pop("__metadata__", None)
        return {
            name: _Entry.model_validate(entry, strict=False)
            for name, entry in content.items()
        }
    except (ValidationError, ValueError, RecursionError):
        refuse_unreadable("the header is no safetensors header")


def _announce(
    file: BinaryIO, name: str, entry: _Entry, begin: int, file_bytes: int
) -> Found:
    if entry.dtype not in _DTYPES:
        refuse(
            f"the array {quoted(name)} is of type {quoted(entry.dtype)}; known are "
            f"{', '.join(_DTYPES)}"
        )
    stored = np.dtype(_DTYPES[entry.dtype])
    count = 1
    for size in entry.shape:
        if size < 0:
            refuse_unreadable(f"the array {quoted(name)} has a negative size")
        count *= size
    first, last = entry.data_offsets
    if first < 0 or last - first != count * stored.itemsize:
        refuse_unreadable(f"the offsets of {quoted(name)} do not fit its shape")
    if begin + last > file_bytes:
        refuse_unreadable(f"the file is cut off: {quoted(name)} is not whole")
    is_half = entry.dtype == _BFLOAT16
    return Found(
        name=name,
        shape=tuple(entry.shape),
        dtype=np.dtype(np.float32) if is_half else stored,
        read=partial(_read, file, name, entry, begin + first, count),
    )


def _read(file: BinaryIO, name: str, entry: _Entry, at: int, count: int) -> AnyArray:
    file.seek(at)
    stored = np.dtype(_DTYPES[entry.dtype])
    wanted = stored
    if entry.dtype == _BFLOAT16:
        wanted = np.dtype(np.uint32)
    elif name.lower().startswith("x"):
        wanted = sample_dtype(name, stored)
    values = read_values(file, count, stored=stored, wanted=wanted, name=name)
    if entry.dtype == _BFLOAT16:
        # A bfloat16 is the upper half of a float32.
        values = np.left_shift(values, 16, out=values).view(np.float32)
    return values.reshape(tuple(entry.shape))
