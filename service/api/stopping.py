"""An orderly stop: every request under way is answered, none is just broken off."""

import asyncio
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.error_handlers import respond
from service.api.waiting import Waiting
from service.contract.errors import Unavailable


class Stop:
    """Ends the requests of one application; belongs to its event loop."""

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting
        self.unanswered: set[asyncio.Task[Any]] = set()

    def begin(self) -> None:
        """Answer those who wait now, as if their time were over."""
        self._waiting.end()

    def cut(self) -> None:
        """Give up what has no answer yet: bodies that still arrive, slow work."""
        for task in tuple(self.unanswered):
            task.cancel()


class Stoppable:
    """ASGI middleware that answers a request which is cancelled with 503."""

    def __init__(self, app: ASGIApp, *, stop: Stop) -> None:
        self._app = app
        self._unanswered = stop.unanswered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and answer it where it is cut."""
        task = asyncio.current_task()
        if scope["type"] != "http" or task is None:
            await self._app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            self._unanswered.discard(task)
            await send(message)

        self._unanswered.add(task)
        try:
            await self._app(scope, receive, answer)
        except asyncio.CancelledError:
            if task not in self._unanswered:
                raise
            problem = Unavailable("The service is stopping.")
            await respond(problem, {"Connection": "close"})(scope, receive, send)
        finally:
            self._unanswered.discard(task)
