"""API keys, for admins."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from service.api.access import Admin, CallerRoute, IdempotencyKey, Services
from service.api.documented import header, problems
from service.api.upload_routes import Cursor, Limit, NameFilter
from service.contract.errors import Conflict, IdempotencyMismatch, NotFound
from service.contract.jobs import KeyBody, NewKeyBody, Page, Role
from service.contract.request import KeyRequest
from service.cursors import slice_of

router = APIRouter(prefix="/v1", route_class=CallerRoute, tags=["keys"])


@router.post(
    "/keys",
    summary="Make a key",
    status_code=201,
    responses={
        201: {"headers": header("Location", "Address of the key.", "/v1/keys/key_…")},
        **problems(Conflict, IdempotencyMismatch),
    },
)
def create_key(
    body: KeyRequest,
    response: Response,
    caller: Admin,
    desk: Services,
    idempotency_key: IdempotencyKey = None,
) -> NewKeyBody:
    """Make a key. Its secret is shown this once; only a hash of it is kept.

    Admins of the project `default` make keys of every project, others of their own.
    """
    key = desk.keys.create(caller, body, idempotency_key)
    response.headers["Location"] = f"/v1/keys/{key.id}"
    response.headers["Cache-Control"] = "no-store"
    return key


@router.get("/keys", summary="List keys", responses=problems())
def list_keys(  # noqa: PLR0913, PLR0917 - filters
    caller: Admin,
    desk: Services,
    limit: Limit = 50,
    cursor: Cursor = None,
    name: NameFilter = None,
    role: Role | None = None,
    project: Annotated[str | None, Query(max_length=63)] = None,
) -> Page[KeyBody]:
    """List the keys in force, newest first.

    Admins of the project `default` see those of all projects, others of their own.
    """
    chosen = slice_of(cursor, limit, "key")
    return desk.keys.page(caller, chosen, name=name, role=role, project=project)


@router.get("/keys/{key_id}", summary="Look at a key", responses=problems(NotFound))
def read_key(key_id: str, caller: Admin, desk: Services) -> KeyBody:
    """Look at a key, without its secret."""
    return desk.keys.find(caller, key_id)


@router.delete(
    "/keys/{key_id}",
    summary="Revoke a key",
    status_code=204,
    responses=problems(NotFound, Conflict),
)
def revoke_key(key_id: str, caller: Admin, desk: Services) -> None:
    """Revoke a key; a key cannot revoke itself."""
    desk.keys.revoke(caller, key_id)
