"""Small real subjects for the probes: trained in a second, lifted like an upload."""

import warnings
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_digits

from service.contract.recipe import Recipe
from worker.engine.data import Dataset, Kind, Split
from worker.engine.head import find_head
from worker.engine.lab.materials import Material
from worker.engine.network.torchscript import network_of
from worker.engine.recipe import complete


def split_of(x: np.ndarray, y: np.ndarray, source: str, first: int = 0) -> Split:
    rows = np.arange(first, first + len(y), dtype=np.int64)
    return Split(x=x, y=y.astype(np.int64), rows=rows, source=source)


def digits() -> tuple[np.ndarray, np.ndarray]:
    data = load_digits()
    return data.data.astype(np.float32), data.target.astype(np.int64)


def breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    data = load_breast_cancer()
    return data.data.astype(np.float32), data.target.astype(np.int64)


def shuffled(
    x: np.ndarray, y: np.ndarray, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(seed).permutation(len(y))
    return x[order], y[order]


def mlp(features: int, classes: int, width: int = 64) -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Linear(features, width),
        torch.nn.ReLU(),
        torch.nn.Linear(width, classes),
    )


def fit(
    module: torch.nn.Module,
    x: np.ndarray,
    y: np.ndarray,
    *,
    epochs: int = 30,
    lr: float = 3e-3,
    seed: int = 0,
) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in module.modules():
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
        optimizer = torch.optim.Adam(module.parameters(), lr=lr)
        inputs, labels = torch.from_numpy(x).float(), torch.from_numpy(y)
        module.train()
        for _ in range(epochs):
            for rows in torch.randperm(len(y)).split(64):
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(
                    module(inputs[rows]), labels[rows]
                )
                loss.backward()
                optimizer.step()
    return module.eval()


def subject(  # noqa: PLR0913
    module: torch.nn.Module,
    train: tuple[np.ndarray, np.ndarray],
    held: tuple[np.ndarray, np.ndarray],
    *,
    kind: Kind = "table",
    layout: str | None = None,
    feature_names: tuple[str, ...] = (),
    normalization: Any = None,
    training: bool = False,
) -> Material:
    """Build the material; two thirds of `held` are `decide`, the rest `final`."""
    classes = int(max(train[1].max(), held[1].max())) + 1
    names = tuple(f"class {k}" for k in range(classes))
    cut = 2 * len(held[1]) // 3
    parts = {
        "train": split_of(*train, "train"),
        "decide": split_of(held[0][:cut], held[1][:cut], "test"),
        "final": split_of(held[0][cut:], held[1][cut:], "test", first=cut),
    }
    module.train(training)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript as such
        network = network_of(torch.jit.script(module))
    x = torch.from_numpy(train[0][:64]).float()
    raw, _ = network.forward(network.parameters, network.buffers, x, training=False)
    head = find_head(network, raw, classes=classes, loss=None)
    recipe, _ = complete(
        Recipe(normalization=normalization),
        fitting_loss="cross_entropy",
        train_rows=len(train[1]),
    )
    return Material(
        network=network,
        **parts,
        dataset=Dataset(
            splits={"train": parts["train"]},
            class_names=names,
            feature_names=feature_names,
            kind=kind,
            layout=layout,
        ),
        recipe=recipe,
        head=head,
        device=torch.device("cpu"),
    )


def noise_subject(
    rows: int = 600, features: int = 6, classes: int = 2, seed: int = 0
) -> Material:
    """Labels that do not depend on the inputs; an untrained network."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, features)).astype(np.float32)
    y = rng.integers(0, classes, rows)
    cut = 2 * rows // 3
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = mlp(features, classes)
    return subject(module, (x[:cut], y[:cut]), (x[cut:], y[cut:]))
