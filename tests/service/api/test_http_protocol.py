import asyncio

import httpx
import uvicorn
from fastapi import FastAPI
from uvicorn.server import ServerState

from service.api.http_protocol import HttpProtocol
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


def test_what_is_not_http_is_answered_with_a_problem_document():
    transport = Written()
    protocol = HttpProtocol(
        config=uvicorn.Config(FastAPI(), http=HttpProtocol),
        server_state=ServerState(),
        app_state={},
        _loop=LOOP,
    )
    protocol.connection_made(transport)

    protocol.data_received(b"GET /v1/\xff HTTP/1.1\r\n\r\n")

    head, _, body = transport.content.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ") for line in lines)
    answer = httpx.Response(int(status.split()[1]), headers=headers, content=body)
    problem(answer, "bad-request", 400)
    assert transport.closed
