"""The addresses of the pages; each view reads one use case and renders one template."""

from typing import Annotated

from fastapi import APIRouter, Form, Query
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)

from service.audits import Audits
from service.contract.causes import Cause
from service.contract.errors import NotFound, Unauthorized
from service.contract.report import Report
from service.cursors import slice_of
from service.keys import Caller, Keys
from service.pages.audit_form import add_form_routes
from service.pages.audit_rows import AuditRows, trend_chart
from service.pages.browser_session import (
    caller_of,
    refuse_foreign_form,
    safe_way_back,
    sign_in,
    sign_out,
)
from service.pages.cause_pages import FOLDERS, by_group, cause_page
from service.pages.page_route import PageRoute, show
from service.render.html import render_html
from service.render.junit import render_junit
from service.render.markdown import render_markdown
from service.render.sarif import render_sarif
from service.uploads import Uploads

ROWS = 25
HISTORY_ROWS = 100
STATIC = FOLDERS[0].parent / "static"
STAGES = {
    "inspect": "reads network and data, scores the delivered model",
    "screen": "retrains it with one thing mended at a time",
    "confirm": "repeats what helped, on fresh seeds",
    "interact": "tells what adds up from what is one and the same",
    "remedy": "retrains the best combination and judges it once",
    "report": "writes it all down",
}
MEDIA = {
    "json": "application/json",
    "markdown": "text/markdown; charset=utf-8",
    "junit": "application/xml",
    "sarif": "application/sarif+json",
    "html": "text/html; charset=utf-8",
}


def make_router(keys: Keys, uploads: Uploads, audits: Audits) -> APIRouter:
    """Make the pages over the use cases that the API shares."""
    router = APIRouter(route_class=PageRoute, include_in_schema=False)
    _add_open_pages(router, keys)
    add_form_routes(router, keys, uploads, audits)
    _add_audit_pages(router, keys, uploads, audits)
    _add_downloads(router, keys, audits)
    return router


def _add_open_pages(router: APIRouter, keys: Keys) -> None:
    """Add what needs no key."""

    @router.get("/")
    def start() -> Response:
        return RedirectResponse("/audits", status_code=303)

    @router.get("/login")
    def login_form(request: Request, next: str = "/audits") -> Response:  # noqa: A002
        return show(request, "login.html", next=safe_way_back(next), problem="")

    @router.post("/login")
    def login(
        request: Request,
        key: Annotated[str, Form()] = "",
        next: Annotated[str, Form()] = "/audits",  # noqa: A002 - the field's name
    ) -> Response:
        refuse_foreign_form(request)
        way_back = safe_way_back(next)
        try:
            keys.authenticate(key.strip())
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
    def logout(request: Request) -> Response:
        refuse_foreign_form(request)
        response = RedirectResponse("/login", status_code=303)
        sign_out(response)
        return response

    @router.get("/docs/causes")
    def causes(request: Request) -> Response:
        return show(request, "causes.html", groups=by_group())

    @router.get("/docs/causes/{name}")
    def one_cause(request: Request, name: str) -> Response:
        if name not in set(Cause):
            raise NotFound(detail="There is no such cause.")
        cause = Cause(name)
        return show(request, "cause.html", cause=cause, body=cause_page(cause))

    @router.get("/static/live.js")
    def live_script() -> Response:
        return FileResponse(
            STATIC / "live.js",
            media_type="text/javascript",
            headers={"cache-control": "public, max-age=300"},
        )


def _add_audit_pages(
    router: APIRouter, keys: Keys, uploads: Uploads, audits: Audits
) -> None:
    @router.get("/audits")
    def audit_list(
        request: Request, cursor: str | None = None, tag: str | None = None
    ) -> Response:
        caller = caller_of(request, keys)
        page = audits.page(caller, slice_of(cursor, ROWS, "aud"), tag=tag)
        following = page.next_cursor
        return show(
            request,
            "audits.html",
            heading="Audits",
            subtitle=f"tagged {tag}" if tag else "",
            trend="",
            audits=AuditRows(caller, audits, uploads).read(page.items),
            next_page=f"/audits?cursor={following}" if following else "",
        )

    @router.get("/models/{model_id}")
    def model_history(request: Request, model_id: str) -> Response:
        caller = caller_of(request, keys)
        model = uploads.model(caller, model_id)
        chosen = slice_of(None, HISTORY_ROWS, "aud")
        page = audits.page(caller, chosen, model_id=model_id)
        rows = AuditRows(caller, audits, uploads).read(page.items)
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
        caller = caller_of(request, keys)
        audit = audits.find(caller, audit_id)
        if audit.status == "succeeded":
            return _report_page(caller, audits, audit.id, audit.links)
        names = AuditRows(caller, audits, uploads)
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
        audit = audits.find(caller_of(request, keys), audit_id)
        return JSONResponse(
            {"status": audit.status, "progress": audit.progress.model_dump()}
        )

    @router.post("/audits/{audit_id}/cancel")
    def cancel(request: Request, audit_id: str) -> Response:
        refuse_foreign_form(request)
        audits.cancel(caller_of(request, keys, role="submitter"), audit_id)
        return RedirectResponse(f"/audits/{audit_id}", status_code=303)

    @router.get("/audits/{earlier}/compare/{later}")
    def compare(request: Request, earlier: str, later: str) -> Response:
        found = audits.compare(caller_of(request, keys), earlier, later)
        groups = (
            ("Appeared", found.appeared, "bad"),
            ("Grew", found.grew, "bad"),
            ("Shrank", found.shrank, "good"),
            ("Went away", found.went_away, "good"),
        )
        return show(
            request,
            "comparison.html",
            comparison=found,
            groups=groups,
            any_change=any(changes for _, changes, _ in groups),
        )


def _report_page(
    caller: Caller, audits: Audits, audit_id: str, audit_links: dict[str, str]
) -> Response:
    report = Report.model_validate_json(audits.report_text(caller, audit_id))
    here = f"/audits/{audit_id}"
    links = {
        "Audits": "/audits",
        "Save page": f"{here}/report?form=html",
        "JSON": f"{here}/report?form=json",
        "Markdown": f"{here}/report?form=markdown",
    }
    if "repaired_model" in audit_links:
        links["Repaired model"] = f"{here}/model"
    return Response(render_html(report, links=links), media_type=MEDIA["html"])


def _add_downloads(router: APIRouter, keys: Keys, audits: Audits) -> None:
    @router.get("/audits/{audit_id}/report")
    def report_file(
        request: Request,
        audit_id: str,
        form: Annotated[str, Query(pattern="^(json|html|markdown|junit|sarif)$")],
    ) -> Response:
        text = audits.report_text(caller_of(request, keys), audit_id)
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
        _, chunks = audits.repaired_model(caller_of(request, keys), audit_id)
        name = f"{audit_id}-repaired.pt"
        return StreamingResponse(
            chunks,
            media_type="application/octet-stream",
            headers={"content-disposition": f'attachment; filename="{name}"'},
        )
