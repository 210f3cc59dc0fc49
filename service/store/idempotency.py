"""What was answered under an idempotency key."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.contract.errors import FieldError, IdempotencyMismatch
from service.store.tables import IdempotencyRow


@dataclass(frozen=True)
class Promise:
    """A request that shall have one effect, however often it is sent."""

    project: str
    route: str
    key: str
    request_sha256: str


def redeem(
    session: Session,
    promise: Promise,
    resource_id: str,
    *,
    now: datetime,
    kept: timedelta,
) -> IdempotencyRow | None:
    """Note what a request makes, or find what it made before.

    Who makes something notes the answer with `keep_answer` in the same transaction.

    The primary key decides between two requests at once: the second waits for the
    first one's transaction, then finds its row.

    Args:
        session: the transaction that makes the resource.
        promise: the request.
        resource_id: what it is about to make.
        now: the time.
        kept: how long an answer is remembered.

    Returns:
        None, or what it made before and was answered; then nothing must be made now.

    Raises:
        IdempotencyMismatch: the key was used for another request.
    """
    session.execute(
        delete(IdempotencyRow).where(IdempotencyRow.created_at < now - kept)
    )
    row = IdempotencyRow(
        project=promise.project,
        route=promise.route,
        key=promise.key,
        request_sha256=promise.request_sha256,
        resource_id=resource_id,
        answer={},
        created_at=now,
    )
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        return _earlier(session, promise)
    return None


def keep_answer(
    session: Session,
    promise: Promise | None,
    resource_id: str,
    answer: dict[str, Any],
) -> None:
    """Keep what a request is answered with, to answer its like with the same.

    Args:
        session: the transaction that makes the resource.
        promise: None of a request that may have an effect each time.
        resource_id: what was made.
        answer: as JSON.
    """
    if promise is None:
        return
    row = _row(session, promise)
    row.resource_id = resource_id
    row.answer = answer


def _row(session: Session, promise: Promise) -> IdempotencyRow:
    return session.get_one(
        IdempotencyRow, (promise.project, promise.route, promise.key)
    )


def _earlier(session: Session, promise: Promise) -> IdempotencyRow:
    row = _row(session, promise)
    if row.request_sha256 != promise.request_sha256:
        raise IdempotencyMismatch(
            detail="This idempotency key was used for a request with another body.",
            errors=[
                FieldError(
                    pointer="header:Idempotency-Key", detail="already used otherwise"
                )
            ],
        )
    return row
