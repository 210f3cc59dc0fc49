"""Put one program through a running service, as any client would."""

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from benchmarks.faults.drive import AuditRun
from service.client import Client, Refused

LONGEST_SECONDS = 3600.0


class AuditEndedError(RuntimeError):
    """The service ended the audit otherwise than with a report."""

    def __init__(self, status: str, error: object) -> None:
        super().__init__(f"{status}: {error}")


def audit_there(
    folder: Path,
    *,
    url: str,
    budget: Any = "standard",  # noqa: ANN401
    seed: int = 0,
) -> AuditRun:
    """Upload the program of a folder, audit it, fetch report and repaired model.

    The key is read from `MODEL_AUDIT_API_KEY`.

    Raises:
        Refused: the service does not take the program.
        AuditEndedError: the audit failed.
        TookTooLong: no end within `LONGEST_SECONDS`.
    """
    with Client(url, os.environ.get("MODEL_AUDIT_API_KEY")) as client:
        started = time.perf_counter()
        model = client.upload_model(folder / "model.pt")
        dataset = client.upload_dataset(folder / "data.npz")
        audit = client.audit(
            model.id,
            dataset.id,
            recipe=json.loads((folder / "recipe.json").read_text()),
            budget=budget,
            seed=seed,
            tags=["benchmark"],
        )
        inspected: list[float] = []

        def watch(state: Any) -> None:  # noqa: ANN401 - AuditBody
            if state.progress.stage not in {"queued", "inspect"}:
                inspected.append(time.perf_counter() - started)

        state = client.wait(audit.id, seconds=LONGEST_SECONDS, on_change=watch)
        seconds = time.perf_counter() - started
        if state.status != "succeeded":
            raise AuditEndedError(state.status, state.error)
        report = client.report(audit.id).model_dump(mode="json")
        remedy: Path | None = folder / f"remedy-{audit.id}.pt"
        with contextlib.suppress(Refused):
            client.repaired_model(audit.id, folder / f"remedy-{audit.id}.pt")
        if remedy is not None and not remedy.exists():
            remedy = None
    return AuditRun(
        report=report,
        seconds=seconds,
        seconds_inspected=inspected[0] if inspected else 0.0,
        remedy=remedy,
    )
