"""Who calls: every route below `/v1` knows its caller before it reads anything."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, cast

from fastapi import Depends, Header, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from service.api.strict_json import StrictRequest
from service.contract.errors import (
    BadRequest,
    FieldError,
    Forbidden,
    InvalidFields,
    Unauthorized,
)
from service.contract.jobs import Role
from service.desk import Desk
from service.keys import Caller

bearer = HTTPBearer(
    auto_error=False,
    scheme_name="key",
    description="An API key: `Authorization: Bearer KEY`.",
)


# Only for the description of the API: `identify` has looked at the header before.
Shown = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]


def desk_of(request: Request) -> Desk:
    """Find the use cases of the application that a request came to."""
    return cast("Desk", request.app.state.desk)


async def identify(request: Request) -> Caller:
    """Find out who sent a request.

    Raises:
        BadRequest: more than one key.
        Unauthorized: no key, or one that is not in force.
    """
    sent = request.headers.getlist("authorization")
    if len(sent) > 1:
        raise BadRequest(detail="Send one `Authorization` header.")
    scheme, _, secret = "".join(sent).partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not secret:
        raise Unauthorized(detail="Send `Authorization: Bearer KEY`.")
    keys = desk_of(request).keys
    known = keys.known(secret)
    if known is not None:
        return known
    return await run_in_threadpool(keys.authenticate, secret)


class CallerRoute(APIRoute):
    """A route that first finds out who calls, then reads the body strictly."""

    def get_route_handler(
        self,
    ) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the framework's handler."""
        inner = super().get_route_handler()
        known = {field.alias for field in self.dependant.query_params}

        async def handle(request: Request) -> Response:
            if b"%00" in request.scope["query_string"] or "\0" in request.url.path:
                raise BadRequest(detail="The address holds a zero character.")
            request.state.caller = await identify(request)
            if known:
                _refuse_unknown(known, request)
            limit = desk_of(request).settings.json_limit_bytes
            return await inner(StrictRequest(request, limit_bytes=limit))

        return handle


def _refuse_unknown(known: set[str], request: Request) -> None:
    """A filter that is ignored for its name would let everything pass.

    Raises:
        InvalidFields: the query holds a name that the route does not know.
    """
    unknown = sorted(request.query_params.keys() - known)
    if unknown:
        names = ", ".join(f"`{name}`" for name in sorted(known))
        raise InvalidFields(
            detail=f"Not known: {', '.join(unknown)[:200]}.",
            errors=[
                FieldError(
                    pointer=f"query:{name[:100]}",
                    detail=f"Not known here; {names} are.",
                )
                for name in unknown[:10]
            ],
        )


def _needs(role: Role) -> Callable[..., Coroutine[Any, Any, Caller]]:
    async def check(request: Request, _: Shown) -> Caller:
        caller = cast("Caller", request.state.caller)
        if not caller.may_act_as(role):
            raise Forbidden(
                detail=f"This needs a key with the role `{role}`; this one is a "
                f"`{caller.role}`."
            )
        return caller

    return check


Viewer = Annotated[Caller, Depends(_needs("viewer"))]
Submitter = Annotated[Caller, Depends(_needs("submitter"))]
Admin = Annotated[Caller, Depends(_needs("admin"))]
Services = Annotated[Desk, Depends(desk_of)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="The same key and body give the same answer; the same key with "
        "another body gives 422.",
    ),
]
