"""Pages that need no key: sign-in, the documentation of the causes, the script."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Form
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response

from service.contract.causes import Cause
from service.contract.errors import NotFound, Unauthorized
from service.pages.browser_session import desk_of, safe_way_back, sign_in, sign_out
from service.pages.cause_pages import by_group, cause_page
from service.pages.page_route import PageRoute, show

STATIC = Path(__file__).parent / "static"
router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get("/")
def start() -> Response:
    """Lead to the list."""
    return RedirectResponse("/audits", status_code=303)


@router.get("/login")
def login_form(request: Request, next: str = "/audits") -> Response:  # noqa: A002
    """Ask for a key."""
    return show(request, "login.html", next=safe_way_back(next), problem="")


@router.post("/login")
def login(
    request: Request,
    key: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = "/audits",  # noqa: A002 - the field's name
) -> Response:
    """Check the key and keep it in the cookie."""
    way_back = safe_way_back(next)
    try:
        desk_of(request).keys.authenticate(key.strip())
    except Unauthorized:
        return show(
            request,
            "login.html",
            status_code=401,
            next=way_back,
            problem="This key is not known here, or is no longer valid.",
        )
    response = RedirectResponse(way_back, status_code=303)
    sign_in(request, response, key.strip())
    return response


@router.post("/logout")
def logout() -> Response:
    """Forget the key."""
    response = RedirectResponse("/login", status_code=303)
    sign_out(response)
    return response


@router.get("/docs/causes")
def causes(request: Request) -> Response:
    """List the causes."""
    return show(request, "causes.html", groups=by_group())


@router.get("/docs/causes/{name}")
def one_cause(request: Request, name: str) -> Response:
    """Explain one cause."""
    if name not in set(Cause):
        raise NotFound(detail="There is no such cause.")
    cause = Cause(name)
    return show(request, "cause.html", cause=cause, body=cause_page(cause))


@router.get("/static/live.js")
def live_script() -> Response:
    """Send the script of the live page."""
    return FileResponse(
        STATIC / "live.js",
        media_type="text/javascript",
        headers={"cache-control": "public, max-age=300"},
    )
