"""Polls that wait: what holding thousands of them costs, and that all are woken."""

import time

from benchmarks.load.callers import client, expect, get, queued_audits, started
from benchmarks.load.figures import Figure
from benchmarks.load.processes import MEBIBYTE, Server

_AUDITS = 20
_HELD_SECONDS = 3.0
_WATCHES = 6


def wait_figures(server: Server, *, count: int) -> list[Figure]:
    """Hold polls, then change what they wait for."""
    audits = queued_audits(server, _AUDITS)
    requests = [get(f"/v1/audits/{a}", "Prefer: wait=60") for a in audits]
    before = server.memory_bytes()
    with started(
        work="hold", port=server.port, requests=requests, connections=count
    ) as said:
        next(said)
        used = _processor_seconds_at_rest(server)
        held = server.memory_bytes()
        with client(server) as caller:
            for audit_id in audits:
                caller.post(f"/v1/audits/{audit_id}/cancel").raise_for_status()
        changed_at = time.time()
        seen = next(said)
    expect(seen, 200)
    return [
        Figure(
            f"memory with {count:,} polls waiting", held / MEBIBYTE, "MiB", "<", 150
        ),
        Figure("– a waiting poll", (held - before) / count / 1024, "KiB"),
        Figure("– of a core while they wait", used / _HELD_SECONDS * 100, "%"),
        Figure("– woken by a change", seen["answers"], "", "≥", count),
        Figure("– last one, after the last change", seen["woken_at"] - changed_at, "s"),
    ]


def _processor_seconds_at_rest(server: Server) -> float:
    """Watch until the rate no longer falls: then all polls have arrived."""
    used = latest = float("inf")
    for _ in range(_WATCHES):
        before = server.processor_seconds()
        time.sleep(_HELD_SECONDS)
        latest = server.processor_seconds() - before
        if latest >= used * 0.9:
            break
        used = latest
    return min(used, latest)
