import io
import zipfile

import pytest

from service.contract.errors import BadRequest, Problem, UnsupportedMediaType
from service.structure.dataset_file import dataset_format
from service.structure.zip_directory import ArchiveLimits
from tests.service.files import archive, npy, npz, safetensors

LIMITS = ArchiveLimits(entries=50, inflated_bytes=10**7, ratio=100, free_bytes=10**6)


def format_of(content: bytes) -> str:
    return dataset_format(io.BytesIO(content), len(content), LIMITS)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (npz(), "npz"),
        (safetensors(), "safetensors"),
        (b"a,b\n1,2\n", "csv"),
        ("\ufeffgröße,b\r1,2\r".encode(), "csv"),
        (b"PAR1" + bytes(20) + b"\x08\0\0\0PAR1", "parquet"),
        (archive({"train/cat/1.png": b"", "train/dog/1.JPG": b""}), "zip"),
        (archive({"d/data.pkl": b"", "d/data/0": b""}), "pt"),
    ],
)
def test_a_dataset_is_recognised_by_its_content(content: bytes, expected: str):
    assert format_of(content) == expected


@pytest.mark.parametrize(
    ("content", "problem", "said"),
    [
        (b"", BadRequest, "empty"),
        (b"\x80\x04pickle", UnsupportedMediaType, "pickle"),
        (npy((2,)), UnsupportedMediaType, "single array"),
        (b"only a header", BadRequest, "no line"),
        (b"a,b\n\xff\xfe", UnsupportedMediaType, "UTF-8"),
        (b"a,b\n1,\0\n", UnsupportedMediaType, "not text"),
        (b"PAR1 cut off", BadRequest, "footer"),
        (b"PAR1", BadRequest, "cut off"),
        (safetensors(cut=1), BadRequest, "do not fill"),
        (archive({"x.npy": b"no array"}), BadRequest, "not an array"),
        (archive({"x.npy": npy((2,), "|O", b"pickle")}), BadRequest, "objects"),
        (archive({"x.npy": npy((9,), data=b"1234")}), BadRequest, "does not fit"),
        (archive({"x.npy": npy((2,)), "readme": b""}), BadRequest, "mixed"),
        (archive({"1.png": b""}), BadRequest, "no folder"),
        (archive({"a/b.txt": b""}), UnsupportedMediaType, "neither"),
        (archive({}), BadRequest, "empty"),
    ],
)
def test_what_is_no_dataset_is_refused_with_a_reason(
    content: bytes, problem: type[Problem], said: str
):
    with pytest.raises(problem, match=said):
        format_of(content)


def test_an_array_header_is_read_but_never_run():
    evil = npy((2,)).replace(b"'<f4'", b"id(1)")

    with pytest.raises(BadRequest, match="broken"):
        format_of(archive({"x.npy": evil}, compression=zipfile.ZIP_DEFLATED))


def test_a_deeply_nested_array_header_is_refused():
    text = b"{'descr': " + b"(" * 5000 + b")" * 4000 + b"}"
    member = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text

    with pytest.raises(BadRequest, match="broken"):
        format_of(archive({"x.npy": member}))
