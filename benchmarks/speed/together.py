"""Two workers on one audit against one, and the same audit again: real processes."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.load.processes import ADMIN_KEY, Server, _running
from benchmarks.speed.programs import digits, fashion
from service.client import Client

_LONGEST_SECONDS = 900.0
_STANDING_BY_SECONDS = 10.0  # to be warm after the uploads were inspected
_PROGRAMS = {"digits, MLP": digits, "10,000 pictures, CNN": fashion}


@contextmanager
def _service(folder: Path, workers: int) -> Iterator[Server]:
    settings = {
        "MODEL_AUDIT_API_KEY": ADMIN_KEY,
        "MODEL_AUDIT_WORKERS": str(workers),
        "OMP_NUM_THREADS": "1",
    }
    program = str(Path(sys.executable).with_name("model-audit"))
    with _running(
        lambda port: [program, "serve", "--port", str(port), "--data-dir", str(folder)],
        dict(os.environ) | settings,
    ) as server:
        yield server


def _uploaded(client: Client, folder: Path) -> tuple[str, str]:
    """Return the ids of model and dataset once both were inspected."""
    model = client.upload_model(folder / "model.pt").id
    dataset = client.upload_dataset(folder / "data.npz").id
    end = time.perf_counter() + _LONGEST_SECONDS
    while "pending" in {
        client.model(model).inspection.status,
        client.dataset(dataset).inspection.status,
    }:
        if time.perf_counter() > end:
            raise TimeoutError
        time.sleep(0.2)
    return model, dataset


def _audit(
    client: Client,
    uploaded: tuple[str, str],
    folder: Path,
    budget: Any,  # noqa: ANN401
) -> tuple[float, dict[str, Any]]:
    """Return seconds from the request to the report, and the report."""
    started = time.perf_counter()
    audit = client.audit(
        *uploaded,
        recipe=json.loads((folder / "recipe.json").read_text()),
        budget=budget,
        seed=0,
    )
    state = client.wait(audit.id, seconds=_LONGEST_SECONDS)
    seconds = time.perf_counter() - started
    if state.status != "succeeded":
        raise RuntimeError(state.status)
    return seconds, client.report(audit.id).model_dump(mode="json")


def main(budget: Any = "standard") -> None:  # noqa: ANN401
    """Print the table."""
    print("| figure | " + " | ".join(_PROGRAMS) + " |")
    print("| --- |" + " --- |" * len(_PROGRAMS))
    columns = [_measured(make, budget) for make in _PROGRAMS.values()]
    for row in zip(*columns, strict=True):
        (figure, *_), values = zip(*row, strict=True)
        print(f"| {figure} | {' | '.join(values)} |")


def _measured(
    make: Callable[[Path], str],
    budget: Any,  # noqa: ANN401
) -> list[tuple[str, str]]:
    """Return figures of one program, with what they are called."""
    seconds: dict[int, float] = {}
    again: dict[int, float] = {}
    same = True
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make(folder / "program")
        for workers in (1, 2):
            data = folder / f"data-{workers}"
            with (
                _service(data, workers) as server,
                Client(f"http://127.0.0.1:{server.port}", ADMIN_KEY) as client,
            ):
                uploaded = _uploaded(client, folder / "program")
                time.sleep(_STANDING_BY_SECONDS)
                asked = client, uploaded, folder / "program", budget
                seconds[workers], first = _audit(*asked)
                again[workers], second = _audit(*asked)
                same &= first["findings"] == second["findings"]
            shutil.rmtree(data)
    return [
        ("one worker, s", f"{seconds[1]:.1f}"),
        ("two workers, s", f"{seconds[2]:.1f}"),
        ("ratio", f"{seconds[1] / seconds[2]:.2f}"),
        ("the same audit again, s", f"{again[1]:.2f}, {again[2]:.2f}"),
        ("– with the same findings", "yes" if same else "no"),
    ]
