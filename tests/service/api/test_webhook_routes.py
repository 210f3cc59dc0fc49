import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import select

from service.schedules import start_scheduled
from service.store.tables import AuditRow, ScheduleRow, WebhookRow
from tests.service.api.app_client import AppClient
from tests.service.api.callers import bearer, new_key, problem, request_of

URL = "https://ci.example.com/hooks?job=7"
SECRET = "whsec_" + base64.b64encode(b"a secret of twenty-four!").decode()


def audit_with(client: AppClient, **callback: Any) -> dict[str, Any]:
    callback = {"url": URL, **callback}
    answer = client.post("/v1/audits", json=request_of(client, callback=callback))
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


def webhook(client: AppClient, audit: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = client.get(audit["links"]["webhook"]).json()
    return found


def row_of(app: FastAPI, audit: dict[str, Any]) -> WebhookRow:
    with app.state.desk.database.reading() as session:
        rows = session.scalars(select(WebhookRow).filter_by(audit_id=audit["id"]))
        return rows.one()


def test_a_callback_waits_for_the_end_of_its_audit(admin: AppClient):
    audit = audit_with(admin)

    found = webhook(admin, audit)

    assert audit["links"]["webhook"] == f"/v1/webhooks/{audit['webhook']['id']}"
    assert found == {
        "id": audit["webhook"]["id"],
        "audit_id": audit["id"],
        "url": URL,
        "created_at": audit["created_at"],
        "status": "waiting",
        "attempts": [],
        "next_attempt_at": None,
    }


@pytest.mark.parametrize("secret", [None, SECRET])
def test_a_secret_is_shown_once_and_only_where_it_was_made(
    app: FastAPI, admin: AppClient, secret: str | None
):
    audit = audit_with(admin, **({"secret": secret} if secret else {}))
    kept = row_of(app, audit).secret

    addresses = ["/v1/audits", audit["links"]["self"], audit["links"]["webhook"]]
    shown = "".join(admin.get(address).text for address in addresses)

    assert kept == secret or audit["webhook"]["secret"] == kept
    assert audit["webhook"]["secret"] != secret or secret is None
    assert "whsec" not in shown
    assert kept not in shown


def test_an_audit_without_a_callback_shows_none(admin: AppClient):
    audit = admin.post("/v1/audits", json=request_of(admin)).json()

    assert "webhook" not in audit
    assert "webhook" not in audit["links"]
    assert "callback" not in audit["request"]


def test_a_repeated_request_is_told_the_same_secret(admin: AppClient):
    body = request_of(admin, callback={"url": URL})
    other = {**body, "callback": {"url": URL, "secret": SECRET}}
    headers = {"Idempotency-Key": "once"}

    first = admin.post("/v1/audits", json=body, headers=headers)
    second = admin.post("/v1/audits", json=body, headers=headers)
    third = admin.post("/v1/audits", json=other, headers=headers)

    assert first.json() == second.json()
    assert first.json()["webhook"]["secret"].startswith("whsec_")
    problem(third, "idempotency-mismatch", 422)


def test_workers_are_not_told_of_the_callback(app: FastAPI, admin: AppClient):
    audit = audit_with(admin)

    with app.state.desk.database.reading() as session:
        assert "callback" not in session.get_one(AuditRow, audit["id"]).request


@pytest.mark.parametrize(
    ("callback", "pointer"),
    [
        ({}, "/callback/url"),
        ({"url": "ftp://example.com/"}, "/callback/url"),
        ({"url": "file:///etc/passwd"}, "/callback/url"),
        ({"url": "https://user:hunter2@example.com/"}, "/callback/url"),
        ({"url": "https://user@example.com/"}, "/callback/url"),
        ({"url": "https://"}, "/callback/url"),
        ({"url": URL, "secret": "whsec_short"}, "/callback/secret"),
        ({"url": URL, "secret": "whsec_" + "A" * 31}, "/callback/secret"),
        ({"url": URL, "secret": "whsec_" + "A" * 92}, "/callback/secret"),
        ({"url": URL, "secret": SECRET.removeprefix("whsec_")}, "/callback/secret"),
        ({"url": URL, "colour": 1}, "/callback/colour"),
    ],
)
def test_a_callback_that_cannot_be_is_refused(admin: AppClient, callback, pointer):
    answer = admin.post("/v1/audits", json=request_of(admin, callback=callback))

    found = problem(answer, "invalid-fields", 422)
    assert {error["pointer"] for error in found["errors"]} == {pointer}
    assert "hunter2" not in answer.text


def test_a_webhook_is_seen_in_its_own_project_only(
    app: FastAPI, admin: AppClient, viewer: AppClient, stranger: AppClient
):
    address = audit_with(admin)["links"]["webhook"]
    other = new_key(admin, "submitter", project="other")
    neighbour = AppClient(app, headers=bearer(other))

    assert viewer.get(address).status_code == 200
    problem(neighbour.get(address), "not-found", 404)
    problem(neighbour.post(f"{address}/redeliver"), "not-found", 404)
    problem(stranger.get(address), "unauthorized", 401)
    problem(admin.get("/v1/webhooks/whk_nix"), "not-found", 404)


def test_a_cancelled_audit_is_announced_at_once(admin: AppClient):
    audit = audit_with(admin)

    admin.post(audit["links"]["cancel"])

    found = webhook(admin, audit)
    assert found["status"] == "pending"
    assert datetime.fromisoformat(found["next_attempt_at"]) <= datetime.now(UTC)


def test_nothing_is_delivered_again_before_the_audit_has_ended(admin: AppClient):
    address = audit_with(admin)["links"]["webhook"]

    problem(admin.post(f"{address}/redeliver"), "conflict", 409)


def test_who_only_reads_delivers_nothing(viewer: AppClient, admin: AppClient):
    address = audit_with(admin)["links"]["webhook"]

    problem(viewer.post(f"{address}/redeliver"), "forbidden", 403)


def give_up(app: FastAPI, audit: dict[str, Any], status: str = "failed") -> None:
    with app.state.desk.database.transaction() as session:
        row = session.get_one(WebhookRow, audit["webhook"]["id"])
        row.status, row.next_attempt_at, row.tries = status, None, 8


@pytest.mark.parametrize("status", ["failed", "delivered"])
def test_what_was_given_up_or_delivered_is_delivered_again_on_demand(
    app: FastAPI, admin: AppClient, submitter: AppClient, status: str
):
    audit = audit_with(admin)
    admin.post(audit["links"]["cancel"])
    give_up(app, audit, status)

    answer = submitter.post(f"{audit['links']['webhook']}/redeliver")
    again = submitter.post(f"{audit['links']['webhook']}/redeliver")

    assert answer.status_code == again.status_code == 202
    assert answer.json()["status"] == again.json()["status"] == "pending"
    assert row_of(app, audit).tries == 0


def test_a_redelivery_sent_twice_under_one_key_is_one(app: FastAPI, admin: AppClient):
    audit = audit_with(admin)
    admin.post(audit["links"]["cancel"])
    address = f"{audit['links']['webhook']}/redeliver"
    headers = {"Idempotency-Key": "once"}
    admin.post(address, headers=headers)
    give_up(app, audit, "delivered")

    answer = admin.post(address, headers=headers)

    assert answer.status_code == 202
    assert answer.json()["status"] == "delivered"


def test_a_deleted_audit_takes_its_webhook_along(admin: AppClient):
    audit = audit_with(admin)
    admin.post(audit["links"]["cancel"])

    assert admin.delete(audit["links"]["self"]).status_code == 204

    problem(admin.get(audit["links"]["webhook"]), "not-found", 404)


def schedule_with(client: AppClient, **callback: Any) -> dict[str, Any]:
    audit = request_of(client, callback={"url": URL, **callback})
    answer = client.post(
        "/v1/schedules", json={"name": "n", "cron": "0 3 * * *", "audit": audit}
    )
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def run(app: FastAPI, schedule: dict[str, Any]) -> WebhookRow:
    with app.state.desk.database.transaction() as session:
        row = session.get_one(ScheduleRow, schedule["id"])
        audit_id = start_scheduled(session, row, datetime.now(UTC))
    return row_of(app, {"id": audit_id})


def test_every_run_of_a_schedule_has_its_callback_under_one_secret(
    app: FastAPI, admin: AppClient
):
    schedule = schedule_with(admin)

    first, second = run(app, schedule), run(app, schedule)

    assert first.id != second.id
    assert (first.url, second.url) == (URL, URL)
    assert first.secret == second.secret == schedule["callback_secret"]


def test_the_secret_of_a_schedule_is_shown_once(admin: AppClient):
    schedule = schedule_with(admin)
    given = schedule_with(admin, secret=SECRET)

    listed = admin.get("/v1/schedules").text
    read = admin.get(f"/v1/schedules/{schedule['id']}")

    assert "callback_secret" not in given
    assert "whsec" not in listed + read.text
    assert read.json()["audit"]["callback"] == {"url": URL}


def test_a_changed_schedule_keeps_its_secret_unless_another_is_given(
    app: FastAPI, admin: AppClient
):
    schedule = schedule_with(admin)
    address = f"/v1/schedules/{schedule['id']}"
    moved = {**schedule["audit"], "callback": {"url": "https://b.example/"}}
    other = {**schedule["audit"], "callback": {"url": URL, "secret": SECRET}}

    kept = admin.patch(address, json={"audit": moved}).json()
    assert run(app, schedule).secret == schedule["callback_secret"]
    given = admin.patch(address, json={"audit": other}).json()
    assert run(app, schedule).secret == SECRET

    assert "callback_secret" not in kept
    assert "callback_secret" not in given


def test_a_schedule_that_gets_a_callback_later_is_told_its_secret(
    app: FastAPI, admin: AppClient
):
    schedule = schedule_with(admin)
    address = f"/v1/schedules/{schedule['id']}"
    bare = {k: v for k, v in schedule["audit"].items() if k != "callback"}

    without = admin.patch(address, json={"audit": bare}).json()
    with_one = admin.patch(address, json={"audit": schedule["audit"]}).json()

    assert "callback_secret" not in without
    assert with_one["callback_secret"] != schedule["callback_secret"]
    assert run(app, schedule).secret == with_one["callback_secret"]
