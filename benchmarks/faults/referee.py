"""The referee: trains a sketch with plain PyTorch and scores it on hidden rows."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.faults.data_spoils import spoil
from benchmarks.faults.program import Sketch
from benchmarks.faults.program_networks import build_network
from benchmarks.faults.referee_losses import predicted, referee_loss
from benchmarks.faults.splits import Material, Rows, draw
from benchmarks.faults.weight_spoils import spoil_weights

TOKENS = 17  # grey levels of the digits; more than the letters of a DNA string


def _optimizer(sketch: Sketch, network: nn.Module) -> torch.optim.Optimizer:
    weights, lr, decay = [*network.parameters()], sketch.lr, sketch.weight_decay
    beta = 0.9 if sketch.momentum is None else sketch.momentum
    momentum = sketch.momentum or 0.0
    eps = sketch.eps
    name = sketch.optimizer
    if name == "sgd":
        return torch.optim.SGD(weights, lr, momentum=momentum, weight_decay=decay)
    if name in {"adam", "adamw", "nadam"}:
        kinds: dict[str, type[torch.optim.Adam | torch.optim.NAdam]] = {
            "adam": torch.optim.Adam,
            "adamw": torch.optim.AdamW,
            "nadam": torch.optim.NAdam,
        }
        return kinds[name](
            weights, lr, betas=(beta, 0.999), eps=eps or 1e-8, weight_decay=decay
        )
    if name == "rmsprop":
        return torch.optim.RMSprop(
            weights, lr, alpha=sketch.alpha, eps=eps or 1e-8, momentum=momentum
        )
    if name == "adagrad":
        return torch.optim.Adagrad(weights, lr, eps=eps or 1e-10, weight_decay=decay)
    return torch.optim.Adadelta(weights, lr, eps=eps or 1e-6, weight_decay=decay)


def _batches(sketch: Sketch, y: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    if sketch.sampler == "balanced":
        share = 1 / torch.bincount(y).clamp_min(1)[y].double()
        order = torch.multinomial(share, len(y), True, generator=generator)  # noqa: FBT003
    elif sketch.sampler == "sequential":
        order = torch.arange(len(y))
    else:
        order = torch.randperm(len(y), generator=generator)
    for part in torch.split(order, sketch.batch):
        if len(part) > 1 or len(y) == 1:  # batch normalisation needs two rows
            yield part


def _standardized(sketch: Sketch, material: Material) -> Material:
    """Apply the recipe's own normalisation, which the audit applies too."""
    if sketch.normalization == "none":
        return material
    center = material.train.x.mean(axis=0)
    spread = material.train.x.std(axis=0)
    spread = np.where(spread > 0, spread, 1)

    def scaled(rows: Rows) -> Rows:
        return Rows(((rows.x - center) / spread).astype(np.float32), rows.y)

    return replace(
        material,
        train=scaled(material.train),
        val=scaled(material.val),
        hidden=scaled(material.hidden),
    )


def train(sketch: Sketch, material: Material, seed: int) -> nn.Module:
    """Train by the sketch's recipe; evaluation mode on return.

    Args:
        sketch: what to train.
        material: before delivery, on the scale of the recipe's normalisation.
        seed: of the initial weights, the batches and the dropout.
    """
    torch.manual_seed(seed)
    network = build_network(
        sketch, material.train.x.shape[1:], material.classes, TOKENS
    )
    optimizer = _optimizer(sketch, network)
    x, y = torch.from_numpy(material.train.x), torch.from_numpy(material.train.y)
    generator = torch.Generator().manual_seed(seed + 1)
    loss_name = sketch.referee_loss or sketch.loss
    network.train()
    for _ in range(sketch.epochs):
        for part in _batches(sketch, y, generator):
            optimizer.zero_grad()
            out = network(x[part])
            loss = referee_loss(loss_name, out, y[part], sketch.label_smoothing)
            if not torch.isfinite(loss):
                return network.eval()  # it will not come back
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return network.eval()


def balanced_accuracy(loss_name: str, network: nn.Module, rows: Rows) -> float:
    """Mean recall over the classes that occur; fraction, 0 to 1."""
    torch.manual_seed(0)
    with torch.inference_mode():
        out = network(torch.from_numpy(rows.x))
    hits = predicted(loss_name, out).numpy() == rows.y
    return float(np.mean([hits[rows.y == label].mean() for label in np.unique(rows.y)]))


def made(sketch: Sketch) -> tuple[Material, Material]:
    """Return the rows it was trained on and the rows as they are delivered."""
    trained_on = spoil(draw(sketch), sketch.spoils)
    return trained_on, spoil(trained_on, sketch.delivery)


def delivered(sketch: Sketch, seed: int) -> tuple[nn.Module, Material]:
    """Train, spoil the weights, and deliver with the rows as they reach the audit."""
    trained_on, handed_over = made(sketch)
    network = train(sketch, _standardized(sketch, trained_on), seed)
    spoil_weights(network, sketch.weights)
    return network, handed_over


def score(sketch: Sketch, seed: int, *, part: str = "hidden") -> float:
    """Balanced accuracy of the delivered program on one part of its rows."""
    network, material = delivered(sketch, seed)
    rows: Rows = getattr(_standardized(sketch, material), part)
    return balanced_accuracy(sketch.loss, network, rows)
