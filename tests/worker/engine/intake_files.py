"""Builds dataset files in memory, valid and broken, for tests of intake."""

import io
import zipfile
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from pyarrow import parquet
from safetensors.numpy import save as save_safetensors

from service.contract.request import DatasetSpec
from worker.engine.data import Dataset
from worker.engine.intake.limits import IntakeLimits
from worker.engine.intake.reader import read_dataset

RNG = np.random.default_rng(7)
ROWS = 30
X = RNG.normal(size=(ROWS, 4)).astype(np.float32)
Y = np.arange(ROWS) % 3


def read(content: bytes, format: str, limits=None, **spec) -> Dataset:  # noqa: A002
    return read_dataset(
        io.BytesIO(content), format, DatasetSpec(**spec), limits or IntakeLimits()
    )


def npz(**arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npz_compressed(**arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def safetensors(**arrays) -> bytes:
    return save_safetensors(arrays)


def pt(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def csv(rows: Sequence[Sequence[object]], header: str = "a,b,c,d,label") -> bytes:
    lines = [header, *(",".join(str(value) for value in row) for row in rows)]
    return ("\n".join(lines) + "\n").encode()


def table_rows() -> list[list[object]]:
    return [[*row.tolist(), int(label)] for row, label in zip(X, Y, strict=True)]


def table(**columns) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def picture(*, mode: str = "L", size: tuple[int, int] = (6, 5), colour=1) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as writer:
        for name, content in files.items():
            writer.writestr(name, content)
    return buffer.getvalue()


def pictures(prefix: str = "", count: int = 24, **looks) -> bytes:
    return archive(
        {
            f"{prefix}{('cat', 'dog')[number % 2]}/{number:03}.png": picture(**looks)
            for number in range(count)
        }
    )
