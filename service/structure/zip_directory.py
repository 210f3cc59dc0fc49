"""The central directory of a zip archive, read as a stream and checked entry by entry.

The standard library's reader keeps every entry in memory, which an archive with
millions of them turns against the reader.

Source: APPNOTE.TXT 6.3.10, sections 4.3.12, 4.3.14 to 4.3.16 and 4.5.3.
"""

import os
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO

from service.contract.errors import BadRequest, FieldError, TooLarge

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL_HEADER_BYTES = 30
_LONGEST_COMMENT = 65_535
_WHOLE = 0xFFFFFFFF
_ENCRYPTED = 0x1
_STORED, _DEFLATED = 0, 8
_UNIX = 3
_SYMLINK = 0o120000
_FILE_TYPE = 0o170000
_NAME_LIMIT = 1024
_SORTABLE = 200_000


@dataclass(frozen=True)
class ArchiveLimits:
    """What an archive may hold."""

    entries: int
    inflated_bytes: int
    ratio: float
    free_bytes: int


@dataclass(frozen=True)
class Entry:
    """One file in an archive."""

    name: str
    method: int
    packed_bytes: int
    inflated_bytes: int
    offset: int

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.name.endswith("/")


class UnsafeArchive(BadRequest):
    """An archive that is broken, or made to harm its reader."""

    def __init__(self, *, reason: str) -> None:
        super().__init__(
            f"The archive is refused: {reason}.",
            errors=[FieldError(pointer="file", detail=reason)],
        )


class InflatesTooMuch(TooLarge):
    """An archive that grows beyond the limits when it is opened."""

    def __init__(self, *, reason: str) -> None:
        super().__init__(
            f"The archive is refused: {reason}.",
            errors=[FieldError(pointer="file", detail=reason)],
        )


def read_directory(
    file: BinaryIO, size_bytes: int, limits: ArchiveLimits
) -> Iterator[Entry]:
    """Read an archive's directory; each entry is checked before it is handed out.

    The checks over all entries (sizes, overlaps) are done when the last was read, so a
    caller must read to the end.

    Args:
        file: the archive, seekable.
        size_bytes: its size.
        limits: what it may hold.

    Raises:
        UnsafeArchive: broken, encrypted, overlapping, or names that leave the folder.
        InflatesTooMuch: more entries or more bytes than allowed.
    """
    count, directory_bytes, start = _find_directory(file, size_bytes)
    if count > limits.entries:
        raise InflatesTooMuch(reason=f"{count} entries, {limits.entries} are allowed")
    file.seek(start)
    spans = _Spans(start)
    inflated = packed = read = 0
    for _ in range(count):
        entry, length = _read_entry(file)
        read += length
        inflated += entry.inflated_bytes
        packed += entry.packed_bytes
        if inflated > limits.inflated_bytes:
            raise InflatesTooMuch(
                reason=f"its entries inflate to more than {limits.inflated_bytes} bytes"
            )
        if entry.method == _STORED and entry.packed_bytes != entry.inflated_bytes:
            raise UnsafeArchive(reason=f"{entry.name!r} has two different sizes")
        spans.add(entry)
        yield entry
    if read != directory_bytes:
        raise UnsafeArchive(
            reason="its directory does not hold as many entries as it says"
        )
    if inflated > limits.free_bytes and inflated > limits.ratio * max(packed, 1):
        raise InflatesTooMuch(
            reason=f"it inflates {inflated / max(packed, 1):.0f} fold, "
            f"{limits.ratio:.0f} fold is allowed"
        )
    spans.check()


class _Spans:
    """Where the entries lie: none may lie on another (42 kB that become 4 PB do)."""

    def __init__(self, directory: int) -> None:
        self._directory = directory
        self._starts = array("Q")
        self._ends = array("Q")
        self._in_order = True

    def add(self, entry: Entry) -> None:
        end = entry.offset + _LOCAL_HEADER_BYTES + entry.packed_bytes
        end += len(entry.name.encode("utf-8", "surrogateescape"))
        if end > self._directory:
            raise UnsafeArchive(reason=f"{entry.name!r} lies outside of the archive")
        if self._ends and entry.offset < self._ends[-1]:
            self._in_order = False
        self._starts.append(entry.offset)
        self._ends.append(end)

    def check(self) -> None:
        if self._in_order:
            return
        if len(self._starts) > _SORTABLE:
            raise UnsafeArchive(reason="its many entries are not in order")
        spans = sorted(zip(self._starts, self._ends, strict=True))
        for (_, end), (start, _) in pairwise(spans):
            if start < end:
                raise UnsafeArchive(reason="two entries overlap")


def _find_directory(file: BinaryIO, size_bytes: int) -> tuple[int, int, int]:
    """Find number of entries, size and start of the directory."""
    tail_bytes = min(size_bytes, _END.size + _LONGEST_COMMENT)
    file.seek(size_bytes - tail_bytes)
    tail = file.read(tail_bytes)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        raise UnsafeArchive(reason="it has no directory at its end; it may be cut off")
    _, disk, _, _, count, directory_bytes, start, comment = _END.unpack_from(tail, at)
    if len(tail) - at - _END.size != comment:
        raise UnsafeArchive(reason="there is something behind its end")
    end = size_bytes - tail_bytes + at
    # torch writes the records of large archives for small ones, too.
    if _has_locator64(file, end):
        count, directory_bytes, start, end = _find_directory64(file, end)
    elif disk:
        raise UnsafeArchive(reason="it is one part of several")
    if start + directory_bytes != end:
        raise UnsafeArchive(reason="its directory does not lie where it says")
    return count, directory_bytes, start


def _has_locator64(file: BinaryIO, end: int) -> bool:
    if end < _END64_LOCATOR.size:
        return False
    file.seek(end - _END64_LOCATOR.size)
    return file.read(4) == b"PK\x06\x07"


def _find_directory64(file: BinaryIO, end: int) -> tuple[int, int, int, int]:
    if end < _END64_LOCATOR.size:
        raise UnsafeArchive(reason="its directory is cut off")
    file.seek(end - _END64_LOCATOR.size)
    magic, _, where, disks = _END64_LOCATOR.unpack(file.read(_END64_LOCATOR.size))
    if magic != b"PK\x06\x07" or disks > 1 or where + _END64.size > end:
        raise UnsafeArchive(reason="its directory is broken")
    file.seek(where)
    fields = _END64.unpack(file.read(_END64.size))
    if fields[0] != b"PK\x06\x06":
        raise UnsafeArchive(reason="its directory is broken")
    return fields[7], fields[8], fields[9], where


def _read_entry(file: BinaryIO) -> tuple[Entry, int]:
    head = file.read(_ENTRY.size)
    if len(head) < _ENTRY.size or not head.startswith(b"PK\x01\x02"):
        raise UnsafeArchive(reason="its directory is broken")
    fields = _ENTRY.unpack(head)
    made_by, flags, method = fields[1], fields[3], fields[4]
    packed, inflated = fields[8], fields[9]
    name_bytes, extra_bytes, comment_bytes = fields[10:13]
    attributes, offset = fields[15], fields[16]
    if name_bytes > _NAME_LIMIT:
        raise UnsafeArchive(reason="a name in it is too long")
    raw = file.read(name_bytes)
    extra = file.read(extra_bytes)
    file.seek(comment_bytes, os.SEEK_CUR)
    name = _checked_name(raw)
    if flags & _ENCRYPTED:
        raise UnsafeArchive(reason=f"{name!r} is encrypted")
    if method not in (_STORED, _DEFLATED):
        raise UnsafeArchive(reason=f"{name!r} is packed in a way that is not supported")
    if made_by >> 8 == _UNIX and (attributes >> 16) & _FILE_TYPE == _SYMLINK:
        raise UnsafeArchive(reason=f"{name!r} is a symbolic link")
    inflated, packed, offset = _large(extra, inflated, packed, offset)
    entry = Entry(name, method, packed, inflated, offset)
    return entry, _ENTRY.size + name_bytes + extra_bytes + comment_bytes


def _checked_name(raw: bytes) -> str:
    name = raw.decode("utf-8", "surrogateescape")
    if not name or "\0" in name:
        raise UnsafeArchive(reason="a name in it is empty or holds a zero byte")
    if "\\" in name:
        raise UnsafeArchive(
            reason=f"the name {name!r} holds a backslash; folders are divided by `/`"
        )
    if name.startswith("/") or name[1:2] == ":":
        raise UnsafeArchive(reason=f"the name {name!r} is absolute")
    if ".." in name.split("/"):
        raise UnsafeArchive(reason=f"the name {name!r} leaves its folder")
    return name


def _large(
    extra: bytes, inflated: int, packed: int, offset: int
) -> tuple[int, int, int]:
    """Take what did not fit into 32 bits from the extra field."""
    values = [inflated, packed, offset]
    if _WHOLE not in values:
        return inflated, packed, offset
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        field = extra[at + 4 : at + 4 + length]
        if kind == 1:
            for index, value in enumerate(values):
                if value == _WHOLE:
                    if len(field) < 8:  # noqa: PLR2004 - 64 bits
                        raise UnsafeArchive(reason="a size in its directory is missing")
                    values[index] = int.from_bytes(field[:8], "little")
                    field = field[8:]
            return values[0], values[1], values[2]
        at += 4 + length
    raise UnsafeArchive(reason="a size in its directory is missing")
