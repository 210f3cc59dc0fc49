"""Reference networks: plain ones of a given family and size, fresh, as TorchScript.

They answer whether another kind of layer would do better with as many parameters.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from worker.engine.network.editing import SurgeryImpossible

_LEAST_SIDE = 8  # pixels; below it a row of features is not taken for a picture
_MOST_CHANNELS = 4
LEAST_WIDTH, _MOST_WIDTH = 2, 4096
# Channels of convolutions: more cost a multiple of a dense network as large, and what
# is better with fewer parameters is better with as many.
_MOST_CHANNELS_OUT = 32


class _Pictures(nn.Module):
    """Brings samples into (rows, channels, height, width)."""

    def __init__(self, shape: tuple[int, int, int], *, channels_last: bool) -> None:
        super().__init__()
        self.channels, self.height, self.width = shape
        self.channels_last = channels_last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`: (rows, ...); returns (rows, channels, height, width)."""
        if self.channels_last:
            return x.permute(0, 3, 1, 2)
        return x.reshape(-1, self.channels, self.height, self.width)


class _Turned(nn.Module):
    """(rows, steps, features) to (rows, features, steps)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`: (rows, steps, features)."""
        return x.transpose(1, 2)


class _Mean(nn.Module):
    """Mean over steps."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`: (rows, steps, features); returns (rows, features)."""
        return x.mean(1)


class _States(nn.Module):
    """A GRU of which the last output is kept, and the largest of all.

    Where samples are padded at their end, the last one has forgotten them.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(features, width, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`: (rows, steps, features); returns (rows, 2 width)."""
        out: torch.Tensor = self.gru(x)[0]
        return torch.cat([out[:, -1], out.amax(1)], 1)


class _Tokens(nn.Module):
    """An embedding of token ids, which callers may send as floats."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`: (rows, steps), any type; returns (rows, steps, width)."""
        out: torch.Tensor = self.table(x.long())
        return out


class _Codes(nn.Module):
    """Gives each code of a column of a table a column of its own; keeps quantities.

    A code that no training row holds has none.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        places = [k for k, size in enumerate(sizes) for _ in range(size)]
        codes = [float(code) for size in sizes for code in range(size)]
        numbers = [k for k, size in enumerate(sizes) if not size]
        self.place: torch.Tensor
        self.code: torch.Tensor
        self.numbers: torch.Tensor
        self.register_buffer("place", torch.tensor(places))
        self.register_buffer("code", torch.tensor(codes))
        self.register_buffer("numbers", torch.tensor(numbers, dtype=torch.int64))
        self.scaled = nn.BatchNorm1d(len(numbers)) if numbers else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`: (rows, columns); returns (rows, codes and quantities)."""
        codes = (x.index_select(1, self.place) == self.code).to(x.dtype)
        numbers = self.scaled(x.index_select(1, self.numbers))
        return torch.cat([codes, numbers], 1)


def picture_shape(sample_shape: tuple[int, ...]) -> tuple[tuple[int, int, int], bool]:
    """Read a sample's shape as a picture's.

    A flat row is taken for a square picture of one or three channels where its length
    allows; whether that is one, the experiment itself shows.

    Returns:
        Channels, height and width; whether the channels stand last.

    Raises:
        SurgeryImpossible: it is none.
    """
    match sample_shape:
        case (first, second, last):
            if last <= _MOST_CHANNELS < first:
                return (last, first, second), True
            return (first, second, last), False
        case (height, width) if height == width and height >= _LEAST_SIDE:
            return (1, height, width), False
        case (features,):
            for channels in (1, 3):
                side = math.isqrt(features // channels)
                if side >= _LEAST_SIDE and side * side * channels == features:
                    return (channels, side, side), False
    raise SurgeryImpossible(f"samples of shape {sample_shape} are no pictures")


def _linear(shape: tuple[int, ...], classes: int, _width: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes))


def _dense(shape: tuple[int, ...], classes: int, width: int) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(shape), width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, classes),
    )


class _Steps(nn.Module):
    """Convolutions over (rows, features, steps), pooled coarsely and altogether."""

    def __init__(self, shape: tuple[int, int], classes: int, width: int) -> None:
        super().__init__()
        features, steps = shape
        halves = [nn.MaxPool1d(2) if steps >= 4 * n else nn.Identity() for n in (2, 4)]
        self.layers = nn.Sequential(
            nn.Conv1d(features, width, 5, padding=2),
            nn.ReLU(),
            halves[0],
            nn.Conv1d(width, 2 * width, 5, padding=2),
            nn.ReLU(),
            halves[1],
            nn.Conv1d(2 * width, 2 * width, 5, padding=2),
            nn.ReLU(),
        )
        # Where in the series, and whether anywhere.
        self.where = nn.AdaptiveAvgPool1d(4)
        self.out = nn.Linear(10 * width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`: (rows, features, steps); returns (rows, classes)."""
        seen = self.layers(x)
        both = torch.cat([self.where(seen).flatten(1), seen.amax(2)], 1)
        out: torch.Tensor = self.out(both)
        return out


def _conv_channels_first(shape: tuple[int, ...], classes: int, width: int) -> nn.Module:
    if len(shape) != 2:  # noqa: PLR2004
        raise SurgeryImpossible(f"samples of shape {shape} are no series")
    return _Steps((shape[0], shape[1]), classes, width)


def _conv(shape: tuple[int, ...], classes: int, width: int) -> nn.Module:
    if _is_series(shape):
        return nn.Sequential(_Turned(), _Steps((shape[1], shape[0]), classes, width))
    picture, channels_last = picture_shape(shape)
    side = (picture[1] // 4) * (picture[2] // 4)
    if side == 0:
        raise SurgeryImpossible(
            f"pictures of {picture[1]} x {picture[2]} are too small"
        )
    return nn.Sequential(
        _Pictures(picture, channels_last=channels_last),
        nn.Conv2d(picture[0], width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * width * side, classes),
    )


def _is_series(shape: tuple[int, ...]) -> bool:
    """Two dimensions, steps and features, unless they look like a picture."""
    return len(shape) == 2 and not (  # noqa: PLR2004
        shape[0] == shape[1] and shape[0] >= _LEAST_SIDE
    )


def _recurrent(shape: tuple[int, ...], classes: int, width: int) -> nn.Module:
    if len(shape) != 2:  # noqa: PLR2004
        raise SurgeryImpossible(f"samples of shape {shape} have no steps in time")
    return nn.Sequential(_States(shape[1], width), nn.Linear(2 * width, classes))


Family = Callable[[tuple[int, ...], int, int], nn.Module]
FAMILIES: dict[str, Family] = {
    "linear": _linear,
    "dense": _dense,
    "conv": _conv,
    "conv_channels_first": _conv_channels_first,
    "recurrent": _recurrent,
}


def _on_codes(codes: Sequence[int], classes: int, width: int) -> nn.Module:
    """A dense network on looked-up codes."""
    columns = sum(codes) + sum(not size for size in codes)
    return nn.Sequential(_Codes(codes), _dense((columns,), classes, width))


def _on_tokens(
    family: str, steps: int, vocabulary: int, classes: int, width: int
) -> nn.Module:
    """The same families on looked-up tokens."""
    embedding = _Tokens(vocabulary, width)
    if family == "linear":
        return nn.Sequential(embedding, _Mean(), nn.Linear(width, classes))
    if family == "dense":
        hidden = nn.Linear(width, width)
        return nn.Sequential(
            embedding, _Mean(), hidden, nn.ReLU(), nn.Linear(width, classes)
        )
    return nn.Sequential(embedding, FAMILIES[family]((steps, width), classes, width))


def reference_module(  # noqa: PLR0913 - what a network is made of
    family: str,
    *,
    sample_shape: tuple[int, ...],
    classes: int,
    parameters: int,
    vocabulary: int | None = None,
    codes: Sequence[int] | None = None,
    least: int = LEAST_WIDTH,
) -> torch.jit.ScriptModule:
    """Make a network of a family, its width chosen to come near a number of parameters.

    Convolutions stay below that number where it would take very many channels.

    Args:
        family: `linear`, `dense`, `conv` (of series whose steps come first),
            `conv_channels_first`, `recurrent` or `codes`.
        sample_shape: of one sample.
        classes: number of outputs.
        parameters: number of trainable values to come near.
        vocabulary: number of tokens where the input is one.
        codes: how many codes each column has, of the family `codes`.
        least: units or channels of a layer, whatever that makes of the number.

    Raises:
        SurgeryImpossible: the family does not fit the samples.
    """
    if family == "codes" and codes and sample_shape == (len(codes),):
        # As wide as one on the numbers: of the codes of a column a sample has but one.
        width = _width(partial(_dense, sample_shape, classes), parameters)
        return _scripted(partial(_on_codes, codes, classes), width)
    if family not in FAMILIES:
        raise SurgeryImpossible(
            f"no family `{family}`; there are {', '.join(FAMILIES)}"
        )

    def build(width: int) -> nn.Module:
        if vocabulary is not None:
            return _on_tokens(family, sample_shape[0], vocabulary, classes, width)
        return FAMILIES[family](sample_shape, classes, width)

    most = _MOST_CHANNELS_OUT if family.startswith("conv") else _MOST_WIDTH
    return _scripted(build, max(least, _width(build, parameters, most)))


def _scripted(build: Callable[[int], nn.Module], width: int) -> torch.jit.ScriptModule:
    with torch.random.fork_rng(devices=[]):
        return torch.jit.script(build(width))


def _width(
    build: Callable[[int], nn.Module], parameters: int, most: int = _MOST_WIDTH
) -> int:
    """How wide a network comes near a number of parameters."""

    def count(width: int) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in build(width).parameters())

    low, high = 1, most
    while low < high:  # the widest that is not larger
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(middle) <= parameters else (low, middle - 1)
    if low < most and count(low + 1) - parameters < parameters - count(low):
        low += 1
    return max(low, LEAST_WIDTH)
