"""Audits: ask, poll, wait, follow, cancel, compare."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from service.api.access import (
    Admin,
    CallerRoute,
    IdempotencyKey,
    Services,
    Submitter,
    Viewer,
)
from service.api.documented import header, problems
from service.api.downloads import download
from service.api.poll_answer import Poll, answer_poll, current
from service.api.upload_routes import Cursor, Limit
from service.api.waiting import Waiting
from service.api.webhook_routes import messages
from service.audits import Snapshot
from service.contract.comparison import Comparison
from service.contract.errors import (
    Conflict,
    IdempotencyMismatch,
    Mismatch,
    NotFound,
    RangeNotSatisfiable,
    UnusableDataset,
    UnusableModel,
)
from service.contract.jobs import (
    AuditBody,
    AuditStatus,
    ExperimentBody,
    NewAuditBody,
    Page,
)
from service.contract.request import AuditRequest
from service.cursors import slice_of
from service.keys import Caller

router = APIRouter(prefix="/v1", route_class=CallerRoute, tags=["audits"])

_EVENT_SECONDS = 15.0
_POLLING = {
    **header("ETag", "Names the state that the body shows.", '"v7"'),
    **header("Retry-After", "Seconds; while the audit is unfinished.", "2"),
}
_BINARY = {
    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
}
Prefer = Annotated[
    str | None,
    Header(
        description="`wait=N` holds the answer until the audit changes or N seconds "
        "(60 at most) have passed.",
        examples=["wait=30"],
    ),
]
IfNoneMatch = Annotated[
    str | None,
    Header(description="The `ETag` of an earlier answer.", examples=['"v7"']),
]

IfRange = Annotated[
    str | None,
    Header(description="The `ETag` of the file that `Range` is a part of."),
]
Range = Annotated[
    str | None,
    Header(
        alias="Range",
        description="The part that is wanted; several get the whole.",
        examples=["bytes=1048576-"],
    ),
]


@router.post(
    "/audits",
    summary="Ask for an audit",
    status_code=202,
    responses={
        202: {
            "headers": {
                **header("Location", "Address of the audit.", "/v1/audits/aud_…"),
                **header("Operation-Location", "The same.", "/v1/audits/aud_…"),
                **header("Retry-After", "Seconds.", "2"),
            }
        },
        **problems(
            Conflict, UnusableModel, UnusableDataset, Mismatch, IdempotencyMismatch
        ),
    },
    callbacks=messages.routes,
)
def submit_audit(
    body: AuditRequest,
    response: Response,
    caller: Submitter,
    desk: Services,
    idempotency_key: IdempotencyKey = None,
) -> NewAuditBody:
    """Ask for an audit. What is answered with 202 reaches exactly one end."""
    audit = desk.audits.submit(caller, body, idempotency_key)
    address = f"/v1/audits/{audit.id}"
    response.headers["Location"] = address
    response.headers["Operation-Location"] = address
    response.headers["Retry-After"] = str(desk.settings.retry_after_seconds)
    return audit


@router.get("/audits", summary="List audits", responses=problems())
def list_audits(  # noqa: PLR0913, PLR0917 - filters
    caller: Viewer,
    desk: Services,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: AuditStatus | None = None,
    model_id: Annotated[str | None, Query(max_length=64)] = None,
    dataset_id: Annotated[str | None, Query(max_length=64)] = None,
    schedule_id: Annotated[str | None, Query(max_length=64)] = None,
    tag: Annotated[str | None, Query(max_length=100)] = None,
) -> Page[AuditBody]:
    """List the audits of the key's project, newest first."""
    return desk.audits.page(
        caller,
        slice_of(cursor, limit, "aud"),
        tag=tag,
        status=status,
        model_id=model_id,
        dataset_id=dataset_id,
        schedule_id=schedule_id,
    )


@router.get(
    "/audits/{audit_id}",
    summary="Poll an audit, or wait for a change",
    response_model=AuditBody,
    responses={
        200: {"headers": _POLLING},
        304: {"description": "Nothing has changed.", "headers": _POLLING},
        **problems(NotFound),
    },
)
async def read_audit(
    audit_id: str,
    request: Request,
    caller: Viewer,
    desk: Services,
    if_none_match: IfNoneMatch = None,
    prefer: Prefer = None,
) -> Response:
    """Look at an audit."""
    answer = await answer_poll(
        request.app.state.waiting,
        Poll(audit_id, caller.project, if_none_match, prefer),
        retry_after=str(desk.settings.retry_after_seconds),
    )
    return Response(
        answer.body or None,
        status_code=answer.status,
        media_type="application/json" if answer.body else None,
        headers=answer.headers,
    )


@router.get(
    "/audits/{audit_id}/events",
    summary="Follow an audit",
    response_class=EventSourceResponse,
    responses={
        200: {
            "description": "An event `audit` for each change, whose data is the audit "
            "and whose id is its version; the stream ends with the audit.",
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": 'event: audit\nid: 7\ndata: {"id": "aud_…", …}\n\n',
                }
            },
        },
        204: {"description": "The audit has ended, and `Last-Event-ID` is its end."},
        **problems(NotFound),
    },
)
async def follow_audit(
    audit_id: str,
    request: Request,
    caller: Viewer,
    last_event_id: Annotated[str | None, Header(max_length=32)] = None,
) -> Response:
    """Follow an audit as server-sent events."""
    waiting: Waiting = request.app.state.waiting
    found = await current(waiting, caller.project, audit_id)
    if found.is_finished and last_event_id == str(found.version):
        return Response(status_code=204)  # tells the browser not to come back
    return EventSourceResponse(
        _events(waiting, caller, audit_id, found, last_event_id), ping=15
    )


async def _events(
    waiting: Waiting,
    caller: Caller,
    audit_id: str,
    found: Snapshot,
    seen: str | None,
) -> AsyncIterator[ServerSentEvent]:
    while True:
        if seen != str(found.version):
            seen = str(found.version)
            yield ServerSentEvent(found.body.decode(), event="audit", id=seen)
        if found.is_finished or waiting.has_ended:
            return
        await waiting.changed(audit_id, found.version, seconds=_EVENT_SECONDS)
        try:
            found = await current(waiting, caller.project, audit_id)
        except NotFound:
            return


@router.post(
    "/audits/{audit_id}/cancel",
    summary="Cancel an audit",
    responses=problems(NotFound, Conflict),
)
def cancel_audit(audit_id: str, caller: Submitter, desk: Services) -> AuditBody:
    """Cancel an audit; what is finished stays readable.

    The audit is `cancelled` at once. The experiments that are done stay listed. Where
    the first round had been finished, a worker soon writes a report of what there is:
    `links.report` appears, and the report's `limits` say that the audit was cancelled,
    causes not decided by then are `inconclusive`, and its gate is not passed. Nothing
    is trained for that.
    """
    return desk.audits.cancel(caller, audit_id)


@router.get(
    "/audits/{audit_id}/experiments",
    summary="List the experiments that are done",
    responses=problems(NotFound),
)
def list_experiments(
    audit_id: str,
    caller: Viewer,
    desk: Services,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[ExperimentBody]:
    """List what an audit has found out so far, newest first.

    Also of one that was cancelled or failed, and so may have no report.
    """
    return desk.audits.experiments(caller, audit_id, slice_of(cursor, limit, "pce"))


@router.get(
    "/audits/{audit_id}/model",
    summary="Download the repaired model",
    response_class=Response,
    responses={
        200: {"description": "A TorchScript archive.", "content": _BINARY},
        206: {"description": "The part that `Range` asks for.", "content": _BINARY},
        304: {"description": "It is what `If-None-Match` names."},
        **problems(NotFound, Conflict, RangeNotSatisfiable),
    },
)
def read_repaired_model(
    audit_id: str,
    caller: Viewer,
    desk: Services,
    if_none_match: IfNoneMatch = None,
    if_range: IfRange = None,
    wanted: Range = None,
) -> Response:
    """Download the repaired model, where the audit made one; whole or in part."""
    model = desk.audits.repaired_model(caller, audit_id)
    return download(
        model,
        f"{audit_id}.pt",
        if_none_match=if_none_match,
        wanted=wanted if if_range in {None, f'"{model.sha256}"'} else None,
    )


@router.get(
    "/audits/{audit_id}/compare/{other_id}",
    summary="Compare two audits",
    responses=problems(NotFound, Conflict),
)
def compare_audits(
    audit_id: str, other_id: str, caller: Viewer, desk: Services
) -> Comparison:
    """Say what changed from the first audit to the other."""
    return desk.audits.compare(caller, audit_id, other_id)


@router.delete(
    "/audits/{audit_id}",
    summary="Delete an audit",
    status_code=204,
    responses=problems(NotFound, Conflict),
)
def delete_audit(audit_id: str, caller: Admin, desk: Services) -> None:
    """Delete an audit that has ended, with its report."""
    sha256 = desk.audits.delete(caller, audit_id)
    if sha256 is not None:
        desk.uploads.forget_bytes(sha256)
