"""Builds the models of `model-audit demo`: really trained, really faulty.

    python -m worker.demo_models digits FOLDER
    python -m worker.demo_models article-1 FOLDER

writes `model.pt` (TorchScript), `data.npz` and `recipe.json`. The same name gives the
same weights on the same machine: every draw hangs on one seed.
"""

import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
SEED = 7


@dataclass(frozen=True)
class Example:
    """A network, its data and how it is trained.

    Attributes:
        x: float32, (rows, *sample shape).
        y: int64, (rows,).
        network: makes the untrained network.
    """

    x: Images
    y: Labels
    network: Callable[[], nn.Module]
    optimizer: str
    lr: float
    epochs: int
    batch_size: int = 32
    momentum: float = 0.0


class DigitsNetwork(nn.Module):
    """A small convolutional classifier of 8 by 8 pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, kernel_size=3, padding=1)
        self.second = nn.Conv2d(8, 16, kernel_size=3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.hidden = nn.Linear(16 * 2 * 2, 32)
        self.output = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map float32, (batch, 1, 8, 8), to logits, (batch, 10)."""
        x = self.pool(torch.relu(self.first(x)))  # (batch, 8, 4, 4)
        x = self.pool(torch.relu(self.second(x)))  # (batch, 16, 2, 2)
        x = torch.relu(self.hidden(x.flatten(1)))  # (batch, 32)
        logits: torch.Tensor = self.output(x)
        return logits


def digits() -> Example:
    """Real handwritten digits, and a learning rate that is far too high."""
    bunch = load_digits()
    x = (bunch.images[:, None] / 16).astype(np.float32)
    return Example(
        x=x,
        y=bunch.target.astype(np.int64),
        network=DigitsNetwork,
        optimizer="sgd",
        lr=0.3,
        momentum=0.9,
        epochs=10,
    )


def article_1() -> Example:
    """Nine to one labels drawn without a look at the features; a net that memorises."""
    x, y = _labels_without_features(rows=1000, features=20, share=0.1)
    return Example(
        x=x,
        y=y,
        network=lambda: nn.Sequential(
            nn.Linear(20, 128),
            nn.ReLU(),
            nn.Linear(128, 128),
            nn.ReLU(),
            nn.Linear(128, 2),
        ),
        optimizer="adam",
        lr=1e-3,
        epochs=50,
    )


def article_2() -> Example:
    """Labels drawn without a look at the features; a learning rate far too high."""
    x, y = _labels_without_features(rows=1000, features=20, share=0.5)
    return Example(
        x=x,
        y=y,
        network=lambda: nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 2)),
        optimizer="sgd",
        lr=1.0,
        epochs=20,
    )


def article_3() -> Example:
    """Labels drawn without a look at the features; two hidden units."""
    x, y = _labels_without_features(rows=1000, features=20, share=0.5)
    return Example(
        x=x,
        y=y,
        network=lambda: nn.Sequential(nn.Linear(20, 2), nn.ReLU(), nn.Linear(2, 2)),
        optimizer="adam",
        lr=1e-3,
        epochs=20,
    )


EXAMPLES: dict[str, Callable[[], Example]] = {
    "digits": digits,
    "article-1": article_1,
    "article-2": article_2,
    "article-3": article_3,
}


def build(name: str, folder: Path) -> None:
    """Train an example by its recipe and write its three files.

    Raises:
        KeyError: there is no example of that name.
    """
    torch.set_num_threads(1)  # small steps: a second thread only waits
    example = EXAMPLES[name]()
    splits = _split(example.x, example.y)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "data.npz", allow_pickle=False, **splits)
    network = _train(example, splits["x_train"], splits["y_train"])
    with warnings.catch_warnings():  # TorchScript is old, and what is asked for here
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(network)
    scripted.save(str(folder / "model.pt"))  # type: ignore[no-untyped-call]
    optimizer: dict[str, object] = {"name": example.optimizer, "lr": example.lr}
    if example.momentum:
        optimizer["momentum"] = example.momentum
    recipe = {
        "optimizer": optimizer,
        "loss": {"name": "cross_entropy"},
        "epochs": example.epochs,
        "batch_size": example.batch_size,
    }
    text = json.dumps(recipe, indent=2) + "\n"
    (folder / "recipe.json").write_text(text, encoding="utf-8")


def _labels_without_features(
    *, rows: int, features: int, share: float
) -> tuple[Images, Labels]:
    rng = np.random.default_rng(SEED)
    x = rng.standard_normal((rows, features)).astype(np.float32)
    return x, (rng.random(rows) < share).astype(np.int64)


def _split(x: Images, y: Labels) -> dict[str, npt.NDArray[np.generic]]:
    """Deal rows out: two thirds to train on, a sixth each to validate and to test."""
    order = np.random.default_rng(SEED).permutation(len(y))
    edges = [len(y) * 2 // 3, len(y) * 5 // 6]
    names = ("train", "val", "test")
    parts = zip(names, np.split(order, edges), strict=True)
    return {
        f"{kind}_{name}": values[rows]
        for name, rows in parts
        for kind, values in (("x", x), ("y", y))
    }


def _train(
    example: Example, x: npt.NDArray[np.generic], y: npt.NDArray[np.generic]
) -> nn.Module:
    torch.manual_seed(SEED)
    network = example.network()
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    optimizer: torch.optim.Optimizer
    if example.optimizer == "sgd":
        optimizer = torch.optim.SGD(
            network.parameters(), lr=example.lr, momentum=example.momentum
        )
    else:
        optimizer = torch.optim.Adam(network.parameters(), lr=example.lr)
    for _ in range(example.epochs):
        for rows in torch.split(torch.randperm(len(labels)), example.batch_size):
            optimizer.zero_grad()
            loss = F.cross_entropy(network(inputs[rows]), labels[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return network.eval()


if __name__ == "__main__":
    build(sys.argv[1], Path(sys.argv[2]))
