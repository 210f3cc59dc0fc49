import time

from tests.service.api.app_client import AppClient
from tests.service.api.callers import new_audit, problem


def test_head_answers_as_get_does_without_a_body(
    admin: AppClient, stranger: AppClient
) -> None:
    address = f"/v1/audits/{new_audit(admin)}"

    for client, path in ((admin, address), (stranger, "/livez"), (admin, "/v1/audits")):
        got, head = client.get(path), client.head(path)

        assert head.status_code == got.status_code == 200
        assert head.headers["content-type"] == got.headers["content-type"]
        assert head.headers.get("etag") == got.headers.get("etag")
        assert head.content == b""


def test_head_needs_a_key_and_an_address(admin: AppClient, stranger: AppClient) -> None:
    assert stranger.head("/v1/audits").status_code == 401
    assert admin.head("/v1/nothing").status_code == 404
    assert admin.head("/v1/audits/aud_0/cancel").status_code == 405


def test_the_head_of_events_does_not_follow_the_audit(admin: AppClient) -> None:
    address = f"/v1/audits/{new_audit(admin)}/events"
    begin = time.monotonic()

    answer = admin.head(address)

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert time.monotonic() - begin < 10.0


def test_allow_names_head_beside_get(admin: AppClient) -> None:
    answer = admin.put("/v1/audits")

    problem(answer, "method-not-allowed", 405)
    assert answer.headers["allow"] == "GET, HEAD, POST"
    assert admin.put("/v1/audits/aud_0/cancel").headers["allow"] == "POST"
