"""Stacks against plain loops, held to ratios: never to times, which differ by machine.

Both sides are processor time of one run in turns, the fastest turn of each counts, and
margins are about half of what is usually seen.
"""

from collections.abc import Iterator

import pytest
import torch

from benchmarks.speed.__main__ import compare
from benchmarks.speed.subjects import CASES, Case

pytestmark = pytest.mark.slow

_MEMBERS = 16
_LEAST = {  # usually 18, 6.6, 2.9, 2.1, 2.9, 1.5, 3 and 1.1
    "small MLP 64-32-10, batch 32": 8.0,
    "small CNN 8x8, batch 32": 3.0,
    "small CNN 28x28, batch 32": 1.4,
    "residual, batch norms, 16x28": 1.3,
    "series, batch norms, 3x100": 1.5,
    "MLP 784-256-10, batch 128": 0.7,
    "GRU 8-32, 50 steps": 1.5,
    "LSTM 8-32, 50 steps": 0.7,
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_every_timed_network_is_held_to_a_ratio() -> None:
    assert {case.name for case in CASES} == set(_LEAST)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_stack_is_faster_than_the_plain_loop(case: Case) -> None:
    seen = compare(case, _MEMBERS, seconds=2.0, turns=7)

    assert seen.plain / seen.stacked > _LEAST[case.name]
    assert seen.stacked > seen.floor  # faster than arithmetic: timed wrongly
