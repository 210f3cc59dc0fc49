"""Processes beside this one: started again when they end, gone when this one is.

The kernel ends a process whose parent ended, even where the parent was killed. It goes
by the *thread* that started the process, so each is started and watched by one thread
that lives as long as it does.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

LOG = logging.getLogger(__name__)
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 60.0  # alive for so long, it counts as started well
KILL_SECONDS = 20.0

LEASH = "MODEL_AUDIT_LEASH"  # the environment's name for the process that holds it

# Told to the kernel before the real program begins.
_BIND = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, int(sys.argv[2]), 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(0)
os.environ[sys.argv[3]] = sys.argv[1]
os.execv(sys.argv[4], sys.argv[4:])
"""


def is_cut() -> bool:
    """Say whether the process that holds this one's leash is gone."""
    holder = os.environ.get(LEASH, "")
    return holder.isdecimal() and os.getppid() != int(holder)


class Leashed:
    """One process beside this one."""

    def __init__(  # noqa: PLR0913 - each is one property of the process
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        final_codes: frozenset[int] = frozenset({0}),
        quiet: bool = False,
        death_signal: signal.Signals = signal.SIGTERM,
        mend: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare; nothing is started yet.

        Args:
            name: for the log.
            command: absolute path of the program, and its arguments.
            environment: all of its environment; default: ours.
            folder: its working directory.
            final_codes: exit codes after which it is not started again.
            quiet: throw away what it prints.
            death_signal: what the kernel sends it when this process is gone. A program
                can hang in the orderly end that SIGTERM asks for, so it should ask
                `is_cut` itself; SIGKILL for one that loses nothing by it.
            mend: called before it is started again, where it gave up by itself: it
                ended with an exit code other than 0, not by a signal.
        """
        self._name = name
        self._command = list(command)
        self._environment = environment
        self._folder = folder
        self._final = final_codes
        self._quiet = quiet
        self._death_signal = death_signal
        self._mend = mend
        self._end = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start it."""
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Its process id, None while it does not run."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def ask_to_stop(self) -> None:
        """Tell it to end, without waiting."""
        self._end.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()

    def stop(self) -> None:
        """End it in order, or by force where that takes too long."""
        self.ask_to_stop()
        self._thread.join(timeout=KILL_SECONDS)
        process = self._process
        if process is not None and process.poll() is None:
            LOG.warning("%s does not stop; killing it", self._name)
            process.kill()
            process.wait()

    def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._end.is_set():
            begin = time.monotonic()
            code = self._once()
            if self._end.is_set():
                return
            if code in self._final:
                LOG.error("%s has ended (exit %d) and stays away", self._name, code)
                return
            if time.monotonic() - begin >= STEADY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            LOG.warning("%s ended (%d); again in %g s", self._name, code, pause)
            if code > 0:
                self._mend()
            self._end.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _once(self) -> int:
        output = subprocess.DEVNULL if self._quiet else None
        self._process = process = subprocess.Popen(  # noqa: S603 - our own commands
            [
                *(sys.executable, "-I", "-S", "-c", _BIND),
                *(str(os.getpid()), str(self._death_signal.value), LEASH),
                *self._command,
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=None if self._environment is None else dict(self._environment),
            cwd=self._folder,
            # Ctrl-C reaches this process only, which then stops all in order.
            start_new_session=True,
        )
        if self._end.is_set():
            process.terminate()
        return process.wait()
