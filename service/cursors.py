"""Where a page of a list begins: opaque to callers, the last id seen to us."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from service.contract.errors import FieldError, InvalidFields
from service.contract.jobs import (
    AuditBody,
    DatasetBody,
    ExperimentBody,
    KeyBody,
    ModelBody,
    Page,
    ScheduleBody,
)
from service.ids import Prefix, is_id

Item = TypeVar(
    "Item", ModelBody, DatasetBody, AuditBody, ExperimentBody, ScheduleBody, KeyBody
)


@dataclass(frozen=True)
class Slice:
    """Which part of a list is asked for."""

    limit: int
    before: str | None = None


def slice_of(cursor: str | None, limit: int, prefix: Prefix) -> Slice:
    """Read a cursor.

    Raises:
        InvalidFields: it is none of ours.
    """
    if cursor is None:
        return Slice(limit)
    try:
        text = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    if not is_id(text, prefix):
        raise InvalidFields(
            detail="The cursor is not one that this list gave out.",
            errors=[
                FieldError(
                    pointer="query:cursor",
                    detail="expected the `next_cursor` of an earlier page",
                )
            ],
        )
    return Slice(limit, text)


def as_page(items: Sequence[Item], *, more: bool) -> Page[Item]:
    """Make a page whose cursor, where there is more, stands on its last item."""
    cursor = None
    if more:
        cursor = base64.urlsafe_b64encode(items[-1].id.encode()).decode()
    return Page(items=list(items), next_cursor=cursor)
