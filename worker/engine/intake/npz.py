"""Reads `.npz`: a zip archive of arrays, without ever unpickling one."""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from worker.engine.intake.complaints import (
    quoted,
    refuse,
    refuse_size,
    refuse_unreadable,
)
from worker.engine.intake.limits import IntakeLimits
from worker.engine.intake.raw import AnyArray, Found, Raw, gather, sample_dtype
from worker.engine.intake.streams import read_values

_MAX_ARRAYS = 1_000
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# Whatever damaged bytes lead zipfile to; RuntimeError where a member is encrypted.
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    LookupError,
    OverflowError,
    RuntimeError,
    ValueError,
)


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Say what a broken archive is."""
    try:
        yield
    except _BROKEN as error:
        refuse_unreadable(f"{quoted(name)} cannot be read: {error}")


def read_npz(file: BinaryIO, limits: IntakeLimits) -> Raw:
    """Read the arrays that the contract names.

    Raises:
        Problem: see `worker.engine.intake.reader`.
    """
    with reading("the archive"):
        archive = zipfile.ZipFile(file)
    with archive:
        members = archive.infolist()
        if len(members) > _MAX_ARRAYS:
            refuse_size(
                "arrays in the archive",
                found=len(members),
                allowed=_MAX_ARRAYS,
                unit="arrays",
            )
        return gather(
            [
                _announce(archive, member)
                for member in members
                if member.filename.endswith(".npy")
            ],
            limits,
        )


def _announce(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Found:
    """Read an array's header only."""
    name = member.filename.removesuffix(".npy")
    if member.compress_type not in _METHODS:
        refuse_unreadable(f"{quoted(name)} is compressed in an unknown way")
    with reading(name), archive.open(member) as stream:
        shape, _, dtype = _header(stream, name)
    return Found(
        name=name,
        shape=shape,
        dtype=dtype,
        read=partial(_read, archive, member, name),
    )


def _header(
    stream: object, name: str
) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    try:
        version = npy.read_magic(stream)  # type: ignore[arg-type]
        read = {
            (1, 0): npy.read_array_header_1_0,
            (2, 0): npy.read_array_header_2_0,
        }.get(version)
        if read is None:
            refuse_unreadable(f"the array {quoted(name)} has format version {version}")
        shape, is_fortran, dtype = read(stream)  # type: ignore[arg-type]
    # The header is a Python literal: numpy reports its faults in many ways.
    except (ValueError, TypeError, SyntaxError, KeyError, MemoryError):
        refuse_unreadable(f"the header of the array {quoted(name)} cannot be read")
    if dtype.hasobject:
        refuse(
            f"the array {quoted(name)} holds pickled Python objects, which are never "
            "opened; save plain numbers or text"
        )
    if any(size < 0 for size in shape) or dtype.itemsize == 0:
        refuse(f"the array {quoted(name)} has no size")
    return tuple(int(size) for size in shape), bool(is_fortran), dtype


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> AnyArray:
    with reading(name), archive.open(member) as stream:
        shape, is_fortran, dtype = _header(stream, name)
        is_sample = name.lower().startswith("x")
        values = read_values(
            stream,
            int(np.prod(shape, dtype=object)),
            stored=dtype,
            wanted=sample_dtype(name, dtype) if is_sample else dtype,
            name=name,
        )
    if is_fortran:
        return np.ascontiguousarray(values.reshape(shape[::-1]).T)
    return values.reshape(shape)
