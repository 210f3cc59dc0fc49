"""The server's protocol: it refuses in problem documents, and waits for nobody forever.

Whoever begins a request and sends nothing more holds a connection and, of an upload, a
file. Waiting polls are not meant: their requests are complete.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.contract.errors import BadRequest

PATIENCE_SECONDS = 60.0  # for the next byte of a request that is not complete


class HttpProtocol(HttpToolsProtocol):
    """The server's protocol, but for what its parser refuses, and what never ends."""

    _patience: asyncio.TimerHandle | None = None
    _heard = 0.0

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        """Wait for a request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self._heard = self.loop.time()
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Wait for the rest of a request."""
        super().on_message_begin()
        if self._patience is None:
            self._wait()

    def on_message_complete(self) -> None:
        """Wait no more: it is on the server now."""
        super().on_message_complete()
        self._wait_no_more()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the caller."""
        self._wait_no_more()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser cannot read, and close the connection."""
        body = BadRequest(msg).document().model_dump_json().encode()
        head = (
            "HTTP/1.1 400 Bad Request\r\n"
            "content-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _wait(self) -> None:
        self._heard = self.loop.time()
        self._patience = self.loop.call_later(PATIENCE_SECONDS, self._look)

    def _wait_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _look(self) -> None:
        """Give a request up of which nothing came for too long."""
        left = self._heard + PATIENCE_SECONDS - self.loop.time()
        if self.flow.read_paused:  # the caller waits for the server
            left = PATIENCE_SECONDS
        if left > 0:
            self._patience = self.loop.call_later(left, self._look)
            return
        self._patience = None
        if self.transport.is_closing():
            return
        if self._is_answering():
            self.transport.close()
            return
        self.send_400_response(
            f"Nothing arrived for {PATIENCE_SECONDS:g} s, and the request is not "
            "complete."
        )

    def _is_answering(self) -> bool:
        """Whether an answer is on its way, so that no other can be sent."""
        cycle: Any = self.cycle  # of the newest request whose head is complete
        if cycle is None or cycle.response_complete:
            return False
        return bool(cycle.response_started or not cycle.more_body)
