"""Polls and reads of reports: how many a second, how late, at which price."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.load.callers import (
    CONNECTIONS,
    expect,
    finished_audit,
    get,
    outcome,
    queued_audits,
)
from benchmarks.load.figures import Figure
from benchmarks.load.processes import Server, hello

_WARM_UP = 300
_AUDITS = 50
_ROUNDS = 3


@dataclass(frozen=True)
class Rate:
    """One kind of request, asked for many times."""

    a_second: float
    p50_seconds: float
    p99_seconds: float
    processor_seconds: float


def measure(
    server: Server, requests: list[str], *, count: int, status: int = 200
) -> Rate:
    """Ask over kept connections, each caller again as soon as it was answered."""
    plan = {
        "work": "hammer",
        "port": server.port,
        "requests": requests,
        "connections": CONNECTIONS,
    }
    expect(outcome(**plan, count=_WARM_UP), status)
    used = server.processor_seconds()
    seen = outcome(**plan, count=count)
    used = server.processor_seconds() - used
    expect(seen, status)
    return Rate(count / seen["seconds"], seen["p50"], seen["p99"], used / count)


def best(rates: list[Rate]) -> Rate:
    """Choose the round that other work on the machine disturbed least."""
    return max(rates, key=lambda rate: rate.a_second)


def poll_figures(server: Server, *, count: int) -> list[Figure]:
    """Measure polls and 304s, in turns with a bare server."""
    audits = queued_audits(server, _AUDITS)
    polls = [get(f"/v1/audits/{audit_id}") for audit_id in audits]
    knowing = [
        get(f"/v1/audits/{audit_id}", 'If-None-Match: "v1"') for audit_id in audits
    ]
    kinds: dict[str, list[Rate]] = {"poll": [], "304": [], "hello": []}
    with hello() as bare:
        for _ in range(_ROUNDS):
            kinds["poll"].append(measure(server, polls, count=count))
            kinds["304"].append(measure(server, knowing, count=count, status=304))
            kinds["hello"].append(measure(bare, [get("/livez")], count=count))
    poll, known, least = (best(kinds[kind]) for kind in ("poll", "304", "hello"))
    return [
        Figure("polls, each checking the key", poll.a_second, "/s", "≥", 1000),
        Figure("– p50", poll.p50_seconds * 1e3, "ms"),
        Figure("– p99", poll.p99_seconds * 1e3, "ms", "<", 25),
        Figure("– processor time a poll", poll.processor_seconds * 1e6, "µs"),
        Figure("– against a bare `hello` of the framework", _ratio(poll, least), "×"),
        Figure("polls answered 304", known.a_second, "/s", "≥", 1000),
        Figure("– p99", known.p99_seconds * 1e3, "ms", "<", 25),
        Figure("– processor time a poll", known.processor_seconds * 1e6, "µs"),
        Figure("a bare `hello`, to compare with", least.a_second, "/s"),
        Figure("– processor time", least.processor_seconds * 1e6, "µs"),
    ]


def report_figures(server: Server, folder: Path, *, count: int) -> list[Figure]:
    """Measure reads of a report, as JSON and as a page."""
    audit_id = finished_audit(folder, like=queued_audits(server, 1)[0])
    here = f"/v1/audits/{audit_id}/report"
    as_json = measure(server, [get(here)], count=count)
    as_page = measure(
        server, [get(f"{here}?format=html")], count=max(count // 20, CONNECTIONS)
    )
    return [
        Figure("reports as JSON", as_json.a_second, "/s"),
        Figure("– p99", as_json.p99_seconds * 1e3, "ms"),
        Figure("– processor time", as_json.processor_seconds * 1e6, "µs"),
        Figure("reports as a page", as_page.a_second, "/s"),
        Figure("– processor time", as_page.processor_seconds * 1e3, "ms"),
    ]


def _ratio(rate: Rate, least: Rate) -> float:
    """Compare by processor time, which other work on the machine hardly changes."""
    return least.processor_seconds / rate.processor_seconds
