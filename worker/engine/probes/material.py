"""What a probe looks at, as a protocol: `lab.bench.Material` is one.

A protocol, since the lab itself uses the transformations of this room.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from pydantic import JsonValue
from torch import Tensor

from worker.engine.data import Dataset, Split
from worker.engine.lab.threads import Runs
from worker.engine.recipe import CompleteRecipe

Values = dict[str, JsonValue]
Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

LEAST_ROWS = 32  # that a probe looks at, however long it takes
BATCH_ROWS = 256
BATCH_VALUES = 4_000_000  # numbers in one batch of inputs, about 16 MB


class AnyNetwork(Runs, Protocol):
    """The part of `network.Network` that probes use."""

    @property
    def facts(self) -> Any:  # noqa: ANN401 - a pydantic value of the network room
        """What the graph shows."""
        ...

    def as_delivered(self, x: Tensor) -> Tensor:
        """Run the archive itself, baked-in flags and all."""
        ...

    def activations(
        self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor
    ) -> Sequence[Any]:
        """Run at inference and list what each layer made: `name`, `kind`, `value`."""
        ...

    def initial(
        self,
        seed: int,
        scheme: Any = "default",  # noqa: ANN401 - its own literal
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Draw fresh parameters and buffers."""
        ...


class AnyHead(Protocol):
    """The part of `head.Head` that probes use."""

    @property
    def classes(self) -> int:
        """Number of classes."""
        ...

    @property
    def outputs(self) -> int:
        """Values returned for one row."""
        ...

    def log_probabilities(self, raw: Tensor) -> Tensor:
        """float, (rows, classes), nats."""
        ...

    def predict(self, raw: Tensor) -> Tensor:
        """int64, (rows,)."""
        ...


class Material(Protocol):
    """The subject's parts in memory."""

    @property
    def network(self) -> AnyNetwork:
        """The delivered network."""
        ...

    @property
    def train(self) -> Split:
        """Training rows."""
        ...

    @property
    def decide(self) -> Split:
        """Held-out rows on which decisions are made."""
        ...

    @property
    def final(self) -> Split:
        """Held-out rows that judge the remedy."""
        ...

    @property
    def dataset(self) -> Dataset:
        """What intake read."""
        ...

    @property
    def recipe(self) -> CompleteRecipe:
        """How the model was trained."""
        ...

    @property
    def head(self) -> AnyHead:
        """How outputs become classes."""
        ...

    @property
    def device(self) -> torch.device:
        """Where forward passes run."""
        ...

    @property
    def look_rows(self) -> int:
        """About how many rows a probe may send through the network."""
        ...

    @property
    def answers(self) -> dict[str, Tensor]:
        """What the delivered network returns for whole splits, once asked."""
        ...


Probe = Callable[[Material, Values], Values]


def on_device(material: Material, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring parameters or buffers to where the samples are; copies only if needed."""
    return {name: tensor.to(material.device) for name, tensor in tensors.items()}


def held_out(material: Material) -> Split:
    """Join `decide` and `final`."""
    parts = [part for part in (material.decide, material.final) if len(part)]
    if len(parts) == 1:
        return parts[0]
    return Split(
        x=np.concatenate([part.x for part in parts]),
        y=np.concatenate([part.y for part in parts]),
        rows=np.concatenate([part.rows for part in parts]),
        source=parts[0].source,
    )


def choose(split: Split, places: npt.NDArray[np.int64]) -> Split:
    """Take rows of a split by their place in it."""
    return Split(
        x=split.x[places],
        y=split.y[places],
        rows=split.rows[places],
        source=split.source,
    )


def sample_places(y: Labels, most: int, *, seed: int = 0) -> npt.NDArray[np.int64]:
    """Draw at most `most` places, stratified by class, in ascending order.

    Every class that occurs keeps at least one row as long as `most` allows it.
    """
    if len(y) <= most:
        return np.arange(len(y))
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y))
    # Rank of each row within its class, as a share: the smallest `most` are balanced.
    by_class = order[np.argsort(y[order], kind="stable")]
    counts = np.bincount(y)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    rank = np.arange(len(y)) - np.repeat(starts, counts)
    share = rank / np.repeat(np.maximum(counts, 1), counts)
    return np.sort(by_class[np.argsort(share, kind="stable")[:most]])


def few(material: Material, passes: int, *, least: int = LEAST_ROWS) -> int:
    """How many rows, `least` at least, may go through the network so many times."""
    return max(least, material.look_rows // passes)


def batches(rows: int, values_a_row: int, most: int = BATCH_ROWS) -> list[slice]:
    """Cut rows into batches that fit memory.

    A single row left over joins the batch before it, since batch statistics of one row
    do not exist.
    """
    size = max(1, min(most, BATCH_VALUES // max(1, values_a_row)))
    starts = list(range(0, rows, size))
    if len(starts) > 1 and size > 1 and rows - starts[-1] == 1:
        starts.pop()
    ends = [*starts[1:], rows]
    return [slice(start, end) for start, end in zip(starts, ends, strict=True)]


def finite(value: float | None) -> float | None:
    """Turn what JSON cannot say into `None`."""
    return None if value is None or not np.isfinite(value) else float(value)


def note(values: Values, text: str) -> None:
    """Add a remark for the report's limits."""
    notes = values.setdefault("notes", [])
    if isinstance(notes, list):
        notes.append(text)


def integer(settings: Values, name: str, otherwise: int) -> int:
    """Read a whole number from the settings."""
    value = settings.get(name)
    return int(value) if isinstance(value, int | float) else otherwise
