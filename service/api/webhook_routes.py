"""Webhooks: what came of the callbacks, and what they are sent."""

from typing import Annotated

from fastapi import APIRouter, Header

from service.api.access import (
    CallerRoute,
    IdempotencyKey,
    Services,
    Submitter,
    Viewer,
)
from service.api.documented import problems
from service.contract.errors import Conflict, IdempotencyMismatch, NotFound
from service.contract.jobs import WebhookBody, WebhookEvent

router = APIRouter(prefix="/v1", route_class=CallerRoute, tags=["webhooks"])
messages = APIRouter()  # what we send; only for the description of the API


@messages.post(
    "{$request.body#/callback/url}",
    summary="The audit has ended",
    status_code=204,
    response_description="Any 2xx: it has arrived.",
)
def announce_end(
    body: WebhookEvent,
    webhook_id: Annotated[
        str, Header(description="The same at every try.", examples=["whk_…"])
    ],
    webhook_timestamp: Annotated[
        str, Header(description="Of this try, in seconds.", examples=["1767323045"])
    ],
    webhook_signature: Annotated[
        str,
        Header(
            description="`v1,` and the HMAC-SHA256 of `{id}.{timestamp}.{body}` in "
            "base64 (Standard Webhooks).",
            examples=["v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="],
        ),
    ],
) -> None:
    """Announce the end of an audit; what is not answered with 2xx is tried again."""


@router.get(
    "/webhooks/{webhook_id}",
    summary="Look at the deliveries of a callback",
    responses=problems(NotFound),
)
def read_webhook(webhook_id: str, caller: Viewer, desk: Services) -> WebhookBody:
    """Look at the deliveries of a callback; its secret is not shown."""
    return desk.webhooks.find(caller, webhook_id)


@router.post(
    "/webhooks/{webhook_id}/redeliver",
    summary="Deliver again",
    status_code=202,
    responses=problems(NotFound, Conflict, IdempotencyMismatch),
)
def redeliver_webhook(
    webhook_id: str,
    caller: Submitter,
    desk: Services,
    idempotency_key: IdempotencyKey = None,
) -> WebhookBody:
    """Try at once, whatever came of it before; retries follow as from the start."""
    return desk.webhooks.redeliver(caller, webhook_id, idempotency_key)
