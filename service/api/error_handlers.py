"""Everything that goes wrong becomes a problem document (RFC 9457)."""

import logging
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute

from service.api.strict_json import BodyRefused
from service.contract.errors import (
    BadRequest,
    FieldError,
    Forbidden,
    Internal,
    InvalidFields,
    NotAcceptable,
    NotAllowed,
    NotFound,
    Problem,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
)
from service.contract.field_errors import escaped, in_words, of_one_reading

PROBLEM_JSON = "application/problem+json"
RETRY_SECONDS = "5"
_LOG = logging.getLogger(__name__)
_BY_STATUS: dict[int, type[Problem]] = {
    kind.status: kind
    for kind in (
        BadRequest,
        Unauthorized,
        Forbidden,
        NotFound,
        NotAllowed,
        NotAcceptable,
        TooLarge,
        UnsupportedMediaType,
        InvalidFields,
        TooManyRequests,
        Unavailable,
    )
}
_SHOWN_ERRORS = 100


def add_error_handlers(app: FastAPI) -> None:
    """Let the application answer with problem documents only."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_defect)


def respond(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """Write a problem as an answer."""
    sent = dict(headers or {})
    if isinstance(problem, Unauthorized):
        sent["WWW-Authenticate"] = "Bearer"
    if isinstance(problem, TooManyRequests | Unavailable):
        sent["Retry-After"] = RETRY_SECONDS
    if isinstance(problem, TooLarge):  # the rest of the body is not worth reading
        sent["Connection"] = "close"
    return Response(
        problem.document().model_dump_json(),
        status_code=problem.status,
        media_type=PROBLEM_JSON,
        headers=sent,
    )


async def _on_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return respond(error)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error, BodyRefused):
        return respond(error.problem)
    kind = _BY_STATUS.get(error.status_code, BadRequest)
    detail = {
        NotFound: "There is nothing at this address.",
        NotAllowed: "This address does not offer that method.",
    }.get(kind, str(error.detail))
    headers = {"Allow": _offered(request)} if kind is NotAllowed else {}
    return respond(kind(detail), headers)


def _offered(request: Request) -> str:
    """List the methods of all routes at an address; the framework names one's only."""
    methods: set[str] = set()
    for route in _routes(request.app.routes):
        if route.path_regex.match(request.url.path):
            methods |= route.methods or set()
    if "GET" in methods:
        methods.add("HEAD")  # see head_requests.py
    return ", ".join(sorted(methods))


def _routes(routes: Iterable[BaseRoute]) -> Iterator[APIRoute]:
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        # Newer versions of the framework keep an included router as one route.
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from _routes(included.routes)


async def _on_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return respond(invalid_fields(error.errors(), error.body))


async def _on_defect(request: Request, error: Exception) -> Response:
    _LOG.error("defect at %s %s", request.method, request.url.path, exc_info=error)
    return respond(Internal(HTTPStatus(Internal.status).phrase))


def invalid_fields(found: Any, body: object, prefix: str = "") -> InvalidFields:  # noqa: ANN401 - pydantic's list of dictionaries
    """Say which fields are wrong, each with a pointer into the body.

    Args:
        found: what pydantic says.
        body: the parsed body.
        prefix: JSON pointer of the validated value within the body.
    """
    errors: dict[tuple[str, str], FieldError] = {}
    for item in found[:_SHOWN_ERRORS]:
        pointer = _pointer(item["loc"], item["type"], body, prefix)
        detail = in_words(str(item["msg"]))
        errors[pointer, detail] = FieldError(pointer=pointer, detail=detail)
    shown = of_one_reading([*errors.values()])
    names = sorted({error.pointer or "the body" for error in shown})
    return InvalidFields(detail=f"Not valid: {', '.join(names[:5])}.", errors=shown)


def _pointer(
    location: tuple[int | str, ...], kind: str, body: object, prefix: str
) -> str:
    """Turn a location of pydantic's into a pointer; names of union members go."""
    place, *parts = location if not prefix else ("body", *location)
    if place != "body":
        shown = (
            "header" if place == "header" else "query" if place == "query" else "path"
        )
        return f"{shown}:{parts[0] if parts else ''}"
    pointer = prefix
    current = body
    for index, part in enumerate(parts):
        if isinstance(current, dict) and part in current:
            current = current[part]
        elif isinstance(current, list) and isinstance(part, int):
            if part >= len(current):
                continue
            current = current[part]
        elif not (kind == "missing" and index == len(parts) - 1):
            continue
        pointer += f"/{escaped(str(part))}"
    return pointer
