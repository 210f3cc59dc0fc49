"""What a process on a leash learns of the one that holds it."""

import os
import subprocess
import sys

import psutil
import pytest

from service import leash
from tests.service.embedded.test_one_machine import wait_for_end

# Starts one deaf to SIGTERM, prints its number once it is deaf, and waits.
HOLDER = """
import sys, time
from service.leash import Leashed
Leashed("deaf", [sys.executable, "-c", sys.argv[1]]).start()
time.sleep(60)
"""
DEAF = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
from worker.supervise import _Deadline
deadline = _Deadline(0.1)
print(os.getpid(), flush=True)
while True:
    signal.pause()
"""

# Told to end by signals that come while it deals with the one before.
INTERRUPTED = """
import signal
from worker import supervise
supervise.LEASH_SECONDS = 0.05
deadline = supervise._Deadline(0.5)
signal.signal(signal.SIGALRM, lambda *_: deadline.start())
signal.setitimer(signal.ITIMER_REAL, 1e-5, 1e-5)
while True:
    deadline.start()
"""


def test_a_process_without_a_leash_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(leash.LEASH, raising=False)

    assert not leash.is_cut()


def test_the_leash_is_cut_where_another_process_is_its_parent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(leash.LEASH, str(os.getppid()))
    assert not leash.is_cut()

    monkeypatch.setenv(leash.LEASH, str(os.getpid()))
    assert leash.is_cut()


@pytest.mark.end_to_end
def test_a_worker_deaf_to_its_signal_ends_with_the_service() -> None:
    holder = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", HOLDER, DEAF], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    with holder:
        deaf = psutil.Process(int(holder.stdout.readline()))

        holder.kill()

    wait_for_end([deaf])


@pytest.mark.end_to_end
def test_signals_that_interrupt_each_other_do_not_hold_up_the_end() -> None:
    child = subprocess.Popen([sys.executable, "-c", INTERRUPTED])  # noqa: S603 - ours

    assert child.wait(20) == 0
