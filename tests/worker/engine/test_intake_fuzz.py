"""Mutated files give a dataset or a problem, never another exception."""

import contextlib
import io

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.contract.errors import Problem
from service.contract.request import DatasetSpec
from tests.worker.engine import intake_files as files
from tests.worker.engine.intake_files import X, Y
from worker.engine.data import Dataset
from worker.engine.intake.facts import facts
from worker.engine.intake.limits import IntakeLimits
from worker.engine.intake.reader import read_dataset

LIMITS = IntakeLimits(total_bytes=1 << 20)
VALID = {
    "npz": files.npz(x=X, y=Y),
    "npz compressed": files.npz_compressed(x_train=X, y_train=Y, x_test=X, y_test=Y),
    "safetensors": files.safetensors(x=X, y=Y),
    "pt": files.pt({"x": torch.tensor(X), "y": torch.tensor(Y)}),
    "csv": files.csv(files.table_rows()),
    "parquet": files.table(a=X[:, 0], b=Y % 2, label=[f"k{label}" for label in Y]),
    "zip": files.pictures(),
}

KINDS = st.sampled_from(["f8", "f4", "i8", "u1", "?", "U3", "c8", "M8[s]"])
Edit = tuple[str, float, bytes]
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["replace", "insert", "cut", "end"]),
        st.floats(0, 1),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=6,
)


def _edited(content: bytes, edits: list[Edit]) -> bytes:
    changed = bytearray(content)
    for kind, where, piece in edits:
        at = int(where * len(changed))
        if kind == "replace":
            changed[at : at + len(piece)] = piece
        elif kind == "insert":
            changed[at:at] = piece
        elif kind == "cut":
            del changed[at : at + 8 * len(piece)]
        else:
            del changed[max(at, 1) :]
    return bytes(changed)


def _read(content: bytes, name: str) -> None:
    with contextlib.suppress(Problem):
        dataset = read_dataset(
            io.BytesIO(content), name.partition(" ")[0], DatasetSpec(), LIMITS
        )
        assert isinstance(dataset, Dataset)
        assert facts(dataset)["classes"] == len(dataset.class_names)
        for split in dataset.splits.values():
            assert len(split.x) == len(split.y)
            assert split.y.max() < len(dataset.class_names)


@pytest.mark.parametrize("name", VALID)
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(edits=EDITS)
def test_a_mutated_file_gives_a_dataset_or_a_problem(name, edits):
    _read(_edited(VALID[name], edits), name)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    text=st.text(
        alphabet=st.sampled_from(list("01.9ab,;\t\n\r\"' \0eE+-é")), max_size=200
    )
)
def test_any_text_as_a_table_gives_a_dataset_or_a_problem(text):
    _read(text.encode(), "csv")


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    shape=st.lists(st.integers(0, 30), max_size=5),
    labels=st.lists(st.integers(0, 30), max_size=4),
    kinds=st.tuples(
        *[st.sampled_from(["f8", "f4", "i8", "u1", "?", "U3", "c8", "M8[s]"])] * 2
    ),
)
def test_arrays_of_any_shape_and_type_give_a_dataset_or_a_problem(shape, labels, kinds):
    x = np.ones(shape if np.prod(shape) < 10_000 else [3], np.float64).astype(kinds[0])
    y = np.arange(np.prod(labels) if np.prod(labels) < 10_000 else 0).astype("i8")
    y = y.astype(kinds[1]).reshape(labels if y.size else [0])

    _read(files.npz(x=x, y=y), "npz")
