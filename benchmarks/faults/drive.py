"""Put one program through the engine in this process, without any service."""

import gc
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.engine.session import Session
from worker.frames import FrameReader, encode

MOST_ROUNDS = 200  # an auditor that asks for ever is a defect, not a slow audit


@dataclass(frozen=True)
class AuditRun:
    """What an audit gave.

    Attributes:
        report: as JSON.
        seconds: of processor time, from opening the files to the report.
        seconds_inspected: until the first round was answered, the earliest moment at
            which a finding can be shown.
        remedy: the repaired model as TorchScript, where the report gives one.
    """

    report: dict[str, Any]
    seconds: float
    seconds_inspected: float
    remedy: Path | None = None


class EndlessAuditError(RuntimeError):
    """The auditor asked for experiments beyond any sense."""

    def __init__(self) -> None:
        super().__init__(f"no report after {MOST_ROUNDS} rounds")


def forget_what_is_imported() -> None:
    """Search no import for garbage, as in the template that children are forked from.

    Once before the time is taken: a search costs a tenth of a second.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


class OpenedAudit:
    """A session with model and data in it, ready to run experiments."""

    def __init__(self, folder: Path, scratch: Path, *, budget: Any, seed: int) -> None:  # noqa: ANN401
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        # Charged by processor time, so that other work beside it changes nothing.
        self.session = Session(
            device="cpu",
            scratch=scratch,
            progress=lambda _fraction, _detail: None,
            clock=time.process_time,
        )
        model, dataset = folder / "model.pt", folder / "data.npz"
        with model.open("rb") as file:
            model_facts = self.session.inspect_model(file, "torchscript")
        with dataset.open("rb") as file:
            dataset_facts = self.session.inspect_dataset(file, "npz", {})
        request = {
            "model_id": "mdl_benchmark",
            "dataset_id": "dst_benchmark",
            "recipe": json.loads((folder / "recipe.json").read_text()),
            "budget": budget,
            "seed": seed,
        }
        with model.open("rb") as model_file, dataset.open("rb") as dataset_file:
            self.session.open(
                audit_id="aud_benchmark",
                model=model_file,
                model_format="torchscript",
                model_facts=model_facts,
                dataset=dataset_file,
                dataset_format="npz",
                dataset_facts=dataset_facts,
                spec={},
                request=request,
            )


def _as_sent(outcome: dict[str, Any]) -> dict[str, Any]:
    """Return what arrives of an outcome that a confined child sends: JSON, no more."""
    reader = FrameReader()
    reader.feed(encode(outcome))
    return reader.next() or {}


def audit_here(
    folder: Path,
    scratch: Path,
    *,
    budget: Any = "standard",  # noqa: ANN401
    seed: int = 0,
) -> AuditRun:
    """Audit the program of a folder.

    Args:
        folder: with `model.pt`, `data.npz` and `recipe.json`.
        scratch: emptied first; the repaired model lies there afterwards.
        budget: as in the contract's request.
        seed: of the audit.

    Raises:
        Problem: the engine refuses the program.
        EndlessAuditError: no report after `MOST_ROUNDS` rounds.
    """
    forget_what_is_imported()
    started = time.process_time()
    opened = OpenedAudit(folder, scratch, budget=budget, seed=seed)
    done: list[dict[str, Any]] = []
    inspected = 0.0
    for _ in range(MOST_ROUNDS):
        step = opened.session.advance(done)
        if done and not inspected:
            inspected = time.process_time() - started
        if step["report"] is not None:
            remedy = step["report"]["remedy"]
            return AuditRun(
                report=step["report"],
                seconds=time.process_time() - started,
                seconds_inspected=inspected,
                remedy=scratch / remedy["model"]
                if remedy and remedy["model"]
                else None,
            )
        for experiment in step["experiments"]:
            outcome = _as_sent(opened.session.run(experiment))
            done.append({"experiment": experiment, "outcome": outcome})
    raise EndlessAuditError
