"""Named transformations of inputs, as pure functions.

The lab trains on them (`DataChange(name="transform")`), the probe `preprocessing` runs
the delivered model on them. Two steps are joined by `+`, applied from left to right.
Beside those of `TRANSFORMS` there is `affine(a,b)`, which multiplies by a and adds b;
each is one figure, or one a channel, or column of a table, with blanks between. And
`order(k)` puts column k[i] of a table at place i.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from worker.engine.affine import affine_figures, order_figures
from worker.engine.data import Dataset, Kind, Split, channel_axis
from worker.engine.probes.inputs_as_trained import Affine, training_figures
from worker.engine.probes.material import Array, Floats

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MNIST_MEAN, MNIST_STD = 0.1307, 0.3081
UNDO = "undo_standardize"
RANKED = "normal_scores"
SCORES = np.linspace(-3, 3, 61)  # deviations of a normal variable, of the quantiles
MOST_RANKED = 2_000_000  # values of which quantiles are taken
MOST_VALUES = 10_000_000  # of the training inputs, to measure figures on


@dataclass(frozen=True)
class Figures:
    """Figures of the training inputs that some transformations need.

    Attributes:
        affine: mean and deviation by feature or channel.
        each: mean and deviation of every single value of a sample.
        low, high: smallest and largest finite value; by feature for tables, else of
            all values.
        undo: the normalisation already applied to the inputs, None where there is none.
        raw: the figures before that; None likewise.
        knots: quantiles of each feature of a table, (features, `SCORES`), where they
            were asked for; else None.
    """

    kind: Kind
    layout: str | None
    sample_shape: tuple[int, ...]
    affine: Affine
    each: Affine
    low: Floats
    high: Floats
    undo: Affine | None = None
    raw: "Figures | None" = None
    knots: Floats | None = None

    @property
    def channel(self) -> int | None:
        """Axis of the channels of a batch, None where there is none."""
        axis = channel_axis(self.kind, self.layout, len(self.sample_shape))
        return None if axis is None else axis + 1

    @property
    def channels(self) -> int:
        """Number of channels, 1 where there is no such axis."""
        return 1 if self.channel is None else self.sample_shape[self.channel - 1]

    @property
    def height_width(self) -> tuple[int, int]:
        """Axes of height and width of a batch of images."""
        if len(self.sample_shape) == 2:  # noqa: PLR2004 - (height, width)
            return 1, 2
        return (1, 2) if self.layout == "NHWC" else (2, 3)


def figures(
    train: Split,
    dataset: Dataset,
    undo: Affine | None = None,
    *,
    ranked: bool = False,
) -> Figures:
    """Measure the training inputs, on evenly spaced rows.

    Args:
        train: training rows, as they reach the transformation.
        dataset: says what a sample is.
        undo: the normalisation that `train` has gone through already.
        ranked: whether to take the quantiles that `normal_scores` needs.
    """
    raw = None
    if undo is not None:
        before = train.x.astype(np.float64) * undo.std + undo.mean
        raw = figures(replace(train, x=before.astype(np.float32)), dataset)
    step = max(1, train.x.size // MOST_VALUES)
    x = train.x[::step].astype(np.float64)
    good = np.isfinite(x)
    mean, std = moments(x)
    over = tuple(range(x.ndim - 1)) if dataset.kind == "table" else None
    low = np.where(good, x, np.inf).min(axis=over)
    high = np.where(good, x, -np.inf).max(axis=over)
    none = ~np.isfinite(low)
    return Figures(
        kind=dataset.kind,
        layout=dataset.layout,
        sample_shape=tuple(train.x.shape[1:]),
        affine=training_figures(train, dataset),
        each=Affine(mean, np.where(std <= 0, 1.0, std)),
        low=np.where(none, 0.0, low),
        high=np.where(none, 1.0, high),
        undo=undo,
        raw=raw,
        knots=_knots(train.x) if ranked and dataset.kind == "table" else None,
    )


def moments(x: Floats) -> tuple[Floats, Floats]:
    """Mean and deviation over the rows, NaN and infinities left out."""
    good = np.isfinite(x)
    count = np.maximum(good.sum(0), 1)
    mean = np.where(good, x, 0).sum(0) / count
    return mean, np.sqrt((np.where(good, x - mean, 0) ** 2).sum(0) / count)


def _knots(x: Array) -> Floats | None:
    """Quantiles of each column, on evenly spaced rows, NaN and infinities left out."""
    if x.ndim != 2 or not x.size:  # noqa: PLR2004 - a table
        return None
    step = max(1, x.size // MOST_RANKED)
    columns = np.where(np.isfinite(x[::step]), x[::step], np.nan).astype(np.float64)
    columns[:, np.isnan(columns).all(0)] = 0.0
    quantiles: Floats = np.nanquantile(columns, stats.norm.cdf(SCORES), axis=0).T
    return np.ascontiguousarray(quantiles)


def _like(values: Floats, x: Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=x.dtype, device=x.device)


def _unit(x: Tensor, f: Figures) -> Tensor:
    low, high = _like(f.low, x), _like(f.high, x)
    return (x - low) / torch.where(high > low, high - low, torch.ones_like(high))


def _invert(x: Tensor, f: Figures) -> Tensor:
    return _like(f.high, x) + _like(f.low, x) - x


def _per_sample(x: Tensor, _: Figures) -> Tensor:
    over = tuple(range(1, x.ndim))
    mean = x.mean(over, keepdim=True)
    return (x - mean) / x.std(over, keepdim=True, correction=0).clamp(min=1e-8)


def _unit_norm(x: Tensor, _: Figures) -> Tensor:
    over = tuple(range(1, x.ndim))
    return x / x.square().sum(over, keepdim=True).sqrt().clamp(min=1e-12)


def _undo(x: Tensor, f: Figures) -> Tensor:
    if f.undo is None:
        return x
    return x * _like(f.undo.std, x) + _like(f.undo.mean, x)


def _fixed(x: Tensor, f: Figures) -> Tensor:
    """Normalise pictures by the customary figures of ImageNet, or of MNIST for one."""
    unit = _unit(x, f)
    if f.channels != 3 or f.channel is None:  # noqa: PLR2004 - red, green, blue
        return (unit - MNIST_MEAN) / MNIST_STD
    shape = [1] * x.ndim
    shape[f.channel] = 3
    mean = torch.tensor(IMAGENET_MEAN, dtype=x.dtype, device=x.device).reshape(shape)
    std = torch.tensor(IMAGENET_STD, dtype=x.dtype, device=x.device).reshape(shape)
    return (unit - mean) / std


def _normal_scores(x: Tensor, f: Figures) -> Tensor:
    """Give each feature of a table a normal shape: what stands in its rank's place."""
    if f.knots is None:
        return x
    knots, scores = _like(f.knots, x), _like(SCORES, x)
    columns = x.T.contiguous()
    # Equal quantiles, of a feature with few values, are met at both ends alike.
    first = torch.searchsorted(knots, columns)
    last = torch.searchsorted(knots, columns, right=True)
    most = len(SCORES) - 1
    left, right = (first - 1).clamp(0, most), last.clamp(0, most)
    low, high = knots.gather(1, left), knots.gather(1, right)
    share = ((columns - low) / (high - low).clamp(min=1e-30)).clamp(0, 1)
    return (scores[left] + share * (scores[right] - scores[left])).T


def _rows_as_nhwc(x: Tensor, _: Figures) -> Tensor:
    """Read values that lie in memory as (H, W, C) although declared (C, H, W)."""
    rows, channels, height, width = x.shape
    return x.reshape(rows, height, width, channels).permute(0, 3, 1, 2).contiguous()


def _rows_as_nchw(x: Tensor, _: Figures) -> Tensor:
    rows, height, width, channels = x.shape
    return x.reshape(rows, channels, height, width).permute(0, 2, 3, 1).contiguous()


def _next_id(x: Tensor, f: Figures) -> Tensor:
    return torch.minimum(x + 1, _like(f.high, x))


def _previous_id(x: Tensor, _: Figures) -> Tensor:
    return (x - 1).clamp(min=0)


def _next_word(x: Tensor, f: Figures) -> Tensor:
    """Add one to all ids but the smallest, which is taken for padding."""
    return torch.where(x > _like(f.low, x), _next_id(x, f), x)


def _previous_word(x: Tensor, f: Figures) -> Tensor:
    low = _like(f.low, x)
    return torch.where(x > low, torch.maximum(x - 1, low + 1), x)


def _padding_first(x: Tensor, f: Figures) -> Tensor:
    """Move the padding at the end of each row to its beginning."""
    return _rolled(x, _padded_at_the_end(x, f))


def _padding_last(x: Tensor, f: Figures) -> Tensor:
    return _rolled(x, -_padded_at_the_end(x.flip(1), f))


def _padded_at_the_end(x: Tensor, f: Figures) -> Tensor:
    """Count the ids of padding that each row ends with: int64, (rows,)."""
    is_padding = (x <= _like(f.low, x)).flip(1)
    return is_padding.to(torch.int64).cumprod(1).sum(1)


def _rolled(x: Tensor, by: Tensor) -> Tensor:
    """Move the ids of each row to the right by so many places, round and round."""
    place = torch.arange(x.shape[1], device=x.device)
    return x.gather(1, (place - by[:, None]) % x.shape[1])


TRANSFORMS: dict[str, Callable[[Tensor, Figures], Tensor]] = {
    "identity": lambda x, _: x,
    "standardize": lambda x, f: f.affine.apply(x),
    "standardize_each": lambda x, f: f.each.apply(x),
    UNDO: _undo,
    "scale_to_unit": _unit,
    "minus_one_to_one": lambda x, f: 2 * _unit(x, f) - 1,
    "divide_255": lambda x, _: x / 255,
    "multiply_255": lambda x, _: x * 255,
    "fixed_normalize": _fixed,
    "per_sample_standardize": _per_sample,
    "per_sample_unit_norm": _unit_norm,
    RANKED: _normal_scores,
    "log1p": lambda x, _: torch.log1p(x.clamp(min=0)),
    "invert": _invert,
    "swap_channels": lambda x, f: x.flip(f.channel or 1),
    "nhwc_to_nchw": _rows_as_nhwc,
    "nchw_to_nhwc": _rows_as_nchw,
    "transpose_hw": lambda x, f: x.transpose(*f.height_width).contiguous(),
    "flip_horizontal": lambda x, f: x.flip(f.height_width[1]),
    "flip_vertical": lambda x, f: x.flip(f.height_width[0]),
    "reverse_features": lambda x, _: x.flip(1),
    "next_id": _next_id,
    "previous_id": _previous_id,
    "next_word": _next_word,
    "previous_word": _previous_word,
    "padding_first": _padding_first,
    "padding_last": _padding_last,
    "reverse_tokens": lambda x, _: x.flip(1),
}
OF_TOKENS = (
    "identity",
    "next_word",
    "previous_word",
    "next_id",
    "previous_id",
    "padding_first",
    "padding_last",
    "reverse_tokens",
)


def _affine(step: str, x: Tensor, f: Figures) -> Tensor:
    read = affine_figures(step)
    if read is None:
        raise KeyError(step)
    shape = [1] * x.ndim
    if len(read[0]) > 1:
        shape[1 if f.channel is None else f.channel] = len(read[0])
    scale, shift = (x.new_tensor(v).reshape(shape) for v in read)
    return x * scale + shift


def _with_figures(step: str, x: Tensor, f: Figures) -> Tensor:
    order = order_figures(step)
    if order is None:
        return _affine(step, x, f)
    return x.index_select(1, torch.tensor(order, device=x.device))


def is_known(step: str) -> bool:
    """Whether a step is a transformation."""
    known = affine_figures(step) or order_figures(step)
    return step in TRANSFORMS or known is not None


def transform(name: str, x: Tensor, f: Figures) -> Tensor:
    """Apply one transformation, or several joined by `+`.

    Args:
        name: of `TRANSFORMS`, an `affine(a,b)` or an `order(k)`.
        x: float, (rows, *sample shape).
        f: figures of the training inputs on the same scale as `x`.

    Raises:
        KeyError: no such transformation.
    """
    for step in name.split("+"):
        x = TRANSFORMS[step](x, f) if step in TRANSFORMS else _with_figures(step, x, f)
        if step == UNDO:
            f = f.raw or f
    return x


def applicable(f: Figures) -> tuple[str, ...]:
    """List the transformations that make sense here, the likeliest first."""
    if f.kind == "tokens":
        return OF_TOKENS if len(f.sample_shape) == 1 else ("identity",)
    lowest, highest = float(f.low.min()), float(f.high.max())
    names = ["identity"]
    if f.undo is not None:
        names.append(UNDO)
    if f.kind == "image":
        names += _for_images(f, highest)
    names += ["standardize", "scale_to_unit", "minus_one_to_one"]
    if f.kind != "table":
        names.append("standardize_each")
    if f.kind == "image":
        names.append("fixed_normalize")
    else:
        names.append("reverse_features")
    names += ["per_sample_standardize", "per_sample_unit_norm"]
    if lowest >= 0:
        names.append("log1p")
    if f.raw is not None:
        names += [f"{UNDO}+{name}" for name in _scales(f.raw)]
    return tuple(names)


def _scales(raw: Figures) -> list[str]:
    """List what the inputs may have been scaled by instead of the recipe's way."""
    names = ["scale_to_unit", "minus_one_to_one"]
    if raw.kind == "image":
        if float(raw.high.max()) > 2:  # noqa: PLR2004
            names.insert(0, "divide_255")
        names += ["standardize_each", "fixed_normalize"]
    if float(raw.low.min()) >= 0:
        names.append("log1p")
    return names


def _for_images(f: Figures, highest: float) -> list[str]:
    names = ["divide_255" if highest > 2 else "multiply_255"]  # noqa: PLR2004
    names += ["invert", "flip_horizontal", "flip_vertical"]
    height, width = f.height_width
    shape = (0, *f.sample_shape)
    if shape[height] == shape[width]:
        names.append("transpose_hw")
    if f.channels == 3:  # noqa: PLR2004 - red, green, blue
        names.append("swap_channels")
    if f.channels > 1:
        names.append("nchw_to_nhwc" if f.layout == "NHWC" else "nhwc_to_nchw")
    return names
