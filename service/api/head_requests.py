"""HEAD: what GET would answer, without its body (RFC 9110, section 9.3.2)."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadRequests:
    """Has every address that answers GET answer HEAD as well, at once.

    An answer that goes on (events, a download) is cut off after its head, as if the
    caller had hung up.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, HEAD as GET."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        begun = asyncio.Event()

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body"})
                begun.set()

        async def receive_or_hang_up() -> Message:
            if begun.is_set():
                return {"type": "http.disconnect"}
            return await receive()

        answering = asyncio.ensure_future(
            self._app({**scope, "method": "GET"}, receive_or_hang_up, send_head)
        )
        started = asyncio.ensure_future(begun.wait())
        try:
            await asyncio.wait(
                {answering, started}, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            started.cancel()
            if not answering.done():
                answering.cancel()
            await asyncio.gather(answering, started, return_exceptions=True)
        if not begun.is_set():
            answering.result()  # the defect that kept it from answering
