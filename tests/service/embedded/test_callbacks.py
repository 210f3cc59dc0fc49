"""A callback from the request to a real receiver, through a service of its own."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from service.client import Client
from service.contract.jobs import WebhookBody
from service.signature import new_secret, signed_headers
from tests.service.embedded.test_one_machine import serving, wait_for
from tests.service.files import npz, torchscript

PAGE = Path(__file__).parents[3] / "docs" / "webhooks.md"


def verify_of_the_page() -> Callable[[str, dict[str, str], bytes], None]:
    """The example of the documentation, as a receiver would copy it."""
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - our own page
    verify: Callable[[str, dict[str, str], bytes], None] = names["verify"]
    return verify


class Receiver(ThreadingHTTPServer):
    """Answers with the given codes in turn, then with 204; None: not at all."""

    daemon_threads = True

    def __init__(self, *codes: int | None) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.codes = list(codes)
        self.seen: list[tuple[dict[str, str], bytes]] = []
        self.closing = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/hooks"


class _Answer(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        code = self.server.codes.pop(0) if self.server.codes else 204
        self.server.seen.append((headers, body))
        if code is None:
            self.server.closing.wait(60)
            return
        self.send_response(code)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def receive() -> Iterator[Callable[..., Receiver]]:
    started: list[Receiver] = []

    def begin(*codes: int | None) -> Receiver:
        receiver = Receiver(*codes)
        started.append(receiver)
        threading.Thread(target=receiver.serve_forever, args=(0.01,)).start()
        return receiver

    yield begin
    for receiver in started:
        receiver.closing.set()
        receiver.shutdown()
        receiver.server_close()


def client_of(folder: Path, address: str) -> Client:
    return Client(address, (folder / "admin-key").read_text())


def cancelled_audit(client: Client, folder: Path, url: str) -> tuple[str, str]:
    """Ask for an audit and cancel it; returns the webhook's id and its secret."""
    (folder / "m.pt").write_bytes(torchscript())
    (folder / "d.npz").write_bytes(npz())
    model = client.upload_model(folder / "m.pt")
    dataset = client.upload_dataset(folder / "d.npz")
    audit = client.audit(model.id, dataset.id, callback={"url": url})
    assert audit.webhook is not None
    assert audit.webhook.secret is not None
    client.cancel(audit.id)
    return audit.webhook.id, audit.webhook.secret


def ended(client: Client, webhook_id: str, *, seconds: float = 40.0) -> WebhookBody:
    wait_for(
        lambda: client.webhook(webhook_id).next_attempt_at is None, seconds=seconds
    )
    return client.webhook(webhook_id)


def test_the_example_of_the_page_tells_genuine_from_forged_and_old():
    verify, secret, body = verify_of_the_page(), new_secret(), b'{"a": 1}'
    now = time.time()

    def headers(at: float) -> dict[str, str]:
        return signed_headers(secret, "whk_1", datetime.fromtimestamp(at, UTC), body)

    verify(secret, headers(now), body)
    for wrong in (
        (new_secret(), headers(now), body),
        (secret, headers(now), body + b" "),
        (secret, {**headers(now), "webhook-id": "whk_2"}, body),
        (secret, headers(now - 400), body),
    ):
        with pytest.raises(ValueError, match=r"sent too long|not signed"):
            verify(*wrong)


@pytest.mark.end_to_end
def test_a_receiver_that_fails_at_first_is_told_in_the_end(
    tmp_path: Path, receive: Callable[..., Receiver], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MODEL_AUDIT_CALLBACK_NETWORKS", "127.0.0.1/32")
    receiver, verify = receive(500), verify_of_the_page()
    folder = tmp_path / "data"

    with serving(folder) as (_, address), client_of(folder, address) as client:
        webhook_id, secret = cancelled_audit(client, tmp_path, receiver.url)
        found = ended(client, webhook_id)
        client.redeliver(webhook_id)
        wait_for(lambda: len(receiver.seen) == 3)

    assert found.status == "delivered"
    assert [attempt.status_code for attempt in found.attempts] == [500, 204]
    assert 5 <= (found.attempts[1].at - found.attempts[0].at).total_seconds() < 10
    for headers, body in receiver.seen:
        verify(secret, headers, body)
        assert headers["webhook-id"] == webhook_id
        assert b'"type":"audit.cancelled"' in body


@pytest.mark.end_to_end
def test_a_service_killed_in_mid_delivery_delivers_after_its_restart(
    tmp_path: Path, receive: Callable[..., Receiver], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MODEL_AUDIT_CALLBACK_NETWORKS", "127.0.0.1/32")
    receiver = receive(None)
    folder = tmp_path / "data"

    with serving(folder) as (process, address), client_of(folder, address) as client:
        webhook_id, secret = cancelled_audit(client, tmp_path, receiver.url)
        wait_for(lambda: receiver.seen)
        process.kill()
    with serving(folder) as (_, address), client_of(folder, address) as client:
        found = ended(client, webhook_id, seconds=60)

    assert found.status == "delivered"
    assert len(receiver.seen) == 2
    verify_of_the_page()(secret, *receiver.seen[1])


@pytest.mark.end_to_end
def test_this_machine_is_not_called_unless_the_operator_says_so(
    tmp_path: Path, receive: Callable[..., Receiver]
):
    receiver = receive()
    folder = tmp_path / "data"

    with serving(folder) as (_, address), client_of(folder, address) as client:
        webhook_id, _ = cancelled_audit(client, tmp_path, receiver.url)
        found = ended(client, webhook_id)

    assert found.status == "failed"
    assert found.attempts[0].error is not None
    assert "not public" in found.attempts[0].error
    assert receiver.seen == []
