"""The report of an audit, in the form that the reader asks for."""

from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Request, Response

from service.api.access import CallerRoute, Services, Viewer
from service.api.documented import problems
from service.contract.errors import Conflict, NotAcceptable, NotFound
from service.contract.report import Report
from service.render.html import content_policy, render_html
from service.render.junit import render_junit
from service.render.markdown import render_markdown
from service.render.sarif import render_sarif

router = APIRouter(prefix="/v1", route_class=CallerRoute, tags=["audits"])

Form = Literal["json", "html", "markdown", "junit", "sarif"]
MEDIA_TYPES: dict[Form, str] = {
    "json": "application/json",
    "html": "text/html",
    "markdown": "text/markdown",
    "junit": "application/xml",
    "sarif": "application/sarif+json",
}


@router.get(
    "/audits/{audit_id}/report",
    summary="Read the report",
    response_model=Report,
    responses={
        200: {
            "content": {
                media_type: {"schema": {"type": "string"}}
                for form, media_type in MEDIA_TYPES.items()
                if form != "json"
            }
        },
        **problems(NotFound, NotAcceptable, Conflict),
    },
)
def read_report(
    audit_id: str,
    request: Request,
    caller: Viewer,
    desk: Services,
    format: Form | None = None,  # noqa: A002 - its name in the address
    accept: Annotated[str | None, Header()] = None,
) -> Response:
    """Read the report: JSON, or as `format` or `Accept` say.

    409 while the audit is unfinished, where it failed, and where it was cancelled
    before its first round was finished or what it had is not written up yet.
    """
    form = format or wanted(accept)
    text = desk.audits.report_text(caller, audit_id)
    if form == "json":
        return Response(text, media_type=MEDIA_TYPES[form])
    report = Report.model_validate_json(text)
    base = str(request.base_url).rstrip("/")
    writers: dict[Form, Callable[[], str]] = {
        "html": lambda: render_html(
            report, links=_links(report, audit_id, base), docs_base=base
        ),
        "markdown": lambda: render_markdown(report),
        "junit": lambda: render_junit(report),
        "sarif": lambda: render_sarif(report, docs_base=base),
    }
    headers = {"X-Content-Type-Options": "nosniff"}
    if form == "html":
        headers["Content-Security-Policy"] = content_policy()
    return Response(writers[form](), media_type=MEDIA_TYPES[form], headers=headers)


def wanted(accept: str | None) -> Form:
    """Choose the form by an `Accept` header; JSON where anything will do.

    Raises:
        NotAcceptable: only forms that are not offered are asked for.
    """
    if not accept or not accept.strip():
        return "json"
    best: tuple[float, int, Form] | None = None
    for position, item in enumerate(accept.split(",")):
        media_type, *parameters = [part.strip().lower() for part in item.split(";")]
        quality = _quality(parameters)
        form = _form(media_type)
        # Of equal wishes the first one counts.
        if form is not None and quality > 0:
            best = max(best or (0.0, 0, form), (quality, -position, form))
    if best is None:
        offered = ", ".join(MEDIA_TYPES.values())
        raise NotAcceptable(detail=f"This report is offered as {offered}.")
    return best[2]


def _form(media_type: str) -> Form | None:
    if media_type in {"*/*", "application/*"}:
        return "json"
    if media_type == "text/*":
        return "html"
    if media_type == "text/xml":
        return "junit"
    for form, offered in MEDIA_TYPES.items():
        if media_type == offered:
            return form
    return None


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0


def _links(report: Report, audit_id: str, base: str) -> dict[str, str]:
    here = f"{base}/v1/audits/{audit_id}"
    links = {"JSON": f"{here}/report"}
    if report.remedy is not None and report.remedy.model is not None:
        links["Repaired model"] = f"{here}/model"
    return links
