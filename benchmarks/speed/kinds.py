"""Networks of many kinds against a budget in seconds: is it kept, and what is said?

The networks are trained by their recipe on made-up data, so that most are sound.
A budget of a few seconds holds one training of some, and not even that of others.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.faults.drive import audit_here
from benchmarks.speed.programs import write

CLASSES = 4
SECONDS = 10
_WORDS, _LENGTH = 20_000, 60


class Recurrent(nn.Module):
    """Two layers, there and back, dropout between them."""

    def __init__(self, cell: type[nn.RNNBase]) -> None:
        super().__init__()
        self.cell = cell(6, 48, 2, batch_first=True, bidirectional=True, dropout=0.2)
        self.out = nn.Linear(96, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify series, float, (rows, steps, 6)."""
        states, _ = self.cell(x)
        return self.out(states.mean(1))  # type: ignore[no-any-return]


class Written(nn.Module):
    """A cell in a loop over the steps, as people write them."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(6, 32)
        self.out = nn.Linear(32, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify series, float, (rows, steps, 6)."""
        state = torch.zeros(x.size(0), 32, device=x.device)
        for step in range(x.size(1)):
            state = self.cell(x[:, step], state)
        return self.out(state)  # type: ignore[no-any-return]


class Interpreted(nn.Module):
    """A dense network with thousands of small operations beside it, a row at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify series, float, (rows, steps, 6)."""
        idle = torch.zeros(1)
        for _ in range(300 * x.size(0)):
            idle = idle + 1
        return self.inner(x.mean(1)) + 0 * idle  # type: ignore[no-any-return]


class Attentive(nn.Module):
    """Three layers of attention over the steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.inward = nn.Linear(6, 64)
        self.places = nn.Parameter(torch.randn(1, steps, 64) * 0.02)
        layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.out = nn.Linear(64, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify series, float, (rows, steps, 6)."""
        seen = self.layers(self.inward(x) + self.places)
        return self.out(seen.mean(1))  # type: ignore[no-any-return]


class Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inward: int, outward: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inward, outward, 3, 2, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outward)
        self.second = nn.Conv2d(outward, outward, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outward)
        self.beside = nn.Conv2d(inward, outward, 1, 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Halve pictures, (rows, channels, height, width)."""
        inner = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(inner)) + self.beside(x))


def residual(width: int) -> nn.Module:
    """Make a residual network for pictures of three channels."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        *[Residual(width * 2**k, width * 2 ** (k + 1)) for k in range(3)],
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8 * width, CLASSES),
    )


class Averaged(nn.Module):
    """The mean of looked-up words."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(_WORDS, 64)
        self.out = nn.Linear(64, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify texts, int64, (rows, words)."""
        return self.out(self.words(x).mean(1))  # type: ignore[no-any-return]


def _series(rows: int, steps: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, rows)
    phase = np.arange(steps)[None, :, None] * (y[:, None, None] + 1) * 0.2
    x = rng.standard_normal((rows, steps, 6)) + np.sin(phase)
    return x.astype(np.float32), y


def _pictures(rows: int, side: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, rows)
    x = 1.5 * rng.standard_normal((rows, 3, side, side))
    for k in range(CLASSES):
        x[y == k, k % 3, 3 * k : 3 * k + 6, 3 * k : 3 * k + 6] += 1
    return x.astype(np.float32), y


def _texts(rows: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, rows)
    x = rng.integers(CLASSES, _WORDS, (rows, _LENGTH))
    x[:, rng.integers(0, _LENGTH, 6)] = y[:, None]
    return x, y


@dataclass(frozen=True)
class Kind:
    """A network with its data."""

    name: str
    make: Callable[[], nn.Module]
    data: Callable[[], tuple[Any, Any]]


KINDS = (
    Kind("LSTM, 2 layers", lambda: Recurrent(nn.LSTM), lambda: _series(800, 200)),
    Kind("GRU, 2 layers", lambda: Recurrent(nn.GRU), lambda: _series(800, 150)),
    Kind("GRU cell in a loop", Written, lambda: _series(600, 100)),
    Kind("300 additions a row, interpreted", Interpreted, lambda: _series(300, 10)),
    Kind("attention, 3 layers", lambda: Attentive(100), lambda: _series(1000, 100)),
    Kind("residual, .2 M", lambda: residual(16), lambda: _pictures(1500, 32)),
    Kind("residual, 2.8 M", lambda: residual(64), lambda: _pictures(600, 32)),
    Kind("mean of 20,000 words", Averaged, lambda: _texts(3000)),
)


def row(kind: Kind, seconds: int) -> str:
    """Audit one network; returns a row of the table."""
    torch.manual_seed(0)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write(folder, kind.make(), kind.data(), epochs=8, batch=32)
        run = audit_here(folder, folder / "scratch", budget={"seconds": seconds})
    said = Counter(finding["verdict"] for finding in run.report["findings"])
    verdicts = ", ".join(f"{count} {name}" for name, count in sorted(said.items()))
    steps = int(run.report["timings"]["training_steps"])
    return (
        f"| {kind.name} | {run.seconds:.1f} | {run.seconds / seconds:.2f} "
        f"| {steps:,} | {verdicts} |"
    )


def main(*, short: bool = False, seconds: int = SECONDS) -> None:
    """Print the table."""
    print(f"| network | audit of {seconds} s, s | of the budget | steps | verdicts |")
    print("| --- | --- | --- | --- | --- |")
    for kind in KINDS[: 2 if short else None]:
        print(row(kind, seconds), flush=True)
