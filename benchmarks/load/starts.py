"""Starting and doing nothing."""

import time
from pathlib import Path

from benchmarks.load.figures import Figure
from benchmarks.load.processes import MEBIBYTE, Server, hello, service

_ROUNDS = 3
_WORKER_SETTLES_SECONDS = 30.0


def start_figures(folder: Path) -> list[Figure]:
    """Start on a new folder, then again on it; in turns with a bare server."""
    first, again, bare = [], [], []
    memory, loaded = 0, False
    for number in range(_ROUNDS):
        place = folder / str(number)
        with service(place) as server:
            first.append(server)
        with service(place) as server:
            again.append(server)
            time.sleep(1.0)
            memory = max(memory, server.memory_bytes())
            loaded = loaded or server.has_loaded("libtorch")
        with hello() as server:
            bare.append(server)
    return [
        Figure("start until it answers", _wall(again), "s", "<", 1),
        Figure("– processor time", _processor(again), "s"),
        Figure("– processor time, bare `hello`", _processor(bare), "s"),
        Figure("– on a new folder", _wall(first), "s"),
        Figure("memory of the API process", memory / MEBIBYTE, "MiB", "<", 100),
        Figure("– torch in it", float(loaded), "", "<", 1),
    ]


def idle_figures(server: Server, *, seconds: float, name: str) -> list[Figure]:
    """Watch all processes of a service that has nothing to do."""
    used = server.family_processor_seconds()
    began = time.monotonic()
    time.sleep(seconds)
    share = (server.family_processor_seconds() - used) / (time.monotonic() - began)
    return [Figure(f"idle {name}, of a core", share * 100, "%", "<", 1)]


def idle_with_worker(folder: Path, *, seconds: float) -> list[Figure]:
    """The same with a worker, once it has imported all that it will."""
    with service(folder, worker=True) as server:
        time.sleep(_WORKER_SETTLES_SECONDS)
        return idle_figures(server, seconds=seconds, name="with a worker")


def _wall(starts: list[Server]) -> float:
    return min(server.start_seconds for server in starts)


def _processor(starts: list[Server]) -> float:
    return min(server.start_processor_seconds for server in starts)
