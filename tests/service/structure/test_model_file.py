import io
import struct
import zipfile

import pytest

from service.contract.errors import BadRequest, Problem, TooLarge, UnsupportedMediaType
from service.structure.model_file import model_format
from service.structure.zip_directory import ArchiveLimits
from tests.service.files import archive, torchscript

LIMITS = ArchiveLimits(entries=50, inflated_bytes=10**7, ratio=100, free_bytes=10**6)


def format_of(content: bytes, *, torch_export: bool = False) -> str:
    return model_format(
        io.BytesIO(content), len(content), LIMITS, torch_export=torch_export
    )


def test_a_torchscript_archive_is_recognised():
    assert format_of(torchscript()) == "torchscript"


def test_an_archive_with_zip64_sizes_is_read():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in ("n/data.pkl", "n/code/a.py"):
            with file.open(name, "w", force_zip64=True) as member:
                member.write(b"content")

    assert format_of(buffer.getvalue()) == "torchscript"


def test_an_exported_program_needs_the_operators_consent():
    exported = archive({"p/archive_format": b"pt2", "p/models/model.json": b"{}"})

    with pytest.raises(UnsupportedMediaType, match="switched on"):
        format_of(exported)
    assert format_of(exported, torch_export=True) == "torch_export"


@pytest.mark.parametrize(
    ("content", "problem", "said"),
    [
        (b"", BadRequest, "empty"),
        (b"\x80\x04pickle", UnsupportedMediaType, "pickle"),
        (b"\x89HDF\r\n\x1a\n____", UnsupportedMediaType, "HDF5"),
        (b"hello world", UnsupportedMediaType, "not a TorchScript"),
        (archive({"a/data.pkl": b"."}), UnsupportedMediaType, "state dict"),
        (archive({"readme": b"."}), UnsupportedMediaType, "holds no model"),
        (torchscript()[:-30], BadRequest, "cut off"),
        (torchscript() + b"more", BadRequest, "behind its end"),
        (archive({"/a/data.pkl": b"", "a/code/b": b""}), BadRequest, "absolute"),
        (archive({"a\\data.pkl": b"", "a/code/b": b""}), BadRequest, "backslash"),
        (archive({"a/../data.pkl": b"", "a/code/b": b""}), BadRequest, "leaves"),
        (
            archive({"a/data.pkl": b"", "b/code/b": b""}),
            BadRequest,
            "more than one top folder",
        ),
        (
            archive({f"a/{n}": b"" for n in range(51)}),
            TooLarge,
            "51 entries",
        ),
        (
            archive({"a/x": bytes(2_000_000)}, compression=zipfile.ZIP_DEFLATED),
            TooLarge,
            "fold",
        ),
        (archive({"a/x": bytes(11_000_000)}), TooLarge, "inflate to more"),
    ],
)
def test_what_is_no_model_is_refused_with_a_reason(
    content: bytes, problem: type[Problem], said: str
):
    with pytest.raises(problem, match=said):
        format_of(content)


def test_entries_that_lie_on_each_other_are_refused():
    content = bytearray(torchscript())
    first = content.find(b"PK\x01\x02")
    second = content.find(b"PK\x01\x02", first + 4)
    # The second entry points at the first one's bytes.
    content[second + 42 : second + 46] = struct.pack("<L", 1)

    with pytest.raises(BadRequest, match="overlap"):
        format_of(bytes(content))


def test_an_encrypted_entry_is_refused():
    content = bytearray(torchscript())
    first = content.find(b"PK\x01\x02")
    content[first + 8] |= 1

    with pytest.raises(BadRequest, match="encrypted"):
        format_of(bytes(content))


def test_a_symbolic_link_is_refused():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        link = zipfile.ZipInfo("a/link")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "/etc/passwd")

    with pytest.raises(BadRequest, match="symbolic link"):
        format_of(buffer.getvalue())


def test_a_directory_whose_count_lies_is_refused():
    content = bytearray(torchscript())
    end = content.rfind(b"PK\x05\x06")
    content[end + 8 : end + 12] = struct.pack("<2H", 2, 2)

    with pytest.raises(BadRequest, match="as many entries"):
        format_of(bytes(content))
