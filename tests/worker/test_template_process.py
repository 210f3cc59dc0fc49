"""What a child does until its worker has adopted it."""

import subprocess
import sys

# Forks twice, as a template does, within a process that adopts; the last process waits
# for its adopter, or for one that has ended.
PROGRAM = """
import os
import sys
import time
from worker.template import adopt_orphans
from worker.template_process import await_adoption
adopt_orphans()
parent = int(sys.argv[1]) or os.getpid()
if os.fork() == 0:
    maker = os.getpid()
    if os.fork() == 0:
        began = time.monotonic()
        try:
            await_adoption(parent, maker=maker)
            print("lives")
        finally:
            print("at once" if time.monotonic() - began < 2 else "late")
            sys.stdout.flush()
            os._exit(0)
    os._exit(0)
os.wait()
os.wait()
"""


def what_the_child_says(*, parent: int) -> list[str]:
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", PROGRAM, str(parent)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout.split("\n")[:-1]


def test_a_child_lives_once_its_worker_has_it() -> None:
    assert what_the_child_says(parent=0) == ["lives", "at once"]


def test_a_child_ends_at_once_where_its_worker_has_ended() -> None:
    """It would wait for ever, or hold what a killed worker held."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    assert what_the_child_says(parent=ended.pid) == ["at once"]
