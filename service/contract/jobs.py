"""What the resources of the API look like: models, datasets, audits, keys and so on."""

from typing import Annotated, Generic, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

from service.contract.errors import ProblemDocument
from service.contract.request import AuditRequest

AuditStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]
TERMINAL: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})
ModelFormat = Literal["torchscript", "torch_export"]
DatasetFormat = Literal["npz", "safetensors", "csv", "parquet", "zip", "pt"]
Role = Literal["viewer", "submitter", "admin"]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True)


class Inspection(_Body):
    """What the confined child saw when it opened the file.

    For a model `facts` holds parameters, layers, input and output shape, traced or
    scripted and the final activation; for a dataset splits, shapes, classes, counts.
    """

    status: Literal["pending", "ok", "failed"] = "pending"
    facts: dict[str, JsonValue] = {}
    problem: ProblemDocument | None = None


class ModelBody(_Body):
    """An uploaded model."""

    id: Annotated[str, Field(examples=["mdl_01k6z8yq0v4d5s6t7u8w9x0y1z"])]
    name: str
    format: ModelFormat
    sha256: str
    size_bytes: int
    created_at: AwareDatetime
    metadata: dict[str, JsonValue] = {}
    inspection: Inspection


class DatasetBody(_Body):
    """An uploaded dataset."""

    id: Annotated[str, Field(examples=["dst_01k6z8yq0v4d5s6t7u8w9x0y1z"])]
    name: str
    format: DatasetFormat
    sha256: str
    size_bytes: int
    created_at: AwareDatetime
    spec: dict[str, JsonValue] = {}
    inspection: Inspection


class Progress(_Body):
    """How far an audit is."""

    fraction: float = Field(default=0.0, ge=0, le=1)
    stage: Literal[
        "queued", "inspect", "screen", "confirm", "interact", "remedy", "report"
    ] = "queued"
    detail: str = ""
    eta_seconds: float | None = None


class AuditBody(_Body):
    """An audit: its state and where to go on."""

    id: Annotated[str, Field(examples=["aud_01k6z8yq0v4d5s6t7u8w9x0y1z"])]
    status: AuditStatus
    progress: Progress
    model_id: str
    dataset_id: str
    created_at: AwareDatetime
    started_at: AwareDatetime | None = None
    finished_at: AwareDatetime | None = None
    error: ProblemDocument | None = None
    tags: list[str] = []
    schedule_id: str | None = None
    request: AuditRequest
    links: dict[str, str]


class NewWebhook(_Body):
    """The callback of an audit just asked for."""

    id: Annotated[str, Field(examples=["whk_01k6z8yq0v4d5s6t7u8w9x0y1z"])]
    secret: str | None = Field(
        default=None,
        description="Where none was given; the only time it is shown.",
        examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="],
    )


class NewAuditBody(AuditBody):
    """An audit just asked for."""

    webhook: NewWebhook | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="Where there is a callback; only in this answer.",
    )


class Attempt(_Body):
    """One try to deliver."""

    at: AwareDatetime
    status_code: int | None = Field(
        description="What the receiver answered, if it did."
    )
    error: str | None
    seconds: float


class WebhookBody(_Body):
    """The deliveries of a callback, without its secret."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "id": "whk_01k6z8yq0v4d5s6t7u8w9x0y1z",
                    "audit_id": "aud_01k6z8yq0v4d5s6t7u8w9x0y1z",
                    "url": "https://ci.example.com/hooks/model-audit",
                    "created_at": "2026-01-02T03:00:00Z",
                    "status": "pending",
                    "attempts": [
                        {
                            "at": "2026-01-02T03:04:05Z",
                            "status_code": 500,
                            "error": "answered 500",
                            "seconds": 0.182,
                        }
                    ],
                    "next_attempt_at": "2026-01-02T03:04:11Z",
                }
            ]
        },
    )

    id: str
    audit_id: str
    url: str
    created_at: AwareDatetime
    status: Literal["waiting", "pending", "delivered", "failed"] = Field(
        description="`waiting` for the audit to end; `pending` while it is tried; "
        "`failed` once it has been given up."
    )
    attempts: list[Attempt] = Field(description="The latest 50, oldest first.")
    next_attempt_at: AwareDatetime | None


class EndedAudit(_Body):
    """The audit that a message is about."""

    audit_id: str
    status: Literal["succeeded", "failed", "cancelled"]
    model_id: str
    dataset_id: str
    schedule_id: str | None
    tags: list[str]
    error: ProblemDocument | None
    links: dict[str, str]


class WebhookEvent(_Body):
    """What a callback is sent: an audit has ended."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "type": "audit.succeeded",
                    "timestamp": "2026-01-02T03:04:05Z",
                    "data": {
                        "audit_id": "aud_01k6z8yq0v4d5s6t7u8w9x0y1z",
                        "status": "succeeded",
                        "model_id": "mdl_01k6z8yq0v4d5s6t7u8w9x0y1z",
                        "dataset_id": "dst_01k6z8yq0v4d5s6t7u8w9x0y1z",
                        "schedule_id": None,
                        "tags": ["nightly"],
                        "error": None,
                        "links": {
                            "self": "/v1/audits/aud_01k6z8yq0v4d5s6t7u8w9x0y1z",
                        },
                    },
                }
            ]
        },
    )

    type: Literal["audit.succeeded", "audit.failed", "audit.cancelled"]
    timestamp: AwareDatetime = Field(description="When the audit ended.")
    data: EndedAudit


class ExperimentBody(_Body):
    """An experiment that is done: what was asked and what came out, as it was kept.

    Readable from the moment it is done, whatever becomes of its audit. The fields of
    `experiment` and `outcome` may change with the engine's version.
    """

    id: Annotated[str, Field(examples=["pce_01k6z8yq0v4d5s6t7u8w9x0y1z"])]
    question: str
    finished_at: AwareDatetime | None
    seconds: float
    experiment: dict[str, JsonValue]
    outcome: dict[str, JsonValue]


class ScheduleBody(_Body):
    """A schedule: what is repeated, and when next.

    `last_result` says what came of its latest due time: an audit was started; the time
    was skipped, since the audit before was unfinished or the time long past; or no
    audit could be started, and `last_problem` says why.
    """

    id: Annotated[str, Field(examples=["sch_01k6z8yq0v4d5s6t7u8w9x0y1z"])]
    name: str
    cron: str
    timezone: str
    audit: AuditRequest
    enabled: bool
    created_at: AwareDatetime
    next_run_at: AwareDatetime | None
    last_run_at: AwareDatetime | None = None
    last_audit_id: str | None = None
    last_result: (
        Literal["started", "skipped_overlap", "skipped_late", "failed"] | None
    ) = None
    last_problem: ProblemDocument | None = None


class NewScheduleBody(ScheduleBody):
    """A schedule just made or changed."""

    callback_secret: str | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="Where its audit has a callback and no secret was given; only in "
        "the answer to the request that made it.",
    )


class KeyBody(_Body):
    """A key, without its secret."""

    id: str
    name: str
    role: Role
    project: str
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None
    last_used_at: AwareDatetime | None = None


class NewKeyBody(KeyBody):
    """A key just made; the only time its secret is shown."""

    key: str


Item = TypeVar("Item")


class Page(_Body, Generic[Item]):
    """One page of a list, newest first."""

    items: list[Item]
    next_cursor: str | None = None
