"""How every page answers: problems as a page for people, and strict headers."""

from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import quote

from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from service.contract.errors import Problem
from service.pages.browser_session import COOKIE, NotSignedIn
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
    """A route whose problems are shown as pages."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the route: sign-in where it is needed, problems as pages, headers."""
        inner = super().get_route_handler()

        async def answer(request: Request) -> Response:
            response: Response
            try:
                response = await inner(request)
            except NotSignedIn:
                way_back = quote(request.url.path, safe="/")
                response = RedirectResponse(f"/login?next={way_back}", status_code=303)
                if "application/json" in request.headers.get("accept", ""):
                    response = Response(status_code=401)
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
