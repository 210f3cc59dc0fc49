"""Schedules."""

from fastapi import APIRouter, Response

from service.api.access import (
    CallerRoute,
    IdempotencyKey,
    Services,
    Submitter,
    Viewer,
)
from service.api.documented import header, problems
from service.api.upload_routes import Cursor, Limit, NameFilter
from service.contract.errors import (
    Conflict,
    IdempotencyMismatch,
    Mismatch,
    NotFound,
    UnusableDataset,
    UnusableModel,
)
from service.contract.jobs import NewScheduleBody, Page, ScheduleBody
from service.contract.request import SchedulePatch, ScheduleRequest
from service.cursors import slice_of

router = APIRouter(prefix="/v1", route_class=CallerRoute, tags=["schedules"])

_REFUSALS = (Conflict, UnusableModel, UnusableDataset, Mismatch)


@router.post(
    "/schedules",
    summary="Repeat an audit",
    status_code=201,
    responses={
        201: {
            "headers": header(
                "Location", "Address of the schedule.", "/v1/schedules/sch_…"
            )
        },
        **problems(*_REFUSALS, IdempotencyMismatch),
    },
)
def create_schedule(
    body: ScheduleRequest,
    response: Response,
    caller: Submitter,
    desk: Services,
    idempotency_key: IdempotencyKey = None,
) -> NewScheduleBody:
    """Repeat an audit of a deployed model; each run is a normal audit."""
    schedule = desk.schedules.create(caller, body, idempotency_key)
    response.headers["Location"] = f"/v1/schedules/{schedule.id}"
    return schedule


@router.get("/schedules", summary="List schedules", responses=problems())
def list_schedules(
    caller: Viewer,
    desk: Services,
    limit: Limit = 50,
    cursor: Cursor = None,
    name: NameFilter = None,
    enabled: bool | None = None,  # noqa: FBT001 - from the query
) -> Page[ScheduleBody]:
    """List the schedules of the key's project, newest first."""
    chosen = slice_of(cursor, limit, "sch")
    return desk.schedules.page(caller, chosen, name=name, enabled=enabled)


@router.get(
    "/schedules/{schedule_id}",
    summary="Look at a schedule",
    responses=problems(NotFound),
)
def read_schedule(schedule_id: str, caller: Viewer, desk: Services) -> ScheduleBody:
    """Look at a schedule."""
    return desk.schedules.find(caller, schedule_id)


@router.patch(
    "/schedules/{schedule_id}",
    summary="Change a schedule",
    responses=problems(NotFound, *_REFUSALS),
)
def change_schedule(
    schedule_id: str, body: SchedulePatch, caller: Submitter, desk: Services
) -> NewScheduleBody:
    """Change the given fields; the rest stays as it is."""
    return desk.schedules.change(caller, schedule_id, body)


@router.delete(
    "/schedules/{schedule_id}",
    summary="Delete a schedule",
    status_code=204,
    responses=problems(NotFound),
)
def delete_schedule(schedule_id: str, caller: Submitter, desk: Services) -> None:
    """Delete a schedule; the audits it made stay."""
    desk.schedules.delete(caller, schedule_id)
