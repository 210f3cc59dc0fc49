"""Seconds and memory of an audit as rows, features and parameters grow.

Every audit runs in a process of its own, whose peak of resident memory is compared
with that of one which only imports the engine.
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROWS = (1_000, 50_000, 1_000_000)
FEATURES = (10, 1_000)
HIDDEN = (1_000, 10_000)  # with 1,000 features: 1 M, 10 M parameters
_SMALL_ROWS = 5_000
_CHILD = """
import json, resource, sys, time
import torch
torch.set_num_threads(1)
from pathlib import Path
from benchmarks.faults.drive import audit_here
from benchmarks.speed.programs import table
folder, sizes = Path(sys.argv[1]), json.loads(sys.argv[2])
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
if sizes is None:
    table(folder, **json.loads(sys.argv[3]))
else:
    before = peak()
    run = audit_here(folder, folder / "scratch", budget="quick")
    print(json.dumps({
        "seconds": run.seconds, "before": before, "peak": peak(),
        "first": run.seconds_inspected, "limits": run.report["limits"],
    }))
"""


def _child(folder: Path, *given: object) -> str:
    command = [sys.executable, "-c", _CHILD, str(folder), *map(json.dumps, given)]
    return subprocess.run(  # noqa: S603 - our own program
        command, check=True, capture_output=True, text=True
    ).stdout


def row(rows: int, features: int, hidden: int) -> str:
    """Audit one size; returns a row of the table."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _child(folder, None, {"rows": rows, "features": features, "hidden": hidden})
        seen: dict[str, Any] = json.loads(_child(folder, {}).splitlines()[-1])
    data = rows * features * 4 / 2**20
    weights = (features + 11) * hidden * 4 / 2**20
    added = seen["peak"] - seen["before"]
    return (
        f"| {rows:,} | {features:,} | {(features + 11) * hidden:,} "
        f"| {seen['first']:.1f} | {seen['seconds']:.1f} | {data:.0f} | {weights:.1f} "
        f"| {added:.0f} |"
    )


def main(*, short: bool = False) -> None:
    """Print the table."""
    print(
        "| rows | features | parameters | first findings, s | quick audit, s "
        "| data, MiB | weights, MiB | memory added at the peak, MiB |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    sizes = [(rows, 20, 32) for rows in ROWS]
    sizes += [(_SMALL_ROWS, features, 32) for features in FEATURES]
    sizes += [(_SMALL_ROWS, 1_000, hidden) for hidden in HIDDEN]
    for rows, features, hidden in sizes[: 2 if short else None]:
        print(row(rows, features, hidden), flush=True)
