"""Children forked from a process that has imported already what each of them needs.

A child that starts by itself imports torch for two seconds; one that is forked off is
there at once. The template opens nothing that was uploaded and hears nothing but this
worker's wishes; each child confines itself, as one that starts by itself does, before
it is told anything.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from worker.frames import BadFrame, FrameReader, encode
from worker.nursery import Process
from worker.template_process import Birth

ANSWER_SECONDS = 10.0
POLL_SECONDS = 0.005
_PR_SET_CHILD_SUBREAPER = 36


class Forked:
    """A process that a template forked; this process is its parent by adoption."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Its exit status (minus the signal), None while it lives."""
        with self._lock:
            if self._status is None:
                try:
                    found, status = os.waitpid(self.pid, os.WNOHANG)
                except ChildProcessError:  # somebody else has waited for it
                    self._status = -signal.SIGKILL
                else:
                    if found:
                        self._status = os.waitstatus_to_exitcode(status)
            return self._status

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: it lives on.
        """
        started = time.monotonic()
        while (status := self.poll()) is None:
            if timeout is not None and time.monotonic() - started > timeout:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(POLL_SECONDS)
        return status

    def kill(self) -> None:
        """End it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


class Template:
    """The worker's end of a template.

    Args:
        process: of `worker.template_process`.
        control: our end of its socket pair.
    """

    def __init__(self, process: Process, control: socket.socket) -> None:
        self.process = process
        self._control = control
        self._reader = FrameReader()
        self._lock = threading.Lock()
        self._ready = False

    @property
    def is_ready(self) -> bool:
        """Whether it has imported everything, and lives."""
        with self._lock:
            if not self._ready:
                with contextlib.suppress(OSError):
                    self._ready = self._heard(0.0).get("kind") == "ready"
            return self._ready and self.process.poll() is None

    def fork(
        self,
        config: Mapping[str, object],
        *,
        environment: Mapping[str, str],
        folder: Path,
        descriptors: Sequence[int],
        output: int,
    ) -> Forked | None:
        """Have a child made; arguments as of `nursery.start`.

        Returns:
            None where the template is not ready, or has failed; then it is ended.
        """
        if not self.is_ready:
            return None
        message = Birth(
            config=json.dumps(config),
            numbers=list(descriptors),
            environment=dict(environment),
            folder=str(folder),
        )
        pid = None
        with self._lock, contextlib.suppress(OSError):
            adopt_orphans()
            socket.send_fds(self._control, [encode(message)], [output, *descriptors])
            pid = self._heard(ANSWER_SECONDS).get("pid")
        if isinstance(pid, int):
            return Forked(pid)
        self.close()
        return None

    def _heard(self, seconds: float) -> dict[str, object]:
        """Read one message; empty where none comes in time."""
        self._control.settimeout(seconds)
        try:
            while (message := self._reader.next()) is None:
                data = self._control.recv(1 << 16)
                if not data:
                    return {}
                self._reader.feed(data)
        except (TimeoutError, BlockingIOError, BadFrame):
            return {}
        finally:
            self._control.settimeout(ANSWER_SECONDS)
        return dict(message)

    def close(self) -> None:
        """End it; its children live on."""
        self.process.kill()
        self.process.wait()
        self._control.close()


def adopt_orphans() -> None:
    """Become the parent of what a template's passing children leave behind."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
