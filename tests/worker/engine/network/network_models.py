"""Architectures whose lifted form is compared with torch's own."""

import io
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from worker.engine.network.network import Network
from worker.engine.network.torchscript import load_torchscript


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.drop = nn.Dropout2d(0.2)
        self.out = nn.Linear(8 * 16, 3)

    def forward(self, x):
        x = F.relu(self.norm(self.first(x)), inplace=True)
        x = self.drop(F.max_pool2d(x + self.depthwise(x), 2))
        return F.log_softmax(self.out(torch.flatten(x, 1)), 1)


class Recurrent(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.embedding = nn.Embedding(20, 6, padding_idx=0)
        self.cell = cell(6, 8, 2, batch_first=True, dropout=0.1, bidirectional=True)
        self.out = nn.Linear(16, 3)

    def forward(self, x):
        return self.out(self.cell(self.embedding(x))[0][:, -1])


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.hidden = nn.Linear(8, 8)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        return self.out(torch.tanh(self.hidden(self.embedding(x).mean(1))))


class Bag(nn.Module):
    """Sums or averages embeddings, as `torch.nn.EmbeddingBag` does."""

    def __init__(self, mode: str, padding: int | None):
        super().__init__()
        self.bag = nn.EmbeddingBag(20, 6, mode=mode, padding_idx=padding)
        self.hidden = nn.Linear(6, 8)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        return self.out(torch.tanh(self.hidden(self.bag(x))))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inward = nn.Linear(4, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        return self.out(self.encoder(self.inward(x)).mean(1))


class Looped(nn.Module):
    """Branches on the rank, loops over the features, collects a list."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        seen = []
        for layer in self.hidden:
            x = torch.tanh(layer(x))
            seen.append(x)
        if x.dim() == 2:
            x = torch.stack(seen).sum(0)
        for turn in range(x.size(1)):
            x = x + 0.1 * turn
        return self.out(x)


class Transposed(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Conv1d(3, 6, 3, stride=2)
        self.norm = nn.GroupNorm(2, 6)
        self.up = nn.ConvTranspose1d(6, 4, 3)
        self.spread = nn.InstanceNorm1d(4, affine=True, track_running_stats=True)
        self.pool = nn.AdaptiveAvgPool1d(2)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        x = F.gelu(self.norm(self.down(x)))
        x = F.elu(self.spread(self.up(x)))
        return self.out(self.pool(x).flatten(1))


class Written(nn.Module):
    """Writes through a view: no pure function stands for it."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(4, 4)
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        y = self.hidden(x)
        y[:, 0] = 0
        return self.out(torch.relu(y))


def perceptron():
    return nn.Sequential(
        nn.Linear(4, 8),
        nn.BatchNorm1d(8),
        nn.ReLU(inplace=True),
        nn.Dropout(0.3),
        nn.Linear(8, 8),
        nn.LayerNorm(8),
        nn.LeakyReLU(),
        nn.AlphaDropout(0.1),
        nn.Linear(8, 3),
        nn.Softmax(1),
    )


def _floats(*shape: int) -> Callable[[], torch.Tensor]:
    return lambda: torch.randn(shape, generator=torch.Generator().manual_seed(1))


def _tokens() -> torch.Tensor:
    return torch.randint(0, 20, (6, 5), generator=torch.Generator().manual_seed(1))


ARCHITECTURES: dict[str, tuple[Callable[[], nn.Module], Callable[[], torch.Tensor]]] = {
    "perceptron": (perceptron, _floats(6, 4)),
    "residual": (Residual, _floats(6, 1, 8, 8)),
    "lstm": (lambda: Recurrent(nn.LSTM), _tokens),
    "gru": (lambda: Recurrent(nn.GRU), _tokens),
    "rnn": (lambda: Recurrent(nn.RNN), _tokens),
    "pooled": (Pooled, _tokens),
    "bag of means": (lambda: Bag("mean", 0), _tokens),
    "bag of sums": (lambda: Bag("sum", None), _tokens),
    "transformer": (Transformer, _floats(6, 5, 4)),
    "looped": (Looped, _floats(6, 4)),
    "transposed": (Transposed, _floats(6, 3, 9)),
}


def settled(name: str, *, seed: int = 0) -> tuple[nn.Module, torch.Tensor]:
    """Return a module with its batch norms moved off their start, and an input."""
    make, sample = ARCHITECTURES[name]
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        module, x = make(), sample()
        module.train()
        with torch.no_grad():
            module(x)
    return module.eval(), x


def without_dropout(module: nn.Module) -> None:
    for inner in module.modules():
        if "Dropout" in type(inner).__name__:
            inner.p = 0.0
        if isinstance(inner, nn.RNNBase | nn.MultiheadAttention):
            inner.dropout = 0.0


def archive(module: torch.jit.ScriptModule) -> io.BytesIO:
    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    buffer.seek(0)
    return buffer


def as_torchscript(module: nn.Module, x: torch.Tensor, how: str):
    """Script or trace a module; `traced_fast` traces without gradients."""
    if how == "scripted":
        return torch.jit.script(module)
    if how == "traced_fast":
        with torch.no_grad():
            return torch.jit.trace(module, x, check_trace=False)
    return torch.jit.trace(module, x, check_trace=False)


def lifted(module: nn.Module, x: torch.Tensor, how: str = "scripted") -> Network:
    return load_torchscript(archive(as_torchscript(module, x, how)))
