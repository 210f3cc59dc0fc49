"""The short way of polls answers as the way of all requests does."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.service.api.app_client import AppClient
from tests.service.api.callers import bearer, change_audit, new_audit, new_key, problem

POLLS = "model_audit_request_seconds_count"


def both_ways(
    client: AppClient, audit_id: str, headers: dict[str, str]
) -> tuple[httpx.Response, httpx.Response]:
    """Poll once by the short way, and once with what bars it."""
    path = f"/v1/audits/{audit_id}"
    client.get(path)  # now the key is known
    return client.get(path, headers=headers), client.get(f"{path}?x=", headers=headers)


def shown(answer: httpx.Response) -> tuple[int, dict[str, Any], bytes]:
    return answer.status_code, dict(answer.headers), answer.content


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"If-None-Match": '"v1"'},
        {"If-None-Match": 'W/"v1", "v2"'},
        {"If-None-Match": "*"},
        {"If-None-Match": '"v0"'},
        {"If-None-Match": '"v0"', "Prefer": "wait=60"},
        {"Prefer": "wait=0"},
        {"Prefer": "respond-async"},
    ],
)
@pytest.mark.parametrize("status", ["queued", "succeeded"])
def test_both_ways_give_the_same_answer(
    app: FastAPI, admin: AppClient, headers: dict[str, str], status: str
) -> None:
    audit_id = new_audit(admin)
    if status != "queued":
        change_audit(app, audit_id, status=status)

    short, long = both_ways(admin, audit_id, headers)

    assert shown(short) == shown(long)


def test_both_ways_hide_audits_of_another_project(
    admin: AppClient, app: FastAPI
) -> None:
    audit_id = new_audit(admin)
    other = AppClient(app, headers=bearer(new_key(admin, "admin", project="other")))

    short, long = both_ways(other, audit_id, {})

    assert problem(short, "not-found", 404) == problem(long, "not-found", 404)


def test_a_poll_sees_what_was_just_changed(admin: AppClient) -> None:
    audit_id = new_audit(admin)
    before = admin.get(f"/v1/audits/{audit_id}").headers["etag"]

    admin.post(f"/v1/audits/{audit_id}/cancel")

    after = admin.get(f"/v1/audits/{audit_id}")
    assert after.json()["status"] == "cancelled"
    assert after.headers["etag"] != before


@pytest.mark.parametrize("key", ["Bearer nobody-knows-this-key", "Basic YTpi", ""])
def test_the_short_way_is_closed_without_a_key(
    admin: AppClient, stranger: AppClient, key: str
) -> None:
    audit_id = new_audit(admin)

    answer = stranger.get(f"/v1/audits/{audit_id}", headers={"Authorization": key})

    problem(answer, "unauthorized", 401)


def test_both_ways_are_measured_under_one_route(
    admin: AppClient, stranger: AppClient
) -> None:
    audit_id = new_audit(admin)
    before = polls_counted(stranger)

    both_ways(admin, audit_id, {})

    assert polls_counted(stranger) == before + 3


def polls_counted(client: AppClient) -> float:
    mark = f'{POLLS}{{method="GET",route="/v1/audits/{{audit_id}}",status="200"}} '
    for line in client.get("/metrics").text.splitlines():
        if line.startswith(mark):
            return float(line.removeprefix(mark))
    return 0.0
