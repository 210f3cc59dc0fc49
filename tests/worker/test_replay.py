"""An experiment of a report can be trained again from the report alone."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from service.contract.errors import BadRequest, NotFound
from service.contract.report import Report, ReportArm, ReportExperiment
from tests.builders_report import make_report
from tests.service.embedded.test_one_machine import serving
from worker.engine.lab.experiment import Training
from worker.replay import compare, experiment_of

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from service.cli import app; app()"]


def make_replayable(**settings: object) -> Report:
    arms = [
        ReportArm(
            name=name,
            changes=[{"kind": "recipe", "patch": {"optimizer": {"lr": rate}}}],
            seeds=[7, 8],
            metrics={"balanced_accuracy": 0.5},
        )
        for name, rate in (("lr=0.1", 0.1), ("lr=0.3", 0.3))
    ]
    trained = ReportExperiment(
        id="exp_001",
        kind="training",
        question="Which is better?",
        round="screen",
        settings={"rows": 90, "rows_asked": None, "split": "decide", **settings},
        arms=arms,
        seconds=1.0,
    )
    measured = ReportExperiment(
        id="exp_002",
        kind="measurement",
        question="What does the probe see?",
        round="inspect",
        settings={"name": "weights"},
        seconds=1.0,
    )
    return make_report().model_copy(update={"experiments": [trained, measured]})


def test_an_experiment_is_rebuilt_as_it_was_asked_for():
    asked = Training.model_validate(
        experiment_of(make_replayable(split="final", rows_asked=50), "exp_001")
    )

    assert [arm.name for arm in asked.arms] == ["lr=0.1", "lr=0.3"]
    assert asked.seeds == (7, 8)
    assert asked.rows == 50
    assert asked.split == "final"


def test_rows_that_were_there_are_not_rows_that_were_asked_for():
    asked = experiment_of(make_replayable(), "exp_001")

    assert asked["rows"] is None


def test_a_measurement_is_not_replayed():
    with pytest.raises(BadRequest):
        experiment_of(make_replayable(), "exp_002")


def test_an_unknown_experiment_is_named():
    with pytest.raises(NotFound, match="exp_009"):
        experiment_of(make_replayable(), "exp_009")


def test_a_figure_that_comes_out_otherwise_differs():
    outcome = {
        "arms": [
            {"trials": [{"balanced_accuracy": 0.4}, {"balanced_accuracy": 0.6}]},
            {"trials": [{"balanced_accuracy": 0.4}, {"balanced_accuracy": 0.601}]},
        ]
    }

    found = compare(make_replayable(), "exp_001", outcome)

    assert [arm["same"] for arm in found["arms"]] == [True, False]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own program
        [*COMMAND, *(str(argument) for argument in arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=ROOT,
    )


def ids_by_round(report: dict[str, Any]) -> dict[str, str]:
    """List one training of each round, the last."""
    return {e["round"]: e["id"] for e in report["experiments"] if e["arms"]}


def write_program(folder: Path) -> None:
    """Write a network that crept: trained with a rate far too low."""
    digits = load_digits()
    x, y = (digits.data / 16).astype(np.float32), digits.target.astype(np.int64)
    network = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
    scripted = torch.jit.script(network.eval())
    scripted.save(str(folder / "model.pt"))  # type: ignore[no-untyped-call]
    np.savez(
        folder / "data.npz",
        x_train=x[:1000], y_train=y[:1000], x_val=x[1000:], y_val=y[1000:],
    )  # fmt: skip
    recipe = {
        "optimizer": {"name": "adam", "lr": 1e-5},
        "loss": {"name": "cross_entropy"},
        "epochs": 8,
        "batch_size": 32,
    }
    (folder / "recipe.json").write_text(json.dumps(recipe))


@pytest.mark.end_to_end
def test_every_round_of_an_audit_comes_out_again(tmp_path: Path) -> None:
    write_program(tmp_path)
    files = ("--model", tmp_path / "model.pt", "--data", tmp_path / "data.npz")
    with serving(tmp_path / "data", worker=True) as (_, address):
        service = ("--url", address, "--data-dir", tmp_path / "data")
        audited = run(
            "audit", files[1], files[3], "--recipe", tmp_path / "recipe.json",
            "--check", "learning_rate_too_low", "--budget", "quick", "--json", *service,
        )  # fmt: skip
        report = json.loads(audited.stdout)
        experiments = ids_by_round(report)
        kept = run(
            "replay", report["audit_id"], experiments["screen"], *files, *service
        )
    (tmp_path / "report.json").write_text(audited.stdout)
    again = {
        stage: run("replay", tmp_path / "report.json", identity, *files)
        for stage, identity in experiments.items()
    }

    assert {"screen", "confirm", "remedy"} <= set(again)
    for stage, ended in {"kept": kept, **again}.items():
        assert ended.returncode == 0, (stage, ended.stdout, ended.stderr)
        assert "same" in ended.stdout
        assert "differs" not in ended.stdout
