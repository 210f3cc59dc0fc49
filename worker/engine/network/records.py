"""Whether the weights of a TorchScript archive are there in full, and as written.

`torch.jit.load` takes as many bytes as a tensor needs from its record, however short
that is: what lies behind it in memory would become weights. So the pickles are read
here for what they say of tensors, and nothing in them is called: every name stands for
an empty class. Nor does torch look at the checksums that it writes, so that a bit that
was flipped on the way is a weight like any other.

Source: torch/csrc/jit/serialization (unpickler.cpp, import_read.cpp).
"""

import io
import pickle
import zipfile
from contextlib import suppress
from typing import Any, BinaryIO, Self

from service.contract.errors import BadRequest

_CHUNK_BYTES = 1 << 20
_FOLDERS = ("data", "constants")  # each with its pickle
_ITEM_BYTES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2,
    "LongStorage": 8, "IntStorage": 4, "ShortStorage": 2, "CharStorage": 1,
    "ByteStorage": 1, "BoolStorage": 1, "ComplexDoubleStorage": 16,
    "ComplexFloatStorage": 8,
}  # fmt: skip


class _Nothing:
    """Stands for whatever a pickle names; takes anything, does nothing."""

    def __new__(cls, *_args: object, **_settings: object) -> Self:
        return object.__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Forget it."""

    def __call__(self, *_args: object) -> "_Nothing":
        return self

    def append(self, _item: object) -> None:
        """Forget it."""

    def extend(self, _items: object) -> None:
        """Forget it."""

    def __setitem__(self, _key: object, _value: object) -> None:
        """Forget it."""


class _Tensors(pickle.Unpickler):
    """Collects what tensors need: (record, bytes)."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self.needed: list[tuple[str, int]] = []

    def find_class(self, module_name: str, global_name: str, /) -> Any:  # noqa: ANN401
        """Name an item's size, or nothing."""
        if module_name == "torch" and global_name in _ITEM_BYTES:
            return _ITEM_BYTES[global_name]
        return _Nothing

    def persistent_load(self, pid: Any) -> Any:  # noqa: ANN401
        """Note what a storage needs."""
        _, item_bytes, record, _, count, *_ = pid
        if isinstance(item_bytes, int) and isinstance(count, int):
            self.needed.append((str(record), item_bytes * count))
        return _Nothing()


def check_records(file: BinaryIO) -> None:
    """Refuse an archive whose tensors are cut off or damaged. Rewinds the file.

    What cannot be read in this way is left to torch.

    Raises:
        BadRequest: a record is missing, too short or damaged, or stands there twice.
    """
    try:
        _check(file)
    except (zipfile.BadZipFile, KeyError, ValueError, NotImplementedError):
        pass
    finally:
        file.seek(0)


def _check(file: BinaryIO) -> None:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        sizes = {entry.filename: entry.file_size for entry in entries}
        if len(sizes) < len(entries):
            raise BadRequest("The archive is refused: it holds a name twice.")
        for name in sizes:
            root, _, last = name.rpartition("/")
            folder = last.removesuffix(".pkl")
            if folder == last or folder not in _FOLDERS:
                continue
            for record, needed in _needed(archive.read(name)):
                there = sizes.get(f"{root}/{folder}/{record}")
                if there is None or there < needed:
                    raise BadRequest(
                        f"The archive is refused: the tensor in '{folder}/{record}' "
                        f"needs {needed:,} bytes, {there or 0:,} are there; it may be "
                        "cut off."
                    )
        _check_sums(archive)


def _check_sums(archive: zipfile.ZipFile) -> None:
    for entry in archive.infolist():
        if entry.CRC == 0:  # torch may be told not to work it out
            continue
        with archive.open(entry) as record:
            try:
                while record.read(_CHUNK_BYTES):
                    pass
            except zipfile.BadZipFile as error:
                raise BadRequest(
                    f"The archive is refused: '{entry.filename}' is damaged; its "
                    "checksum is another one."
                ) from error


def _needed(content: bytes) -> list[tuple[str, int]]:
    reader = _Tensors(content)
    with suppress(Exception):  # torch says what is wrong with a pickle
        reader.load()
    return reader.needed
