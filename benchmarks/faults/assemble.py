"""Write a program to a folder, as a user would upload it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.faults.program import Sketch
from benchmarks.faults.referee import delivered


def recipe_of(sketch: Sketch) -> dict[str, Any]:
    """Tell the sketch's recipe in the words of the contract."""
    optimizer: dict[str, Any] = {"name": sketch.optimizer, "lr": sketch.lr}
    optimizer["weight_decay"] = sketch.weight_decay
    if sketch.momentum is not None:
        optimizer["momentum"] = sketch.momentum
    if sketch.eps is not None:
        optimizer["eps"] = sketch.eps
    recipe: dict[str, Any] = {
        "optimizer": optimizer,
        "loss": {"name": sketch.loss, "label_smoothing": sketch.label_smoothing},
        "epochs": sketch.epochs,
        "batch_size": sketch.batch,
        "sampler": sketch.sampler,
        "normalization": sketch.normalization,
    }
    return {key: value for key, value in recipe.items() if key not in sketch.withheld}


def as_torchscript(network: nn.Module, sample: torch.Tensor, *, traced: bool) -> Any:  # noqa: ANN401
    """Script or trace in evaluation mode."""
    network.eval()
    if traced:
        return torch.jit.trace(  # type: ignore[no-untyped-call]
            network, sample, check_trace=False
        )
    return torch.jit.script(network)


def write(sketch: Sketch, folder: Path, *, seed: int = 0) -> None:
    """Train from `seed` and write `model.pt`, `data.npz`, `recipe.json`.

    The hidden rows are written apart, to `hidden.npz`, which is not uploaded.

    Raises:
        SetMissingError: the package that carries the data is not installed.
    """
    network, material = delivered(sketch, seed)
    folder.mkdir(parents=True, exist_ok=True)
    sample = torch.from_numpy(material.val.x[:2])
    module = as_torchscript(network, sample, traced=sketch.traced)
    module.save(str(folder / "model.pt"))
    integer = np.int64 if material.kind == "tokens" else np.float32
    np.savez_compressed(
        folder / "data.npz",
        x_train=material.train.x.astype(integer),
        y_train=material.train.y,
        x_val=material.val.x.astype(integer),
        y_val=material.val.y,
    )
    np.savez_compressed(folder / "hidden.npz", x=material.hidden.x, y=material.hidden.y)
    (folder / "recipe.json").write_text(json.dumps(recipe_of(sketch), indent=1))
    (folder / "sketch.txt").write_text(repr(sketch))
