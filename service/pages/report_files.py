"""Reports and repaired models as files, for whoever is signed in at a browser."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from service.contract.report import Report
from service.pages.browser_session import caller_of, desk_of
from service.pages.page_route import KeyedRoute
from service.render.html import render_html
from service.render.junit import render_junit
from service.render.markdown import render_markdown
from service.render.sarif import render_sarif

MEDIA = {
    "json": "application/json",
    "markdown": "text/markdown; charset=utf-8",
    "junit": "application/xml",
    "sarif": "application/sarif+json",
    "html": "text/html; charset=utf-8",
}
router = APIRouter(route_class=KeyedRoute, include_in_schema=False)


@router.get("/audits/{audit_id}/report")
def report_file(
    request: Request,
    audit_id: str,
    form: Annotated[str, Query(pattern="^(json|html|markdown|junit|sarif)$")],
) -> Response:
    """Send a report as a file."""
    text = desk_of(request).audits.report_text(caller_of(request), audit_id)
    if form != "json":
        report = Report.model_validate_json(text)
        base = str(request.base_url).rstrip("/")
        text = {
            "html": lambda: render_html(report, docs_base=base),
            "markdown": lambda: render_markdown(report),
            "junit": lambda: render_junit(report),
            "sarif": lambda: render_sarif(report, docs_base=base),
        }[form]()
    ending = {"markdown": "md", "junit": "xml"}.get(form, form)
    name = f"{audit_id}.{ending}"
    return Response(
        text,
        media_type=MEDIA[form],
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )


@router.get("/audits/{audit_id}/model")
def repaired_model(request: Request, audit_id: str) -> Response:
    """Send the repaired model."""
    model = desk_of(request).audits.repaired_model(caller_of(request), audit_id)
    name = f"{audit_id}-repaired.pt"
    return StreamingResponse(
        model.chunks(range(model.size_bytes)),
        media_type="application/octet-stream",
        headers={
            "content-disposition": f'attachment; filename="{name}"',
            "content-length": str(model.size_bytes),
        },
    )
