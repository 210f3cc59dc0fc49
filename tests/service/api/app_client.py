"""An httpx client that calls an application in this process, on one event loop."""

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

import httpx
from fastapi import FastAPI

LOOP = asyncio.new_event_loop()
threading.Thread(target=LOOP.run_forever, daemon=True).start()
Value = TypeVar("Value")


def start(work: Coroutine[Any, Any, Value]) -> Future[Value]:
    """Run a coroutine on the loop on which all applications run."""
    return asyncio.run_coroutine_threadsafe(work, LOOP)


class _Transport(httpx.BaseTransport):
    def __init__(self, app: FastAPI) -> None:
        self._inner = httpx.ASGITransport(app, raise_app_exceptions=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        return start(self._answer(request)).result(timeout=60)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        sent = httpx.Request(
            request.method,
            request.url,
            headers=request.headers,
            content=request.content,
        )
        answer = await self._inner.handle_async_request(sent)
        content = await answer.aread()
        return httpx.Response(
            answer.status_code, headers=answer.headers, content=content
        )


class AppClient(httpx.Client):
    """Calls an application as if over the network."""

    def __init__(
        self, app: FastAPI, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(
            transport=_Transport(app), base_url="http://test", headers=headers
        )
