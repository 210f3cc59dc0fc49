import gzip
import hashlib
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest
from fastapi import FastAPI

from service.settings import Settings
from service.store.blobs import BlobWriter, FolderBlobs
from service.store.database import Database, DatabaseDown
from service.store.tables import OutboxRow, PieceRow
from tests.service.api.app_client import AppClient
from tests.service.api.callers import (
    bearer,
    inspected,
    new_audit,
    new_key,
    problem,
    upload_dataset,
    upload_model,
)
from tests.service.files import archive, npz, torchscript

RAW = {"content-type": "application/octet-stream"}
FORM = {"content-type": "multipart/form-data; boundary=B"}


def kept(settings: Settings) -> list[Path]:
    return [path for path in (settings.data_dir / "blobs").rglob("*") if path.is_file()]


def test_a_model_is_kept_under_the_hash_of_its_bytes(
    admin: AppClient, settings: Settings
):
    content = torchscript()

    answer = admin.post(
        "/v1/models",
        files={"file": ("net.pt", content)},
        data={"metadata": '{"commit": "3f2a"}'},
    )

    body = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/models/{body['id']}"
    assert body["name"] == "net.pt"
    assert body["format"] == "torchscript"
    assert body["sha256"] == hashlib.sha256(content).hexdigest()
    assert body["size_bytes"] == len(content)
    assert body["metadata"] == {"commit": "3f2a"}
    assert body["inspection"]["status"] == "pending"
    assert admin.get(f"/v1/models/{body['id']}").json() == body
    assert [path.read_bytes() for path in kept(settings)] == [content]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/audits"])
def test_a_body_that_would_have_to_be_decoded_is_refused(
    admin: AppClient, settings: Settings, path: str
):
    kinds = {"/v1/models": RAW, "/v1/audits": {"content-type": "application/json"}}
    headers = {**kinds[path], "content-encoding": "gzip"}

    answer = admin.post(path, content=gzip.compress(torchscript()), headers=headers)

    found = problem(answer, "unsupported-media-type", 415)
    assert "Content-Encoding: gzip" in found["detail"]
    assert kept(settings) == []


def test_what_is_encoded_as_it_is_is_taken(admin: AppClient):
    headers = {**RAW, "content-encoding": "Identity"}

    answer = admin.post("/v1/models", content=torchscript(), headers=headers)

    assert answer.status_code == 201


def test_an_upload_asks_for_its_inspection_once(app: FastAPI, admin: AppClient):
    model_id = upload_model(admin)
    upload_model(admin)

    with app.state.desk.database.reading() as session:
        [piece] = session.query(PieceRow).all()
        [invitation] = session.query(OutboxRow).all()
    assert (piece.subject_id, piece.kind) == (model_id, "inspect_model")
    assert invitation.subject_id == model_id


def test_the_same_bytes_give_the_same_id(admin: AppClient):
    first = admin.post("/v1/models?name=a", content=torchscript(), headers=RAW)
    second = admin.post("/v1/models", files={"file": ("b.pt", torchscript())})

    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]
    assert first.json()["name"] == second.json()["name"] == "a"


def failed_with(kind: str) -> dict[str, object]:
    problem = {"type": f"/problems/{kind}", "title": "", "status": 1, "detail": "why"}
    return {"status": "failed", "facts": {}, "problem": problem}


@pytest.mark.parametrize("kind", ["internal", "crashed"])
def test_an_upload_that_could_not_be_inspected_is_inspected_when_sent_again(
    app: FastAPI, admin: AppClient, kind: str
):
    model_id = upload_model(admin)
    with app.state.desk.database.transaction() as session:
        piece = session.query(PieceRow).one()
        piece.status, piece.attempts = "failed", 3
    inspected(app, model_id, failed_with(kind))

    again = admin.post("/v1/models", files={"file": ("m.pt", torchscript())})

    assert (again.status_code, again.json()["id"]) == (200, model_id)
    assert again.json()["inspection"]["status"] == "pending"
    with app.state.desk.database.reading() as session:
        piece = session.query(PieceRow).one()
        assert (piece.status, piece.attempts) == ("ready", 0)
        assert session.query(OutboxRow).count() == 2


def test_an_upload_that_is_at_fault_itself_stays_failed(app: FastAPI, admin: AppClient):
    inspected(app, upload_model(admin), failed_with("unusable-model"))

    again = admin.post("/v1/models", files={"file": ("m.pt", torchscript())})

    assert again.json()["inspection"]["status"] == "failed"


def test_the_same_dataset_under_another_spec_is_another_dataset(admin: AppClient):
    def send(spec: str) -> str:
        answer = admin.post(
            "/v1/datasets", files={"file": ("d.npz", npz())}, data={"spec": spec}
        )
        return str(answer.json()["id"])

    assert send("{}") == send("{}")
    assert send("{}") != send('{"class_names": ["a", "b"]}')


@pytest.mark.parametrize(
    ("body", "headers", "name", "status"),
    [
        (b"x", {"content-type": "text/plain"}, "unsupported-media-type", 415),
        (b"x", {}, "unsupported-media-type", 415),
        (b"", RAW, "bad-request", 400),
        (b"\x80\x04", RAW, "unsupported-media-type", 415),
        (torchscript()[:-20], RAW, "bad-request", 400),
        (bytes(5_000_001), RAW, "too-large", 413),
        (b"x", {"content-type": "multipart/form-data"}, "bad-request", 400),
        (b"no form", FORM, "bad-request", 400),
        (b"--B--\r\n", FORM, "invalid-fields", 422),
        (
            b'--B\r\nContent-Disposition: form-data; name="file"\r\n\r\ncut',
            FORM,
            "bad-request",
            400,
        ),
        (
            b'--B\r\nContent-Disposition: form-data; name="nix"\r\n\r\nx\r\n--B--\r\n',
            FORM,
            "invalid-fields",
            422,
        ),
        (
            b'--B\r\nContent-Disposition: form-data; name="name"\r\n\r\n\xff\r\n--B--',
            FORM,
            "bad-request",
            400,
        ),
        (b"--B\r\nx\r\n\r\n--B--", FORM, "bad-request", 400),
        (
            b"x",
            {"content-type": "multipart/form-data; boundary=" + "b" * 500},
            "bad-request",
            400,
        ),
    ],
)
def test_of_a_refused_upload_nothing_is_kept(
    admin: AppClient, settings: Settings, body, headers, name, status
):
    answer = admin.post("/v1/models", content=body, headers=headers)

    problem(answer, name, status)
    assert kept(settings) == []
    assert admin.get("/v1/models").json()["items"] == []


def test_an_upload_shorter_than_announced_is_refused(
    admin: AppClient, settings: Settings
):
    content = torchscript()
    headers = {**RAW, "content-length": str(len(content) + 10)}

    answer = admin.post("/v1/models", content=content, headers=headers)

    assert "cut off" in problem(answer, "bad-request", 400)["detail"]
    assert kept(settings) == []


def test_an_upload_of_more_than_allowed_is_refused_before_it_is_read(
    admin: AppClient,
):
    headers = {**RAW, "content-length": str(10**12)}

    problem(admin.post("/v1/models", content=b"x", headers=headers), "too-large", 413)


@pytest.mark.parametrize(
    ("data", "pointer"),
    [
        ({"metadata": "{"}, "/metadata"),
        ({"metadata": "[]"}, "/metadata"),
        ({"metadata": '{"a": "\\u0000"}'}, "/metadata"),
        ({"metadata": f'{{"a": "{"x" * 65_536}"}}'}, "/metadata"),
        ({"name": ""}, "/name"),
        ({"name": "n" * 201}, "/name"),
        ({"name": "a\0b"}, "/name"),
    ],
)
def test_a_wrong_field_of_a_form_is_named(admin: AppClient, data, pointer):
    answer = admin.post("/v1/models", files={"file": torchscript()}, data=data)

    found = problem(answer, "invalid-fields", 422)
    assert found["errors"][0]["pointer"] == pointer


def test_a_wrong_field_of_a_spec_is_named(admin: AppClient):
    answer = admin.post(
        "/v1/datasets",
        files={"file": ("d.npz", npz())},
        data={"spec": '{"image": {"layout": "XYZ"}, "colour": 1}'},
    )

    found = problem(answer, "invalid-fields", 422)
    assert {error["pointer"] for error in found["errors"]} == {
        "/spec/image/layout",
        "/spec/colour",
    }


def test_a_zip_bomb_is_refused(admin: AppClient, settings: Settings):
    bomb = archive(
        {"n/data.pkl": bytes(100_000_000), "n/code/a.py": b""},
        compression=zipfile.ZIP_DEFLATED,
    )

    problem(admin.post("/v1/models", content=bomb, headers=RAW), "too-large", 413)
    assert kept(settings) == []


def test_an_idempotency_key_for_another_upload_is_refused_and_nothing_kept(
    app: FastAPI, admin: AppClient, settings: Settings
):
    headers = {**RAW, "Idempotency-Key": "k"}
    first = admin.post("/v1/models", content=torchscript(), headers=headers)
    inspected(app, first.json()["id"], {"status": "ok", "facts": {}})
    same = admin.post("/v1/models", content=torchscript(), headers=headers)
    other = admin.post("/v1/models", content=torchscript("x"), headers=headers)

    assert first.status_code == same.status_code == 201
    assert first.json() == same.json()
    problem(other, "idempotency-mismatch", 422)
    assert len(kept(settings)) == 1


def test_an_upload_waits_for_a_locked_database_once(
    admin: AppClient, settings: Settings, monkeypatch
):
    asked: list[bool] = []

    @contextmanager
    def locked(_: Database, *, hasty: bool = False) -> Iterator[None]:
        asked.append(hasty)
        raise DatabaseDown
        yield

    admin.get("/v1/models")  # the key is known from now on
    monkeypatch.setattr(Database, "transaction", locked)

    answer = admin.post("/v1/models", content=torchscript(), headers=RAW)

    problem(answer, "unavailable", 503)
    assert asked == [False]
    assert kept(settings) == []


def test_what_another_project_gives_up_is_kept_for_who_uploads_it_meanwhile(
    app: FastAPI, admin: AppClient, settings: Settings, monkeypatch
):
    finish = BlobWriter.finish

    def finish_while_equal_bytes_are_deleted(writer: BlobWriter) -> tuple[str, int]:
        finished = finish(writer)
        app.state.desk.uploads.forget_bytes(finished[0])
        return finished

    monkeypatch.setattr(BlobWriter, "finish", finish_while_equal_bytes_are_deleted)

    upload_model(admin)

    assert len(kept(settings)) == 1


def test_an_upload_waits_for_the_deletion_of_equal_bytes(
    app: FastAPI, admin: AppClient, settings: Settings, monkeypatch
):
    model_id = upload_model(admin)
    other = AppClient(app, headers=bearer(new_key(admin, "submitter", project="b")))
    delete = FolderBlobs.delete
    deleting = Event()

    def delete_slowly(blobs: FolderBlobs, sha256: str) -> None:
        deleting.set()
        time.sleep(0.3)
        delete(blobs, sha256)

    monkeypatch.setattr(FolderBlobs, "delete", delete_slowly)
    deletion = Thread(target=admin.delete, args=(f"/v1/models/{model_id}",))
    deletion.start()
    deleting.wait(10)

    upload_model(other)
    deletion.join()

    assert len(kept(settings)) == 1


@pytest.mark.parametrize("is_there", [False, True])
def test_what_an_idempotency_key_made_is_made_anew_once_it_was_deleted(
    admin: AppClient, settings: Settings, *, is_there: bool
):
    headers = {**RAW, "Idempotency-Key": "k"}
    first = admin.post("/v1/models", content=torchscript(), headers=headers).json()
    admin.delete(f"/v1/models/{first['id']}")
    if is_there:
        upload_model(admin)

    second = admin.post("/v1/models", content=torchscript(), headers=headers)
    third = admin.post("/v1/models", content=torchscript(), headers=headers)

    assert second.status_code == third.status_code == (200 if is_there else 201)
    assert first["id"] != second.json()["id"]
    assert second.json() == third.json()
    assert len(kept(settings)) == 1


def test_a_model_in_use_is_not_deleted(admin: AppClient, settings: Settings):
    audit_id = new_audit(admin)
    model_id, dataset_id = upload_model(admin), upload_dataset(admin)

    problem(admin.delete(f"/v1/models/{model_id}"), "conflict", 409)
    problem(admin.delete(f"/v1/datasets/{dataset_id}"), "conflict", 409)
    problem(admin.delete(f"/v1/audits/{audit_id}"), "conflict", 409)
    admin.post(f"/v1/audits/{audit_id}/cancel")
    for address in (
        f"/v1/audits/{audit_id}",
        f"/v1/models/{model_id}",
        f"/v1/datasets/{dataset_id}",
    ):
        assert admin.delete(address).status_code == 204
        problem(admin.get(address), "not-found", 404)
    assert kept(settings) == []


def test_pages_of_a_list_hold_everything_once_newest_first(admin: AppClient):
    made = [upload_model(admin, torchscript(f"x = {n}")) for n in range(5)]

    found, cursor = [], ""
    while cursor is not None:
        page = admin.get(f"/v1/models?limit=2{cursor and '&cursor='}{cursor}").json()
        found += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]

    assert found == made[::-1]


def test_lists_are_filtered_by_fields(admin: AppClient):
    upload_model(admin, torchscript("a"))
    admin.post("/v1/models?name=wanted", content=torchscript("b"), headers=RAW)

    [only] = admin.get("/v1/models?name=wanted").json()["items"]
    assert only["name"] == "wanted"
    assert admin.get("/v1/models?format=torch_export").json()["items"] == []
    problem(admin.get("/v1/models?format=nix"), "invalid-fields", 422)
