import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from fastapi import FastAPI

from service.contract.errors import Crashed
from service.settings import Settings
from service.store.tables import AuditRow, OutboxRow, OutcomeRow, PieceRow
from service.store.work import add_piece
from tests.builders_report import make_report
from tests.service.api.app_client import AppClient
from tests.service.api.callers import (
    change_audit,
    inspected,
    new_audit,
    problem,
    request_of,
    upload_dataset,
    upload_model,
)

OK_DATASET = {"status": "ok", "facts": {"classes": 3, "sample_shape": [4]}}


def ok_model(outputs: int, features: int = 4) -> dict[str, object]:
    return {
        "status": "ok",
        "facts": {
            "outputs": outputs,
            "layers": [{"name": "a", "kind": "linear"}],
            "input_shape": [None, features],
        },
    }


def test_an_accepted_audit_says_where_to_poll(app: FastAPI, admin: AppClient):
    answer = admin.post("/v1/audits", json=request_of(admin, tags=["nightly"]))

    body = answer.json()
    address = f"/v1/audits/{body['id']}"
    assert answer.status_code == 202
    assert answer.headers["location"] == address
    assert answer.headers["operation-location"] == address
    assert int(answer.headers["retry-after"]) > 0
    assert body["status"] == "queued"
    assert body["progress"]["fraction"] == 0
    assert body["request"]["tags"] == ["nightly"]
    assert admin.get(address).json() == body
    with app.state.desk.database.reading() as session:
        [piece] = session.query(PieceRow).where(PieceRow.kind == "advance").all()
        invited = session.query(OutboxRow).where(OutboxRow.subject_id == body["id"])
        assert invited.count() == 1
    assert (piece.subject_id, piece.digest) == (body["id"], "0")


def test_the_same_request_sent_twice_makes_one_audit(admin: AppClient):
    body = request_of(admin)
    headers = {"Idempotency-Key": "once"}

    first = admin.post("/v1/audits", json=body, headers=headers)
    second = admin.post("/v1/audits", json=body, headers=headers)
    other = admin.post("/v1/audits", json={**body, "seed": 1}, headers=headers)
    bare = admin.post("/v1/audits", json=body)

    assert first.status_code == second.status_code == 202
    assert first.json() == second.json()
    assert first.headers["location"] == second.headers["location"]
    problem(other, "idempotency-mismatch", 422)
    assert bare.json()["id"] != first.json()["id"]
    assert len(admin.get("/v1/audits").json()["items"]) == 2


def test_the_same_request_gets_the_same_answer_whatever_became_of_its_audit(
    app: FastAPI, admin: AppClient
):
    body = request_of(admin)
    headers = {"Idempotency-Key": "once"}
    first = admin.post("/v1/audits", json=body, headers=headers)
    address = first.headers["location"]

    change_audit(app, first.json()["id"], status="succeeded")
    finished = admin.post("/v1/audits", json=body, headers=headers)
    admin.delete(address)
    deleted = admin.post("/v1/audits", json=body, headers=headers)

    for again in (finished, deleted):
        assert (again.status_code, again.json()) == (202, first.json())
        assert again.headers["location"] == address


def test_the_same_request_sent_many_times_at_once_makes_one_audit(admin: AppClient):
    body = request_of(admin)

    def send(_: int) -> str:
        answer = admin.post("/v1/audits", json=body, headers={"Idempotency-Key": "k"})
        return str(answer.json()["id"])

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(send, range(16)))) == 1
    assert len(admin.get("/v1/audits").json()["items"]) == 1


def test_a_refused_request_does_not_use_up_its_idempotency_key(admin: AppClient):
    body = request_of(admin)
    headers = {"Idempotency-Key": "k"}
    wrong = {**body, "policy": {"max_regression_from": "aud_nix"}}

    problem(
        admin.post("/v1/audits", json=wrong, headers=headers), "invalid-fields", 422
    )
    assert admin.post("/v1/audits", json=body, headers=headers).status_code == 202


@pytest.mark.parametrize("key", ["", "k" * 256, "a b", "ü".encode()])
def test_an_idempotency_key_that_cannot_be_kept_is_refused(admin: AppClient, key):
    answer = admin.post(
        "/v1/audits", json=request_of(admin), headers={"Idempotency-Key": key}
    )

    found = problem(answer, "invalid-fields", 422)
    assert found["errors"][0]["pointer"] == "header:Idempotency-Key"


@pytest.mark.parametrize(
    ("change", "pointers"),
    [
        ({"model_id": "mdl_nix"}, {"/model_id"}),
        ({"dataset_id": 7}, {"/dataset_id"}),
        ({"colour": 1}, {"/colour"}),
        (
            {"recipe": {"optimizer": {"lr": -1, "q": 1}}},
            {"/recipe/optimizer/lr", "/recipe/optimizer/q"},
        ),
        ({"recipe": {"epochs": 0}}, {"/recipe/epochs"}),
        (
            {"recipe": {"loss": {"class_weights": [0, 0]}}},
            {"/recipe/loss/class_weights"},
        ),
        (
            {"recipe": {"loss": {"class_weights": [1, "x"]}}},
            {"/recipe/loss/class_weights/1"},
        ),
        ({"budget": {"seconds": 1}}, {"/budget/seconds"}),
        ({"budget": {}}, {"/budget/seconds"}),
        ({"budget": "fast"}, {"/budget"}),
        (
            {"recipe": {"normalization": {"mean": 0.5}}},
            {"/recipe/normalization/std"},
        ),
        ({"recipe": {"schedule": "cosine"}}, {"/recipe/schedule"}),
        ({"checks": []}, {"/checks"}),
        ({"checks": ["label_noise", "nix"]}, {"/checks/1"}),
        ({"seed": 2.5}, {"/seed"}),
        ({"policy": {"max_ece": 2}}, {"/policy/max_ece"}),
    ],
)
def test_each_wrong_field_is_named(admin: AppClient, change, pointers):
    answer = admin.post("/v1/audits", json={**request_of(admin), **change})

    found = problem(answer, "invalid-fields", 422)
    assert {error["pointer"] for error in found["errors"]} == pointers
    said = " ".join(error["detail"] for error in found["errors"])
    assert "instance" not in said  # of a class of ours
    assert "dictionary" not in said
    assert admin.get("/v1/audits").json()["items"] == []


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff\xfe",
        b"[" * 9_000,
        b'{"seed": NaN}',
        b'{"seed": 1e999}',
        b'{"seed": ' + b"9" * 5_000 + b"}",
        b'{"seed": 99999999999999999999}',
        b'{"model_id": "\\u0000"}',
        b'{"\\ud800": 1}',
        b'{"a":' * 40 + b"1" + b"}" * 40,
        b'{"recipe": {"epochs": 3, "epochs": 30}}',
    ],
)
def test_a_broken_body_is_a_bad_request(admin: AppClient, body: bytes):
    headers = {"content-type": "application/json"}

    problem(admin.post("/v1/audits", content=body, headers=headers), "bad-request", 400)


@pytest.mark.parametrize("name", ["tags", "seed", "Status"])
def test_a_filter_that_is_not_known_lets_nothing_pass(admin: AppClient, name: str):
    found = problem(admin.get(f"/v1/audits?{name}=a"), "invalid-fields", 422)

    [error] = found["errors"]
    assert error["pointer"] == f"query:{name}"
    assert "`tag`" in error["detail"]
    assert admin.get("/v1/audits?tag=a&limit=5").status_code == 200
    assert admin.get("/v1/causes?v=2").status_code == 200  # it has no filters


def test_a_body_of_another_kind_or_size_is_refused(admin: AppClient):
    json_type = {"content-type": "application/json; charset=utf-8"}
    large = admin.post("/v1/audits", content=b" " * 10_001, headers=json_type)
    other = admin.post("/v1/audits", content=b"a=b", headers={"content-type": "x/y"})

    problem(large, "too-large", 413)
    problem(other, "unsupported-media-type", 415)


def test_an_upload_whose_inspection_failed_is_not_audited(
    app: FastAPI, admin: AppClient
):
    body = request_of(admin)
    failed = {
        "status": "failed",
        "facts": {},
        "problem": {
            "type": "/problems/unusable-model",
            "title": "",
            "status": 422,
            "detail": "It takes two inputs.",
        },
    }
    inspected(app, body["model_id"], failed)

    found = problem(admin.post("/v1/audits", json=body), "unusable-model", 422)
    assert "two inputs" in found["detail"]
    assert found["errors"][0]["pointer"] == "/model_id"

    inspected(app, body["model_id"], ok_model(3))
    inspected(app, body["dataset_id"], failed)
    problem(admin.post("/v1/audits", json=body), "unusable-dataset", 422)


@pytest.mark.parametrize("kind", ["internal", "crashed"])
def test_an_upload_that_could_not_be_inspected_is_not_called_unusable(
    app: FastAPI, admin: AppClient, kind: str
):
    body = request_of(admin)
    document = {"type": f"/problems/{kind}", "title": "", "status": 1, "detail": "why"}
    failed = {"status": "failed", "facts": {}, "problem": document}
    inspected(app, body["dataset_id"], failed)

    found = problem(admin.post("/v1/audits", json=body), "conflict", 409)

    assert "upload it again" in found["detail"]
    assert found["errors"][0] == {"pointer": "/dataset_id", "detail": "why"}


@pytest.mark.parametrize(
    ("model", "fits"),
    [
        (ok_model(3), True),
        (ok_model(4), True),
        (ok_model(0), True),
        (ok_model(2), False),
        (ok_model(1), False),
        (ok_model(3, features=5), False),
        ({"status": "pending"}, True),
    ],
)
def test_what_cannot_fit_is_refused_before_it_is_accepted(
    app: FastAPI, admin: AppClient, model, fits
):
    body = request_of(admin)
    inspected(app, body["model_id"], model)
    inspected(app, body["dataset_id"], OK_DATASET)

    answer = admin.post("/v1/audits", json=body)

    if fits:
        assert answer.status_code == 202
    else:
        found = problem(answer, "mismatch", 422)
        assert len(found["errors"]) == 2


@pytest.mark.parametrize(
    ("field", "values"),
    [("class_weights", [1, 2]), ("transition_matrix", [[0.9, 0.1], [0, 1]])],
)
def test_lists_that_do_not_fit_the_classes_are_refused(
    app: FastAPI, admin: AppClient, field: str, values: list[object]
):
    body = request_of(admin, recipe={"loss": {field: values}})
    inspected(app, body["dataset_id"], OK_DATASET)

    found = problem(admin.post("/v1/audits", json=body), "invalid-fields", 422)
    assert found["errors"][0]["pointer"] == f"/recipe/loss/{field}"


@pytest.mark.parametrize(("count", "fits"), [(1, True), (4, True), (3, False)])
def test_figures_of_a_normalisation_that_fit_no_axis_are_refused(
    app: FastAPI, admin: AppClient, count: int, fits
):
    figures = {"mean": [0.5] * count, "std": 1.0}
    body = request_of(admin, recipe={"normalization": figures})
    inspected(app, body["dataset_id"], OK_DATASET)

    answer = admin.post("/v1/audits", json=body)

    if fits:
        assert answer.status_code == 202
    else:
        [error] = problem(answer, "invalid-fields", 422)["errors"]
        assert error["pointer"] == "/recipe/normalization/mean"
        assert "[4], got 3" in error["detail"]


def test_a_poll_with_the_newest_tag_is_answered_without_a_body(
    app: FastAPI, admin: AppClient
):
    audit_id = new_audit(admin)
    first = admin.get(f"/v1/audits/{audit_id}")
    known = {"If-None-Match": first.headers["etag"]}

    same = admin.get(f"/v1/audits/{audit_id}", headers=known)
    change_audit(app, audit_id, status="running")
    changed = admin.get(f"/v1/audits/{audit_id}", headers=known)
    change_audit(app, audit_id, status="succeeded")
    ended = admin.get(f"/v1/audits/{audit_id}")

    assert (same.status_code, same.content) == (304, b"")
    assert same.headers["etag"] == first.headers["etag"]
    assert "retry-after" in same.headers
    assert changed.json()["status"] == "running"
    assert changed.headers["etag"] != first.headers["etag"]
    assert "retry-after" not in ended.headers


def test_a_waiting_poll_is_answered_when_the_audit_changes(
    app: FastAPI, admin: AppClient
):
    audit_id = new_audit(admin)
    tag = admin.get(f"/v1/audits/{audit_id}").headers["etag"]
    headers = {"Prefer": "wait=20", "If-None-Match": tag}

    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        waiting = pool.submit(admin.get, f"/v1/audits/{audit_id}", headers=headers)
        time.sleep(0.3)
        assert not waiting.done()
        change_audit(app, audit_id, status="running")
        answer = waiting.result(timeout=10)

    assert answer.json()["status"] == "running"
    assert answer.headers["preference-applied"] == "wait=20"
    assert time.monotonic() - began < 10


def test_a_waiting_poll_ends_when_its_time_is_over(admin: AppClient):
    audit_id = new_audit(admin)
    tag = admin.get(f"/v1/audits/{audit_id}").headers["etag"]
    began = time.monotonic()

    answer = admin.get(
        f"/v1/audits/{audit_id}", headers={"Prefer": "wait=1", "If-None-Match": tag}
    )

    assert answer.status_code == 304
    assert time.monotonic() - began >= 1


def test_nobody_waits_for_an_audit_that_has_ended_or_has_news(
    app: FastAPI, admin: AppClient
):
    audit_id = new_audit(admin)
    began = time.monotonic()
    news = {"Prefer": "wait=30", "If-None-Match": '"v0"'}
    assert admin.get(f"/v1/audits/{audit_id}", headers=news).status_code == 200
    change_audit(app, audit_id, status="failed")
    tag = admin.get(f"/v1/audits/{audit_id}").headers["etag"]
    ended = {"Prefer": "wait=30", "If-None-Match": tag}
    assert admin.get(f"/v1/audits/{audit_id}", headers=ended).status_code == 304
    assert time.monotonic() - began < 15


def test_events_show_every_change_and_end_with_the_audit(
    app: FastAPI, admin: AppClient
):
    audit_id = new_audit(admin)

    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(admin.get, f"/v1/audits/{audit_id}/events")
        time.sleep(0.3)
        change_audit(app, audit_id, status="running")
        time.sleep(0.3)
        change_audit(app, audit_id, status="succeeded")
        answer = stream.result(timeout=20)

    events = [event for event in answer.text.split("\r\n\r\n") if "data:" in event]
    seen = [json.loads(event.partition("data: ")[2])["status"] for event in events]
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert seen == ["queued", "running", "succeeded"]
    again = admin.get(f"/v1/audits/{audit_id}/events", headers={"Last-Event-ID": "3"})
    assert again.status_code == 204


def test_a_cancelled_audit_stays_cancelled(app: FastAPI, admin: AppClient):
    audit_id = new_audit(admin)

    first = admin.post(f"/v1/audits/{audit_id}/cancel")
    second = admin.post(f"/v1/audits/{audit_id}/cancel")

    assert first.json()["status"] == second.json()["status"] == "cancelled"
    assert first.json()["finished_at"] is not None
    problem(admin.get(f"/v1/audits/{audit_id}/report"), "conflict", 409)
    with app.state.desk.database.reading() as session:
        piece = session.query(PieceRow).where(PieceRow.subject_id == audit_id).one()
        assert piece.status == "failed"


def test_what_was_finished_of_a_cancelled_audit_stays_readable(
    app: FastAPI, admin: AppClient
):
    audit_id = new_audit(admin)
    now = datetime.now(UTC)
    with app.state.desk.database.transaction() as session:
        for place, name in enumerate("abc"):
            body = {"kind": "measurement", "question": f"{name}?", "name": name}
            add_piece(
                session,
                audit_id,
                "experiment",
                name,
                position=place,
                body=body,
                done=name != "c",
                now=now,
            )
            outcome = json.dumps({"kind": "measurement", "values": {"found": name}})
            session.add(
                OutcomeRow(digest=name, body=outcome, seconds=1, created_at=now)
            )
    links = admin.post(f"/v1/audits/{audit_id}/cancel").json()["links"]

    newest = admin.get(links["experiments"], params={"limit": 1}).json()
    rest = admin.get(links["experiments"], params={"cursor": newest["next_cursor"]})

    [b], [a] = newest["items"], rest.json()["items"]
    assert (b["question"], b["outcome"]["values"]) == ("b?", {"found": "b"})
    assert (a["experiment"]["name"], a["outcome"]["values"]) == ("a", {"found": "a"})
    refused = problem(admin.get(f"/v1/audits/{audit_id}/report"), "conflict", 409)
    assert links["experiments"] in refused["detail"]


def cancelled_after_a_round(app: FastAPI, admin: AppClient) -> str:
    """Cancel an audit whose second round has begun; returns its address."""
    audit_id, now = new_audit(admin), datetime.now(UTC)
    with app.state.desk.database.transaction() as session:
        add_piece(
            session, audit_id, "advance", "1", position=1, body={}, done=False, now=now
        )
    audit = admin.post(f"/v1/audits/{audit_id}/cancel").json()
    assert "report" not in audit["links"]
    return str(audit["links"]["self"])


def test_the_report_of_a_cancelled_audit_is_there_once_it_is_written(
    app: FastAPI, admin: AppClient
):
    address = cancelled_after_a_round(app, admin)
    before = admin.get(address)

    waiting = problem(admin.get(f"{address}/report"), "conflict", 409)
    report = make_report().model_dump_json()
    change_audit(app, before.json()["id"], report)
    after = admin.get(address, headers={"If-None-Match": before.headers["etag"]})

    assert "being written" in waiting["detail"]
    assert after.json()["status"] == "cancelled"
    assert admin.get(after.json()["links"]["report"]).status_code == 200


def test_a_report_that_could_not_be_written_says_why(app: FastAPI, admin: AppClient):
    address = cancelled_after_a_round(app, admin)
    with app.state.desk.database.transaction() as session:
        piece = session.query(PieceRow).where(PieceRow.kind == "conclude").one()
        piece.status = "failed"
        piece.error = Crashed("It is gone.").document().model_dump()

    refused = problem(admin.get(f"{address}/report"), "conflict", 409)

    assert "It is gone." in refused["detail"]


def test_an_audit_that_has_ended_cannot_be_cancelled(app: FastAPI, admin: AppClient):
    audit_id = new_audit(admin)
    change_audit(app, audit_id, status="succeeded")

    problem(admin.post(f"/v1/audits/{audit_id}/cancel"), "conflict", 409)


def test_the_report_of_an_unfinished_audit_is_a_conflict(admin: AppClient):
    audit_id = new_audit(admin)

    problem(admin.get(f"/v1/audits/{audit_id}/report"), "conflict", 409)
    problem(admin.get(f"/v1/audits/{audit_id}/model"), "conflict", 409)


@pytest.mark.parametrize(
    ("query", "accept", "media_type"),
    [
        ("", "*/*", "application/json"),
        ("", "text/html,application/xhtml+xml,*/*;q=0.8", "text/html"),
        ("?format=html", "application/json", "text/html"),
        ("?format=markdown", "*/*", "text/markdown"),
        ("?format=junit", "*/*", "application/xml"),
        ("?format=sarif", "*/*", "application/sarif+json"),
        ("", "text/html;q=0.2, application/json", "application/json"),
    ],
)
def test_the_report_comes_in_the_form_that_is_asked_for(
    app: FastAPI, admin: AppClient, query, accept, media_type
):
    audit_id = new_audit(admin)
    report = make_report().model_dump_json()
    change_audit(app, audit_id, report, status="succeeded")

    answer = admin.get(
        f"/v1/audits/{audit_id}/report{query}", headers={"Accept": accept}
    )

    assert answer.status_code == 200
    assert answer.headers["content-type"].split(";")[0] == media_type
    assert answer.content
    if media_type == "application/json":
        assert answer.json() == json.loads(report)


def test_a_form_that_is_not_offered_is_not_acceptable(app: FastAPI, admin: AppClient):
    audit_id = new_audit(admin)
    change_audit(app, audit_id, make_report().model_dump_json(), status="succeeded")
    address = f"/v1/audits/{audit_id}/report"

    problem(admin.get(address, headers={"Accept": "image/png"}), "not-acceptable", 406)
    problem(admin.get(f"{address}?format=pdf"), "invalid-fields", 422)


def test_two_audits_are_compared(app: FastAPI, admin: AppClient):
    ids = [new_audit(admin), new_audit(admin)]
    for audit_id in ids:
        change_audit(app, audit_id, make_report().model_dump_json(), status="succeeded")

    answer = admin.get(f"/v1/audits/{ids[0]}/compare/{ids[1]}")

    assert answer.status_code == 200
    assert answer.json()["appeared"] == []
    problem(admin.get(f"/v1/audits/{ids[0]}/compare/aud_x"), "not-found", 404)


def keep_repaired(app: FastAPI) -> str:
    with app.state.desk.uploads.begin().writer as writer:
        writer.write(b"repaired")
        sha256, _ = writer.finish()
        writer.keep()
    return str(sha256)


def test_the_repaired_model_is_downloaded(app: FastAPI, admin: AppClient):
    audit_id = new_audit(admin)
    change_audit(app, audit_id, status="succeeded")
    problem(admin.get(f"/v1/audits/{audit_id}/model"), "not-found", 404)
    sha256 = keep_repaired(app)
    change_audit(app, audit_id, remedy_sha256=sha256)

    answer = admin.get(f"/v1/audits/{audit_id}/model")

    assert answer.content == b"repaired"
    assert "attachment" in answer.headers["content-disposition"]
    links = admin.get(f"/v1/audits/{audit_id}").json()["links"]
    assert links["repaired_model"] == f"/v1/audits/{audit_id}/model"


def repaired_address(app: FastAPI, admin: AppClient) -> str:
    audit_id = new_audit(admin)
    change_audit(app, audit_id, status="succeeded", remedy_sha256=keep_repaired(app))
    return f"/v1/audits/{audit_id}/model"


def test_a_repaired_model_is_not_sent_again_to_who_has_it(
    app: FastAPI, admin: AppClient
):
    address = repaired_address(app, admin)
    whole = admin.get(address)

    again = admin.get(address, headers={"If-None-Match": whole.headers["etag"]})

    assert whole.headers["content-length"] == "8"
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == whole.headers["etag"]
    assert admin.get(address, headers={"If-None-Match": '"x"'}).content == b"repaired"


@pytest.mark.parametrize(
    ("wanted", "content", "shown"),
    [
        ("bytes=2-", b"paired", "bytes 2-7/8"),
        ("bytes=0-0", b"r", "bytes 0-0/8"),
        ("bytes=-3", b"red", "bytes 5-7/8"),
        ("bytes=6-99", b"ed", "bytes 6-7/8"),
    ],
)
def test_a_part_of_the_repaired_model_is_sent_alone(
    app: FastAPI, admin: AppClient, wanted: str, content: bytes, shown: str
):
    answer = admin.get(repaired_address(app, admin), headers={"Range": wanted})

    assert (answer.status_code, answer.content) == (206, content)
    assert answer.headers["content-range"] == shown
    assert answer.headers["content-length"] == str(len(content))


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=2-", "If-Range": '"another"'},
        {"Range": "bytes=0-1,3-4"},
        {"Range": "bytes=5-2"},
        {"Range": "bytes=-"},
        {"Range": "rows=1-2"},
        {"Range": "bytes=-99"},
    ],
)
def test_what_cannot_be_sent_in_part_is_sent_whole(
    app: FastAPI, admin: AppClient, headers: dict[str, str]
):
    answer = admin.get(repaired_address(app, admin), headers=headers)

    assert (answer.status_code, answer.content) == (200, b"repaired")


@pytest.mark.parametrize("wanted", ["bytes=8-", "bytes=-0"])
def test_a_part_that_is_not_there_is_refused_with_the_size(
    app: FastAPI, admin: AppClient, wanted: str
):
    answer = admin.get(repaired_address(app, admin), headers={"Range": wanted})

    problem(answer, "range-not-satisfiable", 416)
    assert answer.headers["content-range"] == "bytes */8"


@pytest.mark.parametrize("how", ["damaged", "lost"])
def test_a_repaired_model_that_is_not_there_whole_is_not_sent(
    app: FastAPI, admin: AppClient, settings: Settings, how: str
) -> None:
    audit_id = new_audit(admin)
    sha256 = keep_repaired(app)
    change_audit(app, audit_id, status="succeeded", remedy_sha256=sha256)
    [path] = (settings.data_dir / "blobs").rglob(sha256)
    if how == "lost":
        path.unlink()
    else:
        path.write_bytes(b"repai")

    answer = admin.get(f"/v1/audits/{audit_id}/model")

    problem(answer, "not-found", 404)
    assert f"was {how} in the store" in answer.json()["detail"]


@pytest.mark.parametrize(("status", "goes"), [("succeeded", True), ("running", False)])
def test_a_repaired_model_goes_with_the_outcomes_that_refer_to_it(
    app: FastAPI, admin: AppClient, settings: Settings, status: str, *, goes: bool
) -> None:
    first, second = new_audit(admin), new_audit(admin)
    sha256 = keep_repaired(app)
    change_audit(app, first, status="succeeded", remedy_sha256=sha256)
    change_audit(app, second, status=status)
    now = datetime.now(UTC)
    with app.state.desk.database.transaction() as session:
        body = f'{{"kind":"training","file":"{sha256}"}}'
        session.add(OutcomeRow(digest="d", body=body, seconds=1.0, created_at=now))
        add_piece(
            session, second, "experiment", "d", position=1, body={}, done=True, now=now
        )

    admin.delete(f"/v1/audits/{first}")

    with app.state.desk.database.reading() as session:
        assert (session.get(OutcomeRow, "d") is None) == goes
    kept = {path.name for path in (settings.data_dir / "blobs").rglob("*")}
    assert (sha256 in kept) != goes


def test_audits_are_filtered_by_their_fields_and_tags(app: FastAPI, admin: AppClient):
    first = new_audit(admin, tags=["night", "a"])
    second = new_audit(admin, tags=["nightly", "ü"])
    change_audit(app, second, status="running")

    def listed(**filters: str) -> list[str]:
        answer = admin.get("/v1/audits", params=filters)
        return [item["id"] for item in answer.json()["items"]]

    assert listed() == [second, first]
    assert listed(tag="night") == [first]
    assert listed(tag="ü") == [second]
    assert listed(tag="Night") == []
    assert listed(status="running") == [second]
    assert listed(model_id=upload_model(admin)) == [second, first]
    assert listed(dataset_id=upload_dataset(admin), status="queued") == [first]
    assert listed(schedule_id="sch_x") == []


def test_what_is_written_of_an_audit_is_what_was_asked(app: FastAPI, admin: AppClient):
    audit_id = new_audit(admin, budget={"seconds": 60}, seed=7)

    with app.state.desk.database.reading() as session:
        row = session.get_one(AuditRow, audit_id)
    assert row.request["budget"] == {"seconds": 60}
    assert row.request["seed"] == 7
    assert row.schedule_id is None
