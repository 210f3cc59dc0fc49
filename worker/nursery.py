"""Starts processes from one thread that lives as long as this process.

The kernel sends a child's parent-death signal when the *thread* that started it ends.
A child started from a passing thread (a pool's, a request's) would die with that
thread; one started from here dies with the whole process, however that ends.
"""

import os
import queue
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

Process = subprocess.Popen[bytes]


class _Nursery:
    """The thread, made on first use and made anew after a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wishes: queue.SimpleQueue[tuple[Callable[[], Process], Future[Process]]]
        self._wishes = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def forget(self) -> None:
        """Begin again in a process that was forked off: its threads are gone."""
        self.__init__()  # type: ignore[misc]

    def start(self, make: Callable[[], Process]) -> Process:
        """Run `make` on the thread."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="nursery", daemon=True
                )
                self._thread.start()
        future: Future[Process] = Future()
        self._wishes.put((make, future))
        return future.result()

    def _work(self) -> None:
        while True:
            make, future = self._wishes.get()
            try:
                future.set_result(make())
            except OSError as error:
                future.set_exception(error)


_NURSERY = _Nursery()
os.register_at_fork(after_in_child=_NURSERY.forget)


def start(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    descriptors: Sequence[int],
    output: int,
) -> Process:
    """Start a program that dies with this process, if it asks for the signal.

    Args:
        command: program and arguments.
        environment: its whole environment.
        folder: where it starts.
        descriptors: what it inherits beside its standard streams.
        output: descriptor for its standard output and error.

    Raises:
        OSError: it cannot be started.
    """
    return _NURSERY.start(
        lambda: subprocess.Popen(  # noqa: S603 - our own interpreter, no shell
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(environment),
            cwd=folder,
            pass_fds=tuple(descriptors),
            start_new_session=True,  # Ctrl-C is the worker's to handle
            umask=0o077,
        )
    )
