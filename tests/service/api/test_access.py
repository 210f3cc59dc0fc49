from datetime import UTC, datetime, timedelta

import pytest
from fastapi import FastAPI

from service.app import create_app
from service.settings import Settings
from service.store.tables import KeyRow
from tests.service.api.app_client import AppClient
from tests.service.api.callers import (
    ADMIN_KEY,
    bearer,
    new_audit,
    new_key,
    problem,
    upload_model,
)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Basic x"},
        bearer("wrong"),
        {"Authorization": "Bearer \u00fc".encode()},
    ],
)
def test_without_a_known_key_nothing_is_answered(stranger: AppClient, headers):
    answer = stranger.get("/v1/models", headers=headers)

    problem(answer, "unauthorized", 401)
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_body_is_not_read_before_the_key(stranger: AppClient):
    answer = stranger.post("/v1/audits", content=b"{", headers={"content-type": "x"})

    problem(answer, "unauthorized", 401)


def test_two_keys_in_one_request_are_refused(admin: AppClient):
    audit_id = new_audit(admin)
    sent = [("Authorization", f"Bearer {ADMIN_KEY}")]
    two = [*sent, ("Authorization", "Bearer another")]
    address = f"http://test/v1/audits/{audit_id}"
    admin.headers.pop("authorization")
    assert admin.get(address, headers=sent).status_code == 200

    problem(admin.get(address, headers=two), "bad-request", 400)


def test_a_viewer_reads_but_does_not_upload(viewer: AppClient):
    assert viewer.get("/v1/models").status_code == 200
    problem(viewer.post("/v1/models", content=b"x"), "forbidden", 403)
    problem(viewer.post("/v1/audits/aud_x/cancel"), "forbidden", 403)


def test_a_submitter_does_not_manage_keys_or_delete(submitter: AppClient):
    model_id = upload_model(submitter)

    problem(submitter.get("/v1/keys"), "forbidden", 403)
    problem(submitter.delete(f"/v1/models/{model_id}"), "forbidden", 403)


def test_a_key_sees_only_its_own_project(app: FastAPI, admin: AppClient):
    audit_id = new_audit(admin)
    model_id = upload_model(admin)
    other = AppClient(app, headers=bearer(new_key(admin, "admin", project="other")))

    problem(other.get(f"/v1/audits/{audit_id}"), "not-found", 404)
    problem(other.get(f"/v1/models/{model_id}"), "not-found", 404)
    problem(other.delete(f"/v1/models/{model_id}"), "not-found", 404)
    problem(other.post(f"/v1/audits/{audit_id}/cancel"), "not-found", 404)
    assert other.get("/v1/audits").json()["items"] == []
    assert upload_model(other) != model_id


def test_an_admin_of_another_project_manages_only_its_keys(
    app: FastAPI, admin: AppClient
):
    other = AppClient(app, headers=bearer(new_key(admin, "admin", project="other")))
    [theirs] = admin.get("/v1/keys?project=other").json()["items"]
    [first] = admin.get("/v1/keys?project=default").json()["items"]
    body = {"name": "n", "role": "viewer"}

    made = other.post("/v1/keys", json=body)
    foreign = other.post("/v1/keys", json={**body, "project": "default"})

    assert made.json()["project"] == "other"
    problem(foreign, "forbidden", 403)
    listed = {key["id"] for key in other.get("/v1/keys").json()["items"]}
    assert listed == {theirs["id"], made.json()["id"]}
    assert other.get("/v1/keys?project=default").json()["items"] == []
    problem(other.get(f"/v1/keys/{first['id']}"), "not-found", 404)
    problem(other.delete(f"/v1/keys/{first['id']}"), "not-found", 404)
    assert other.delete(f"/v1/keys/{made.json()['id']}").status_code == 204
    assert len(admin.get("/v1/keys").json()["items"]) == 2


def test_only_the_hash_of_a_key_is_stored(app: FastAPI, admin: AppClient):
    secret = new_key(admin, "viewer")

    with app.state.desk.database.reading() as session:
        rows = session.query(KeyRow).all()
    assert len(rows) == 2
    assert all(secret not in str(vars(row)) for row in rows)
    assert secret not in admin.get("/v1/keys").text


def test_a_revoked_key_is_refused_at_once(app: FastAPI, admin: AppClient):
    secret = new_key(admin, "viewer")
    client = AppClient(app, headers=bearer(secret))
    assert client.get("/v1/models").status_code == 200
    [key] = [k for k in admin.get("/v1/keys").json()["items"] if k["name"] == "test"]

    assert admin.delete(f"/v1/keys/{key['id']}").status_code == 204

    problem(client.get("/v1/models"), "unauthorized", 401)
    problem(admin.get(f"/v1/keys/{key['id']}"), "not-found", 404)


def test_a_key_cannot_revoke_itself(admin: AppClient):
    [key] = admin.get("/v1/keys").json()["items"]

    problem(admin.delete(f"/v1/keys/{key['id']}"), "conflict", 409)


def test_an_expired_key_is_refused(app: FastAPI, admin: AppClient):
    soon = datetime.now(UTC) + timedelta(hours=1)
    body = {"name": "n", "role": "viewer", "expires_at": soon.isoformat()}
    made = admin.post("/v1/keys", json=body).json()
    client = AppClient(app, headers=bearer(made["key"]))
    with app.state.desk.database.transaction() as session:
        session.get_one(KeyRow, made["id"]).expires_at = datetime.now(UTC)

    problem(client.get("/v1/models"), "unauthorized", 401)


@pytest.mark.parametrize(
    "expires_at",
    [
        "2020-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
    ],
)
def test_a_key_expires_at_a_time_to_come(admin: AppClient, expires_at: str):
    body = {"name": "n", "role": "viewer", "expires_at": expires_at}

    found = problem(admin.post("/v1/keys", json=body), "invalid-fields", 422)
    assert found["errors"][0]["pointer"] == "/expires_at"


def test_the_use_of_a_key_is_noted_but_not_at_every_poll(
    admin: AppClient, viewer: AppClient
):
    def last_use() -> object:
        [key] = admin.get("/v1/keys", params={"name": "test"}).json()["items"]
        return key["last_used_at"]

    unused = last_use()
    viewer.get("/v1/models")
    first = last_use()
    viewer.get("/v1/models")

    assert unused is None
    assert first is not None
    assert last_use() == first


def test_the_same_key_request_sent_twice_makes_one_key(admin: AppClient):
    body = {"name": "n", "role": "viewer"}
    headers = {"Idempotency-Key": "k1"}

    first = admin.post("/v1/keys", json=body, headers=headers)
    admin.get("/v1/models", headers=bearer(first.json()["key"]))
    second = admin.post("/v1/keys", json=body, headers=headers)
    other = admin.post("/v1/keys", json={**body, "name": "m"}, headers=headers)

    assert first.json() == second.json()
    assert len(admin.get("/v1/keys").json()["items"]) == 2
    problem(other, "idempotency-mismatch", 422)


def test_the_first_start_makes_an_admin_key_that_only_its_owner_can_read(tmp_path):
    settings = Settings(data_dir=tmp_path)

    first = AppClient(create_app(settings))
    secret = settings.key_file.read_text()
    answer = first.get("/v1/keys", headers=bearer(secret))
    again = AppClient(create_app(settings)).get("/v1/keys", headers=bearer(secret))

    assert settings.key_file.stat().st_mode & 0o777 == 0o600
    assert answer.status_code == again.status_code == 200
    assert len(again.json()["items"]) == 1


def test_the_operators_key_works_though_another_start_made_one(tmp_path):
    create_app(Settings(data_dir=tmp_path))

    client = AppClient(create_app(Settings(data_dir=tmp_path, api_key=ADMIN_KEY)))

    assert client.get("/v1/keys", headers=bearer(ADMIN_KEY)).status_code == 200
