"""Every table, in the words of SQLAlchemy 2: runs on SQLite and on PostgreSQL."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    select,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time; SQLite drops the zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        """Store UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        """Read UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value


class Table(DeclarativeBase):
    """The parent of all tables."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        list[Any]: JSON,
        str: String(255),
    }


class KeyRow(Table):
    """An API key; only the SHA-256 of its secret is kept."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    role: Mapped[str]
    project: Mapped[str]
    secret_sha256: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class ModelRow(Table):
    """An uploaded model."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("project", "sha256"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    project: Mapped[str] = mapped_column(index=True)
    name: Mapped[str]
    format: Mapped[str]
    sha256: Mapped[str] = mapped_column(index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    inspection: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime]


class DatasetRow(Table):
    """An uploaded dataset; the same bytes under another spec are another dataset."""

    __tablename__ = "datasets"
    __table_args__ = (UniqueConstraint("project", "sha256", "spec_sha256"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    project: Mapped[str] = mapped_column(index=True)
    name: Mapped[str]
    format: Mapped[str]
    sha256: Mapped[str] = mapped_column(index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    spec: Mapped[dict[str, Any]] = mapped_column(default=dict)
    spec_sha256: Mapped[str]
    inspection: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime]


class ReportRow(Table):
    """The one report of an audit, as JSON text."""

    __tablename__ = "reports"

    audit_id: Mapped[str] = mapped_column(ForeignKey("audits.id"), primary_key=True)
    body: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]


class AuditRow(Table):
    """An audit. `version` grows with every visible change and is the ETag."""

    __tablename__ = "audits"
    __table_args__ = (Index("audits_by_status", "status", "created_at"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    project: Mapped[str] = mapped_column(index=True)
    status: Mapped[str]
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), index=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), index=True)
    schedule_id: Mapped[str | None] = mapped_column(index=True)
    webhook_id: Mapped[str | None]
    request: Mapped[dict[str, Any]]
    tags: Mapped[list[Any]] = mapped_column(default=list)
    progress: Mapped[dict[str, Any]] = mapped_column(default=dict)
    error: Mapped[dict[str, Any] | None]
    version: Mapped[int] = mapped_column(default=1)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    remedy_sha256: Mapped[str | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    has_report: Mapped[bool] = column_property(
        select(ReportRow.audit_id).where(ReportRow.audit_id == id).exists()  # noqa: A003
    )


class WebhookRow(Table):
    """An audit's callback, and the one message that it is owed.

    `status` is `waiting` while the audit is unfinished, `pending` from its end on, then
    `delivered` or `failed`. Until `taken_until` somebody is delivering it. `tries`
    counts since the audit's end or since it was last asked for again.
    """

    __tablename__ = "webhooks"
    __table_args__ = (Index("webhooks_to_deliver", "status", "next_attempt_at"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    project: Mapped[str]
    audit_id: Mapped[str] = mapped_column(ForeignKey("audits.id"), unique=True)
    url: Mapped[str] = mapped_column(Text)
    secret: Mapped[str]
    status: Mapped[str] = mapped_column(default="waiting")
    tries: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[list[Any]] = mapped_column(default=list)
    created_at: Mapped[datetime]
    next_attempt_at: Mapped[datetime | None]
    taken_until: Mapped[datetime | None]


class PieceRow(Table):
    """One piece of work, claimed under a fenced lease.

    `kind` is `inspect_model`, `inspect_dataset` (then `subject_id` names the upload),
    or `experiment`, `advance`, `conclude` (then `subject_id` names the audit). `status`
    is `ready`, `running`, `done` or `failed`. Whoever holds `token` until `lease_until`
    may write its outcome; a piece that lost its lease gets another token.
    """

    __tablename__ = "pieces"
    __table_args__ = (
        UniqueConstraint("subject_id", "kind", "digest"),
        Index("pieces_to_claim", "subject_id", "status", "position"),
        Index("pieces_by_status", "status", "subject_id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    subject_id: Mapped[str]
    kind: Mapped[str]
    digest: Mapped[str]
    position: Mapped[int] = mapped_column(default=0)
    body: Mapped[dict[str, Any]] = mapped_column(default=dict)
    status: Mapped[str] = mapped_column(default="ready")
    token: Mapped[str | None]
    lease_until: Mapped[datetime | None] = mapped_column(index=True)
    attempts: Mapped[int] = mapped_column(default=0)
    deaths_by_signal: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str | None]
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class OutcomeRow(Table):
    """What came out of an experiment, under the digest of all that went into it."""

    __tablename__ = "outcomes"

    digest: Mapped[str] = mapped_column(primary_key=True)
    body: Mapped[str] = mapped_column(Text)
    seconds: Mapped[float]
    created_at: Mapped[datetime]


class OutboxRow(Table):
    """An invitation to be published; written in the transaction that causes it."""

    __tablename__ = "outbox"
    __table_args__ = (Index("outbox_to_send", "sent_at", "next_try_at"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    task: Mapped[str]
    queue: Mapped[str]
    subject_id: Mapped[str] = mapped_column(index=True)
    created_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]
    next_try_at: Mapped[datetime]
    attempts: Mapped[int] = mapped_column(default=0)


class IdempotencyRow(Table):
    """The answer that was given under an idempotency key."""

    __tablename__ = "idempotency"

    project: Mapped[str] = mapped_column(primary_key=True)
    route: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_sha256: Mapped[str]
    resource_id: Mapped[str]
    answer: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime] = mapped_column(index=True)


class ScheduleRow(Table):
    """A schedule."""

    __tablename__ = "schedules"

    id: Mapped[str] = mapped_column(primary_key=True)
    project: Mapped[str] = mapped_column(index=True)
    name: Mapped[str]
    cron: Mapped[str]
    timezone: Mapped[str]
    audit: Mapped[dict[str, Any]]
    callback_secret: Mapped[str | None]  # not in `audit`, which is shown
    enabled: Mapped[bool]
    created_at: Mapped[datetime]
    next_run_at: Mapped[datetime | None] = mapped_column(index=True)
    last_run_at: Mapped[datetime | None]
    last_audit_id: Mapped[str | None]
    last_result: Mapped[str | None]  # as of its latest run
    last_problem: Mapped[dict[str, Any] | None]


class ScheduleRunRow(Table):
    """One due time of a schedule; unique, so that no two instances run it twice."""

    __tablename__ = "schedule_runs"

    schedule_id: Mapped[str] = mapped_column(
        ForeignKey("schedules.id", ondelete="CASCADE"), primary_key=True
    )
    due_at: Mapped[datetime] = mapped_column(primary_key=True)
    audit_id: Mapped[str | None]
    result: Mapped[str]  # started, skipped_overlap, skipped_late, failed


class WorkerRow(Table):
    """A worker that is or was alive."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    device: Mapped[str]
    sandbox: Mapped[str]
    engine: Mapped[str]
    torch: Mapped[str]
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime] = mapped_column(index=True)
