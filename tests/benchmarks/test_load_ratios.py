"""The service under load, held to ratios: never to times, which differ by machine.

Both sides of a ratio are processor time of one run, which other work on the machine
changes little; margins are several times what is usually seen.
"""

from pathlib import Path

import pytest

from benchmarks.load.callers import get, queued_audits
from benchmarks.load.polls import measure
from benchmarks.load.processes import hello, service
from benchmarks.load.starts import idle_figures
from benchmarks.load.uploads import processor_ratio
from benchmarks.load.waits import wait_figures

pytestmark = pytest.mark.end_to_end


def test_a_poll_costs_a_few_times_a_bare_hello(tmp_path: Path) -> None:
    with service(tmp_path) as server, hello() as bare:
        polls = [get(f"/v1/audits/{audit}") for audit in queued_audits(server, 20)]

        poll = measure(server, polls, count=2000)
        least = measure(bare, [get("/livez")], count=2000)

    # About 2.5; the way of all requests takes 9 to 15.
    assert poll.processor_seconds < 6 * least.processor_seconds


def test_an_upload_costs_a_few_times_its_hash(tmp_path: Path) -> None:
    with service(tmp_path) as server:
        raw, form = processor_ratio(server, tmp_path, size_bytes=200_000_000)

    assert raw < 6  # about 2
    assert form < 6


def test_all_who_wait_are_woken_and_cost_little(tmp_path: Path) -> None:
    with service(tmp_path) as server:
        figures = wait_figures(server, count=500)

    woken = next(figure for figure in figures if "woken" in figure.name)
    each = next(figure for figure in figures if figure.name == "– a waiting poll")
    assert woken.value == 500
    assert each.value < 100  # KiB; about 25


def test_a_start_needs_neither_torch_nor_the_queue(tmp_path: Path) -> None:
    with service(tmp_path) as server:
        assert not server.has_loaded("libtorch")
        [idle] = idle_figures(server, seconds=5, name="")

    assert idle.value < 10  # % of a core; about 0.5
