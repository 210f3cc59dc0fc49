"""The confined child of the audit in hand: opened once, kept warm between pieces."""

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from service.contract.request import BUDGET_SECONDS
from service.store.blobs import BlobStore
from worker.failures import ScratchDown
from worker.recorder import Case
from worker.sandbox import SESSION, Child, close_templates, warm_up
from worker.settings import WorkerSettings

LOG = logging.getLogger(__name__)
LEAST_FOR_WHAT_HANGS = 60.0  # seconds
BUDGETS_FOR_WHAT_HANGS = 2.0  # beside these
LEAST_ROOM_BYTES = 4 << 20  # below which a child that failed may have failed of that
OnProgress = Callable[[float, str], None]


@contextmanager
def _needing_room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ScratchDown(error.strerror or str(error)) from error


@dataclass(frozen=True)
class Place:
    """Where children live, what they may use, and what they serve."""

    device: str
    scratch: Path
    memory_bytes: int
    threads: int | None = None
    session: str = SESSION
    code: tuple[Path, ...] = ()


def by_budget(case: Case, most: float) -> float:
    """Seconds for what keeps to none: if it hangs, it is worth no more than the budget.

    Args:
        case: of the audit.
        most: whatever its budget is.
    """
    budget = case.request.get("budget")
    if isinstance(budget, dict):
        seconds = float(budget["seconds"])
    else:
        seconds = BUDGET_SECONDS[budget or "standard"]
    return min(most, LEAST_FOR_WHAT_HANGS + BUDGETS_FOR_WHAT_HANGS * seconds)


class Companion:
    """At most one child, with an audit's model and data."""

    def __init__(
        self,
        place: Place,
        blobs: BlobStore,
        settings: WorkerSettings,
        should_stop: Callable[[], bool],
    ) -> None:
        self._place = place
        self._blobs = blobs
        self._settings = settings
        self._should_stop = should_stop
        self._child: Child | None = None
        self._audit_id: str | None = None
        self._used_at = time.monotonic()
        self._lock = threading.RLock()

    def warm_up(self) -> None:
        """Start what children are forked from."""
        warm_up(
            device=self._place.device,
            scratch=self._place.scratch,
            threads=self._place.threads,
            session=self._place.session,
            code=self._place.code,
        )

    def start(self) -> Child:
        """Take a fresh child, for one use.

        Raises:
            ScratchDown: there is no room for one.
        """
        with _needing_room():
            return Child.start(
                device=self._place.device,
                scratch=self._place.scratch,
                memory_bytes=self._place.memory_bytes,
                threads=self._place.threads,
                session=self._place.session,
                code=self._place.code,
            )

    def drop_for_want_of_room(self) -> None:
        """End the child, which failed, and see whether it had room to work.

        It is not asked: it could say so for ever.

        Raises:
            ScratchDown: its folder cannot be written to even now.
        """
        self.drop()
        with (
            _needing_room(),
            tempfile.TemporaryFile(dir=self._place.scratch) as file,
        ):
            file.write(bytes(LEAST_ROOM_BYTES))
            file.flush()

    def call(
        self,
        child: Child,
        operation: str,
        arguments: Mapping[str, JsonValue],
        *,
        seconds: float,
        files: Mapping[str, str] | None = None,
        on_progress: OnProgress | None = None,
    ) -> JsonValue:
        """Have a child do something; `files` maps argument names to blobs.

        Raises:
            Problem: what the child found wrong.
            ChildFailed: it did not answer.
            BlobMissingError: a file is not there any more.
        """
        with ExitStack() as stack:
            opened = {
                name: stack.enter_context(self._blobs.open(sha256)).fileno()
                for name, sha256 in (files or {}).items()
            }
            return child.call(
                operation,
                arguments,
                files=opened,
                seconds=seconds,
                on_progress=on_progress,
                should_stop=self._should_stop,
            )

    def child_for(self, case: Case, *, seconds: float | None = None) -> Child:
        """Find the audit's child, or start one and open the audit in it.

        Args:
            case: the audit.
            seconds: that opening may take, where fewer than usual.

        Raises:
            Problem: model and data cannot be audited.
            ChildFailed: it did not answer.
            BlobMissingError: a file is not there any more.
        """
        with self._lock:
            self._used_at = time.monotonic()
            if (
                self._child is not None
                and self._audit_id == case.audit_id
                and self._child.is_alive
            ):
                return self._child
            self.drop()
            child = self._child = self.start()
        self.call(
            child,
            "open",
            {
                "audit_id": case.audit_id,
                "model_format": case.model.format,
                "model_facts": case.model.facts,
                "dataset_format": case.dataset.format,
                "dataset_facts": case.dataset.facts,
                "spec": case.dataset.spec,
                "request": case.request,
            },
            files={"model": case.model.sha256, "dataset": case.dataset.sha256},
            seconds=seconds or by_budget(case, self._settings.open_seconds),
        )
        self._audit_id = case.audit_id
        return child

    def used(self) -> None:
        """Note that the child has just been used."""
        self._used_at = time.monotonic()

    def drop_if_cold(self) -> None:
        """End the child where nothing was asked of it for long."""
        with self._lock:
            if time.monotonic() - self._used_at > self._settings.warm_seconds:
                self.drop()

    def drop(self) -> None:
        """End the child, and forget the audit."""
        with self._lock:
            child, self._child, self._audit_id = self._child, None, None
        if child is not None:
            child.close()

    def close(self) -> None:
        """End all children."""
        self.drop()
        close_templates()
