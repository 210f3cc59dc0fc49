"""Generators of the open programs' data, written `name(rows,features,classes)`."""

import re
from collections.abc import Callable

import numpy as np
from sklearn import datasets

from benchmarks.faults.set_files import RealSet


def _classification(rows: int, features: int, classes: int = 2) -> RealSet:
    """Gaussian clusters at the corners of a hypercube, 1 % of the labels flipped."""
    informative = max(2, min(features, 2 + features // 2))
    x, y = datasets.make_classification(
        n_samples=rows * 2,
        n_features=features,
        n_informative=informative,
        n_redundant=(features - informative) // 2,
        n_classes=classes,
        class_sep=1.0,
        random_state=7,
    )
    return RealSet(x.astype(np.float32), y.astype(np.int64), "table")


def _xor(_rows: int = 4) -> RealSet:
    """The four corners many times over, jittered so that no two rows are equal."""
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    x = np.tile(corners, (60, 1))
    y = (x[:, 0] != x[:, 1]).astype(np.int64)
    x += np.random.default_rng(3).normal(0, 0.03, x.shape).astype(np.float32)
    return RealSet(x, y, "table")


def _blobs(rows: int, factor: int = 1) -> RealSet:
    x, y = datasets.make_blobs(
        n_samples=rows * 2, centers=3, cluster_std=2, random_state=2
    )
    return RealSet((x * factor).astype(np.float32), y.astype(np.int64), "table")


def _circles(rows: int, factor: int = 1) -> RealSet:
    x, y = datasets.make_circles(n_samples=rows * 2, noise=0.1, random_state=1)
    return RealSet((x * factor).astype(np.float32), y.astype(np.int64), "table")


def _bag_of_words(rows: int, words: int = 1000, classes: int = 46) -> RealSet:
    """Sparse 0/1 rows: Zipf's law of words, classes of unequal size with own topics."""
    rng = np.random.default_rng(11)
    share = 1 / np.arange(1, classes + 1)
    y = rng.choice(classes, size=rows * 2, p=share / share.sum())
    common = 1 / np.arange(1, words + 1)
    topics = rng.dirichlet(np.full(words, 0.02), size=classes)
    mixture = 0.55 * common / common.sum() + 0.45 * topics
    x = np.zeros((rows * 2, words), np.float32)
    for row, label in enumerate(y):
        x[row, rng.choice(words, size=60, p=mixture[label])] = 1
    return RealSet(x, np.unique(y, return_inverse=True)[1].astype(np.int64), "table")


def _motifs(rows: int, steps: int = 48, classes: int = 4) -> RealSet:
    """A short shape, one a class, somewhere in a noisy series of three channels."""
    rng = np.random.default_rng(5)
    shapes = rng.normal(0, 1.6, size=(classes, 8, 3))
    y = rng.integers(0, classes, size=rows * 2)
    x = rng.normal(0, 0.7, size=(rows * 2, steps, 3))
    for row, start in enumerate(rng.integers(0, steps - 8, size=rows * 2)):
        x[row, start : start + 8] += shapes[y[row]]
    return RealSet(x.astype(np.float32), y.astype(np.int64), "series")


GENERATORS: dict[str, Callable[..., RealSet]] = {
    "mc": _classification,
    "xor": _xor,
    "blobs": _blobs,
    "circles": _circles,
    "bag_of_words": _bag_of_words,
    "motifs": _motifs,
}


def generate(name: str) -> RealSet | None:
    """Make `name(…)`; None where it is no generator's name.

    Generators give twice the rows asked for, so that as many can be held out.
    """
    match = re.fullmatch(r"(\w+)\(([\d,]*)\)", name)
    if match is None or match[1] not in GENERATORS:
        return None
    return GENERATORS[match[1]](*(int(part) for part in match[2].split(",") if part))
