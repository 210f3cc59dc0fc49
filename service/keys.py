"""API keys: who asks, what they may do, and in which project."""

import hashlib
import hmac
import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from service.contract.errors import (
    Conflict,
    FieldError,
    Forbidden,
    InvalidFields,
    NotFound,
    Unauthorized,
    Unavailable,
)
from service.contract.jobs import KeyBody, NewKeyBody, Page, Role
from service.contract.request import KeyRequest
from service.cursors import Slice, as_page
from service.ids import is_id, new_id
from service.promises import promise
from service.settings import Settings
from service.store import idempotency, key_store
from service.store.database import Database
from service.store.tables import KeyRow

BOOTSTRAP_NAME = "bootstrap"
FIRST_PROJECT = "default"  # of the bootstrap key; its admins manage all keys
_RANK: dict[str, int] = {"viewer": 0, "submitter": 1, "admin": 2}
_CACHED_KEYS = 10_000
_LONGEST_SECRET = 512


@dataclass(frozen=True)
class Caller:
    """Who asks, as the key says."""

    key_id: str
    role: Role
    project: str
    secret_sha256: str

    def may_act_as(self, role: Role) -> bool:
        """Say whether the caller's role covers another role."""
        return _RANK[self.role] >= _RANK[role]

    def manages_keys_of(self, project: str) -> bool:
        """Say whether the caller, an admin, manages the keys of a project."""
        return self.project in {project, FIRST_PROJECT}


class Keys:
    """Makes, finds and revokes keys."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._known: OrderedDict[str, tuple[float, Caller]] = OrderedDict()
        self._lock = threading.Lock()

    def known(self, secret: str) -> Caller | None:
        """Find a key that was looked up a few seconds ago; never blocks."""
        found = self._known.get(_hash(secret))
        if found is None or found[0] < time.monotonic():
            return None
        return found[1]

    def authenticate(self, secret: str) -> Caller:
        """Find out who presents a secret.

        Raises:
            Unauthorized: an unknown, expired or revoked key.
        """
        digest = _hash(secret)
        now = datetime.now(UTC)
        with self._database.reading() as session:
            row = key_store.find_secret(session, digest)
        if row is None or not hmac.compare_digest(row.secret_sha256, digest):
            raise Unauthorized(detail="This key is not known here.")
        if row.revoked_at is not None:
            raise Unauthorized(detail="This key was revoked.")
        if row.expires_at is not None and row.expires_at <= now:
            raise Unauthorized(detail="This key has expired.")
        if key_store.use_is_stale(row, now):
            # A caller who only reads is answered though nothing can be written.
            with (
                suppress(Unavailable),
                self._database.transaction(hasty=True) as session,
            ):
                key_store.note_use(session, row.id, now)
        caller = Caller(row.id, _role(row.role), row.project, digest)
        self._remember(digest, caller, row.expires_at, now)
        return caller

    def create(
        self, caller: Caller, request: KeyRequest, idempotency_key: str | None
    ) -> NewKeyBody:
        """Make a key; its secret is shown this once.

        Under an idempotency key the secret is derived from the caller's own, so that
        the same request gets the same answer though only a hash is stored.

        Raises:
            InvalidFields: it would have expired already.
            Forbidden: it is for a project whose keys the caller does not manage.
            Conflict: the idempotency key was used with another key of the project.
        """
        now = datetime.now(UTC)
        if request.expires_at is not None and request.expires_at <= now:
            raise InvalidFields(
                detail="The key would have expired already.",
                errors=[
                    FieldError(pointer="/expires_at", detail="expected a future time")
                ],
            )
        project = request.project or caller.project
        if not caller.manages_keys_of(project):
            raise Forbidden(
                detail=f"An admin of the project {caller.project!r} makes keys of that "
                "project only."
            )
        promised = promise(
            caller.project, "POST /v1/keys", idempotency_key, request.model_dump_json()
        )
        key_id = new_id("key")
        with self._database.transaction() as session:
            if promised is not None:
                kept = timedelta(hours=self._settings.idempotency_hours)
                earlier = idempotency.redeem(
                    session, promised, key_id, now=now, kept=kept
                )
                if earlier is not None:
                    row = session.get_one(KeyRow, earlier.resource_id)
                    return _shown_again(row, _derived(caller, promised.key, row.id))
            secret = (
                f"mak_{secrets.token_urlsafe(32)}"
                if promised is None
                else _derived(caller, promised.key, key_id)
            )
            row = KeyRow(
                id=key_id,
                name=request.name,
                role=request.role,
                project=project,
                secret_sha256=_hash(secret),
                created_at=now,
                expires_at=request.expires_at,
            )
            key_store.add(session, row)
        return NewKeyBody(**_body(row).model_dump(), key=secret)

    def find(self, caller: Caller, key_id: str) -> KeyBody:
        """Show a key, without its secret.

        Raises:
            NotFound: no such key in force, or not one that the caller manages.
        """
        with self._database.reading() as session:
            return _body(_found(session, caller, key_id))

    def page(
        self,
        caller: Caller,
        chosen: Slice,
        *,
        project: str | None,
        **filters: str | None,
    ) -> Page[KeyBody]:
        """List the keys in force that the caller manages."""
        if caller.project != FIRST_PROJECT:
            if project not in {None, caller.project}:
                return Page(items=[])
            project = caller.project
        filters["project"] = project
        with self._database.reading() as session:
            rows, more = key_store.page(
                session, filters, before=chosen.before, limit=chosen.limit
            )
        return as_page([_body(row) for row in rows], more=more)

    def revoke(self, caller: Caller, key_id: str) -> None:
        """Revoke a key; other processes honour it for a few seconds more.

        Raises:
            NotFound: no such key in force, or not one that the caller manages.
            Conflict: it is the key that asks, and nobody shall lock themselves out.
        """
        if key_id == caller.key_id:
            raise Conflict(detail="A key cannot revoke itself.")
        with self._database.transaction() as session:
            row = _found(session, caller, key_id)
            row.revoked_at = datetime.now(UTC)
            digest = row.secret_sha256
        with self._lock:
            self._known.pop(digest, None)

    def ensure_admin(self) -> None:
        """See to it that there is a first admin key: the operator's, or one we make.

        The key that we make is kept in the data folder with mode 0600, where the
        command line of this machine finds it.
        """
        given = self._settings.api_key
        secret = (
            given.get_secret_value()
            if given is not None
            else _read_or_write(
                self._settings, lambda: f"mak_{secrets.token_urlsafe(32)}"
            )
        )
        with self._database.transaction() as session:
            row = key_store.find_secret(session, _hash(secret))
            if row is None:
                key_store.add(
                    session,
                    KeyRow(
                        id=new_id("key"),
                        name=BOOTSTRAP_NAME,
                        role="admin",
                        project=FIRST_PROJECT,
                        secret_sha256=_hash(secret),
                        created_at=datetime.now(UTC),
                    ),
                )
            else:  # the operator's word stands above an earlier revocation
                row.revoked_at = None

    def _remember(
        self, digest: str, caller: Caller, expires_at: datetime | None, now: datetime
    ) -> None:
        seconds = self._settings.key_cache_seconds
        if expires_at is not None:
            seconds = min(seconds, (expires_at - now).total_seconds())
        with self._lock:
            self._known[digest] = (time.monotonic() + seconds, caller)
            self._known.move_to_end(digest)
            while len(self._known) > _CACHED_KEYS:
                self._known.popitem(last=False)


def _hash(secret: str) -> str:
    return hashlib.sha256(
        secret[:_LONGEST_SECRET].encode("utf-8", "replace")
    ).hexdigest()


def _derived(caller: Caller, idempotency_key: str, key_id: str) -> str:
    """Derive a secret that only the same caller can have derived again.

    The slow hash keeps who was given such a key from guessing the caller's secret.
    """
    secret = hashlib.scrypt(
        caller.secret_sha256.encode(),
        salt=f"{key_id}:{idempotency_key}".encode(),
        n=2**14,
        r=8,
        p=1,
        dklen=32,
    )
    return f"mak_{secret.hex()}"


def _shown_again(row: KeyRow, secret: str) -> NewKeyBody:
    if not hmac.compare_digest(row.secret_sha256, _hash(secret)):
        raise Conflict(
            detail="This idempotency key was used with another API key, to which alone "
            "the new key was shown."
        )
    return NewKeyBody(**_body(row).model_dump(exclude={"last_used_at"}), key=secret)


def _read_or_write(settings: Settings, make: Callable[[], str]) -> str:
    """Read the key file, or be the one process that writes it."""
    path = settings.key_file
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        fresh = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(make())
        try:
            os.link(fresh, path)  # fails where another process was faster
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_text(encoding="utf-8").strip()


def _found(session: Session, caller: Caller, key_id: str) -> KeyRow:
    row = key_store.find(session, key_id) if is_id(key_id, "key") else None
    if (
        row is None
        or row.revoked_at is not None
        or not caller.manages_keys_of(row.project)
    ):
        raise NotFound(detail=f"There is no key {key_id[:64]!r}.")
    return row


def _role(text: str) -> Role:
    return (
        "admin" if text == "admin" else "submitter" if text == "submitter" else "viewer"
    )


def _body(row: KeyRow) -> KeyBody:
    return KeyBody(
        id=row.id,
        name=row.name,
        role=_role(row.role),
        project=row.project,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
    )
