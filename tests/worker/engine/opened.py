"""Opens a session on a module and a dataset made in memory."""

import io
import warnings
from typing import Any

import numpy as np
import torch
from torch import nn

from worker.engine.session import Session

RECIPE = {
    "optimizer": {"name": "adam", "lr": 0.01},
    "loss": {"name": "cross_entropy"},
    "epochs": 5,
    "batch_size": 32,
}


def archive(module: nn.Module) -> io.BytesIO:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if not isinstance(module, torch.jit.ScriptModule):
            module = torch.jit.script(module.eval())
        torch.jit.save(module, file)
    file.seek(0)
    return file


def dataset(rows: int = 120, features: int = 4, classes: int = 3) -> io.BytesIO:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, features)).astype(np.float32)
    y = np.arange(rows) % classes
    x[:, 0] += y
    file = io.BytesIO()
    np.savez(file, x_train=x[:80], y_train=y[:80], x_test=x[80:], y_test=y[80:])
    file.seek(0)
    return file


def open_session(tmp_path, module, recipe=RECIPE, data=None, spec=None, **request):
    session = Session(device="cpu", scratch=tmp_path, progress=lambda *_: None)
    session.open(
        audit_id="aud_x",
        model=archive(module),
        model_format="torchscript",
        model_facts={},
        dataset=data or dataset(),
        dataset_format="npz",
        dataset_facts={},
        spec=spec or {},
        request={"model_id": "m", "dataset_id": "d", "recipe": recipe, **request},
    )
    return session


def audited(session: Session) -> dict[str, Any]:
    """Run an audit to its end; returns its report."""
    seen: list[dict[str, Any]] = []
    while True:
        step = session.advance(seen)
        if step["report"] is not None:
            return step["report"]
        seen += [
            {"experiment": e, "outcome": session.run(e)} for e in step["experiments"]
        ]


def network(features: int = 4, classes: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(features, 8), nn.ReLU(), nn.Linear(8, classes))
