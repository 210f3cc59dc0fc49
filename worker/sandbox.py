"""The worker's side of the confined child: the only way to an uploaded file.

Nothing here imports torch or numpy. What can go wrong stands in `failures.py`; a
`Problem` is what the child has to say to the caller of the API.
"""

import atexit
import contextlib
import fcntl
import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from pydantic import JsonValue

from worker.conversation import (
    SCRATCH_GONE,
    Conversation,
    Exchange,
    Limits,
    OnProgress,
)
from worker.failures import (
    ChildCrashed,
    ChildDied,
    ChildFailed,
    ChildMisbehaved,
    ChildStopped,
    ChildTimedOut,
)
from worker.frames import encode
from worker.inmate import Inmate, start_template, sweep, usable_cores
from worker.level import Level, probe_level
from worker.template import Template

__all__ = [
    "Child",
    "ChildCrashed",
    "ChildDied",
    "ChildFailed",
    "ChildMisbehaved",
    "ChildStopped",
    "ChildTimedOut",
    "close_templates",
    "probe_level",
    "usable_cores",
    "warm_up",
]

SESSION = "worker.engine.session:Session"
START_SECONDS = 180.0  # to import torch on a busy machine
SWEEP_SECONDS = 60.0  # at least, between two looks for what ended workers have left
SCRATCH_BYTES = 4 << 30
FILE_BYTES = 2 << 30
MAX_FILES = 8


@dataclass(frozen=True)
class _Kind:
    """Children of one kind can be forked from one template."""

    device: str
    threads: int
    session: str
    code: tuple[Path, ...]


class Child:
    """A confined child that serves one worker, one operation at a time.

    A context manager; leaving it kills the child and removes its folder. After any
    `ChildFailed` but `ChildCrashed` the child is dead; after a `Problem` or a
    `ChildCrashed` it lives on.

    Attributes:
        level: how well it is confined, from `probe_level`.
        scratch: its own folder, made under the one given to `start`.
    """

    def __init__(
        self, inmate: Inmate, limits: Limits, prepare: Callable[[], None]
    ) -> None:
        """Args: prepare: called once the child is ready."""
        self._lock = threading.Lock()
        self._ready = False
        self._prepare = prepare
        self._open = True
        self._inmate = inmate
        self._talk = Conversation(inmate, limits)

    @classmethod
    def start(  # noqa: PLR0913 - each is a different limit
        cls,
        *,
        device: str,
        scratch: Path,
        memory_bytes: int,
        threads: int | None = None,
        session: str = SESSION,
        code: tuple[Path, ...] = (),
        scratch_bytes: int = SCRATCH_BYTES,
        keep_template: bool = True,
    ) -> "Child":
        """Fork a child where a template stands by, or start one; waits for no imports.

        Args:
            device: `cpu` or `cuda:N`.
            scratch: the folder under which each child gets a folder of its own.
            memory_bytes: the most that it may use, libraries included. On a GPU
                there is no limit on address space, since drivers reserve far more
                than they use; the watch on memory in use holds there too.
            threads: cores for its arithmetic; default: all that are usable.
            session: `module:Class` of what it serves.
            code: further folders that it may import from.
            scratch_bytes: the most that its folder may hold.
            keep_template: have a template for the next ones once this one is ready.

        Raises:
            OSError: no process can be started.
        """
        kind = _Kind(device, threads or usable_cores(), session, code)
        _TEMPLATES.sweep(scratch)
        inmate = Inmate(
            device=device,
            scratch=scratch,
            memory_bytes=memory_bytes,
            file_bytes=min(FILE_BYTES, scratch_bytes),
            threads=kind.threads,
            session=session,
            code=code,
            template=_TEMPLATES.of(kind),
        )

        def prepare() -> None:
            if keep_template:
                _TEMPLATES.prepare(kind, scratch)

        return cls(inmate, Limits(memory_bytes, scratch_bytes), prepare)

    @property
    def level(self) -> Level:
        """How well it is confined."""
        return probe_level()[0]

    @property
    def scratch(self) -> Path:
        """Its own folder; read from it with `open_scratch` only."""
        return self._inmate.scratch

    @property
    def pid(self) -> int:
        """Its process id, for logs."""
        return self._inmate.process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it can serve."""
        return (
            self._open
            and self._inmate.process.poll() is None
            and self._inmate.has_scratch()
        )

    @property
    def printed(self) -> str:
        """The end of what it printed; untrusted text, for the operator's log."""
        return self._inmate.printed

    def open_scratch(self, name: str) -> BinaryIO:
        """Open a file that it made, as a plain file and nothing else.

        Raises:
            ValueError: the name is a path, or the thing is no plain file.
            OSError: there is no such file.
            ChildDied: its folder is gone.
        """
        try:
            return self._inmate.open_scratch(name)
        except FileNotFoundError as error:
            if self._inmate.has_scratch():
                raise
            raise ChildDied(self._inmate.end(), reason=SCRATCH_GONE) from error

    def call(
        self,
        op: str,
        arguments: Mapping[str, JsonValue],
        *,
        files: Mapping[str, int] | None = None,
        seconds: float,
        on_progress: OnProgress | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> JsonValue:
        """Have an operation done.

        Args:
            op: name of a method of the session.
            arguments: its keyword arguments.
            files: further keyword arguments: descriptors opened for reading only.
                The child reads from the start; the position is shared.
            seconds: the most it may take, beside the child's start.
            on_progress: called with a fraction (0 to 1) and a detail, five times a
                second at most.
            should_stop: asked four times a second.

        Raises:
            Problem: what the child found wrong with the files.
            ChildFailed: it did not answer, see the head of this file.
            ValueError: a descriptor that could be written to.
        """
        handed = dict(files or {})
        for name, descriptor in handed.items():
            _must_be_read_only(name, descriptor)
        request = encode(
            {"op": op, "arguments": dict(arguments), "files": list(handed)}
        )
        with self._lock:
            if not self._open:
                raise ChildDied(self._inmate.end(), reason="it was closed")
            try:
                self._await_ready(should_stop)
                answer = self._talk.exchange(
                    Exchange(
                        operation=op,
                        outgoing=memoryview(request),
                        descriptors=list(handed.values()),
                        seconds=seconds,
                        started=time.monotonic(),
                        on_progress=on_progress,
                        should_stop=should_stop,
                    )
                )
            except BaseException:
                # Half-way through an exchange nothing it says later has a meaning.
                self._inmate.end()
                raise
        return self._talk.read_answer(answer)

    def _await_ready(self, should_stop: Callable[[], bool] | None) -> None:
        if self._ready:
            return
        answer = self._talk.exchange(
            Exchange(
                operation="start",
                outgoing=memoryview(b""),
                descriptors=[],
                seconds=START_SECONDS,
                started=time.monotonic(),
                on_progress=None,
                should_stop=should_stop,
            )
        )
        if answer["kind"] == "crash":
            self._talk.read_answer(answer)
        if answer["kind"] != "ready":
            self._talk.refuse(f"`{answer['kind']}` instead of `ready`")
        self._ready = True
        self._prepare()

    def close(self) -> None:
        """Kill it and remove its folder; safe to repeat."""
        with self._lock:
            if self._open:
                self._open = False
                self._talk.close()
                self._inmate.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _must_be_read_only(name: str, descriptor: int) -> None:
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
        reason = f"the descriptor of `{name}` could be written to"
        raise ValueError(reason)


class _Templates:
    """One template of each kind."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[_Kind, Template] = {}
        self._not_ours: dict[_Kind, Template] = {}
        self._swept: dict[Path, float] = {}

    def forget(self) -> None:
        """Begin again in a process that was forked off: these are not its own."""
        not_ours = self._known
        self.__init__()  # type: ignore[misc]
        # Kept, not collected: collecting would warn of processes that still run.
        self._not_ours = not_ours

    def sweep(self, scratch: Path) -> None:
        """Remove what ended workers have left there, now and then."""
        with self._lock:
            now = time.monotonic()
            if now - self._swept.get(scratch, -math.inf) >= SWEEP_SECONDS:
                self._swept[scratch] = now
                sweep(scratch)

    def of(self, kind: _Kind) -> Template | None:
        """Look a template up, whether it is ready or not."""
        return self._known.get(kind)

    def prepare(self, kind: _Kind, scratch: Path) -> None:
        """Start a template, unless one lives; failing to is no failure."""
        with self._lock:
            known = self._known.get(kind)
            if known is not None and known.process.poll() is None:
                return
            if known is not None:
                known.close()
            with contextlib.suppress(OSError):
                self._known[kind] = start_template(
                    device=kind.device,
                    scratch=scratch,
                    threads=kind.threads,
                    session=kind.session,
                    code=kind.code,
                )

    def close(self) -> None:
        """End all."""
        with self._lock:
            known, self._known = self._known, {}
        for template in known.values():
            template.close()


_TEMPLATES = _Templates()
os.register_at_fork(after_in_child=_TEMPLATES.forget)
atexit.register(_TEMPLATES.close)


def close_templates() -> None:
    """End what children are forked from, as a worker does when it shuts down."""
    _TEMPLATES.close()


def warm_up(
    *,
    device: str,
    scratch: Path,
    threads: int | None = None,
    session: str = SESSION,
    code: tuple[Path, ...] = (),
) -> None:
    """Start a template for `Child.start` with the same arguments."""
    kind = _Kind(device, threads or usable_cores(), session, code)
    _TEMPLATES.prepare(kind, scratch)
