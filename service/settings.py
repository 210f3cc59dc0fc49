"""Every environment variable of the service, typed, with its unit.

Each field is set by `MODEL_AUDIT_` and its name in capitals. What only a worker needs
stands in `worker/settings.py`.
"""

import os
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MEBIBYTE = 1024 * 1024
GIBIBYTE = 1024 * MEBIBYTE


def default_data_dir() -> Path:
    """Say where data is kept unless the operator says otherwise."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "model-audit"


def _split(text: object) -> object:
    if not isinstance(text, str):
        return text
    return tuple(part.strip() for part in text.split(",") if part.strip())


class Settings(BaseSettings):
    """What an operator can set."""

    model_config = SettingsConfigDict(env_prefix="MODEL_AUDIT_", frozen=True)

    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="Folder for the database, the blobs, the queue and the first key.",
    )
    api_key: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="The bootstrap admin key; without it the first start makes one.",
    )
    database_url: str | None = Field(
        default=None, description="SQLAlchemy URL; default: SQLite in the data folder."
    )
    redis_url: str | None = Field(
        default=None, description="Broker; default: a private one beside the API."
    )
    blob_url: str | None = Field(
        default=None,
        description="`s3://bucket/prefix` or a folder; default: in the data folder.",
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="Device of the worker: `auto`, `cpu` or `cuda:0`.",
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Workers that `serve` starts; default: one a core, at most four, "
        "or one for a GPU.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    upload_limit_bytes: int = Field(
        default=16 * GIBIBYTE, ge=1, description="Largest upload."
    )
    inflated_limit_bytes: int = Field(
        default=64 * GIBIBYTE, ge=1, description="Largest sum of an archive's entries."
    )
    inflation_ratio_limit: float = Field(
        default=200.0, gt=1, description="Inflated over packed size of an archive."
    )
    inflation_free_bytes: int = Field(
        default=64 * MEBIBYTE,
        ge=0,
        description="Archives that inflate to less are not judged by their ratio.",
    )
    model_entries_limit: int = Field(
        default=100_000, ge=1, description="Entries in a model's archive."
    )
    dataset_entries_limit: int = Field(
        default=2_000_000, ge=1, description="Entries in a dataset's archive."
    )
    json_limit_bytes: int = Field(
        default=MEBIBYTE, ge=1024, description="Largest body that is not an upload."
    )
    torch_export: bool = Field(
        default=False,
        description="Accept `.pt2` archives, whose loading runs Python code.",
    )

    key_cache_seconds: float = Field(
        default=5.0, ge=0, description="How long a revoked key may still be honoured."
    )
    poll_interval_seconds: float = Field(
        default=0.25, gt=0, description="How often waiting requests look for a change."
    )
    retry_after_seconds: int = Field(
        default=2, ge=1, description="`Retry-After` of an unfinished audit."
    )
    idempotency_hours: float = Field(
        default=24.0, gt=0, description="How long an `Idempotency-Key` is remembered."
    )
    worker_alive_seconds: float = Field(
        default=30.0, gt=0, description="A worker not seen for longer is not alive."
    )
    broker_timeout_seconds: float = Field(
        default=4.0, gt=0, description="Socket timeout towards the broker."
    )
    outbox_interval_seconds: float = Field(
        default=0.25, gt=0, description="How often the relay looks for invitations."
    )
    reaper_interval_seconds: float = Field(
        default=5.0, gt=0, description="How often lost leases are looked for."
    )
    schedule_interval_seconds: float = Field(
        default=5.0, gt=0, description="How often due schedules are looked for."
    )

    callback_networks: Annotated[
        tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_split)
    ] = Field(
        default=(),
        description="Networks of callbacks' receivers besides public addresses, with "
        "commas: `10.0.0.0/8,127.0.0.0/8`.",
    )

    @cached_property
    def database_address(self) -> str:
        """The SQLAlchemy URL in use."""
        return self.database_url or f"sqlite:///{self.data_dir}/model-audit.sqlite3"

    @cached_property
    def blob_address(self) -> str:
        """The blob store in use: an URL or a folder."""
        return self.blob_url or str(self.data_dir / "blobs")

    @property
    def key_file(self) -> Path:
        """Where the first start keeps the admin key that it made (mode 0600)."""
        return self.data_dir / "admin-key"
