import io
import struct
import warnings
import zipfile

import numpy as np
import pyarrow as pa
import pytest
import torch

from service.contract.errors import (
    BadRequest,
    Problem,
    TooLarge,
    UnsupportedMediaType,
    UnusableDataset,
)
from tests.worker.engine import intake_files as files
from tests.worker.engine.intake_files import ROWS, X, Y, read
from worker.engine.intake.limits import IntakeLimits

LARGE = np.zeros((4_000, 100), np.float32)  # 1.6 MB
SMALL_LIMIT = IntakeLimits(total_bytes=1_000_000)


def _nested() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a prototype, says torch
        return torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])


def _with(rows, row, column, value):
    rows[row][column] = value
    return rows


def _no_characters() -> np.ndarray:
    """Labels of numbers beyond those of all characters."""
    return np.where(Y, Y, 0x110005).astype(np.uint32).view("<U1")


@pytest.mark.parametrize(
    ("content", "format_", "spec", "words"),
    [
        (files.npz(x=X, y=_no_characters()), "npz", {}, ["characters", "not exist"]),
        (
            files.table(a=X[:, 0], label=[[int(v)] for v in Y]),
            "parquet",
            {},
            ['"label"', "list", "one name or number a row"],
        ),
        (files.npz(x=X, y=np.array([{}] * ROWS)), "npz", {}, ["y", "pickled"]),
        (files.npz(x=np.array([[None]] * ROWS), y=Y), "npz", {}, ["x", "pickled"]),
        (files.npz(x=X.astype(str), y=Y), "npz", {}, ["x", "text", "numbers"]),
        (files.npz(x=X.astype(complex), y=Y), "npz", {}, ["complex"]),
        (files.npz(x=X), "npz", {}, ["x without y"]),
        (files.npz(a=X, b=Y), "npz", {}, ['"a"', "x_train"]),
        (files.npz(x=X, y=Y, x_test=X, y_test=Y), "npz", {}, ["beside"]),
        (files.npz(x_test=X, y_test=Y), "npz", {}, ["x_train"]),
        (files.npz(x=X, X=X, y=Y), "npz", {}, ["twice"]),
        (files.npz(x=X[:-1], y=Y), "npz", {}, ["29", "30"]),
        (files.npz(x=X, y=np.zeros((ROWS, 2, 2))), "npz", {}, ["[30, 2, 2]"]),
        (files.npz(x=X, y=np.ones((ROWS, 2))), "npz", {}, ["one-hot"]),
        (files.npz(x=X, y=Y - 1), "npz", {}, ["row 0", "-1"]),
        (files.npz(x=X, y=Y + 1), "npz", {}, ["1 to 3", "0 to 2"]),
        (files.npz(x=X, y=Y + 0.5), "npz", {}, ["whole number"]),
        (files.npz(x=X, y=np.where(Y, Y, np.nan)), "npz", {}, ["row 0", "NaN"]),
        (files.npz(x=X, y=np.where(Y, Y, np.inf)), "npz", {}, ["infinite"]),
        (files.npz(x=X, y=np.where(Y, Y, 2**63).astype("u8")), "npz", {}, ["outside"]),
        (files.npz(x=X, y=Y * 0), "npz", {}, ["one class only"]),
        (
            files.npz(x_train=X, y_train=Y, x_test=X, y_test=Y * 0),
            "npz",
            {},
            ["one class only", "held-out"],
        ),
        (files.npz(x=X, y=Y), "npz", {"class_names": ["a", "b"]}, ["row 2", "2 class"]),
        (
            files.npz(x=X, y=np.array(["a", "b", "c"])[Y]),
            "npz",
            {"class_names": ["a", "b"]},
            ['"c"', "class_names"],
        ),
        (files.npz(x=X[:10], y=Y[:10]), "npz", {}, ["10 samples", "at least 20"]),
        (
            files.npz(x_train=X, y_train=Y, x_test=X[:3], y_test=Y[:3]),
            "npz",
            {},
            ["3 held-out", "at least 4"],
        ),
        (
            files.npz(x_train=X, y_train=Y, x_test=X[:0], y_test=Y[:0]),
            "npz",
            {},
            ["test is empty"],
        ),
        (
            files.npz(x_train=X, y_train=Y, x_test=X[:, :3], y_test=Y),
            "npz",
            {},
            ["[3]", "[4]"],
        ),
        (
            files.npz(x=np.zeros((20_000, 1)), y=np.arange(20_000) // 2),
            "npz",
            {},
            ["10,000 classes", "1,000"],
        ),
        (files.npz(x=X, y=Y * 10**6), "npz", {}, ["2,000,000"]),
        (files.npz(x=X, y=np.arange(ROWS)), "npz", {}, ["30 classes", "at least 2"]),
        (files.npz(x=np.zeros((ROWS, 0)), y=Y), "npz", {}, ["[0]"]),
        (files.npz(x=np.zeros((ROWS, 1, 1, 1, 1)), y=Y), "npz", {}, ["dimensions"]),
        (files.npz(x=X, y=Y), "npz", {"features": ["a"]}, ["1 features", "have 4"]),
        (files.pt({"x": X.tolist(), "y": torch.tensor(Y)}), "pt", {}, ["x"]),
        (files.pt({"x": torch.nn.Linear(1, 1)}), "pt", {}, ["objects"]),
        (files.pt([torch.tensor(X)]), "pt", {}, ["list", "dict"]),
        (
            files.pt(
                {
                    "x": _nested(),
                    "y": torch.tensor(Y),
                }
            ),
            "pt",
            {},
            ["nested", "dense"],
        ),
        (
            files.csv([[1, "u"], [2, "v" * 1_001]] * 20, "a,label"),
            "csv",
            {},
            ["1,001 characters", "at most 1,000"],
        ),
        (
            files.pt({"x": torch.tensor(X).to_sparse(), "y": torch.tensor(Y)}),
            "pt",
            {},
            ["sparse"],
        ),
        (
            files.csv(_with(files.table_rows(), 17, 3, "abc")),
            "csv",
            {},
            ['"d"', "row 18", '"abc"', "text"],
        ),
        (
            files.csv(_with(files.table_rows(), 17, 4, "")),
            "csv",
            {},
            ["row 17", "missing"],
        ),
        (files.csv(files.table_rows()), "csv", {"label": "z"}, ['"z"', '"label"']),
        (files.csv(files.table_rows()), "csv", {"split": "z"}, ["split", '"z"']),
        (files.csv(files.table_rows()), "csv", {"split": "a"}, ['"a"', "no split"]),
        (files.csv(files.table_rows()), "csv", {"split": "label"}, ["both"]),
        (files.csv(files.table_rows()), "csv", {"features": ["z"]}, ["feature", '"z"']),
        (files.csv(files.table_rows()), "csv", {"features": ["label"]}, ["label"]),
        (files.csv(files.table_rows(), "a,a,c,d,label"), "csv", {}, ['"a"', "twice"]),
        (files.csv(files.table_rows(), "1,2,3,4,5"), "csv", {}, ["header"]),
        (
            files.table(a=X[:, 0], b=["red"] * ROWS, label=Y),
            "parquet",
            {},
            ['"b"', "text"],
        ),
        (
            files.table(a=pa.array([[1]] * ROWS), label=Y),
            "parquet",
            {},
            ['"a"', "list"],
        ),
        (
            files.table(a=X[:, 0], label=pa.array([None, *Y[1:].tolist()])),
            "parquet",
            {},
            ["row 0", "missing"],
        ),
        (files.archive({"a/b/c.png": b"", "a/d.png": b""}), "zip", {}, ["class/file"]),
        (files.archive({}), "zip", {}, ["no pictures"]),
        (
            files.archive({"train/1.png": b"", "test/2.png": b""}),
            "zip",
            {},
            ["train/1.png", "no folder of a class"],
        ),
        (
            files.archive(
                {
                    "a/1.png": files.picture(),
                    "b/2.png": files.picture(size=(9, 9)),
                }
            ),
            "zip",
            {},
            ["9 by 9", "6 by 5", "spec.image.size"],
        ),
        (
            files.archive({"a/1.png": files.picture(), "b/2.txt": b"text"}),
            "zip",
            {},
            ["b/2.txt", "picture"],
        ),
        (files.pictures(), "zip", {"class_names": ["cat", "cow"]}, ['"dog"']),
    ],
)
def test_a_dataset_that_cannot_be_audited_is_refused_in_words(
    content, format_, spec, words
):
    with pytest.raises(UnusableDataset) as caught:
        read(content, format_, **spec)

    for word in words:
        assert word in caught.value.detail
    assert caught.value.errors[0].pointer
    assert caught.value.status == 422


@pytest.mark.parametrize(
    ("content", "format_"),
    [
        (b"", "npz"),
        (files.npz(x=X, y=Y)[:-30], "npz"),
        (
            files.archive({"x.npy": b"\x93NUMPY\x01\x00\x05\x00{'a'}", "y.npy": b""}),
            "npz",
        ),
        (b"", "safetensors"),
        (files.safetensors(x=X, y=Y)[:-8], "safetensors"),
        (struct.pack("<Q", 2**63) + b"{}", "safetensors"),
        (b"", "pt"),
        (files.pt({"x": torch.tensor(X)})[:200], "pt"),
        (b"", "csv"),
        (b"\xff\xfe\x00", "csv"),
        (files.csv(files.table_rows()) + b"1,2\n", "csv"),
        (files.csv(files.table_rows()) + b"\xff,1,1,1,1\n", "csv"),
        (b"", "parquet"),
        (files.table(a=X[:, 0], label=Y)[:-20], "parquet"),
        (b"", "zip"),
        (files.pictures()[:-30], "zip"),
    ],
)
def test_a_file_that_is_cut_off_or_damaged_is_said_to_be_so(content, format_):
    with pytest.raises(BadRequest):
        read(content, format_)


def test_a_table_whose_lines_end_as_none_should_is_told_how_they_should():
    content = files.csv(files.table_rows()).replace(b"\n", b"\r")

    with pytest.raises(BadRequest, match="LF or CRLF"):
        read(content, "csv")


@pytest.mark.parametrize(
    ("content", "format_"),
    [
        (files.npz_compressed(x=LARGE, y=LARGE[:, 0]), "npz"),
        (files.safetensors(x=LARGE, y=LARGE[:, 0]), "safetensors"),
        (files.pt({"x": torch.tensor(LARGE), "y": torch.tensor(LARGE[:, 0])}), "pt"),
        (
            files.pt({"x": torch.zeros(1).expand(2**40, 4), "y": torch.tensor(Y)}),
            "pt",
        ),
        (files.csv([[1] * 100] * 4_000, ",".join(map(str, range(99))) + ",y"), "csv"),
        (
            files.table(
                **{f"c{i}": LARGE[:, 0] for i in range(100)}, label=LARGE[:, 0]
            ),
            "parquet",
        ),
        (files.pictures(size=(300, 300), count=20), "zip"),
    ],
)
def test_what_would_unfold_beyond_the_limit_is_refused(content, format_):
    assert len(content) < 2_000_000

    with pytest.raises(TooLarge) as caught:
        read(content, format_, SMALL_LIMIT)

    assert "1,000,000" in caught.value.detail


def test_an_array_that_lies_about_its_size_costs_no_memory():
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (2**28, 2)}
    )
    content = files.archive(
        {"x.npy": header.getvalue() + b"\0" * 64, "y.npy": header.getvalue()}
    )

    with pytest.raises(Problem) as caught:
        read(content, "npz", IntakeLimits(total_bytes=8 << 30))

    assert "cut off" in caught.value.detail


def test_too_many_columns_and_pixels_are_refused():
    wide = (",".join(f"c{n}" for n in range(30)) + "\n").encode()
    with pytest.raises(TooLarge, match="columns"):
        read(wide, "csv", IntakeLimits(columns=20))
    with pytest.raises(TooLarge, match="pixels"):
        read(files.pictures(), "zip", IntakeLimits(picture_pixels=20))
    with pytest.raises(TooLarge, match="bytes"):
        read(files.pictures(), "zip", IntakeLimits(picture_bytes=20))
    with pytest.raises(TooLarge, match="files"):
        read(files.pictures(), "zip", IntakeLimits(members=20))


def test_an_encrypted_member_is_refused():
    content = bytearray(files.npz(x=X, y=Y))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        offset = archive.start_dir
    content[offset + 8] |= 1  # the flag of encryption, in the directory
    first = content.index(b"PK\x03\x04")
    content[first + 6] |= 1

    with pytest.raises(BadRequest):
        read(bytes(content), "npz")


def test_an_unknown_format_is_refused():
    with pytest.raises(UnsupportedMediaType, match="npz"):
        read(b"", "xlsx")


@pytest.mark.parametrize("word", ["NA", "NaN", "?", "None", "null", ""])
def test_a_label_that_stands_for_a_missing_value_is_no_class(word):
    names = [["cat", "dog", "emu"][label] for label in Y]
    names[7] = word
    rows = [[*row.tolist(), name] for row, name in zip(X, names, strict=True)]

    with pytest.raises(UnusableDataset, match="row 7, is missing"):
        read(files.csv(rows), "csv")
    if word:
        named = read(files.csv(rows), "csv", class_names=["cat", "dog", "emu", word])
        assert named.class_names[3] == word


@pytest.mark.parametrize("word", ["1_000", "１２"])
def test_only_plain_decimal_numbers_are_numbers(word):
    rows = _with(files.table_rows(), 4, 1, word)

    with pytest.raises(UnusableDataset, match='"b", row 5'):
        read(files.csv(rows), "csv")


@pytest.mark.parametrize(
    ("shape", "layout", "figures", "words"),
    [
        ((3, 8, 8), None, {"mean": [0.5, 0.5]}, ["mean has 2", "3"]),
        ((8, 8, 3), None, {"std": [0.5] * 8}, ["std has 8", "3"]),
        ((3, 8, 8), "NHWC", {"mean": [0.5] * 3}, ["mean has 3", "8"]),
        ((8, 8), None, {"mean": [0.5] * 3}, ["mean has 3", "one number"]),
        ((3, 8, 8), None, {"mean": []}, ["mean has 0"]),
        ((4,), None, {"mean": [1.0, 2.0, 3.0]}, ["mean has 3", "4"]),
    ],
)
def test_figures_of_pictures_are_one_number_or_one_a_channel(
    shape, layout, figures, words
):
    content = files.npz(x=np.zeros((ROWS, *shape), np.uint8), y=Y)

    with pytest.raises(UnusableDataset) as refusal:
        read(content, "npz", image={"layout": layout, **figures})

    assert all(word in refusal.value.detail for word in words)
    assert refusal.value.errors[0].pointer == f"/spec/image/{next(iter(figures))}"
