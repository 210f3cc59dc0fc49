"""What others spend on the same network and data: Optuna, a sweep, cleanlab.

Each trains the same network by the same recipe but for what it varies, in one thread.
Some trials are run and timed; the audit's own trials are timed in the same turn.
"""

import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.speed.subjects import CLASSES, mlp, subject_of
from worker.engine.lab.bench import Bench
from worker.engine.lab.experiment import Arm, RecipeChange, Training

_TRIALS = 12
_EPOCHS = 20
_BATCH = 32
_RATES = np.geomspace(1e-4, 1e-1, _TRIALS).tolist()


def _digits() -> tuple[Any, Any]:
    from sklearn.datasets import load_digits  # noqa: PLC0415 - slow to import

    bunch = load_digits()
    return (bunch.data / 16).astype(np.float32), bunch.target.astype(np.int64)


def _trained(x: Any, y: Any, lr: float) -> torch.nn.Module:  # noqa: ANN401
    network = mlp(64, 128)
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    optimizer = torch.optim.Adam(network.parameters(), lr)
    for _ in range(_EPOCHS):
        for rows in torch.split(torch.randperm(len(y)), _BATCH):
            optimizer.zero_grad()
            loss = F.cross_entropy(network(inputs[rows]), labels[rows])
            torch.autograd.backward(loss)
            optimizer.step()
    return network.eval()


def _accuracy(network: torch.nn.Module, x: Any, y: Any) -> float:  # noqa: ANN401
    with torch.no_grad():
        return float((network(torch.from_numpy(x)).argmax(1).numpy() == y).mean())


def _sweep(x: Any, y: Any) -> None:  # noqa: ANN401
    for lr in _RATES:
        _accuracy(_trained(x, y, lr), x, y)


def _optuna(x: Any, y: Any) -> None:  # noqa: ANN401
    optuna = import_module("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def trial(one: Any) -> float:  # noqa: ANN401 - optuna's
        return _accuracy(
            _trained(x, y, one.suggest_float("lr", 1e-4, 1e-1, log=True)), x, y
        )

    optuna.create_study(direction="maximize").optimize(trial, n_trials=_TRIALS)


def _skorch(x: Any, y: Any) -> None:  # noqa: ANN401
    skorch = import_module("skorch")
    for lr in _RATES:
        skorch.NeuralNetClassifier(
            partial(mlp, 64, 128),
            criterion=torch.nn.CrossEntropyLoss,
            optimizer=torch.optim.Adam,
            lr=lr,
            max_epochs=_EPOCHS,
            batch_size=_BATCH,
            train_split=None,
            verbose=0,
        ).fit(x, y).score(x, y)


def _cleanlab(x: Any, y: Any) -> None:  # noqa: ANN401
    cleanlab = import_module("cleanlab.filter")
    found = np.zeros((len(y), CLASSES))
    for fold in range(5):
        out = np.arange(len(y)) % 5 == fold
        network = _trained(x[~out], y[~out], 1e-3)
        with torch.no_grad():
            found[out] = torch.softmax(network(torch.from_numpy(x[out])), 1).numpy()
    cleanlab.find_label_issues(y, found)


def _stacked(x: Any, y: Any) -> None:  # noqa: ANN401
    arms = tuple(
        Arm(name=f"{lr:g}", changes=(RecipeChange(patch={"optimizer": {"lr": lr}}),))
        for lr in _RATES
    )
    Bench(subject_of(x, y, epochs=_EPOCHS, batch=_BATCH)).run(
        Training(round="speed", question="", arms=arms, seeds=(0,))
    )


def main() -> None:
    """Print the table."""
    x, y = _digits()
    started = time.process_time()
    _trained(x, y, 1e-3)
    unit = time.process_time() - started
    tools: list[tuple[str, Callable[[Any, Any], None], int]] = [
        ("a stack of this engine", _stacked, _TRIALS),
        ("sequential sweep, plain loop", _sweep, _TRIALS),
        ("Optuna (TPE)", _optuna, _TRIALS),
        ("skorch, sequential", _skorch, _TRIALS),
        ("cleanlab, five folds", _cleanlab, 5),
    ]
    print("| tool | trainings | seconds | in plain trainings | each |")
    print("| --- | --- | --- | --- | --- |")
    for name, work, count in tools:
        started = time.process_time()
        try:
            work(x, y)
        except ImportError as missing:
            print(f"| {name} | not installed: {missing.name} | | | |")
            continue
        seconds = time.process_time() - started
        print(
            f"| {name} | {count} | {seconds:.1f} | {seconds / unit:.1f} "
            f"| {seconds / unit / count:.2f} |",
            flush=True,
        )
