"""Who sits at the browser: the key in a cookie that scripts and other sites never see.

The cookie is HttpOnly and SameSite=Strict, and every form is refused unless the browser
says that it came from these pages. The API reads no cookie at all.
"""

from typing import Final, cast
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from service.contract.errors import Forbidden, Unauthorized
from service.contract.jobs import Role
from service.desk import Desk
from service.keys import Caller

COOKIE: Final = "model_audit_key"
COOKIE_SECONDS = 30 * 24 * 3600


class NotSignedIn(Exception):  # noqa: N818 - not an error, a way to the sign-in page
    """The page needs a key, and the browser has none that is valid."""


def desk_of(request: Request) -> Desk:
    """Find the use cases of the application that a request came to."""
    return cast("Desk", request.app.state.desk)


def identify(request: Request) -> Caller:
    """Find out who asks for a page.

    Raises:
        NotSignedIn: there is no valid key.
    """
    secret = request.cookies.get(COOKIE)
    if not secret:
        raise NotSignedIn
    keys = desk_of(request).keys
    try:
        return keys.known(secret) or keys.authenticate(secret)
    except Unauthorized as error:
        raise NotSignedIn from error


def caller_of(request: Request, *, role: Role = "viewer") -> Caller:
    """Tell who was found out to ask, if they may do this.

    Raises:
        Forbidden: the key's role does not allow it.
    """
    caller = cast("Caller", request.state.caller)
    if not caller.may_act_as(role):
        raise Forbidden(detail=f"This needs a key of the role {role}.")
    return caller


def sign_in(request: Request, response: Response, secret: str) -> None:
    """Give the browser the cookie."""
    response.set_cookie(
        COOKIE,
        secret,
        max_age=COOKIE_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
        path="/",
    )


def sign_out(response: Response) -> None:
    """Take the cookie back."""
    response.delete_cookie(COOKIE, httponly=True, samesite="strict", path="/")


def refuse_foreign_form(request: Request) -> None:
    """Refuse a form that another site sent.

    Browsers set `Sec-Fetch-Site` and `Origin` themselves; a page cannot forge them.

    Raises:
        Forbidden: the form came from elsewhere, or does not say where from.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None:
        is_ours = site == "same-origin"
    else:
        is_ours = origin is not None and urlsplit(origin).netloc == request.headers.get(
            "host"
        )
    if not is_ours:
        raise Forbidden(detail="This form did not come from these pages.")


def safe_way_back(address: str) -> str:
    """Keep an address only where it lies on this site."""
    is_local = address.startswith("/") and not address.startswith(("//", "/\\"))
    has_control = any(ord(character) < 32 for character in address)  # noqa: PLR2004
    return address if is_local and not has_control else "/audits"
