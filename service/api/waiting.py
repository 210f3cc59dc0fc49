"""Polls and waits: thousands of them for the price of a few queries.

Polls that come in while a query runs share the next one. Requests that wait hold no
thread and no connection to the database: one task looks, for all of them at once,
whether the versions they wait for have changed.

Where the database is a file of this machine, versions are read at once: that takes a
tenth of a millisecond and never waits for a writer, while handing it to a thread and
back takes longer, and much longer on a busy machine. Should the disk be slow after all,
threads do it for a while, so that nobody else is held up.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from typing import TypeVar

from starlette.concurrency import run_in_threadpool

from service.audits import Audits, Snapshot
from service.contract.errors import Unavailable
from service.store.audit_store import Version

_IDS_A_QUERY = 500
_CACHED_SNAPSHOTS = 2_000
_SLOW_SECONDS = 0.05
_THREADED_SECONDS = 5.0
Value = TypeVar("Value")


class Waiting:
    """Reads audits for everybody who polls or waits; belongs to one event loop."""

    def __init__(self, audits: Audits, *, interval_seconds: float) -> None:
        self._audits = audits
        self._interval = interval_seconds
        self._asked: dict[str, asyncio.Future[Snapshot | None]] = {}
        self._cache: OrderedDict[str, Snapshot] = OrderedDict()
        self._waiters: dict[str, dict[asyncio.Future[None], int]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self.has_ended = False
        self._threaded_until = 0.0 if audits.are_local else float("inf")

    async def current(self, audit_id: str) -> Snapshot | None:
        """Read an audit as it is now; None where there is none.

        Raises:
            Unavailable: the database does not answer.
        """
        asked = self._asked.get(audit_id)
        if asked is None:
            asked = asyncio.get_running_loop().create_future()
            self._asked[audit_id] = asked
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read_asked())
        # Others may wait for the same answer when this caller goes away.
        return await asyncio.shield(asked)

    async def changed(self, audit_id: str, version: int, *, seconds: float) -> None:
        """Wait until an audit has another version, or the time is over.

        Nobody waits any more once all waiting has ended.
        """
        if self.has_ended:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiters.setdefault(audit_id, {})
        waiting[waiter] = version
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch())
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except TimeoutError:
            pass
        finally:
            waiting.pop(waiter, None)
            if not waiting and self._waiters.get(audit_id) is waiting:
                del self._waiters[audit_id]

    def end(self) -> None:
        """Wake all who wait, for good: the service stops."""
        self.has_ended = True
        for waiting in self._waiters.values():
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_result(None)

    async def _read_asked(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, {}
            try:
                found = await self._read(list(asked))
            except Unavailable as problem:
                for future in asked.values():
                    if not future.done():
                        future.set_exception(problem)
                        future.exception()  # nobody may be left to be told
                continue
            for audit_id, future in asked.items():
                if not future.done():
                    future.set_result(found.get(audit_id))

    async def _read(self, audit_ids: list[str]) -> dict[str, Snapshot]:
        versions = await self._versions(audit_ids)
        stale = [
            audit_id
            for audit_id, version in versions.items()
            if audit_id not in self._cache
            or self._cache[audit_id].version != version.number
        ]
        if stale:
            fresh = await _in_batches(self._audits.snapshots, stale)
            self._cache.update(fresh)
        found = {
            audit_id: self._cache[audit_id]
            for audit_id in versions
            if audit_id in self._cache
        }
        while len(self._cache) > _CACHED_SNAPSHOTS:
            self._cache.popitem(last=False)
        return found

    async def _versions(self, audit_ids: list[str]) -> dict[str, Version]:
        began = time.monotonic()
        if began < self._threaded_until or len(audit_ids) > _IDS_A_QUERY:
            return await _in_batches(self._audits.versions, audit_ids)
        found = self._audits.versions(audit_ids)
        if time.monotonic() - began > _SLOW_SECONDS:
            self._threaded_until = time.monotonic() + _THREADED_SECONDS
        return found

    async def _watch(self) -> None:
        while self._waiters:
            await asyncio.sleep(self._interval)
            try:
                versions = await self._versions(list(self._waiters))
            except Unavailable:
                continue  # each waiter has its own end of patience
            for audit_id, waiting in self._waiters.items():
                found = versions.get(audit_id)
                for waiter, seen in waiting.items():
                    is_other = found is None or found.number != seen
                    if is_other and not waiter.done():
                        waiter.set_result(None)


async def _in_batches(
    read: Callable[[list[str]], dict[str, Value]], audit_ids: Iterable[str]
) -> dict[str, Value]:
    found: dict[str, Value] = {}
    rest = iter(audit_ids)
    while batch := list(islice(rest, _IDS_A_QUERY)):
        reading: Awaitable[dict[str, Value]] = run_in_threadpool(read, batch)
        found.update(await reading)
    return found
