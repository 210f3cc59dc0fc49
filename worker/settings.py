"""What only a worker needs to know; the rest stands in `service/settings.py`."""

import contextlib
import os
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

MEMORY_SHARE = 0.7  # of the machine, unless the operator says otherwise
LEAST_MEMORY_BYTES = 1 << 30


class WorkerSettings(BaseSettings):
    """What an operator can set for a worker, as `MODEL_AUDIT_` and the name."""

    model_config = SettingsConfigDict(env_prefix="MODEL_AUDIT_", frozen=True)

    allow_weak_sandbox: bool = Field(
        default=False,
        description="Work although uploads cannot be confined here. Only for uploads "
        "that you would run yourself.",
    )
    shared_by: int = Field(
        default=1,
        ge=1,
        description="Workers that share this machine's cores and memory.",
    )
    memory_bytes: int | None = Field(
        default=None,
        ge=LEAST_MEMORY_BYTES,
        description="Most that the confined child may use; default: 70 % of what the "
        "machine or container has, shared by its workers.",
    )
    scratch_dir: Path | None = Field(
        default=None, description="Scratch folder; default: in the data folder."
    )
    lease_seconds: float = Field(
        default=15.0,
        ge=3,
        description="A worker not heard of for so long loses its piece of work.",
    )
    inspect_seconds: float = Field(
        default=600.0, gt=0, description="Most that the inspection of an upload takes."
    )
    open_seconds: float = Field(
        default=300.0,
        gt=0,
        description="Most that opening model and data takes; by the audit's budget "
        "less.",
    )
    advance_seconds: float = Field(
        default=300.0, gt=0, description="Most that judging a round takes."
    )
    experiment_seconds: float = Field(
        default=7200.0,
        gt=0,
        description="Most that one experiment takes; by the audit's budget most of "
        "them get less.",
    )
    measurement_seconds: float = Field(
        default=600.0,
        gt=0,
        description="Most that one measurement without retraining takes; by the "
        "audit's budget less.",
    )
    turn_seconds: float = Field(
        default=3600.0,
        gt=0,
        description="After so long a worker lets waiting audits have a turn.",
    )
    linger_seconds: float = Field(
        default=2.0,
        ge=0,
        description="How long a worker waits for an audit's next round while nothing "
        "else is to be done.",
    )
    warm_seconds: float = Field(
        default=120.0,
        ge=0,
        description="How long an audit's child is kept while nothing is asked of it.",
    )
    report_limit_bytes: int = Field(
        default=16 << 20, gt=0, description="Largest report."
    )
    outcome_limit_bytes: int = Field(
        default=16 << 20, gt=0, description="Largest outcome of an experiment."
    )
    remedy_limit_bytes: int = Field(
        default=2 << 30, gt=0, description="Largest repaired model."
    )

    @property
    def hard_limit_seconds(self) -> float:
        """The longest that one task can run: a turn whose last piece is the longest."""
        longest = max(
            self.inspect_seconds,
            self.advance_seconds,
            self.experiment_seconds,
            self.measurement_seconds,
        )
        return self.turn_seconds + self.open_seconds + longest + 600.0

    def memory_for_child(self) -> int:
        """The most that the confined child may use, in bytes."""
        if self.memory_bytes is not None:
            return self.memory_bytes
        share = int(machine_memory_bytes() * MEMORY_SHARE) // self.shared_by
        return max(LEAST_MEMORY_BYTES, share)

    def threads_for_child(self, cores: int) -> int:
        """How many threads the confined child may compute with."""
        return max(1, cores // self.shared_by)


def machine_memory_bytes() -> int:
    """The memory of the machine, or of the container where that has less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            text = (Path("/sys/fs/cgroup") / name).read_text(encoding="ascii")
            total = min(total, int(text))
    return total
