"""Builds small subjects and trains them the plain way, for comparison."""

import io
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from worker.engine.data import Dataset, Kind, Split
from worker.engine.head import head_after
from worker.engine.lab.bench import Material
from worker.engine.lab.experiment import Arm, RecipeChange, Training
from worker.engine.lab.schedules import factor
from worker.engine.network.network import Network
from worker.engine.network.torchscript import load_torchscript
from worker.engine.recipe import CompleteLoss, CompleteRecipe, default_optimizer

CLASSES = 3


def lifted(module: nn.Module) -> Network:
    """Save a module as TorchScript and load it as the engine does."""
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(module), file)
    file.seek(0)
    return load_torchscript(file)


def make_split(
    rows: int, shape: tuple[int, ...], *, classes: int = CLASSES, seed: int = 0
) -> Split:
    """Make rows whose class shifts all their values."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, rows)
    pattern = np.random.default_rng(99).standard_normal((classes, *shape))
    x = rng.standard_normal((rows, *shape)) + pattern[y]
    return Split(x.astype(np.float32), y, np.arange(rows), "train")


def make_recipe(optimizer: str = "adam", loss: str = "cross_entropy", **settings):
    return CompleteRecipe(
        optimizer=default_optimizer(optimizer),
        loss=CompleteLoss(name=loss),
        **{
            "epochs": 2,
            "batch_size": 8,
            "sampler": "shuffle",
            "schedule": None,
            "normalization": "none",
            "seed": 0,
            **settings,
        },
    )


def make_material(  # noqa: PLR0913
    module: nn.Module,
    shape: tuple[int, ...],
    *,
    rows: int = 29,
    classes: int = CLASSES,
    recipe: CompleteRecipe | None = None,
    kind: Kind | None = None,
    scratch: Path = Path(),
) -> Material:
    network = lifted(module)
    recipe = recipe or make_recipe()
    train = make_split(rows, shape, classes=classes)
    kind = kind or ("image" if len(shape) == 3 else "table")
    layout = "NCHW" if kind == "image" else None
    names = tuple(f"class {number}" for number in range(classes))
    return Material(
        network=network,
        train=train,
        decide=make_split(60, shape, classes=classes, seed=1),
        final=make_split(60, shape, classes=classes, seed=2),
        dataset=Dataset({"train": train}, names, (), kind, layout),
        recipe=recipe,
        head=head_after(network, recipe.loss.name, classes),
        device=torch.device("cpu"),
        scratch=scratch,
    )


def make_training(*patches: dict, seeds=(1, 2), **settings) -> Training:
    """One arm a patch of the recipe."""
    arms = tuple(
        Arm(
            name=f"arm {number}",
            changes=(RecipeChange(patch=patch),) if patch else (),
        )
        for number, patch in enumerate(patches or ({},))
    )
    return Training(round="test", question="", arms=arms, seeds=seeds, **settings)


def plain_optimizer(settings, parameters):
    name, lr = settings.name, settings.lr
    decay, eps = settings.weight_decay, settings.eps
    momentum = settings.momentum
    if name == "sgd":
        return torch.optim.SGD(
            parameters, lr, momentum=momentum, weight_decay=decay, foreach=False
        )
    if name in {"adam", "adamw", "nadam"}:
        kind = {
            "adam": torch.optim.Adam,
            "adamw": torch.optim.AdamW,
            "nadam": torch.optim.NAdam,
        }[name]
        return kind(
            parameters, lr, betas=(momentum, 0.999), eps=eps, weight_decay=decay
        )
    if name == "rmsprop":
        return torch.optim.RMSprop(
            parameters, lr, eps=eps, weight_decay=decay, momentum=momentum
        )
    if name == "adagrad":
        return torch.optim.Adagrad(parameters, lr, eps=eps, weight_decay=decay)
    return torch.optim.Adadelta(parameters, lr, eps=eps, weight_decay=decay)


def plain_loss(  # noqa: PLR0911 - one a loss
    settings, outputs: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    """What a user would have written for each loss."""
    weight = settings.class_weights
    weight = None if weight is None else torch.tensor(weight, dtype=outputs.dtype)
    smooth = settings.label_smoothing
    several = outputs.dim() == 2 and outputs.shape[1] > 1
    if settings.transition_matrix is not None:
        matrix = torch.tensor(settings.transition_matrix, dtype=outputs.dtype)
        given = torch.log(torch.softmax(outputs, 1) @ matrix)
        return F.nll_loss(given, y, weight=weight)
    if settings.name == "cross_entropy":
        return F.cross_entropy(outputs, y, weight=weight, label_smoothing=smooth)
    if settings.name == "nll":
        return F.nll_loss(outputs, y, weight=weight)
    hot = F.one_hot(y, outputs.shape[-1]) if several else y.reshape(outputs.shape)
    hot = hot.to(outputs.dtype)
    if settings.name == "bce":
        return F.binary_cross_entropy(outputs, hot)
    if settings.name == "bce_with_logits":
        return F.binary_cross_entropy_with_logits(outputs, hot)
    if settings.name == "mse":
        return F.mse_loss(outputs, hot)
    if settings.name == "mae":
        return F.l1_loss(outputs, hot)
    if settings.name == "hinge":
        if several:
            return F.multi_margin_loss(outputs, y)
        return (1 - (2 * hot - 1) * outputs).clamp_min(0).mean()
    p = F.cross_entropy(outputs, y, reduction="none")
    return ((1 - (-p).exp()) ** 2 * p).mean()


def train_plainly(module: nn.Module, material: Material, member) -> nn.Module:
    """Train one member the way a user would, on the batches that the bench gives it."""
    parameters, buffers = member.start()
    module.load_state_dict({**parameters, **buffers})
    script = torch.jit.script(module).train()
    optimizer = plain_optimizer(member.recipe.optimizer, list(script.parameters()))
    x = torch.from_numpy(material.train.x).to(material.network.dtype)
    y = torch.from_numpy(member.view.labels)
    for step in range(member.steps):
        places, real = member.stream.take(step, 1)
        rows = torch.from_numpy(places[0][real[0]])
        for group in optimizer.param_groups:
            group["lr"] = member.recipe.optimizer.lr * factor(
                member.recipe.schedule,
                step=step,
                steps_an_epoch=member.pace,
                epochs=member.recipe.epochs,
            )
        optimizer.zero_grad()
        loss = plain_loss(member.recipe.loss, script(x[rows]), y[rows])
        if loss.requires_grad:
            loss.backward()
        optimizer.step()
    return script
