"""Asks a confined child for one thing at a time, and watches it meanwhile.

Nothing that it says is believed: its frames are bounded and checked, its time, memory,
threads and files are watched, and what it breaks ends it.
"""

import contextlib
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from pydantic import JsonValue, ValidationError

from service.contract.errors import FieldError, Problem, problem_from
from worker.failures import (
    ChildCrashed,
    ChildDied,
    ChildMisbehaved,
    ChildStopped,
    ChildTimedOut,
)
from worker.frames import BadFrame, FrameReader
from worker.inmate import MAX_SCRATCH_FILES, MAX_THREADS, Inmate

SCRATCH_GONE = "its scratch folder is gone"
_TICK_SECONDS = 0.05
_WATCH_SECONDS = 0.05
_STOP_SECONDS = 0.25
_PROGRESS_SECONDS = 0.2
_DETAIL_CHARACTERS = 300
_TRACE_CHARACTERS = 20_000
_PROBLEM_CHARACTERS = 4_000
_MAX_FIELD_ERRORS = 100
# What a child may say to the API's caller: of files, never of keys or of the service.
_CHILD_PROBLEMS = frozenset(
    {
        "bad-request",
        "too-large",
        "unsupported-media-type",
        "invalid-fields",
        "unusable-model",
        "unusable-dataset",
        "mismatch",
        "crashed",
    }
)

OnProgress = Callable[[float, str], None]


@dataclass(frozen=True)
class Limits:
    """What the child may use: bytes of memory, bytes in its folder."""

    memory_bytes: int
    scratch_bytes: int


@dataclass
class Exchange:
    """One operation under way."""

    operation: str
    outgoing: memoryview
    descriptors: list[int]
    seconds: float
    started: float
    on_progress: OnProgress | None
    should_stop: Callable[[], bool] | None
    next_stop: float = 0.0
    next_watch: float = 0.0
    next_progress: float = 0.0


def _text(value: JsonValue | None, limit: int) -> str:
    return value[:limit] if isinstance(value, str) else ""


class Conversation:
    """The talk with one child."""

    def __init__(self, inmate: Inmate, limits: Limits) -> None:
        self._inmate = inmate
        self._limits = limits
        self._reader = FrameReader()
        self._selector = selectors.DefaultSelector()
        self._selector.register(inmate.channel, selectors.EVENT_READ)
        self._selector.register(inmate.output, selectors.EVENT_READ)

    def exchange(self, exchange: Exchange) -> dict[str, JsonValue]:
        """Send, then read until there is something other than progress."""
        while True:
            message = self._next()
            if message is None:
                self._check(exchange)
                self._move(exchange)
            elif message.get("kind") == "progress":
                self._tell(exchange, message)
            elif message.get("kind") in {"ready", "result", "problem", "crash"}:
                return message
            else:
                self.refuse(f"a message of kind {message.get('kind')!r}")

    def _next(self) -> dict[str, JsonValue] | None:
        try:
            return self._reader.next()
        except BadFrame as error:
            self.refuse(str(error))

    def _move(self, exchange: Exchange) -> None:
        """Wait a moment for the channel or the output, and move what can be moved."""
        wanted = selectors.EVENT_READ
        if exchange.outgoing:
            wanted |= selectors.EVENT_WRITE
        self._selector.modify(self._inmate.channel, wanted)
        for key, ready in self._selector.select(_TICK_SECONDS):
            if key.fileobj is not self._inmate.channel:
                if not self._inmate.drain():
                    self._selector.unregister(self._inmate.output)
                continue
            if ready & selectors.EVENT_WRITE:
                self._send(exchange)
            if ready & selectors.EVENT_READ:
                self._receive()

    def _send(self, exchange: Exchange) -> None:
        part = exchange.outgoing[: 1 << 20]
        try:
            if exchange.descriptors:
                sent = socket.send_fds(
                    self._inmate.channel, [part], exchange.descriptors
                )
                exchange.descriptors = []
            else:
                sent = self._inmate.channel.send(part)
        except BlockingIOError:
            return
        except OSError as error:
            raise self._died() from error
        exchange.outgoing = exchange.outgoing[sent:]

    def _receive(self) -> None:
        try:
            # Bounded, so that a flood cannot keep us from looking at the clock.
            data = self._inmate.channel.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError as error:
            raise self._died() from error
        if not data:
            raise self._died()
        try:
            self._reader.feed(data)
        except BadFrame as error:
            self.refuse(str(error))

    def _check(self, exchange: Exchange) -> None:
        now = time.monotonic()
        if now - exchange.started > exchange.seconds:
            raise ChildTimedOut(exchange.operation, exchange.seconds)
        if exchange.should_stop is not None and now >= exchange.next_stop:
            exchange.next_stop = now + _STOP_SECONDS
            if exchange.should_stop():
                raise ChildStopped(exchange.operation)
        if now >= exchange.next_watch:
            exchange.next_watch = now + _WATCH_SECONDS
            broken = self._broken_limit()
            if broken:
                raise self._died(reason=broken)

    def _broken_limit(self) -> str:
        """Name the limit that it broke, or what it lacks, if any."""
        if not self._inmate.has_scratch():
            return SCRATCH_GONE
        used = self._inmate.resident_bytes()
        if used > self._limits.memory_bytes:
            return f"memory: {used} of {self._limits.memory_bytes} bytes"
        threads = self._inmate.thread_count()
        if threads > MAX_THREADS:
            return f"threads: {threads} of {MAX_THREADS}"
        held, count = self._inmate.scratch_use()
        if held > self._limits.scratch_bytes or count > MAX_SCRATCH_FILES:
            return (
                f"files: {held} of {self._limits.scratch_bytes} bytes in {count} files"
            )
        return ""

    def _tell(self, exchange: Exchange, message: dict[str, JsonValue]) -> None:
        fraction, detail = message.get("fraction"), message.get("detail")
        if (
            not isinstance(fraction, int | float)
            or not 0 <= fraction <= 1
            or not isinstance(detail, str)
        ):
            self.refuse("progress without a fraction and a detail")
        now = time.monotonic()
        if exchange.on_progress is None or now < exchange.next_progress:
            return
        exchange.next_progress = now + _PROGRESS_SECONDS
        exchange.on_progress(float(fraction), detail[:_DETAIL_CHARACTERS])

    def read_answer(self, answer: dict[str, JsonValue]) -> JsonValue:
        """Take the value out of an answer.

        Raises:
            Problem: it says what is wrong with the files.
            ChildCrashed: it says that our own code raised an exception.
            ChildDied: that is so because its folder is gone.
            ChildMisbehaved: it says none of these.
        """
        if answer["kind"] == "result" and "value" in answer:
            return answer["value"]
        if answer["kind"] == "crash":
            if not self._inmate.has_scratch():
                raise self._died(reason=SCRATCH_GONE)
            raise ChildCrashed(_text(answer.get("trace"), _TRACE_CHARACTERS))
        document = answer.get("problem")
        if answer["kind"] != "problem" or not isinstance(document, dict):
            self.refuse(f"a broken `{answer['kind']}`")
        raise self._problem(document)

    def _problem(self, document: dict[str, JsonValue]) -> Exception:
        try:
            problem = problem_from(document)
        except ValidationError:
            self.refuse("a problem that is no problem document")
        if problem.name not in _CHILD_PROBLEMS:
            self.refuse(f"a problem `{problem.name}`, not its to raise")
        kind: type[Problem] = type(problem)
        return kind(
            problem.detail[:_PROBLEM_CHARACTERS],
            errors=[
                FieldError(
                    pointer=error.pointer[:_DETAIL_CHARACTERS],
                    detail=error.detail[:_PROBLEM_CHARACTERS],
                )
                for error in problem.errors[:_MAX_FIELD_ERRORS]
            ],
        )

    def _died(self, *, reason: str = "") -> ChildDied:
        if not reason:
            # It hung up: give it a moment to end by itself and to say how.
            with contextlib.suppress(Exception):
                self._inmate.process.wait(1.0)
        status = self._inmate.end()
        with contextlib.suppress(OSError):
            self._inmate.drain()
        return ChildDied(status, reason=reason, printed=self._inmate.printed)

    def refuse(self, reason: str) -> NoReturn:
        """Kill it for what it said.

        Raises:
            ChildMisbehaved: always.
        """
        status = self._inmate.end()
        raise ChildMisbehaved(status, reason=reason[:200], printed=self._inmate.printed)

    def close(self) -> None:
        """Stop listening."""
        self._selector.close()
