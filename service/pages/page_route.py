"""How every page answers: problems as a page for people, and strict headers."""

from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import quote

from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from service.contract.errors import Problem
from service.pages.browser_session import (
    COOKIE,
    NotSignedIn,
    identify,
    refuse_foreign_form,
)
from service.render import html
from service.render.figures import METRIC_WORDS

POLICY = (
    f"default-src 'none'; style-src {html.style_hash()}; script-src 'self'; "
    "connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}


class PageRoute(APIRoute):
    """A route whose problems are shown as pages; forms only from these pages."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the route: foreign forms refused, problems as pages, strict headers."""
        inner = super().get_route_handler()

        async def answer(request: Request) -> Response:
            response: Response
            try:
                if request.method == "POST":
                    refuse_foreign_form(request)
                await self.prepare(request)
                response = await inner(request)
            except NotSignedIn:
                response = _to_sign_in(request)
            except Problem as problem:
                response = show(
                    request,
                    "message.html",
                    status_code=problem.status,
                    heading=problem.title,
                    detail=problem.detail,
                )
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        return answer

    async def prepare(self, request: Request) -> None:
        """Do what is due before the body is read: nothing, on an open page."""


class KeyedRoute(PageRoute):
    """A route that knows its caller before it reads a byte of the body."""

    async def prepare(self, request: Request) -> None:
        """Find out who asks."""
        request.state.caller = await run_in_threadpool(identify, request)


def _to_sign_in(request: Request) -> Response:
    if request.url.path.endswith("/state"):  # asked by a script, which reloads
        return Response(status_code=401)
    way_back = quote(request.url.path, safe="/")
    return RedirectResponse(f"/login?next={way_back}", status_code=303)


def make_environment() -> Environment:
    """Share style, filters and escaping with the report."""
    made = Environment(
        loader=PackageLoader("service.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=html.without_controls,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(html.environment().filters)
    made.globals.update(
        style=Markup(html.style()),  # noqa: S704 - our own file
        metric_words=METRIC_WORDS,
    )
    return made


TEMPLATES = make_environment()


def show(
    request: Request, template: str, *, status_code: int = 200, **values: object
) -> HTMLResponse:
    """Render a page."""
    text = TEMPLATES.get_template(template).render(
        has_key=COOKIE in request.cookies, **values
    )
    return HTMLResponse(text, status_code=status_code)
