"""What kind of model an uploaded file is, by its outside only."""

from typing import BinaryIO

from service.contract.errors import (
    BadRequest,
    FieldError,
    Problem,
    UnsupportedMediaType,
)
from service.contract.jobs import ModelFormat
from service.structure.zip_directory import ArchiveLimits, UnsafeArchive, read_directory

EXPECTED = (
    "expected a TorchScript archive, as `torch.jit.script(model).save(path)` or "
    "`torch.jit.trace(model, x).save(path)` writes it"
)
_PICKLE = b"\x80"


def _refused(kind: type[Problem], found: str) -> Problem:
    return kind(
        f"{found}; {EXPECTED}.",
        errors=[FieldError(pointer="file", detail=f"{found}; {EXPECTED}.")],
    )


def model_format(
    file: BinaryIO, size_bytes: int, limits: ArchiveLimits, *, torch_export: bool
) -> ModelFormat:
    """Find the format of a model, or say why it is none.

    Args:
        file: the upload, seekable.
        size_bytes: its size.
        limits: what an archive may hold.
        torch_export: whether `.pt2` archives are accepted.

    Raises:
        BadRequest: broken, cut off, or made to harm.
        TooLarge: it inflates beyond the limits.
        UnsupportedMediaType: it is something else.
    """
    file.seek(0)
    head = file.read(8)
    if not head:
        raise _refused(BadRequest, "The file is empty")
    if not head.startswith(b"PK\x03\x04"):
        raise _refused(UnsupportedMediaType, _name_of(head))
    tops: set[str] = set()
    marks: set[str] = set()
    for entry in read_directory(file, size_bytes, limits):
        top, _, rest = entry.name.partition("/")
        if len(tops) < 2:  # noqa: PLR2004 - one is right, two are enough to refuse
            tops.add(top)
        marks |= _marks(top, rest)
    if "export" in marks:
        if torch_export:
            return "torch_export"
        raise _refused(
            UnsupportedMediaType,
            "This is a torch.export archive (.pt2), which the operator has not "
            "switched on, since loading one runs Python code",
        )
    if "code" in marks and "data" in marks:
        if len(tops) > 1:
            raise UnsafeArchive(reason="more than one top folder")
        return "torchscript"
    if "data" in marks:
        raise _refused(
            UnsupportedMediaType,
            "This was written by torch.save: a pickled state dict or module without "
            "its program",
        )
    raise _refused(UnsupportedMediaType, "This zip archive holds no model")


def _marks(top: str, rest: str) -> set[str]:
    """Say what an entry's name gives away."""
    if rest.startswith("code/"):
        return {"code"}
    if rest in {"data.pkl", "constants.pkl"}:
        return {"data"}
    if rest in {"archive_format", "models/model.json"} or top in {
        "serialized_exported_program.json",
        "archive_format",
    }:
        return {"export"}
    return set()


def _name_of(head: bytes) -> str:
    if head.startswith(_PICKLE):
        return "This is a pickle, which can run any code when it is opened"
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "This is an HDF5 file, such as Keras writes"
    if head[2:8] == b"\0\0\0\0\0\0" or head[8:9] == b"{":
        return "This is a safetensors file: weights without their program"
    return "This is not a TorchScript archive"
