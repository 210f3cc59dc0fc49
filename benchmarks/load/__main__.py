"""Print how the service does under load, each figure beside its target.

All of it runs on the loopback of this machine, is bounded in count and time, and stops
by itself. What is compared runs in turns, and of several rounds the least disturbed
one counts, so that a busy machine slows neither side more than the other.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

from benchmarks.load.figures import Figure, table
from benchmarks.load.polls import poll_figures, report_figures
from benchmarks.load.processes import Server, service
from benchmarks.load.starts import idle_figures, idle_with_worker, start_figures
from benchmarks.load.uploads import upload_figures
from benchmarks.load.waits import wait_figures

GIGABYTE = 1_000_000_000
_KINDS = ("polls", "waits", "uploads", "reports", "start", "idle")


def main() -> int:
    """Measure what is asked for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.load", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a tenth of all")
    parser.add_argument("--only", choices=_KINDS, nargs="+", default=_KINDS)
    parser.add_argument("--folder", type=Path, help="where the data goes for a while")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        figures = measured(Path(name), arguments.only, 10 if arguments.short else 1)
    print(table(figures))
    return 0


def measured(folder: Path, kinds: Iterable[str], share: int) -> list[Figure]:
    """Measure some kinds of load.

    Args:
        folder: an empty folder for all data.
        kinds: some of `_KINDS`.
        share: only so many parts of all.
    """
    parts: dict[str, Callable[[Server, Path], list[Figure]]] = {
        "polls": lambda server, _: poll_figures(server, count=10_000 // share),
        "waits": lambda server, _: wait_figures(server, count=2_000 // share),
        "uploads": lambda server, at: upload_figures(
            server, at, size_bytes=GIGABYTE // share
        ),
        "reports": lambda server, at: report_figures(server, at, count=2_000 // share),
        "idle": lambda server, _: idle_figures(
            server, seconds=30 / share, name="without a worker"
        ),
    }
    figures: list[Figure] = []
    for kind in kinds:
        place = folder / kind
        if kind == "start":
            figures += start_figures(place)
            continue
        # Each with a service of its own, so that none sees what another left behind.
        with service(place) as server:
            figures += parts[kind](server, place)
        if kind == "idle" and share == 1 and find_spec("torch"):
            figures += idle_with_worker(place, seconds=30)
    return figures


if __name__ == "__main__":
    sys.exit(main())
