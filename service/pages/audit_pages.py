"""The pages of audits: list, history of a model, live page, report, comparison."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from service.contract.report import Report
from service.cursors import slice_of
from service.desk import Desk
from service.keys import Caller
from service.pages.audit_rows import AuditRows, trend_chart
from service.pages.browser_session import caller_of, desk_of
from service.pages.page_route import KeyedRoute, show
from service.render.html import render_html

ROWS = 25
HISTORY_ROWS = 100
STAGES = {
    "inspect": "reads network and data, scores the delivered model",
    "screen": "retrains it with one thing mended at a time",
    "confirm": "repeats what helped, on fresh seeds",
    "interact": "tells what adds up from what is one and the same",
    "remedy": "retrains the best combination and judges it once",
    "report": "writes it all down",
}
router = APIRouter(route_class=KeyedRoute, include_in_schema=False)


@router.get("/audits")
def audit_list(
    request: Request, cursor: str | None = None, tag: str | None = None
) -> Response:
    """List the audits."""
    desk = desk_of(request)
    caller = caller_of(request)
    page = desk.audits.page(caller, slice_of(cursor, ROWS, "aud"), tag=tag)
    following = page.next_cursor
    return show(
        request,
        "audits.html",
        heading="Audits",
        subtitle=f"tagged {tag}" if tag else "",
        trend="",
        audits=AuditRows(caller, desk.audits, desk.uploads).read(page.items),
        next_page=f"/audits?cursor={following}" if following else "",
    )


@router.get("/models/{model_id}")
def model_history(request: Request, model_id: str) -> Response:
    """Show all audits of a model."""
    desk = desk_of(request)
    caller = caller_of(request)
    model = desk.uploads.model(caller, model_id)
    chosen = slice_of(None, HISTORY_ROWS, "aud")
    page = desk.audits.page(caller, chosen, model_id=model_id)
    rows = AuditRows(caller, desk.audits, desk.uploads).read(page.items)
    return show(
        request,
        "audits.html",
        heading=model.name,
        subtitle=f"All audits of this model, {model_id}",
        trend=trend_chart(rows),
        audits=rows,
        next_page="",
    )


@router.get("/audits/{audit_id}")
def one_audit(request: Request, audit_id: str) -> Response:
    """Show how far an audit is, or its report."""
    desk = desk_of(request)
    caller = caller_of(request)
    audit = desk.audits.find(caller, audit_id)
    if "report" in audit.links:
        return _report_page(caller, desk, audit.id, audit.links)
    names = AuditRows(caller, desk.audits, desk.uploads)
    return show(
        request,
        "live.html",
        audit=audit,
        model=names.name(audit.model_id),
        dataset=names.name(audit.dataset_id),
        stages=STAGES,
    )


@router.get("/audits/{audit_id}/state")
def state(request: Request, audit_id: str) -> Response:
    """Tell the live page how far it is."""
    audit = desk_of(request).audits.find(caller_of(request), audit_id)
    return JSONResponse(
        {"status": audit.status, "progress": audit.progress.model_dump()}
    )


@router.post("/audits/{audit_id}/cancel")
def cancel(request: Request, audit_id: str) -> Response:
    """Cancel an audit."""
    desk_of(request).audits.cancel(caller_of(request, role="submitter"), audit_id)
    return RedirectResponse(f"/audits/{audit_id}", status_code=303)


@router.get("/audits/{earlier}/compare/{later}")
def compare(request: Request, earlier: str, later: str) -> Response:
    """Show what changed between two audits."""
    found = desk_of(request).audits.compare(caller_of(request), earlier, later)
    groups = (
        ("Appeared", found.appeared, "bad"),
        ("Grew", found.grew, "bad"),
        ("Shrank", found.shrank, "good"),
        ("Went away", found.went_away, "good"),
        ("Not decided any more", found.undecided, "unsure"),
    )
    return show(
        request,
        "comparison.html",
        comparison=found,
        groups=groups,
        any_change=any(changes for _, changes, _ in groups),
    )


def _report_page(
    caller: Caller, desk: Desk, audit_id: str, audit_links: dict[str, str]
) -> Response:
    report = Report.model_validate_json(desk.audits.report_text(caller, audit_id))
    here = f"/audits/{audit_id}"
    links = {
        "Audits": "/audits",
        "Save page": f"{here}/report?form=html",
        "JSON": f"{here}/report?form=json",
        "Markdown": f"{here}/report?form=markdown",
    }
    if "repaired_model" in audit_links:
        links["Repaired model"] = f"{here}/model"
    return Response(render_html(report, links=links), media_type="text/html")
