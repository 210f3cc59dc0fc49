"""The short way for polls: most of what the service is asked, at a tenth of the price.

Polls of an audit by a key that was checked a moment ago are answered here. Whatever is
out of the ordinary takes the way of all requests, and has the same answer there.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.error_handlers import respond
from service.api.poll_answer import Poll, PollAnswer, answer_poll
from service.api.waiting import Waiting
from service.contract.errors import Problem
from service.ids import is_id
from service.keys import Keys

_PREFIX = "/v1/audits/"
_READ = frozenset({b"authorization", b"if-none-match", b"prefer"})


class _Route:
    """Names the route, for the measurements."""

    path = _PREFIX + "{audit_id}"


class PollLane:
    """ASGI middleware that answers plain polls itself."""

    def __init__(
        self, app: ASGIApp, *, keys: Keys, waiting: Waiting, retry_after_seconds: int
    ) -> None:
        self._app = app
        self._keys = keys
        self._waiting = waiting
        self._retry_after = str(retry_after_seconds)
        self._route = _Route()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a poll, or pass the request on."""
        poll = self._poll(scope)
        if poll is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = self._route
        try:
            answer = await answer_poll(
                self._waiting, poll, retry_after=self._retry_after
            )
        except Problem as problem:
            await respond(problem)(scope, receive, send)
            return
        await _send(answer, send)

    def _poll(self, scope: Scope) -> Poll | None:
        if (
            scope["type"] != "http"
            or scope["method"] != "GET"
            or scope["query_string"]
            or not scope["path"].startswith(_PREFIX)
        ):
            return None
        audit_id: str = scope["path"][len(_PREFIX) :]
        if not is_id(audit_id, "aud"):
            return None
        sent: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in _READ:
                if name in sent:
                    return None
                sent[name] = value
        scheme, _, secret = sent.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        caller = self._keys.known(secret.decode("latin-1").strip())
        if caller is None:
            return None
        return Poll(
            audit_id,
            caller.project,
            _text(sent.get(b"if-none-match")),
            _text(sent.get(b"prefer")),
        )


async def _send(answer: PollAnswer, send: Send) -> None:
    headers = [
        (name.lower().encode(), value.encode())
        for name, value in answer.headers.items()
    ]
    if answer.body:
        headers.append((b"content-length", b"%d" % len(answer.body)))
        headers.append((b"content-type", b"application/json"))
    await send(
        {"type": "http.response.start", "status": answer.status, "headers": headers}
    )
    await send({"type": "http.response.body", "body": answer.body})


def _text(header: bytes | None) -> str | None:
    return None if header is None else header.decode("latin-1")
