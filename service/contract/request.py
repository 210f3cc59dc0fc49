"""What callers send: datasets' specs, audit requests, schedules."""

import base64
import binascii
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    StrictBool,
    StringConstraints,
)

from service.contract.causes import Cause
from service.contract.recipe import Finite, Recipe, Whole

Severity = Literal["critical", "major", "minor", "info"]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Cron = Annotated[str, Field(min_length=9, max_length=200)]
Tag = Annotated[str, Field(min_length=1, max_length=100)]
Positive = Annotated[Finite, Field(gt=0)]
Pixels = Annotated[Whole, Field(ge=1, le=8192)]
Share = Annotated[Finite, Field(ge=0, le=1)]
SECRET_BYTES = (24, 64)  # least and most, as Standard Webhooks has it


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        reason = "expected a time within the years 1 to 9999 in UTC"
        raise ValueError(reason) from error


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _is_none(value: object) -> bool:
    return value is None


def _all_different(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        reason = "expected names that differ"
        raise ValueError(reason)
    return names


class ImageSpec(_Strict):
    """How pictures are to be read."""

    layout: Literal["NCHW", "NHWC"] | None = None
    mean: Finite | list[Finite] | None = None
    std: Positive | list[Positive] | None = None
    size: Annotated[list[Pixels], Field(min_length=2, max_length=2)] | None = Field(
        default=None, description="Height and width in pixels, for zip archives."
    )


# Labels are stripped, too.
ClassName = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1_000)
]


class DatasetSpec(_Strict):
    """How to read a dataset; every field is optional."""

    label: str | None = Field(default=None, description="Name of the label column.")
    split: str | None = Field(
        default=None, description="Name of a column with `train`, `val` or `test`."
    )
    class_names: (
        Annotated[
            list[ClassName],
            Field(min_length=2, max_length=10_000),
            AfterValidator(_all_different),
        ]
        | None
    ) = None
    image: ImageSpec | None = None
    features: list[str] | None = Field(
        default=None,
        description="Columns to use, in the model's order; names for arrays.",
    )


class BudgetSeconds(_Strict):
    """An exact budget."""

    seconds: Annotated[Whole, Field(ge=5, le=86_400)]


Budget = Literal["quick", "standard", "thorough"] | BudgetSeconds
BUDGET_SECONDS = {"quick": 25.0, "standard": 100.0, "thorough": 900.0}


class Policy(_Strict):
    """When the report's gate fails."""

    fail_on: Literal["minor", "major", "critical"] | None = None
    min_accuracy: Share | None = None
    min_balanced_accuracy: Share | None = None
    max_ece: Share | None = None
    max_regression_from: Annotated[str, Field(pattern=r"^aud_")] | None = Field(
        default=None,
        description="Fail where balanced accuracy fell, beyond its interval, against "
        "this audit.",
    )


def _without_user(url: HttpUrl) -> HttpUrl:
    if url.username is not None or url.password is not None:
        reason = "expected an address without a user or password"
        raise ValueError(reason)
    return url


def _is_secret(text: str) -> str:
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        key = b""
    if not SECRET_BYTES[0] <= len(key) <= SECRET_BYTES[1]:
        reason = "expected `whsec_` and 24 to 64 bytes in base64"
        raise ValueError(reason)
    return text


class Callback(_Strict):
    """Where to announce the end of an audit, signed as Standard Webhooks has it."""

    url: Annotated[HttpUrl, AfterValidator(_without_user)] = Field(
        description="Gets a POST; must be public unless the operator allows its "
        "network."
    )
    secret: (
        Annotated[
            str, Field(pattern=r"^whsec_[A-Za-z0-9+/=]+$"), AfterValidator(_is_secret)
        ]
        | None
    ) = Field(
        default=None,
        exclude_if=_is_none,
        description="`whsec_` and 24 to 64 bytes in base64. Default: one is made and "
        "shown in the answer. It is never shown again.",
        json_schema_extra={"writeOnly": True},
    )


class AuditRequest(_Strict):
    """Asks for an audit of a model on a dataset."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "model_id": "mdl_01k6z8yq0v4d5s6t7u8w9x0y1z",
                    "dataset_id": "dst_01k6z8yq0v4d5s6t7u8w9x0y1z",
                    "recipe": {
                        "optimizer": {"name": "sgd", "lr": 0.5},
                        "loss": {"name": "cross_entropy"},
                        "epochs": 10,
                        "batch_size": 32,
                    },
                    "budget": "standard",
                    "seed": 0,
                    "policy": {"fail_on": "major", "min_accuracy": 0.9},
                    "callback": {"url": "https://ci.example.com/hooks/model-audit"},
                    "tags": ["nightly"],
                }
            ]
        },
    )

    model_id: str
    dataset_id: str
    recipe: Recipe = Recipe()
    checks: Annotated[list[Cause], Field(min_length=1)] | None = Field(
        default=None, description="Causes to judge; default: all."
    )
    budget: Budget = "standard"
    seed: Annotated[Whole, Field(ge=0, lt=2**63)] = 0
    policy: Policy | None = None
    callback: Callback | None = Field(default=None, exclude_if=_is_none)
    tags: Annotated[list[Tag], Field(max_length=50)] = []


class ScheduleRequest(_Strict):
    """Asks for an audit to be repeated."""

    name: Name
    cron: Cron = Field(description="Five fields: minute, hour, day, month, weekday.")
    timezone: str = "UTC"
    audit: AuditRequest
    enabled: StrictBool = True


class SchedulePatch(_Strict):
    """Changes the given fields of a schedule."""

    name: Name | None = None
    cron: Cron | None = None
    timezone: str | None = None
    audit: AuditRequest | None = None
    enabled: StrictBool | None = None


class KeyRequest(_Strict):
    """Asks for a new key."""

    name: Name
    role: Literal["viewer", "submitter", "admin"]
    project: Annotated[
        str | None,
        Field(
            pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
            description="What the key can see. Default: the project of the key that "
            "asks; only admins of the project `default` may name another.",
        ),
    ] = None
    expires_at: Annotated[AwareDatetime, AfterValidator(_in_utc)] | None = None
