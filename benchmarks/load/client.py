"""The callers, in a process of their own: raw HTTP/1.1 over kept connections.

Reads one JSON document from standard input, `{"work": …, …}`, and writes one line of
JSON for each milestone. An HTTP library would need more of the cores than the service.
"""

import asyncio
import json
import os
import re
import resource
import socket
import sys
import time
from collections import Counter
from typing import Any, cast

import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STATUS = slice(9, 12)  # HTTP/1.1 200


class _Caller(asyncio.Protocol):
    """One connection that sends a request, waits for the answer, sends the next."""

    def __init__(self, crowd: "_Crowd", request: bytes) -> None:
        self._crowd = crowd
        self._request = request
        self._received = b""
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def ask(self) -> None:
        assert self._transport is not None
        self._sent_at = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data if self._received else data
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(received, 0, end)
        if len(received) < end + 4 + (int(length[1]) if length else 0):
            return
        self._received = b""
        if self._crowd.note(received[_STATUS], time.perf_counter() - self._sent_at):
            self.ask()

    def connection_lost(self, error: Exception | None) -> None:
        self._crowd.lost()

    def close(self) -> None:
        assert self._transport is not None
        self._transport.abort()


class _Crowd:
    """All callers, and what they saw."""

    def __init__(self, requests: int, connections: int) -> None:
        self._unsent = requests - connections
        self._unanswered = requests
        self.latencies: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def note(self, status: bytes, seconds: float) -> bool:
        """Note an answer; says whether to ask again."""
        self.latencies.append(seconds)
        self.statuses[status.decode()] += 1
        self._unanswered -= 1
        if not self._unanswered and not self.done.done():
            self.done.set_result(None)
        self._unsent -= 1
        return self._unsent >= 0

    def lost(self) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError("the service closed a connection"))


async def _connected(
    plan: dict[str, Any], connections: int, crowd: _Crowd
) -> list[_Caller]:
    requests = [text.encode() for text in plan["requests"]]
    callers = [
        _Caller(crowd, requests[number % len(requests)])
        for number in range(connections)
    ]
    for caller in callers:
        await _connect(caller, plan["port"])
    return callers


async def _connect(caller: _Caller, port: int) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: caller, "127.0.0.1", port)


async def _hammer(plan: dict[str, Any]) -> None:
    """Ask `count` times over `connections` connections, as fast as answers come."""
    connections = min(plan["connections"], plan["count"])
    crowd = _Crowd(plan["count"], connections)
    callers = await _connected(plan, connections, crowd)
    began = time.perf_counter()
    for caller in callers:
        caller.ask()
    async with asyncio.timeout(plan["seconds"]):
        await crowd.done
    seconds = time.perf_counter() - began
    for caller in callers:
        caller.close()
    _say(seconds=seconds, **_seen(crowd))


async def _hold(plan: dict[str, Any]) -> None:
    """Ask once over each of `connections` connections; all are answered late."""
    crowd = _Crowd(plan["connections"], plan["connections"])
    callers = await _connected(plan, plan["connections"], crowd)
    for caller in callers:
        caller.ask()
    _say(asked=len(callers))
    async with asyncio.timeout(plan["seconds"]):
        await crowd.done
    _say(woken_at=time.time(), **_seen(crowd))
    for caller in callers:
        caller.close()


def _upload(plan: dict[str, Any]) -> None:
    """Send a file, framed by what comes before and after it."""
    head, tail = plan["head"].encode(), plan["tail"].encode()
    with (
        open(plan["file"], "rb") as file,  # noqa: PTH123 - a name from the plan
        socket.create_connection(
            ("127.0.0.1", plan["port"]), timeout=plan["seconds"]
        ) as connection,
    ):
        size = os.fstat(file.fileno()).st_size
        began = time.perf_counter()
        connection.sendall(head)
        # By the kernel: this process hardly counts.
        connection.sendfile(file, count=size)
        connection.sendall(tail)
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0 or len(received) < _whole(
            received, end
        ):
            data = connection.recv(65536)
            if not data:
                break
            received += data
        seconds = time.perf_counter() - began
    _, _, body = received.partition(b"\r\n\r\n")
    _say(
        seconds=seconds,
        status=received[_STATUS].decode(),
        bytes=size,
        body=body.decode(),
    )


def _whole(received: bytes, end: int) -> int:
    length = _LENGTH.search(received, 0, end)
    return end + 4 + (int(length[1]) if length else 0)


def _seen(crowd: _Crowd) -> dict[str, Any]:
    ordered = sorted(crowd.latencies)
    return {
        "statuses": dict(crowd.statuses),
        "answers": len(ordered),
        "p50": ordered[len(ordered) // 2],
        "p99": ordered[len(ordered) * 99 // 100],
    }


def _say(**milestone: Any) -> None:  # noqa: ANN401 - JSON
    sys.stdout.write(json.dumps(milestone) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Do the work that standard input names."""
    plan: dict[str, Any] = json.load(sys.stdin)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if plan["work"] == "upload":
        _upload(plan)
    else:
        uvloop.run({"hammer": _hammer, "hold": _hold}[plan["work"]](plan))


if __name__ == "__main__":
    main()
