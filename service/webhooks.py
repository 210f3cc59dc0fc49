"""Webhooks: the callbacks of audits, looked at and asked for again."""

from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from service.contract.errors import Conflict, NotFound
from service.contract.jobs import WebhookBody
from service.contract.request import Callback
from service.ids import is_id
from service.keys import Caller
from service.promises import promise
from service.settings import Settings
from service.signature import new_secret
from service.store import idempotency, webhook_store
from service.store.database import Database, database_time
from service.store.tables import AuditRow, WebhookRow


class Webhooks:
    """Shows deliveries and starts them again."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._kept = timedelta(hours=settings.idempotency_hours)

    def find(self, caller: Caller, webhook_id: str) -> WebhookBody:
        """Find a webhook.

        Raises:
            NotFound: not in the caller's project.
        """
        with self._database.reading() as session:
            return _body(_found(session, caller, webhook_id))

    def redeliver(
        self, caller: Caller, webhook_id: str, idempotency_key: str | None
    ) -> WebhookBody:
        """Let it be tried at once, and from the start where that fails.

        Asking again before it was tried changes nothing.

        Raises:
            NotFound: not in the caller's project.
            Conflict: its audit has not ended.
            IdempotencyMismatch: the key was used for another request.
        """
        route = f"POST /v1/webhooks/{webhook_id}/redeliver"
        promised = promise(caller.project, route, idempotency_key, "")
        with self._database.transaction() as session:
            row = _found(session, caller, webhook_id, lock=True)
            if row.status == "waiting":
                raise Conflict(
                    detail="The audit has not ended; there is nothing to deliver yet."
                )
            if promised is not None and idempotency.redeem(
                session, promised, row.id, now=datetime.now(UTC), kept=self._kept
            ):
                return _body(row)
            webhook_store.announce_again(row, now=database_time(session))
        return _body(row)


def add_webhook(
    session: Session, audit: AuditRow, callback: Callback, *, now: datetime
) -> None:
    """Keep the callback of a new audit, in the transaction that makes the audit."""
    assert audit.webhook_id is not None
    session.add(
        WebhookRow(
            id=audit.webhook_id,
            project=audit.project,
            audit_id=audit.id,
            url=str(callback.url),
            secret=callback.secret or new_secret(),
            status="waiting",
            tries=0,
            attempts=[],
            created_at=now,
        )
    )


def _found(
    session: Session, caller: Caller, webhook_id: str, *, lock: bool = False
) -> WebhookRow:
    row = (
        webhook_store.find(session, caller.project, webhook_id, lock=lock)
        if is_id(webhook_id, "whk")
        else None
    )
    if row is None:
        raise NotFound(detail=f"There is no webhook {webhook_id[:64]!r}.")
    return row


def _body(row: WebhookRow) -> WebhookBody:
    return WebhookBody.model_validate(
        {
            "id": row.id,
            "audit_id": row.audit_id,
            "url": row.url,
            "created_at": row.created_at,
            "status": row.status,
            "attempts": row.attempts,
            "next_attempt_at": row.next_attempt_at,
        }
    )
