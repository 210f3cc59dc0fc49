"""A whole audit against the very same trainings as plain loops."""

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.faults.drive import MOST_ROUNDS, OpenedAudit, forget_what_is_imported
from benchmarks.speed.programs import digits, fashion
from worker.engine.lab.bench import Bench
from worker.engine.lab.experiment import Arm, Training
from worker.engine.lab.losses import batch_loss, targets
from worker.engine.lab.members import Member, merged

_SAMPLE_STEPS = 12
_TURNS = 3
_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
}


def plain_step_seconds(member: Member, bench: Bench) -> float:
    """Time a step of the plain loop over the ScriptModule of a member."""
    parameters, buffers = member.start()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = member.network.script(parameters, buffers).train()
    optimizer = _OPTIMIZERS[member.recipe.optimizer.name](module.parameters(), lr=1e-3)
    split = bench.material.train
    y = torch.from_numpy(split.y)
    x = torch.from_numpy(split.x)
    rows = min(member.stream.batch, len(y))
    real = torch.ones(1, rows, dtype=torch.bool)

    def step() -> None:
        at = torch.randint(len(y), (rows,))
        given = member.pipe(x[at].float() if x.dtype != torch.int64 else x[at])
        target, weight = targets(
            member.form, member.recipe.loss, y[at][None], real, torch.float32
        )
        optimizer.zero_grad()
        loss = batch_loss(member.form, module(given), target[0], weight[0])
        torch.autograd.backward(loss)
        optimizer.step()

    best = float("inf")
    for turn in range(_TURNS + 1):
        started = time.process_time()
        for _ in range(_SAMPLE_STEPS):
            step()
        if turn:
            best = min(best, (time.process_time() - started) / _SAMPLE_STEPS)
    return best


class _Plain:
    """Seconds that plain loops would take, by samples of each kind of step."""

    def __init__(self, bench: Bench) -> None:
        self._bench, self._known = bench, dict[Any, float]()

    def step(self, member: Member) -> float:
        key = (
            member.network.structure,
            member.recipe.optimizer.name,
            member.stream.batch,
        )
        if key not in self._known:
            self._known[key] = plain_step_seconds(member, self._bench)
        return self._known[key]

    def training(self, asked: dict[str, Any], outcome: dict[str, Any]) -> float:
        """Every arm and seed alone, as far as the stacks went."""
        run = self._bench._prepared(Training.model_validate(asked))  # noqa: SLF001
        whole = sum(member.steps for member in merged(run.members))
        seconds = sum(self.step(one) * one.steps for one in run.members)
        return float(seconds * outcome["member_steps"] / max(1, whole))

    def given(self) -> float:
        """One training by the given recipe, on all rows."""
        asked = Training(
            round="given", question="", arms=(Arm(name="baseline"),), seeds=(0,)
        )
        [member] = self._bench._prepared(asked).members  # noqa: SLF001
        return self.step(member) * member.steps


def report(make: Callable[[Path], str], budget: Any) -> str:  # noqa: ANN401
    """Audit a program; returns a row of the table."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        name = make(folder / "program")
        forget_what_is_imported()
        started = time.process_time()
        opened = OpenedAudit(
            folder / "program", folder / "scratch", budget=budget, seed=0
        )
        done: list[dict[str, Any]] = []
        trained = 0.0
        for _ in range(MOST_ROUNDS):
            step = opened.session.advance(done)
            if step["report"] is not None:
                break
            for experiment in step["experiments"]:
                began = time.process_time()
                outcome = opened.session.run(experiment)
                if experiment["kind"] == "training":
                    trained += time.process_time() - began
                done.append({"experiment": experiment, "outcome": outcome})
        seconds = time.process_time() - started
        bench = opened.session.bench
        if bench is None:
            raise RuntimeError(name)  # an opened session has one
        plain = _Plain(bench)
        loops = sum(
            plain.training(one["experiment"], one["outcome"])
            for one in done
            if one["experiment"]["kind"] == "training"
        )
        unit = plain.given()
    trials = sum(
        len(arm["trials"]) for one in done for arm in one["outcome"].get("arms", ())
    )
    return (
        f"| {name} | {trials} | {loops / trained:.1f} | {loops / seconds:.1f} "
        f"| {seconds / unit:.1f} | {loops / unit:.0f} |"
    )


def main(budget: Any = "standard") -> None:  # noqa: ANN401
    """Print the table."""
    print(
        "Plain loops are estimated: a timed sample of every kind of step, times steps."
    )
    print(
        "| program | trials | trainings alone, ratio | whole audit, ratio "
        "| audit in trainings | plain loops in trainings |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for make in (digits, fashion):
        print(report(make, budget), flush=True)
