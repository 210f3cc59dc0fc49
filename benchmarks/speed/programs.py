"""Programs to audit whole: a trained network, its data and its recipe in a folder."""

import gzip
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.faults.set_files import SetMissingError, find_file
from benchmarks.speed.subjects import CLASSES, cnn, mlp

PICTURES = 10_000
BRIEFLY = 400  # steps, for networks of which only the time counts
_FOLDER = "usr/share/datasets/fashion-mnist"


def digits(folder: Path) -> str:
    """Write 64-128-10 on scikit-learn's digits; returns what it is."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - slow to import

    bunch = load_digits()
    x = (bunch.data / 16).astype(np.float32)
    write(folder, mlp(64, 128), (x, bunch.target), epochs=20, batch=32)
    return "digits, MLP 64-128-10"


def fashion(folder: Path) -> str:
    """Write a network on 10,000 pictures of 28x28; returns what it is."""
    x: Any
    y: Any
    try:
        path = find_file(
            f"{_FOLDER}/train-images-idx3-ubyte.gz", "fashion", "dataset-fashion-mnist"
        )
        x = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=16)
        labels = path.with_name("train-labels-idx1-ubyte.gz")
        y = np.frombuffer(gzip.decompress(labels.read_bytes()), np.uint8, offset=8)
        name = "Fashion-MNIST 10k"
    except SetMissingError:
        x, y = _blobs(PICTURES, 784)
        x = (x - x.min()) / (x.max() - x.min()) * 255
        name = "made-up pictures 10k"
    x = x.reshape(-1, 1, 28, 28)[:PICTURES].astype(np.float32) / 255
    write(folder, cnn(28), (x, y[:PICTURES]), epochs=10, batch=64)
    return f"{name}, CNN 28x28"


def table(folder: Path, *, rows: int, features: int, hidden: int) -> str:
    """Write a made-up table with a dense network; returns what it is."""
    x, y = _blobs(rows, features)
    write(folder, mlp(features, hidden), (x, y), epochs=5, batch=128, most=BRIEFLY)
    return f"{rows:,} rows, {features} features, {hidden} hidden"


def _blobs(rows: int, features: int) -> tuple[Any, Any]:
    """Draw classes that overlap, so that no network is perfect."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLASSES, features)).astype(np.float32)
    y = rng.integers(0, CLASSES, rows)
    x = rng.standard_normal((rows, features), dtype=np.float32)
    x *= 0.5 * features**0.5
    x += centres[y]
    return x, y


def write(
    folder: Path,
    network: nn.Module,
    data: tuple[Any, Any],
    *,
    epochs: int,
    batch: int,
    most: int | None = None,
) -> None:
    """Train a network by its recipe, for so many steps at most, and write the files."""
    x, y = data
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    count = len(y) * 3 // 4
    inputs = torch.from_numpy(np.ascontiguousarray(x[:count]))
    labels = torch.from_numpy(y[:count].astype(np.int64))
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    steps = epochs * count // batch
    for _ in range(steps if most is None else min(most, steps)):
        rows = torch.randint(count, (batch,))
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(network(inputs[rows]), labels[rows]))
        optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(network.eval()), str(folder / "model.pt"))
    np.savez(
        folder / "data.npz",
        x_train=x[:count],
        y_train=y[:count].astype(np.int64),
        x_val=x[count:],
        y_val=y[count:].astype(np.int64),
    )
    recipe = {
        "optimizer": {"name": "adam", "lr": 1e-3},
        "loss": {"name": "cross_entropy"},
        "epochs": epochs,
        "batch_size": batch,
    }
    (folder / "recipe.json").write_text(json.dumps(recipe))
