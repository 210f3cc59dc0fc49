import numpy as np
import pytest
import torch

from tests.worker.engine import intake_files as files
from tests.worker.engine.intake_files import ROWS, X, Y, read
from worker.engine.intake.facts import facts


@pytest.mark.parametrize(
    ("content", "format_"),
    [
        (files.npz(x=X, y=Y), "npz"),
        (files.npz_compressed(x=X, y=Y), "npz"),
        (files.npz(x=np.asfortranarray(X), y=Y), "npz"),
        (files.npz(x=X.astype(np.float64), y=Y), "npz"),
        (files.npz(x=X.astype(">f4"), y=Y.astype(">i2")), "npz"),
        (files.safetensors(x=X, y=Y), "safetensors"),
        (files.pt({"x": torch.tensor(X), "y": torch.tensor(Y)}), "pt"),
        (files.csv(files.table_rows()), "csv"),
        (
            files.table(a=X[:, 0], b=X[:, 1], c=X[:, 2], d=X[:, 3], label=Y),
            "parquet",
        ),
    ],
)
def test_every_format_gives_the_same_dataset(content, format_):
    dataset = read(content, format_)

    split = dataset.splits["all"]
    assert split.x.dtype == np.float32
    assert split.x.flags.c_contiguous
    np.testing.assert_allclose(split.x, X, rtol=1e-6)
    np.testing.assert_array_equal(split.y, Y)
    np.testing.assert_array_equal(split.rows, np.arange(ROWS))
    assert dataset.class_names == ("0", "1", "2")
    assert dataset.kind == "table"


def test_splits_of_arrays_are_kept_apart():
    content = files.npz(
        x_train=X, y_train=Y, x_val=X[:6], y_val=Y[:6], x_test=X[6:12], y_test=Y[6:12]
    )

    dataset = read(content, "npz")

    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": ROWS,
        "val": 6,
        "test": 6,
    }
    np.testing.assert_array_equal(dataset.splits["test"].x, X[6:12])


@pytest.mark.parametrize("order", ["together", "mixed"])
def test_a_split_column_divides_a_table(order):
    words = ["training"] * 20 + ["test"] * 10
    if order == "mixed":
        words = ["training", "test", "training", "training", "test"] * 6
    rows = [[*row, word] for row, word in zip(files.table_rows(), words, strict=True)]

    dataset = read(files.csv(rows, "a,b,c,d,label,part"), "csv", split="part")

    chosen = np.array(words) == "test"
    np.testing.assert_allclose(dataset.splits["test"].x, X[chosen], rtol=1e-6)
    np.testing.assert_array_equal(dataset.splits["test"].y, Y[chosen])
    assert len(dataset.splits["train"]) == ROWS - chosen.sum()
    assert dataset.feature_names == ("a", "b", "c", "d")


def test_features_are_taken_in_the_order_of_the_spec():
    dataset = read(files.csv(files.table_rows()), "csv", features=["c", "a"])

    assert dataset.feature_names == ("c", "a")
    np.testing.assert_allclose(dataset.splits["all"].x, X[:, [2, 0]], rtol=1e-6)


def test_the_last_column_is_the_label_where_none_is_named():
    dataset = read(files.csv(files.table_rows(), "a,b,c,d,kind"), "csv")

    assert dataset.feature_names == ("a", "b", "c", "d")
    assert any("kind" in note for note in dataset.notes)


@pytest.mark.parametrize(("mark", "words"), [("\t", "by tabs"), (";", 'by ";"')])
def test_other_marks_between_the_columns_of_a_csv_are_told(mark, words):
    content = files.csv(files.table_rows()).replace(b",", mark.encode())

    assert any(words in note for note in read(content, "csv").notes)


def test_missing_and_boolean_values_of_a_csv_are_numbers():
    rows = files.table_rows()
    rows[3][1] = ""
    rows[4][1] = "NA"
    for number, row in enumerate(rows):
        row[2] = "true" if number % 2 else "False"

    dataset = read(files.csv(rows), "csv")

    x = dataset.splits["all"].x
    assert np.isnan(x[[3, 4], 1]).all()
    assert np.isnan(x).sum() == 2
    np.testing.assert_array_equal(x[:, 2], np.arange(ROWS) % 2)
    assert facts(dataset)["missing_values"] == {
        "nan": 2,
        "infinite": 0,
        "by_feature": {"b": 2},
    }


def test_what_no_32_bit_float_holds_is_counted_and_told():
    large = X.astype(np.float64)
    large[:3, 0] = 1e200

    told = facts(read(files.npz(x=large, y=Y), "npz"))
    silent = facts(read(files.npz(x=X.astype(np.float64), y=Y), "npz"))

    assert told["missing_values"]["infinite"] == 3
    assert any("3 values are infinite, or beyond 3.4e+38" in n for n in told["notes"])
    assert silent["notes"] == []


@pytest.mark.parametrize(
    "labels",
    [
        Y[:, None],
        Y.astype(np.float32),
        Y.astype(np.uint8),
        np.eye(3)[Y],
        np.array([b"0", b"1", b"2"])[Y],
        np.array(["0", "1.0", "2"])[Y],
    ],
)
def test_labels_of_any_form_become_class_numbers(labels):
    dataset = read(files.npz(x=X, y=labels), "npz")

    np.testing.assert_array_equal(dataset.splits["all"].y, Y)
    assert dataset.splits["all"].y.dtype == np.int64


def test_boolean_labels_are_two_classes():
    dataset = read(files.npz(x=X, y=Y == 1), "npz")

    assert dataset.class_names == ("0", "1")
    np.testing.assert_array_equal(dataset.splits["all"].y, Y == 1)


def test_names_as_labels_follow_class_names():
    names = np.array(["setosa", "virginica", "versicolor"])[Y]

    ordered = read(
        files.npz(x=X, y=names),
        "npz",
        class_names=["versicolor", "setosa", "virginica", "never seen"],
    )
    by_alphabet = read(files.npz(x=X, y=names), "npz")

    np.testing.assert_array_equal(ordered.splits["all"].y, np.array([1, 2, 0])[Y])
    assert len(ordered.class_names) == 4
    assert any("never seen" in note for note in ordered.notes)
    assert by_alphabet.class_names == ("setosa", "versicolor", "virginica")
    assert any("alphabet" in note for note in by_alphabet.notes)


def test_class_names_count_the_classes_of_numbers():
    dataset = read(files.npz(x=X, y=Y), "npz", class_names=["a", "b", "c", "d"])

    assert dataset.class_names == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("x", "kind", "layout", "dtype"),
    [
        (np.zeros((ROWS, 3, 8, 8), np.uint8), "image", "NCHW", np.uint8),
        (np.zeros((ROWS, 8, 8, 3), np.float32), "image", "NHWC", np.float32),
        (np.zeros((ROWS, 8, 8), np.uint8), "image", None, np.uint8),
        (np.zeros((ROWS, 20, 2), np.float64), "series", None, np.float32),
        (np.full((ROWS, 9), 17, np.int32), "tokens", None, np.int64),
        (np.full((ROWS, 9), -1, np.int32), "table", None, np.int64),
        (np.zeros((ROWS, 5), bool), "table", None, np.float32),
        (np.zeros(ROWS, np.float16), "table", None, np.float32),
    ],
)
def test_the_kind_of_sample_is_read_off_the_array(x, kind, layout, dtype):
    dataset = read(files.npz(x=x, y=Y), "npz")

    assert (dataset.kind, dataset.layout) == (kind, layout)
    assert dataset.splits["all"].x.dtype == dtype


def test_half_precision_of_torch_is_read():
    values = torch.tensor(X).bfloat16()
    labels = torch.tensor(Y)

    from_pt = read(files.pt({"X": values, "Y": labels}), "pt")

    np.testing.assert_array_equal(from_pt.splits["all"].x, values.float().numpy())


def test_a_view_with_the_other_sign_is_read():
    negative = torch._neg_view(torch.tensor(X))

    from_pt = read(files.pt({"x": negative, "y": torch.tensor(Y)}), "pt")

    np.testing.assert_array_equal(from_pt.splits["all"].x, -X)


def test_names_that_are_no_text_stay_apart():
    names = np.array([b"\xff", b"\xfe", b"ok"])[Y]

    dataset = read(files.npz(x=X, y=names), "npz")

    assert dataset.class_names == ("\\xfe", "\\xff", "ok")


@pytest.mark.parametrize("prefix", ["", "pets/", "train/"])
def test_pictures_lie_in_folders_of_their_class(prefix):
    dataset = read(files.pictures(prefix, colour=7), "zip")

    split = dataset.splits["all"]
    assert split.x.shape == (24, 1, 5, 6)
    assert split.x.dtype == np.uint8
    assert (split.x == 7).all()
    assert dataset.class_names == ("cat", "dog")
    assert (dataset.kind, dataset.layout) == ("image", "NCHW")


def test_pictures_of_two_splits_sizes_and_modes_are_brought_together():
    content = files.archive(
        {
            f"data/{split}/{label}/{number}.png": files.picture(
                mode=mode, size=(4 + number, 5), colour=colour
            )
            for split, label in [
                ("train", "dog"), ("train", "ant"), ("val", "dog"), ("val", "ant"),
            ]
            for number, (mode, colour) in enumerate(
                [("L", 9), ("RGB", (1, 2, 3)), ("P", 0), ("I;16", 9 << 8)]
            )
        }
    )  # fmt: skip

    dataset = read(content, "zip", image={"size": [7, 8]})

    assert {name: split.x.shape for name, split in dataset.splits.items()} == {
        "train": (8, 3, 7, 8),
        "val": (8, 3, 7, 8),
    }
    train = dataset.splits["train"]
    np.testing.assert_array_equal(train.x[0], 9)
    np.testing.assert_array_equal(train.x[1, :, 0, 0], [1, 2, 3])
    np.testing.assert_array_equal(train.x[3], 9)
    np.testing.assert_array_equal(train.y, [0] * 4 + [1] * 4)


def test_numbered_folders_are_the_numbers():
    content = files.archive(
        {f"{label}/{n}.png": files.picture() for label in range(12) for n in range(2)}
    )

    dataset = read(content, "zip")

    assert dataset.class_names == tuple(str(label) for label in range(12))


def test_facts_are_figures_and_never_the_data():
    dataset = read(files.npz(x_train=X, y_train=Y, x_test=X, y_test=Y), "npz")

    shown = facts(dataset)

    assert shown["splits"]["test"] == {"rows": ROWS, "class_counts": [10, 10, 10]}
    assert shown["sample_shape"] == [4]
    assert shown["classes"] == 3
    assert shown["dtype"] == "float32"
