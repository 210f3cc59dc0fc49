"""What happens to inputs between the stored data and the network, batch by batch.

Data stays as delivered, once; every arm's own view of it is a chain of steps that is
applied to each batch as it is gathered.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worker.engine.data import Dataset, Split, channel_axis
from worker.engine.lab.estimation import conditional_mean, fit_gaussian
from worker.engine.probes.columns import codes
from worker.engine.probes.inputs_as_trained import Affine

_SENTINELS = (-999.0, -9999.0, 999999.0, -99999.0)
_SAMPLE = 50_000  # rows looked at for medians


@dataclass(frozen=True)
class InputStep:
    """One named transformation of float inputs, (rows, *sample shape).

    Attributes:
        affine: its figures, where it is a shift and a scale.
        layer: where it can be written out with a kept model.
    """

    key: str
    apply: Callable[[Tensor], Tensor]
    affine: Affine | None = None
    layer: torch.nn.Module | None = None


class _Applied(torch.nn.Module):
    def __init__(self, apply: Callable[[Tensor], Tensor], *, as_floats: bool) -> None:
        super().__init__()
        self.apply_to, self.as_floats = apply, as_floats

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_to(x.to(torch.float32) if self.as_floats else x)


def written_out(
    apply: Callable[[Tensor], Tensor], some: Tensor, *, as_floats: bool = True
) -> torch.nn.Module | None:
    """Trace what is done to inputs, so that it can be written out with a model.

    Args:
        apply: to floats, (rows, *sample shape).
        some: rows to try it on, three at least.
        as_floats: whether to make floats of them, as of everything but token ids.

    Returns:
        None where the trace does not do the same, for another number of rows, too.
    """
    with warnings.catch_warnings():  # of figures that become constants, as they should
        warnings.simplefilter("ignore")
        trace: Any = torch.jit.trace  # has no types
        traced: torch.nn.Module = trace(
            _Applied(apply, as_floats=as_floats), some[1:], check_trace=False
        )
        with torch.no_grad():
            is_same = torch.equal(traced(some), apply(some))
    return traced if is_same else None


@dataclass(frozen=True)
class Pipe:
    """What an arm does to inputs, in order; `augment` happens in training only."""

    steps: tuple[InputStep, ...] = ()
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None

    @property
    def key(self) -> str:
        """Equal keys mean equal transformations."""
        return "|".join([*(step.key for step in self.steps), str(bool(self.augment))])

    def then(self, step: InputStep) -> "Pipe":
        """Add a step."""
        return Pipe((*self.steps, step), self.augment)

    def __call__(self, x: Tensor) -> Tensor:
        """Apply the steps, without augmentation."""
        for step in self.steps:
            x = step.apply(x)
        return x


def affine_step(affine: Affine) -> InputStep:
    """Normalise."""
    digest = f"{affine.mean.tobytes().hex()}/{affine.std.tobytes().hex()}"
    return InputStep(f"affine:{digest}", affine.apply, affine)


def permutation_step(order: np.ndarray) -> InputStep:
    """Put the values of each sample in another order.

    Pictures and series keep channels or features together where they can: the order
    is over all values of a sample, flattened.
    """
    index = torch.from_numpy(order)

    def apply(x: Tensor) -> Tensor:
        flat = x.reshape(len(x), -1)
        return flat.index_select(1, index.to(x.device)).view(x.shape)

    return InputStep(f"permuted:{hash(order.tobytes())}", apply)


def repair_step(
    train: Split, limit: float | None, *, is_table: bool, estimate: bool = False
) -> InputStep:
    """Replace what is no value, and clip what is far out, by figures of `train`.

    Non-finite values, customary sentinels and codes that stand apart in the data become
    the training median of their place in the sample. With `limit`, values beyond that
    many robust deviations (1.4826 times the median absolute deviation) of the median
    are clipped; places whose deviation is zero are left alone.

    With `estimate`, all of these become what the sample's other values let expect.

    Source: Rousseeuw & Croux 1993, Alternatives to the median absolute deviation.
    """
    step = max(1, len(train) // _SAMPLE)
    known = codes(train.x[::step], is_table=is_table)
    if is_table:
        known = known.reshape(-1, *train.x.shape[1:])
    else:
        known = known.reshape(-1, *(1 for _ in train.x.shape[1:]))
    sample = np.asarray(train.x[::step], dtype=np.float64)
    sample = np.where(_is_missing(sample, known), np.nan, sample)
    empty = np.isnan(sample).all(0)
    sample[:, empty] = 0.0
    median = np.nanmedian(sample, axis=0)
    deviation = 1.4826 * np.nanmedian(np.abs(sample - median), axis=0)
    reach = np.where(deviation > 0, deviation, np.inf) * (limit or np.inf)
    repair = Repair(
        middle=torch.from_numpy(median),
        low=torch.from_numpy(median - reach),
        high=torch.from_numpy(median + reach),
        codes=torch.from_numpy(known),
    )
    if not estimate:
        return InputStep(f"repaired:{limit}", repair, layer=repair)
    sample[(sample < median - reach) | (sample > median + reach)] = np.nan
    layer = Estimate(repair, *fit_gaussian(sample.reshape(len(sample), -1)))
    return InputStep(f"estimated:{limit}", layer, layer=layer)


class Repair(torch.nn.Module):
    """Replaces missing values and clips far ones; can be written out as TorchScript.

    Attributes:
        middle: float64, (*sample shape), what missing values become.
        low, high: likewise, what values are clipped to; infinite where they are not.
        codes: float64, (codes, *sample shape, or 1 for each of its sides), values that
            stand for "missing" here; NaN stands for none.
        sentinels: float32, (values,), what stands for "missing" anywhere.
    """

    middle: Tensor
    low: Tensor
    high: Tensor
    codes: Tensor
    sentinels: Tensor

    def __init__(
        self, middle: Tensor, low: Tensor, high: Tensor, codes: Tensor
    ) -> None:
        super().__init__()
        self.register_buffer("middle", middle)
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        self.register_buffer("codes", codes)
        self.register_buffer("sentinels", torch.tensor(_SENTINELS))

    def missing(self, x: Tensor) -> Tensor:
        """Flag what is no value in `x`: (rows, *sample shape), floating point."""
        missing = torch.isfinite(x).logical_not()
        known = self.sentinels.to(device=x.device, dtype=x.dtype)
        missing = missing.logical_or(torch.isin(x, known))
        for k in range(self.codes.size(0)):
            code = self.codes[k].to(device=x.device, dtype=x.dtype)
            missing = missing.logical_or(x == code)
        return missing

    def clip(self, x: Tensor) -> Tensor:
        """Bring far values nearer."""
        x = torch.maximum(x, self.low.to(device=x.device, dtype=x.dtype))
        return torch.minimum(x, self.high.to(device=x.device, dtype=x.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Repair `x`: (rows, *sample shape)."""
        if not x.is_floating_point():
            x = x.float()
        middle = self.middle.to(device=x.device, dtype=x.dtype)
        return self.clip(torch.where(self.missing(x), middle, x))


class Estimate(torch.nn.Module):
    """Replaces missing and far values by what the sample's others let expect.

    Attributes:
        repair: knows what is missing, and how far values reach.
        mean, deviation: float64, (values,), of a sample, flattened.
        precision: float32, (values, values), of the standardised values.
    """

    mean: Tensor
    deviation: Tensor
    precision: Tensor

    def __init__(
        self,
        repair: Repair,
        mean: np.ndarray,
        deviation: np.ndarray,
        precision: np.ndarray,
    ) -> None:
        super().__init__()
        self.repair = repair
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("deviation", torch.from_numpy(deviation))
        self.register_buffer("precision", torch.from_numpy(precision).float())

    def forward(self, x: Tensor) -> Tensor:
        """Estimate in `x`: (rows, *sample shape)."""
        if not x.is_floating_point():
            x = x.float()
        missing = self.repair.missing(x).logical_or(x != self.repair.clip(x))
        mean = self.mean.to(device=x.device, dtype=x.dtype)
        deviation = self.deviation.to(device=x.device, dtype=x.dtype)
        precision = self.precision.to(device=x.device, dtype=x.dtype)
        z = (x.flatten(1) - mean) / deviation
        z = conditional_mean(z, missing.flatten(1), precision)
        expected = (z * deviation + mean).view(x.shape)
        return torch.where(missing, self.repair.clip(expected), x)


def _is_missing(x: np.ndarray, known: np.ndarray) -> np.ndarray:
    missing = ~np.isfinite(x) | np.isin(x, _SENTINELS)
    for values in known:
        missing |= x == values
    return np.asarray(missing)


def augmentation(
    dataset: Dataset, train: Split
) -> Callable[[Tensor, torch.Generator], Tensor]:
    """Return small random shifts for pictures, small noise for anything else.

    Shifts are up to an eighth of the side, with the edge repeated. Noise has a tenth
    of the deviation of its feature in the training data.
    """
    if dataset.kind == "image" and train.x.ndim >= 3:  # noqa: PLR2004
        axis = channel_axis(dataset.kind, dataset.layout, train.x.ndim - 1)
        return _shifts(channels_last=axis == 2)  # noqa: PLR2004
    step = max(1, len(train) // _SAMPLE)
    sample = np.asarray(train.x[::step], dtype=np.float64)
    sample[~np.isfinite(sample)] = np.nan
    scale = torch.from_numpy(0.1 * np.nan_to_num(np.nanstd(sample, axis=0)))

    def add_noise(x: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        return x + noise.to(x.dtype) * scale.to(dtype=x.dtype, device=x.device)

    return add_noise


def _shifts(*, channels_last: bool) -> Callable[[Tensor, torch.Generator], Tensor]:
    def shift(x: Tensor, generator: torch.Generator) -> Tensor:
        shape = x.shape
        if channels_last:
            x = x.movedim(-1, 1)
        elif x.dim() == 3:  # noqa: PLR2004 - rows of single-channel pictures
            x = x.unsqueeze(1)
        rows, _, height, width = x.shape
        moves = []
        for side in (height, width):
            most = max(1, side // 8)
            by = torch.randint(
                -most, most + 1, (rows, 1), generator=generator, device=x.device
            )
            moves.append((torch.arange(side, device=x.device) + by).clamp(0, side - 1))
        which = torch.arange(rows, device=x.device)[:, None, None]
        moved = x.movedim(1, -1)[which, moves[0][:, :, None], moves[1][:, None, :]]
        return (
            moved.reshape(shape)
            if channels_last
            else moved.movedim(-1, 1).reshape(shape)
        )

    return shift
