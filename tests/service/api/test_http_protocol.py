import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from unittest.mock import Mock

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from uvicorn.server import ServerState

from service.api.http_protocol import PATIENCE_SECONDS, HttpProtocol
from tests.service.api.app_client import LOOP
from tests.service.api.callers import problem


class Written(asyncio.Transport):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.content = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.content += bytes(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        """Nothing is read here."""


class Clock:
    """A loop's clock and timers, which go on when told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None], Mock]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, what: Callable[[], None]) -> Mock:
        handle = Mock(cancelled=False)
        handle.cancel.side_effect = lambda: setattr(handle, "cancelled", True)
        self.timers.append((self.now + seconds, what, handle))
        return handle

    def create_task(self, coroutine: Coroutine[Any, Any, None]) -> Mock:
        coroutine.close()
        return Mock()

    def pass_by(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [one for one in self.timers if one[0] <= end]:
            first = min(due, key=lambda one: one[0])
            self.timers.remove(first)
            self.now = max(self.now, first[0])
            if not first[2].cancelled:
                first[1]()
        self.now = end


def connected(loop: Any = LOOP) -> tuple[HttpProtocol, Written]:
    transport = Written()
    protocol = HttpProtocol(
        config=uvicorn.Config(FastAPI(), http=HttpProtocol),
        server_state=ServerState(),
        app_state={},
        _loop=loop,
    )
    protocol.connection_made(transport)
    return protocol, transport


def refused(transport: Written) -> dict[str, Any]:
    head, _, body = transport.content.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ") for line in lines)
    answer = httpx.Response(int(status.split()[1]), headers=headers, content=body)
    return problem(answer, "bad-request", 400)


def test_what_is_not_http_is_answered_with_a_problem_document():
    protocol, transport = connected()

    protocol.data_received(b"GET /v1/\xff HTTP/1.1\r\n\r\n")

    refused(transport)
    assert transport.closed


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /v1/models HTTP/1.1\r\nHost: x\r\n",
        b"POST /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf",
    ],
)
def test_a_request_that_is_never_completed_is_given_up(sent: bytes):
    clock = Clock()
    protocol, transport = connected(clock)

    clock.pass_by(PATIENCE_SECONDS / 2)
    protocol.data_received(sent)
    clock.pass_by(PATIENCE_SECONDS - 1)
    assert not transport.closed
    clock.pass_by(2)

    assert transport.closed
    assert "60 s" in refused(transport)["detail"]


def test_a_complete_request_is_waited_for_as_long_as_it_takes():
    clock = Clock()
    protocol, transport = connected(clock)

    protocol.data_received(b"GET /v1/audits/aud_1 HTTP/1.1\r\nHost: x\r\n\r\n")
    clock.pass_by(10 * PATIENCE_SECONDS)

    assert not transport.closed
    assert all(handle.cancelled for _, _, handle in clock.timers)


def test_a_caller_whom_the_server_keeps_waiting_is_not_given_up():
    clock = Clock()
    protocol, transport = connected(clock)
    head = b"POST /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 999999\r\n\r\n"

    protocol.data_received(head + b"x" * 200_000)
    assert protocol.flow.read_paused
    clock.pass_by(3 * PATIENCE_SECONDS)

    assert not transport.closed
