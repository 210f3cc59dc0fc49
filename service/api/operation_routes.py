"""For operators and for everybody: health, versions, measurements, causes, problems."""

import html

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from service.api.access import CallerRoute, Services, Viewer
from service.api.documented import open_problems, problems
from service.api.measurements import Measurements
from service.contract.causes import CATALOGUE, CatalogueEntry
from service.contract.errors import BY_NAME, InvalidFields, NotFound, Unavailable
from service.contract.jobs import Page
from service.health import Readiness, Versions

router = APIRouter(tags=["operation"])
catalogue = APIRouter(prefix="/v1", route_class=CallerRoute, tags=["causes"])

_TEXT = {"text/plain": {"schema": {"type": "string"}}}
_PAGE = {"text/html": {"schema": {"type": "string"}}}


@router.get(
    "/livez",
    summary="Is the process alive",
    response_class=Response,
    responses={200: {"content": _TEXT}, **open_problems()},
)
async def live() -> Response:
    """Answer without asking anything else."""
    return Response("ok", media_type="text/plain")


@router.get(
    "/readyz",
    summary="Is the service ready",
    responses={
        503: {"model": Readiness, "description": "Database or blob store are down."},
        **open_problems(),
    },
)
def ready(desk: Services, response: Response) -> Readiness:
    """Database and blob store decide; without broker or worker it is `degraded`."""
    readiness = desk.health.readiness()
    if readiness.status == "down":
        response.status_code = Unavailable.status
    return readiness


@router.get(
    "/metrics",
    summary="Measurements for Prometheus",
    response_class=Response,
    responses={200: {"content": _TEXT}, **open_problems()},
)
def metrics(request: Request) -> Response:
    """Write the measurements in Prometheus' text format."""
    measurements: Measurements = request.app.state.measurements
    return Response(
        measurements.text(), media_type="text/plain; version=0.0.4; charset=utf-8"
    )


@router.get("/version", summary="What runs here", responses=open_problems(Unavailable))
def versions(desk: Services) -> Versions:
    """Name the versions of the service, and of engine and torch in living workers."""
    return desk.health.versions()


@router.get(
    "/problems/{name}",
    summary="What a problem means",
    response_class=HTMLResponse,
    responses={200: {"content": _PAGE}, **open_problems(NotFound, InvalidFields)},
)
async def explain_problem(name: str) -> HTMLResponse:
    """Explain a `type` of problem documents."""
    kind = BY_NAME.get(name)
    if kind is None:
        raise NotFound(detail=f"There is no problem {name[:64]!r}.")
    title, text = html.escape(kind.title), html.escape(kind.explanation)
    return HTMLResponse(
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        "<meta name=viewport content='width=device-width'>"
        f"<main><h1>{title}</h1><p>{text}</p>"
        f"<p>HTTP status {kind.status}, type <code>/problems/{kind.name}</code></p>"
        "</main></html>",
        headers={"Content-Security-Policy": "default-src 'none'"},
    )


@catalogue.get("/causes", summary="The catalogue of causes", responses=problems())
async def list_causes(_caller: Viewer) -> Page[CatalogueEntry]:
    """List every cause: what it says, needs, how it is tested, what it recommends."""
    return Page(items=list(CATALOGUE))
