"""The headers of array files: `.npy` members of an `.npz`, and safetensors."""

import ast
import json
import math
import re
import struct
import zlib
from typing import Any, BinaryIO, TypeGuard

from service.structure.zip_directory import Entry, UnsafeArchive

_LOCAL = struct.Struct("<4s5H3L2H")
_DEFLATED = 8
_HEADER_LIMIT = 10_000
_HEAD_BYTES = 128 * 1024
_TYPE = re.compile(r"[<>|=]?([?biufSU])(\d{0,6})")
_SAFETENSORS_HEADER_LIMIT = 16 * 1024 * 1024
_SAFETENSORS_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
}


def check_npy_member(file: BinaryIO, entry: Entry) -> None:
    """Check that a member of an archive is a plain array of the size it declares.

    Args:
        file: the archive, seekable; its position is kept.
        entry: the member.

    Raises:
        UnsafeArchive: not an array, an array of Python objects, or of another size.
    """
    position = file.tell()
    try:
        head = _inflated_head(file, entry)
    finally:
        file.seek(position)
    header, header_end = _header_text(entry.name, head)
    try:
        facts = ast.literal_eval(header)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise UnsafeArchive(
            reason=f"the array header of {entry.name!r} is broken"
        ) from error
    if not isinstance(facts, dict) or set(facts) != {"descr", "fortran_order", "shape"}:
        raise UnsafeArchive(reason=f"the array header of {entry.name!r} is broken")
    item_bytes = _item_bytes(entry.name, facts["descr"])
    shape = facts["shape"]
    if not isinstance(shape, tuple) or not all(
        type(length) is int and 0 <= length < 2**48 for length in shape
    ):
        raise UnsafeArchive(reason=f"the shape of {entry.name!r} is broken")
    if header_end + math.prod(shape) * item_bytes != entry.inflated_bytes:
        raise UnsafeArchive(reason=f"the size of {entry.name!r} does not fit its shape")


def _inflated_head(file: BinaryIO, entry: Entry) -> bytes:
    file.seek(entry.offset)
    head = file.read(_LOCAL.size)
    if len(head) < _LOCAL.size or not head.startswith(b"PK\x03\x04"):
        raise UnsafeArchive(reason=f"{entry.name!r} is not where the directory says")
    fields = _LOCAL.unpack(head)
    file.seek(entry.offset + _LOCAL.size + fields[9] + fields[10])
    packed = file.read(min(entry.packed_bytes, _HEAD_BYTES))
    if entry.method != _DEFLATED:
        return packed
    try:
        return zlib.decompressobj(-15).decompress(packed, _HEAD_BYTES)
    except zlib.error as error:
        raise UnsafeArchive(reason=f"{entry.name!r} cannot be inflated") from error


def _header_text(name: str, head: bytes) -> tuple[str, int]:
    """Return the header of an array, and where its data begins."""
    if not head.startswith(b"\x93NUMPY") or len(head) < 12:  # noqa: PLR2004
        raise UnsafeArchive(reason=f"{name!r} is not an array (.npy)")
    if head[6] == 1:
        start, length = 10, int.from_bytes(head[8:10], "little")
    else:
        start, length = 12, int.from_bytes(head[8:12], "little")
    if length > _HEADER_LIMIT or start + length > len(head):
        raise UnsafeArchive(reason=f"the array header of {name!r} is too long")
    return head[start : start + length].decode("latin-1"), start + length


def _item_bytes(name: str, kind: object) -> int:
    match = _TYPE.fullmatch(kind) if isinstance(kind, str) else None
    if match is None:
        raise UnsafeArchive(
            reason=f"{name!r} holds {kind!r}; expected real numbers, booleans or text, "
            "never complex numbers or Python objects"
        )
    size = int(match[2] or 1)
    return size * 4 if match[1] == "U" else size


def is_safetensors(head: bytes, size_bytes: int) -> bool:
    """Say whether a file begins as safetensors do."""
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and len("{}") <= length <= size_bytes - 8


def check_safetensors(file: BinaryIO, size_bytes: int) -> None:
    """Check that the header describes exactly the bytes that follow it.

    Raises:
        UnsafeArchive: it does not.
    """
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > _SAFETENSORS_HEADER_LIMIT:
        raise UnsafeArchive(reason="its header is too long")
    try:
        header: Any = json.loads(file.read(length).decode())
    except (ValueError, RecursionError) as error:
        raise UnsafeArchive(reason="its header is not JSON") from error
    if not isinstance(header, dict):
        raise UnsafeArchive(reason="its header is not an object")
    header.pop("__metadata__", None)
    spans = sorted(_tensor_span(name, facts) for name, facts in header.items())
    end = 0
    for start, stop in spans:
        if start != end:
            raise UnsafeArchive(reason="its tensors overlap or leave gaps")
        end = stop
    if 8 + length + end != size_bytes:
        raise UnsafeArchive(
            reason="its tensors do not fill the file; it may be cut off"
        )


def _tensor_span(name: str, facts: object) -> tuple[int, int]:
    if not isinstance(facts, dict):
        raise UnsafeArchive(reason=f"the entry of {name!r} is broken")
    bits = _SAFETENSORS_BITS.get(str(facts.get("dtype")))
    shape, offsets = facts.get("shape"), facts.get("data_offsets")
    if bits is None:
        raise UnsafeArchive(reason=f"{name!r} is of a type that is not supported")
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:  # noqa: PLR2004
        raise UnsafeArchive(reason=f"the entry of {name!r} is broken")
    start, stop = offsets
    if math.prod(shape) * bits != (stop - start) * 8:
        raise UnsafeArchive(reason=f"the size of {name!r} does not fit its shape")
    return start, stop


def _are_sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(
        type(item) is int and 0 <= item < 2**48 for item in value
    )
