"""What a stop does with requests that are under way."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from service.settings import Settings
from tests.service.api.app_client import LOOP, AppClient, start
from tests.service.api.callers import ADMIN_KEY, bearer, new_audit, problem


@pytest.fixture(autouse=True)
def going_on(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the application of all tests go on after each of these."""
    monkeypatch.setattr(app.state.waiting, "has_ended", False)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)


async def endless() -> AsyncIterator[bytes]:
    yield b"{"
    await asyncio.sleep(60)


async def post(app: FastAPI, path: str, media_type: str) -> httpx.Response:
    headers = {**bearer(ADMIN_KEY), "content-type": media_type}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.post(path, content=endless(), headers=headers)


@pytest.mark.parametrize("way", ["", "?x="])
def test_a_held_poll_is_answered_as_at_the_end_of_its_time(
    app: FastAPI, admin: AppClient, way: str
) -> None:
    path = f"/v1/audits/{new_audit(admin)}"
    tag = admin.get(path).headers["etag"]
    headers = {"Prefer": "wait=30", "If-None-Match": tag}
    began = time.monotonic()

    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(admin.get, path + way, headers=headers)
        wait_for(lambda: app.state.waiting._waiters)
        LOOP.call_soon_threadsafe(app.state.stop.begin)
        answer = held.result(timeout=40)

    assert answer.status_code == 304
    assert time.monotonic() - began < 15
    assert admin.get(path, headers=headers).status_code == 304  # nobody waits now
    assert time.monotonic() - began < 15


def test_whoever_follows_an_audit_is_let_go(app: FastAPI, admin: AppClient) -> None:
    audit_id = new_audit(admin)
    began = time.monotonic()

    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(admin.get, f"/v1/audits/{audit_id}/events")
        wait_for(lambda: app.state.waiting._waiters)
        LOOP.call_soon_threadsafe(app.state.stop.begin)
        answer = held.result(timeout=40)

    assert answer.text.count("event: audit") == 1
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("path", "media_type"),
    [("/v1/models", "application/octet-stream"), ("/v1/audits", "application/json")],
)
def test_a_body_that_still_arrives_is_told_to_come_again(
    app: FastAPI, settings: Settings, path: str, media_type: str
) -> None:
    sending = start(post(app, path, media_type))
    wait_for(lambda: app.state.stop.unanswered)
    time.sleep(0.2)  # until it waits for the rest

    LOOP.call_soon_threadsafe(app.state.stop.cut)

    answer = sending.result(timeout=10)
    problem(answer, "unavailable", 503)
    assert answer.headers["retry-after"]
    assert answer.headers["connection"] == "close"
    assert parts(settings.data_dir) == []


def parts(folder: Path) -> list[Path]:
    return list(folder.rglob("*.part"))
