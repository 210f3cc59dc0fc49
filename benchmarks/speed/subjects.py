"""The networks and data whose training is timed."""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from worker.engine.data import Dataset, Kind, Split
from worker.engine.head import head_after
from worker.engine.lab.bench import Material
from worker.engine.network.torchscript import load_torchscript
from worker.engine.recipe import CompleteLoss, CompleteRecipe, default_optimizer

CLASSES = 10
ROWS = 4096


@dataclass(frozen=True)
class Case:
    """One kind of network, with its batch size."""

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batch: int


def mlp(inputs: int, hidden: int) -> nn.Module:
    """Make a network with one hidden layer."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, CLASSES)
    )


def cnn(side: int) -> nn.Module:
    """Make a small convolutional network."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * (side // 4) ** 2, CLASSES),
    )


class Recurrent(nn.Module):
    """One recurrent layer and a linear one on its last output."""

    def __init__(self, cell: type[nn.RNNBase], inputs: int, hidden: int) -> None:
        super().__init__()
        self.cell = cell(inputs, hidden, batch_first=True)
        self.out = nn.Linear(hidden, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify series, float, (rows, steps, inputs)."""
        states, _ = self.cell(x)
        return self.out(states[:, -1])  # type: ignore[no-any-return]


class Residual(nn.Module):
    """A block of two convolutions beside a shortcut, with batch norms."""

    def __init__(self, channels: int = 12) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.inner = nn.Conv2d(channels, channels, 3, padding=1)
        self.outer = nn.Conv2d(channels, channels, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(3))
        self.out = nn.Linear(channels, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify pictures, float, (rows, 1, height, width)."""
        x = torch.max_pool2d(torch.relu(self.norms[0](self.stem(x))), 2)
        inner = torch.relu(self.norms[1](self.inner(x)))
        x = torch.relu(x + self.norms[2](self.outer(inner)))
        return self.out(x.mean((2, 3)))  # type: ignore[no-any-return]


def temporal() -> nn.Module:
    """Make convolutions over time, with batch norms."""

    def block(given: int, made: int) -> list[nn.Module]:
        conv = nn.Conv1d(given, made, 5, padding=2)
        return [conv, nn.BatchNorm1d(made), nn.ReLU(), nn.MaxPool1d(2)]

    head = [nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, CLASSES)]
    return nn.Sequential(*block(3, 16), *block(16, 32), *head)


CASES = (
    Case("small MLP 64-32-10, batch 32", lambda: mlp(64, 32), (64,), 32),
    Case("small CNN 8x8, batch 32", lambda: cnn(8), (1, 8, 8), 32),
    Case("small CNN 28x28, batch 32", lambda: cnn(28), (1, 28, 28), 32),
    Case("residual, batch norms, 16x28", Residual, (1, 16, 28), 32),
    Case("series, batch norms, 3x100", temporal, (3, 100), 32),
    Case("MLP 784-256-10, batch 128", lambda: mlp(784, 256), (784,), 128),
    Case("GRU 8-32, 50 steps", lambda: Recurrent(nn.GRU, 8, 32), (50, 8), 32),
    Case("LSTM 8-32, 50 steps", lambda: Recurrent(nn.LSTM, 8, 32), (50, 8), 32),
)


def scripted(case: Case) -> torch.jit.ScriptModule:
    """Return the TorchScript module that a user would train."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module: torch.jit.ScriptModule = torch.jit.script(case.make())
    return module


def material(case: Case) -> Material:
    """Make a subject with random data: only time is measured."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS, *case.shape)).astype(np.float32)
    return _material(scripted(case), x, rng.integers(0, CLASSES, ROWS), 1, case.batch)


def subject_of(
    x: npt.NDArray[np.float32], y: npt.NDArray[np.int64], *, epochs: int, batch: int
) -> Material:
    """Make a subject of a table for 64-128-10, scored on the rows it trains on."""
    case = Case("", lambda: mlp(x.shape[1], 128), x.shape[1:], batch)
    return _material(scripted(case), x, y, epochs, batch)


def _material(
    module: torch.jit.ScriptModule,
    x: npt.NDArray[np.float32],
    y: npt.NDArray[np.int64],
    epochs: int,
    batch: int,
) -> Material:
    split = Split(x, y, np.arange(len(y)), "train")
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(module, file)
        file.seek(0)
        network = load_torchscript(file)
    kind: Kind = {2: "table", 3: "series"}.get(x.ndim, "image")
    return Material(
        network=network,
        train=split,
        decide=split,
        final=split,
        dataset=Dataset(
            {"train": split},
            tuple(str(number) for number in range(CLASSES)),
            (),
            kind,
            "NCHW" if kind == "image" else None,
        ),
        recipe=CompleteRecipe(
            optimizer=default_optimizer("adam"),
            loss=CompleteLoss(name="cross_entropy"),
            epochs=epochs,
            batch_size=batch,
            sampler="shuffle",
            schedule=None,
            normalization="none",
            seed=0,
        ),
        head=head_after(network, "cross_entropy", CLASSES),
        device=torch.device("cpu"),
    )
