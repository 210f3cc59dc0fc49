"""What kind of dataset an uploaded file is, by its outside only."""

import codecs
from collections import Counter
from typing import BinaryIO

from service.contract.errors import (
    BadRequest,
    FieldError,
    Problem,
    UnsupportedMediaType,
)
from service.contract.jobs import DatasetFormat
from service.structure.array_headers import (
    check_npy_member,
    check_safetensors,
    is_safetensors,
)
from service.structure.zip_directory import (
    ArchiveLimits,
    Entry,
    UnsafeArchive,
    read_directory,
)

EXPECTED = "expected .npz, .safetensors, .csv, .parquet, .zip with images, or .pt"
_CHUNK_BYTES = 1024 * 1024
_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
_SMALLEST_PARQUET = 12


def _refused(kind: type[Problem], found: str) -> Problem:
    return kind(
        f"{found}; {EXPECTED}.",
        errors=[FieldError(pointer="file", detail=f"{found}; {EXPECTED}.")],
    )


def dataset_format(
    file: BinaryIO, size_bytes: int, limits: ArchiveLimits
) -> DatasetFormat:
    """Find the format of a dataset, or say why it is none.

    Args:
        file: the upload, seekable.
        size_bytes: its size.
        limits: what an archive may hold.

    Raises:
        BadRequest: broken, cut off, or made to harm.
        TooLarge: it inflates beyond the limits.
        UnsupportedMediaType: it is something else.
    """
    file.seek(0)
    head = file.read(16)
    if not head:
        raise _refused(BadRequest, "The file is empty")
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _archive_format(file, size_bytes, limits)
    if head.startswith(b"PAR1"):
        _check_parquet(file, size_bytes)
        return "parquet"
    if is_safetensors(head, size_bytes):
        check_safetensors(file, size_bytes)
        return "safetensors"
    if head.startswith(b"\x80"):
        raise _refused(
            UnsupportedMediaType,
            "This is a pickle, which can run any code when it is opened",
        )
    if head.startswith(b"\x93NUMPY"):
        raise _refused(
            UnsupportedMediaType,
            "This is a single array (.npy), and labels are needed too; "
            "use numpy.savez(path, x=x, y=y)",
        )
    _check_csv(file)
    return "csv"


def _archive_format(
    file: BinaryIO, size_bytes: int, limits: ArchiveLimits
) -> DatasetFormat:
    kinds: Counter[str] = Counter()
    for entry in read_directory(file, size_bytes, limits):
        kind = _kind(entry)
        kinds[kind] += 1
        if kind == "array":
            check_npy_member(file, entry)
        elif kind == "image" and "/" not in entry.name:
            raise UnsafeArchive(reason=f"{entry.name!r} lies in no folder of a class")
    del kinds["folder"]
    if not kinds:
        raise _refused(BadRequest, "The archive is empty")
    if kinds["array"] == kinds.total():
        return "npz"
    if kinds["array"]:
        raise UnsafeArchive(reason="arrays (.npy) and other files are mixed in it")
    if kinds["tensors"]:
        return "pt"
    if kinds["image"]:
        return "zip"
    raise _refused(
        UnsupportedMediaType, "This zip archive holds neither arrays nor images"
    )


def _kind(entry: Entry) -> str:
    if entry.is_folder:
        return "folder"
    if entry.name.endswith(".npy"):
        return "array"
    if entry.name.endswith("/data.pkl"):
        return "tensors"
    return "image" if entry.name.lower().endswith(_IMAGES) else "other"


def _check_parquet(file: BinaryIO, size_bytes: int) -> None:
    if size_bytes < _SMALLEST_PARQUET:
        raise UnsafeArchive(reason="the parquet file is cut off")
    file.seek(size_bytes - 8)
    tail = file.read(8)
    footer_bytes = int.from_bytes(tail[:4], "little")
    if tail[4:] != b"PAR1" or footer_bytes + _SMALLEST_PARQUET > size_bytes:
        raise UnsafeArchive(reason="the parquet file has no footer; it may be cut off")


def _check_csv(file: BinaryIO) -> None:
    """Check that a file is text with more than one line."""
    file.seek(0)
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    lines = 0
    ends_with_newline = True
    try:
        while chunk := file.read(_CHUNK_BYTES):
            text = decoder.decode(chunk)
            if "\0" in text:
                raise _refused(UnsupportedMediaType, "The file is not text")
            lines += chunk.count(b"\n") or chunk.count(b"\r")
            ends_with_newline = chunk.endswith((b"\n", b"\r"))
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise _refused(
            UnsupportedMediaType, "The file is no known format and no UTF-8 text"
        ) from error
    if lines + (not ends_with_newline) < 2:  # noqa: PLR2004 - a header and a row
        raise _refused(BadRequest, "The text has no line below its header")
