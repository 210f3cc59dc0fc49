from datetime import UTC, datetime

import pytest
from fastapi import FastAPI

from service.schedules import next_run, start_scheduled
from service.store.tables import AuditRow, ScheduleRow
from tests.service.api.app_client import AppClient
from tests.service.api.callers import problem, request_of


def schedule_of(client: AppClient, **fields: object) -> dict[str, object]:
    return {
        "name": "nightly",
        "cron": "30 2 * * *",
        "timezone": "Europe/Berlin",
        "audit": request_of(client),
        **fields,
    }


def test_a_schedule_says_when_it_is_due(admin: AppClient):
    answer = admin.post("/v1/schedules", json=schedule_of(admin))

    body = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/schedules/{body['id']}"
    assert datetime.fromisoformat(body["next_run_at"]) > datetime.now(UTC)
    assert admin.get(f"/v1/schedules/{body['id']}").json() == body
    assert admin.get("/v1/schedules").json()["items"] == [body]


def test_due_times_follow_the_clock_of_the_time_zone():
    winter = next_run("30 2 * * *", "Europe/Berlin", datetime(2026, 1, 5, tzinfo=UTC))
    summer = next_run("30 2 * * *", "Europe/Berlin", datetime(2026, 7, 5, tzinfo=UTC))

    assert winter == datetime(2026, 1, 5, 1, 30, tzinfo=UTC)
    assert summer == datetime(2026, 7, 5, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"model_id": "mdl_x"}, "/audit/model_id"),
        ({"recipe": {"epochs": 0}}, "/audit/recipe/epochs"),
        (
            {"policy": {"max_regression_from": "aud_x"}},
            "/audit/policy/max_regression_from",
        ),
    ],
)
def test_what_is_wrong_with_its_audit_is_pointed_at(admin: AppClient, wrong, pointer):
    good = schedule_of(admin)
    schedule_id = admin.post("/v1/schedules", json=good).json()["id"]
    bad = {"audit": good["audit"] | wrong}

    created = admin.post("/v1/schedules", json=good | bad)
    changed = admin.patch(f"/v1/schedules/{schedule_id}", json=bad)

    for answer in (created, changed):
        assert [one["pointer"] for one in answer.json()["errors"]] == [pointer]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cron", "61 * * * *"),
        ("cron", "* * * * * *"),
        ("cron", "0 0 30 2 *"),
        ("cron", "every day at noon"),
        ("timezone", "Mars/Olympus"),
        ("timezone", "../../etc/passwd"),
        ("timezone", "localtime"),
        ("name", ""),
        ("enabled", "perhaps"),
    ],
)
def test_times_that_never_come_are_refused(admin: AppClient, field, value):
    answer = admin.post("/v1/schedules", json=schedule_of(admin, **{field: value}))

    found = problem(answer, "invalid-fields", 422)
    assert found["errors"][0]["pointer"] == f"/{field}"


def test_a_change_is_held_to_what_a_new_schedule_is_held_to(admin: AppClient):
    made = admin.post("/v1/schedules", json=schedule_of(admin)).json()
    minutes = ",".join(str(minute) for minute in range(60))
    many = f"{minutes},{minutes} 2 * * *"

    answer = admin.patch(f"/v1/schedules/{made['id']}", json={"cron": many})

    found = problem(answer, "invalid-fields", 422)
    assert found["errors"][0]["pointer"] == "/cron"


def test_an_audit_that_cannot_be_done_is_not_scheduled(admin: AppClient):
    audit = {**request_of(admin), "model_id": "mdl_nix"}

    answer = admin.post("/v1/schedules", json=schedule_of(admin, audit=audit))

    problem(answer, "invalid-fields", 422)
    assert admin.get("/v1/schedules").json()["items"] == []


def test_a_change_touches_only_the_given_fields(admin: AppClient):
    made = admin.post("/v1/schedules", json=schedule_of(admin)).json()
    address = f"/v1/schedules/{made['id']}"

    off = admin.patch(address, json={"enabled": False}).json()
    on = admin.patch(address, json={"enabled": True, "cron": "0 4 * * *"}).json()
    wrong = admin.patch(address, json={"cron": "nonsense"})

    assert off == {**made, "enabled": False, "next_run_at": None}
    assert (on["name"], on["cron"]) == ("nightly", "0 4 * * *")
    assert on["next_run_at"] is not None
    problem(wrong, "invalid-fields", 422)
    assert admin.get(address).json() == on


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_what_a_schedule_needs_is_not_deleted(admin: AppClient, kind: str):
    body = schedule_of(admin)
    made = admin.post("/v1/schedules", json=body).json()
    address = f"/v1/{kind}s/{made['audit'][f'{kind}_id']}"

    problem(admin.delete(address), "conflict", 409)
    admin.delete(f"/v1/schedules/{made['id']}")

    assert admin.delete(address).status_code == 204


def test_a_deleted_schedule_is_gone(admin: AppClient):
    made = admin.post("/v1/schedules", json=schedule_of(admin)).json()
    address = f"/v1/schedules/{made['id']}"

    assert admin.delete(address).status_code == 204
    for answer in (
        admin.get(address),
        admin.delete(address),
        admin.patch(address, json={}),
    ):
        problem(answer, "not-found", 404)


def test_the_same_schedule_sent_twice_is_made_once(admin: AppClient):
    body = schedule_of(admin)
    headers = {"Idempotency-Key": "k"}

    first = admin.post("/v1/schedules", json=body, headers=headers)
    admin.patch(first.headers["location"], json={"name": "weekly"})
    second = admin.post("/v1/schedules", json=body, headers=headers)

    assert first.json() == second.json()
    assert len(admin.get("/v1/schedules").json()["items"]) == 1


def test_a_run_of_a_schedule_is_a_normal_audit_tagged_with_it(
    app: FastAPI, admin: AppClient
):
    made = admin.post("/v1/schedules", json=schedule_of(admin)).json()
    with app.state.desk.database.transaction() as session:
        row = session.get_one(ScheduleRow, made["id"])
        audit_id = start_scheduled(session, row, datetime.now(UTC))
        assert session.get_one(AuditRow, audit_id).project == "default"

    [listed] = admin.get("/v1/audits", params={"schedule_id": made["id"]}).json()[
        "items"
    ]
    assert listed["id"] == audit_id
    assert listed["tags"] == [f"schedule:{made['id']}"]
