"""Schedules: audits that are repeated."""

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError
from sqlalchemy.orm import Session

from service.audits import check_request, start_audit
from service.contract.errors import FieldError, InvalidFields, NotFound, at
from service.contract.jobs import NewScheduleBody, Page, ScheduleBody
from service.contract.request import AuditRequest, SchedulePatch, ScheduleRequest
from service.cursors import Slice, as_page
from service.ids import is_id, new_id
from service.keys import Caller
from service.promises import promise
from service.settings import Settings
from service.signature import new_secret
from service.store import idempotency, schedule_store
from service.store.database import Database
from service.store.tables import ScheduleRow

_FIELDS = 5


class Schedules:
    """Makes, finds, changes and removes schedules."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._kept = timedelta(hours=settings.idempotency_hours)

    def create(
        self, caller: Caller, request: ScheduleRequest, idempotency_key: str | None
    ) -> NewScheduleBody:
        """Make a schedule; a secret made for its callback is shown this once.

        Raises:
            InvalidFields: times that do not exist, or an audit that cannot be done.
            IdempotencyMismatch: the key was used for another request.
        """
        now = datetime.now(UTC)
        due = next_run(request.cron, request.timezone, now)
        row = ScheduleRow(
            id=new_id("sch"),
            project=caller.project,
            name=request.name,
            cron=request.cron,
            timezone=request.timezone,
            enabled=request.enabled,
            created_at=now,
            next_run_at=due if request.enabled else None,
        )
        _keep_audit(row, request.audit)
        promised = promise(
            caller.project,
            "POST /v1/schedules",
            idempotency_key,
            request.model_dump_json(exclude_unset=True),
        )
        with self._database.transaction() as session:
            if promised is not None:
                earlier = idempotency.redeem(
                    session, promised, row.id, now=now, kept=self._kept
                )
                if earlier is not None:
                    return NewScheduleBody.model_validate(earlier.answer)
            with at("/audit"):
                check_request(session, caller.project, request.audit)
            session.add(row)
            body = _new_schedule_body(row, request.audit)
            answer = body.model_dump(mode="json", exclude_unset=True)
            idempotency.keep_answer(session, promised, row.id, answer)
        return body

    def find(self, caller: Caller, schedule_id: str) -> ScheduleBody:
        """Find a schedule.

        Raises:
            NotFound: not in the caller's project.
        """
        with self._database.reading() as session:
            row = (
                schedule_store.find(session, caller.project, schedule_id)
                if is_id(schedule_id, "sch")
                else None
            )
        if row is None:
            raise _unknown(schedule_id)
        return schedule_body(row)

    def page(
        self, caller: Caller, chosen: Slice, *, name: str | None, enabled: bool | None
    ) -> Page[ScheduleBody]:
        """List a project's schedules."""
        with self._database.reading() as session:
            rows, more = schedule_store.page(
                session,
                caller.project,
                {"name": name, "enabled": enabled},
                before=chosen.before,
                limit=chosen.limit,
            )
        return as_page([schedule_body(row) for row in rows], more=more)

    def change(
        self, caller: Caller, schedule_id: str, patch: SchedulePatch
    ) -> NewScheduleBody:
        """Change the given fields; its next run is worked out anew.

        A callback without a secret keeps the one that the schedule has.

        Raises:
            NotFound: not in the caller's project.
            InvalidFields: times that do not exist, or an audit that cannot be done.
        """
        if not is_id(schedule_id, "sch"):
            raise _unknown(schedule_id)
        given = {
            name: value
            for name in patch.model_fields_set
            if (value := getattr(patch, name)) is not None
        }
        with self._database.transaction() as session:
            row = schedule_store.find(session, caller.project, schedule_id, lock=True)
            if row is None:
                raise _unknown(schedule_id)
            timing = (row.cron, row.timezone, row.enabled)
            had_secret = row.callback_secret is not None
            for name, value in given.items():
                if name == "audit":
                    with at("/audit"):
                        check_request(session, caller.project, value)
                    _keep_audit(row, value)
                else:
                    setattr(row, name, value)
            if (row.cron, row.timezone, row.enabled) != timing:
                due = next_run(row.cron, row.timezone, datetime.now(UTC))
                row.next_run_at = due if row.enabled else None
        return _new_schedule_body(row, None if had_secret else patch.audit)

    def delete(self, caller: Caller, schedule_id: str) -> None:
        """Remove a schedule; the audits it made stay.

        Raises:
            NotFound: not in the caller's project.
        """
        if not is_id(schedule_id, "sch"):
            raise _unknown(schedule_id)
        with self._database.transaction() as session:
            row = schedule_store.find(session, caller.project, schedule_id, lock=True)
            if row is None:
                raise _unknown(schedule_id)
            session.delete(row)


@cache
def _zones() -> frozenset[str]:
    # What the machine calls its own zone is another one elsewhere.
    return frozenset(available_timezones() - {"localtime"})


def next_run(cron: str, timezone: str, after: datetime) -> datetime:
    """Find the next due time after a time, in UTC.

    Raises:
        InvalidFields: no such time zone, or times that never come.
    """
    if timezone not in _zones():
        raise InvalidFields(
            detail="There is no such time zone.",
            errors=[
                FieldError(
                    pointer="/timezone",
                    detail="expected a name of the IANA time zone database, such as "
                    "`Europe/Berlin`",
                )
            ],
        )
    # A sixth field, which the library takes for seconds, is not for audits.
    written = cron if len(cron.split()) == _FIELDS else ""
    try:
        due = next(CronSim(written, after.astimezone(ZoneInfo(timezone))))
    except (CronSimError, StopIteration) as error:
        raise InvalidFields(
            detail="The times of the schedule are not valid.",
            errors=[
                FieldError(
                    pointer="/cron",
                    detail="expected five fields (minute, hour, day, month, weekday) "
                    "that some time fulfils, such as `0 3 * * 1`",
                )
            ],
        ) from error
    return due.astimezone(UTC)


def start_scheduled(session: Session, row: ScheduleRow, now: datetime) -> str:
    """Start the audit of a due schedule, in the scheduler's transaction.

    Returns:
        The id of the audit.

    Raises:
        Problem: the audit cannot be done (any more).
    """
    request = AuditRequest.model_validate(_with_secret(row))
    audit = start_audit(session, row.project, request, now=now, schedule_id=row.id)
    audit.tags = [*request.tags, f"schedule:{row.id}"]
    return audit.id


def _keep_audit(row: ScheduleRow, audit: AuditRequest) -> None:
    """Keep what is to be repeated; the secret of its callback apart, as it is shown."""
    row.audit = audit.model_dump(
        mode="json", exclude_unset=True, exclude={"callback": {"secret"}}
    )
    row.callback_secret = (
        (audit.callback.secret or row.callback_secret or new_secret())
        if audit.callback is not None
        else None
    )


def _with_secret(row: ScheduleRow) -> dict[str, Any]:
    callback = row.audit.get("callback")
    if callback is None:
        return row.audit
    return {**row.audit, "callback": {**callback, "secret": row.callback_secret}}


def _new_schedule_body(row: ScheduleRow, asked: AuditRequest | None) -> NewScheduleBody:
    """Show a schedule, with the secret that was made for what was asked."""
    shown = NewScheduleBody.model_validate(schedule_body(row).model_dump())
    if asked is None or asked.callback is None or asked.callback.secret is not None:
        return shown
    return shown.model_copy(update={"callback_secret": row.callback_secret})


def schedule_body(row: ScheduleRow) -> ScheduleBody:
    """Show a schedule."""
    return ScheduleBody.model_validate(
        {
            "id": row.id,
            "name": row.name,
            "cron": row.cron,
            "timezone": row.timezone,
            "audit": row.audit,
            "enabled": row.enabled,
            "created_at": row.created_at,
            "next_run_at": row.next_run_at,
            "last_run_at": row.last_run_at,
            "last_audit_id": row.last_audit_id,
            "last_result": row.last_result,
            "last_problem": row.last_problem,
        }
    )


def _unknown(schedule_id: str) -> NotFound:
    return NotFound(detail=f"There is no schedule {schedule_id[:64]!r}.")
