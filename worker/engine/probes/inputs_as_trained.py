"""Inputs as the model saw them in training: numbers, normalised by the recipe."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from worker.engine.data import Dataset, Split, channel_axis
from worker.engine.lab.threads import threads, work_a_row
from worker.engine.network.own_code import check_answer, on_samples, own_code
from worker.engine.probes.material import (
    Array,
    Flags,
    Floats,
    Material,
    batches,
    choose,
    on_device,
    sample_places,
)

MOST_TRAIN_ROWS = 5_000
MOST_VALUES = 20_000_000  # of the training inputs, to measure figures on
_VALUES_AT_ONCE = 500_000


@dataclass(frozen=True)
class Affine:
    """A shift and a scale, applied as (x - mean) / std.

    Attributes:
        mean: float64, broadcastable to one sample.
        std: float64, likewise, positive.
    """

    mean: Floats
    std: Floats

    def apply(self, x: Tensor) -> Tensor:
        """Normalise float inputs, (rows, *sample shape)."""
        mean = torch.as_tensor(self.mean, dtype=x.dtype, device=x.device)
        std = torch.as_tensor(self.std, dtype=x.dtype, device=x.device)
        return (x - mean) / std


def training_figures(train: Split, dataset: Dataset, most: int = MOST_VALUES) -> Affine:
    """Measure mean and deviation of the training inputs, NaN and infinities left out.

    A deviation of (nearly) zero counts as 1, as scikit-learn's StandardScaler has it.

    Args:
        train: the training rows.
        dataset: says what a sample is.
        most: values to look at, in evenly spaced rows.
    """
    step = max(1, train.x.size // most)
    x = train.x[::step]
    axis = channel_axis(dataset.kind, dataset.layout, x.ndim - 1)
    kept = None if axis is None else axis + 1
    over = tuple(a for a in range(x.ndim) if a != kept)
    rows = max(1, _VALUES_AT_ONCE // max(1, x[:1].size))
    # Piece by piece: in double precision all of it would be several times the data.
    pieces = [x[start : start + rows] for start in range(0, len(x), rows)]

    def summed(what: Callable[[Floats, Flags], Floats]) -> Floats:
        total: Floats = np.zeros(())
        for piece in pieces:
            values = piece.astype(np.float64)
            total = total + what(values, np.isfinite(values)).sum(over, keepdims=True)
        return total

    count = np.maximum(summed(lambda _, good: good.astype(np.float64)), 1)
    mean = summed(lambda values, good: np.where(good, values, 0.0)) / count
    square = summed(lambda values, good: np.where(good, values - mean, 0.0) ** 2)
    std = np.sqrt(square / count)
    tiny = std <= 1e-12 * np.maximum(1.0, np.abs(mean))
    return Affine(mean[0], np.where(tiny, 1.0, std)[0])


def recipe_affine(material: Material) -> Affine | None:
    """Return the normalisation of the recipe, None where there is none."""
    given = material.recipe.normalization
    if given == "none" or material.dataset.kind == "tokens":
        return None
    if given == "standardize":
        return training_figures(material.train, material.dataset)
    rank = material.train.x.ndim - 1
    axis = channel_axis(material.dataset.kind, material.dataset.layout, rank)
    return Affine(_placed(given.mean, rank, axis), _placed(given.std, rank, axis))


def _placed(value: float | list[float], rank: int, axis: int | None) -> Floats:
    """Give one figure, or one a channel, the shape of a sample."""
    array = np.asarray(value, dtype=np.float64).reshape(-1)
    if len(array) == 1 or rank == 0 or axis is None:
        return array.reshape((1,) * rank) if len(array) == 1 else array
    shape = [1] * rank
    shape[axis] = len(array)
    return array.reshape(shape)


def as_numbers(x: Array, device: torch.device | str = "cpu") -> Tensor:
    """Turn stored inputs into what a network takes: float32, or int64 token ids."""
    wanted = np.int64 if x.dtype == np.int64 else np.float32
    array = np.ascontiguousarray(x, dtype=wanted)
    if not array.flags.writeable:
        array = array.copy()
    return torch.from_numpy(array).to(device)


class AsTrained:
    """Prepares batches of one material; figures are measured once."""

    def __init__(self, material: Material) -> None:
        self._affine = recipe_affine(material)
        self._device = material.device

    def __call__(self, x: Array) -> Tensor:
        """Prepare inputs, (rows, *sample shape)."""
        numbers = as_numbers(x, self._device)
        return numbers if self._affine is None else self._affine.apply(numbers)


def prepared(material: Material, x: Array) -> Tensor:
    """Prepare inputs as the recipe says; for many batches use `AsTrained`."""
    return AsTrained(material)(x)


def outputs(
    material: Material, x: Array, prepare: Callable[[Array], Tensor] | None = None
) -> Tensor:
    """Run the delivered weights in evaluation mode, in batches.

    Args:
        material: the subject.
        x: stored inputs, (rows, *sample shape).
        prepare: makes inputs of stored ones; by default as in training, whose figures
            are measured again then.

    Returns:
        float, (rows, outputs) or as the network returns them, on the CPU.

    Raises:
        UnusableModel: it fails on them.
    """
    prepare = prepare or AsTrained(material)
    network = material.network
    parameters = on_device(material, network.parameters)
    buffers = on_device(material, network.buffers)
    parts: list[Tensor] = []
    with torch.no_grad():
        for rows in batches(len(x), int(np.prod(x.shape[1:]))):
            batch = prepare(x[rows])
            with own_code(on_samples(batch)):
                pays = work_a_row(network, batch).threads(len(batch))
                with threads(pays):
                    raw, _ = network.forward(parameters, buffers, batch, training=False)
            check_answer(raw, batch, material.head.outputs)
            parts.append(raw.detach().cpu())
    return torch.cat(parts)


def as_delivered(
    material: Material, x: Array, prepare: AsTrained, size: int = 256
) -> Tensor:
    """Run the archive itself, in the mode in which it came.

    Args:
        material: the subject.
        x: stored inputs, (rows, *sample shape).
        prepare: makes inputs of stored ones.
        size: rows in a batch at most, which matters in training mode.

    Returns:
        float, (rows, outputs), on the CPU.

    Raises:
        UnusableModel: it fails on them.
    """
    parts = []
    for rows in batches(len(x), int(np.prod(x.shape[1:])), size):
        batch = prepare(x[rows]).cpu()  # where the archive was loaded
        with torch.no_grad(), own_code(on_samples(batch)):
            raw = material.network.as_delivered(batch)
        check_answer(raw, batch, material.head.outputs)
        parts.append(raw.detach())
    # A head that squeezes returns (classes,) for a single row.
    return torch.cat([part.reshape(-1, material.head.outputs) for part in parts])


def answers(material: Material, split: Literal["decide", "final"]) -> Tensor:
    """Return `outputs` for a whole split; they are worked out once.

    Raises:
        UnusableModel: the network fails on them.
    """
    if split not in material.answers:
        part = material.decide if split == "decide" else material.final
        raw = outputs(material, part.x) if len(part) else torch.empty(0)
        material.answers[split] = raw
    return material.answers[split]


def training_sample(material: Material) -> Split:
    """Draw the training rows that the delivered network is scored on."""
    most = min(MOST_TRAIN_ROWS, material.look_rows)
    return choose(material.train, sample_places(material.train.y, most))


def training_answers(material: Material) -> Tensor:
    """Return `outputs` for `training_sample`; they are worked out once.

    Raises:
        UnusableModel: the network fails on them.
    """
    if "train" not in material.answers:
        material.answers["train"] = outputs(material, training_sample(material).x)
    return material.answers["train"]


def held_out_answers(material: Material) -> Tensor:
    """Return `outputs` for all rows of `held_out`, in its order."""
    parts = [answers(material, "decide"), answers(material, "final")]
    return torch.cat([part for part in parts if len(part)])


def predictions(
    material: Material, raw: Tensor
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Turn outputs into classes: int64, (rows,)."""
    return np.asarray(material.head.predict(raw).cpu().numpy(), dtype=np.int64)
