"""Uploads for tests: real archives, written without torch or numpy."""

import io
import json
import math
import struct
import zipfile


def torchscript(code: str = "class Net: pass", *, top: str = "net") -> bytes:
    return archive(
        {
            f"{top}/data.pkl": b"\x80\x02.",
            f"{top}/code/__torch__.py": code.encode(),
            f"{top}/version": b"3\n",
        }
    )


def archive(
    members: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members.items():
            # A fixed time, so that equal members make equal archives.
            file.writestr(zipfile.ZipInfo(name), content, compression)
    return buffer.getvalue()


def npy(shape: tuple[int, ...], kind: str = "<f4", data: bytes | None = None) -> bytes:
    text = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape!r}, }}\n"
    size = 4 if kind.endswith("4") else 8
    body = bytes(math.prod(shape) * size) if data is None else data
    header = text.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def npz(rows: int = 20) -> bytes:
    return archive(
        {"x.npy": npy((rows, 4)), "y.npy": npy((rows,), "<i8")},
        compression=zipfile.ZIP_DEFLATED,
    )


def safetensors(*, cut: int = 0) -> bytes:
    header = json.dumps(
        {"x": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}
    ).encode()
    whole = struct.pack("<Q", len(header)) + header + bytes(16)
    return whole[: len(whole) - cut]
