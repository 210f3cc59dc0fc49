"""Reads `.pt`: a dict of tensors, with torch's restricted unpickler."""

import pickle
import zipfile
from functools import partial
from typing import BinaryIO

import numpy as np
import torch

from worker.engine.intake.complaints import (
    quoted,
    refuse,
    refuse_size,
    refuse_unreadable,
)
from worker.engine.intake.limits import IntakeLimits
from worker.engine.intake.npz import reading
from worker.engine.intake.raw import (
    AnyArray,
    Found,
    Raw,
    convert,
    gather,
    sample_dtype,
)

_DTYPES: dict[torch.dtype, type[np.generic]] = {
    torch.bool: np.bool_,
    torch.uint8: np.uint8,
    torch.int8: np.int8,
    torch.int16: np.int16,
    torch.int32: np.int32,
    torch.int64: np.int64,
    torch.float16: np.float16,
    torch.bfloat16: np.float32,
    torch.float32: np.float32,
    torch.float64: np.float64,
}


def read_tensor_file(file: BinaryIO, limits: IntakeLimits) -> Raw:
    """Read the tensors that the contract names.

    Raises:
        Problem: see `worker.engine.intake.reader`.
    """
    _check_archive(file, limits)
    content = _load(file)
    if not isinstance(content, dict):
        refuse(
            f"the file holds {type(content).__name__}; a dict of tensors is expected"
        )
    return gather(
        [
            _announce(str(name), value)
            for name, value in content.items()
            if isinstance(value, torch.Tensor)
        ],
        limits,
    )


def _check_archive(file: BinaryIO, limits: IntakeLimits) -> None:
    """Look at the sizes in the archive's directory before torch inflates any."""
    with reading("the archive"), zipfile.ZipFile(file) as archive:
        total = sum(member.file_size for member in archive.infolist())
    if total > limits.total_bytes:
        refuse_size(
            "the archive unpacked",
            found=total,
            allowed=limits.total_bytes,
            unit="bytes",
        )
    file.seek(0)


def _load(file: BinaryIO) -> object:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        refuse(
            "the file holds Python objects beside tensors, which are never opened; "
            "save a dict of plain tensors"
        )
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - it raises whatever bytes lead to
        refuse_unreadable(f"the file cannot be read as tensors: {quoted(error, 200)}")


def _announce(name: str, tensor: torch.Tensor) -> Found:
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        refuse(
            f"the tensor {quoted(name)} is {tensor.layout} on {tensor.device}; a "
            "dense one is expected"
        )
    if tensor.is_nested:  # of rows of several lengths; it has no shape
        refuse(f"the tensor {quoted(name)} is nested; a dense one is expected")
    stored = _DTYPES.get(tensor.dtype)
    if stored is None:
        refuse(
            f"the tensor {quoted(name)} is of type {tensor.dtype}; plain numbers are "
            "expected"
        )
    return Found(
        name=name,
        shape=tuple(tensor.shape),
        dtype=np.dtype(stored),
        read=partial(_read, name, tensor.detach()),
    )


def _read(name: str, tensor: torch.Tensor) -> AnyArray:
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    # A view may stand for what its memory holds with the other sign.
    values: AnyArray = tensor.resolve_neg().contiguous().numpy()
    if name.lower().startswith("x"):
        return convert(values, sample_dtype(name, values.dtype))
    return values
