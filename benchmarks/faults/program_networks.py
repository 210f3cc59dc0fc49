"""The networks of the programs, as plain modules that TorchScript accepts."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.faults.program import Sketch


class Exponential(nn.Module):
    """Keras's `exponential` activation."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return torch.exp(x)


class Clipped(nn.Module):
    """Keras's `hard_sigmoid`."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return torch.clamp(0.2 * x + 0.5, 0.0, 1.0)


class AlwaysDropout(nn.Module):
    """Dropout that ignores evaluation mode: `F.dropout` called without `training`."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return F.dropout(x, p=self.p, training=True)


class Recurrent(nn.Module):
    """A GRU or LSTM over (batch, steps, features), read at the last step."""

    def __init__(self, layer: nn.GRU | nn.LSTM, head: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Classify series; (batch, steps, features) to (batch, classes)."""
        return self.head(self.layer(x)[0][:, -1])  # type: ignore[no-any-return]


class Transposed(nn.Module):
    """(batch, steps, features) to (batch, features, steps)."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return x.transpose(1, 2)


class TokenMean(nn.Module):
    """Embeds token ids and keeps their order by giving each position its own place."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)

    def forward(self, x: Tensor) -> Tensor:
        """Embed; (batch, steps) ids to (batch, steps · width)."""
        return self.embedding(x.long()).flatten(1)  # type: ignore[no-any-return]


def activation(name: str) -> nn.Module:
    """Make an activation by name."""
    made: dict[str, nn.Module] = {
        "relu": nn.ReLU(),
        "sigmoid": nn.Sigmoid(),
        "tanh": nn.Tanh(),
        "softmax": nn.Softmax(dim=1),
        "log_softmax": nn.LogSoftmax(dim=1),
        "leaky_relu": nn.LeakyReLU(0.01),
        "elu": nn.ELU(),
        "gelu": nn.GELU(),
        "silu": nn.SiLU(),
        "hard_sigmoid": Clipped(),
        "exponential": Exponential(),
        "none": nn.Identity(),
    }
    return made[name]


def _dropout(p: float) -> list[nn.Module]:
    if p == 0:
        return []
    return [nn.Dropout(p)] if p > 0 else [AlwaysDropout(-p)]


def _norm(kind: str, width: int, *, pictures: bool = False) -> list[nn.Module]:
    if kind == "none":
        return []
    track = kind == "batch"
    if pictures:
        return [nn.BatchNorm2d(width, track_running_stats=track)]
    return [nn.BatchNorm1d(width, track_running_stats=track)]


def _hidden(sketch: Sketch, inputs: int, widths: tuple[int, ...]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(inputs, width), *_norm(sketch.norm, width)]
        if sketch.activation != "none":
            layers.append(activation(sketch.activation))
        layers += _dropout(sketch.dropout)
        inputs = width
    return layers


def _head(sketch: Sketch, inputs: int, classes: int) -> list[nn.Module]:
    outputs = 1 if sketch.single_output else classes
    layers: list[nn.Module] = [nn.Linear(inputs, outputs)]
    if sketch.output != "none":
        layers.append(activation(sketch.output))
    return layers


def _pictures(sketch: Sketch, shape: tuple[int, ...], classes: int) -> nn.Module:
    """3x3 convolutions, a pool after each; the last width is a dense layer."""
    channels, side = shape[0], shape[-1]
    layers: list[nn.Module] = []
    for width in sketch.widths[:-1]:
        layers += [
            nn.Conv2d(channels, width, 3, padding=1),
            *_norm(sketch.norm, width, pictures=True),
            activation(sketch.activation),
            nn.MaxPool2d(2),
        ]
        channels, side = width, side // 2
    dense = _hidden(sketch, channels * side * side, sketch.widths[-1:])
    layers += [nn.Flatten(), *dense, *_head(sketch, sketch.widths[-1], classes)]
    return nn.Sequential(*layers)


def _series(sketch: Sketch, shape: tuple[int, ...], classes: int) -> nn.Module:
    width = sketch.widths[0]
    if sketch.family == "series_conv":
        return nn.Sequential(
            Transposed(),
            nn.Conv1d(shape[-1], width, 5, padding=2),
            activation(sketch.activation),
            nn.AdaptiveMaxPool1d(1),
            nn.Flatten(),
            *_dropout(sketch.dropout),
            *_head(sketch, width, classes),
        )
    layer: nn.GRU | nn.LSTM = (
        nn.GRU(shape[-1], width, batch_first=True)
        if sketch.family == "gru"
        else nn.LSTM(shape[-1], width, batch_first=True)
    )
    head = nn.Sequential(*_dropout(sketch.dropout), *_head(sketch, width, classes))
    return Recurrent(layer, head)


def _initialize(network: nn.Module, scheme: str) -> None:
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv1d):
            if scheme == "keras":
                nn.init.xavier_uniform_(module.weight)
            else:
                nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def build_network(
    sketch: Sketch, shape: tuple[int, ...], classes: int, vocabulary: int
) -> nn.Module:
    """Build the network; weights follow torch's global seed.

    Args:
        sketch: what to build.
        shape: of one sample.
        classes: number of classes.
        vocabulary: number of token ids; for tokens only.
    """
    if sketch.family == "conv":
        network = _pictures(sketch, shape, classes)
    elif sketch.family in {"gru", "lstm", "series_conv"}:
        network = _series(sketch, shape, classes)
    elif sketch.family == "tokens":
        embedding = sketch.widths[0]
        inputs = shape[0] * embedding
        dense = _hidden(sketch, inputs, sketch.widths[1:])
        last = sketch.widths[-1] if len(sketch.widths) > 1 else inputs
        network = nn.Sequential(
            TokenMean(vocabulary, embedding), *dense, *_head(sketch, last, classes)
        )
    else:
        inputs = 1
        for size in shape:
            inputs *= size
        flatten: list[nn.Module] = [nn.Flatten()] if len(shape) > 1 else []
        dense = _hidden(sketch, inputs, sketch.widths)
        last = sketch.widths[-1] if sketch.widths else inputs
        network = nn.Sequential(*flatten, *dense, *_head(sketch, last, classes))
    if sketch.initialization != "torch":
        _initialize(network, sketch.initialization)
    return network
