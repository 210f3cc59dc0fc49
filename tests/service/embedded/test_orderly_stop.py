"""What those who talk to the service see of its orderly stop."""

import json
import signal
import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from service.client import Client
from tests.service.embedded.test_one_machine import serving
from tests.service.files import npz, torchscript


def client_of(folder: Path, address: str) -> Client:
    return Client(address, (folder / "admin-key").read_text())


def queued_audit(folder: Path, address: str) -> str:
    (folder / "m.pt").write_bytes(torchscript())
    (folder / "d.npz").write_bytes(npz())
    with client_of(folder, address) as client:
        model = client.upload_model(folder / "m.pt")
        dataset = client.upload_dataset(folder / "d.npz")
        return client.audit(model.id, dataset.id).id


def answer_to(address: str, request: str, key: str) -> tuple[str, bytes]:
    """Send by hand what may be cut off; returns head and body of the answer."""
    host, _, port = address.removeprefix("http://").partition(":")
    line, _, rest = request.partition("\r\n")
    head = f"{line}\r\nHost: x\r\nAuthorization: Bearer {key}\r\n{rest}"
    with socket.create_connection((host, int(port)), timeout=40) as connection:
        connection.sendall(head.encode())
        found = b""
        while block := connection.recv(65536):
            found += block
    start, _, body = found.partition(b"\r\n\r\n")
    return start.decode().lower(), body


@pytest.mark.end_to_end
def test_a_stop_answers_all_that_is_under_way_and_logs_no_error(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serving(tmp_path, log=log) as (process, address), ThreadPoolExecutor() as pool:
        audit_id = queued_audit(tmp_path, address)
        key = (tmp_path / "admin-key").read_text()

        def asked(request: str) -> Future[tuple[str, bytes]]:
            return pool.submit(answer_to, address, request, key)

        poll = asked(f"GET /v1/audits/{audit_id} HTTP/1.1\r\nPrefer: wait=30\r\n\r\n")
        events = asked(f"GET /v1/audits/{audit_id}/events HTTP/1.1\r\n\r\n")
        cut = [
            asked(
                f"POST /v1/{kind} HTTP/1.1\r\nContent-Type: application/{form}\r\n"
                "Content-Length: 1000\r\n\r\n{"
            )
            for kind, form in (("models", "octet-stream"), ("audits", "json"))
        ]
        time.sleep(1)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)

        head, body = poll.result()
        assert time.monotonic() - began < 2
        assert head.startswith("http/1.1 200")
        assert json.loads(body)["status"] == "queued"
        assert events.result()[0].startswith("http/1.1 200")
        for sent in cut:
            head, body = sent.result()
            assert head.startswith("http/1.1 503")
            assert "application/problem+json" in head
            assert "retry-after" in head
            assert json.loads(body)["status"] == 503
        assert process.wait(timeout=40) == 0
    assert "Traceback" not in log.read_text()
    assert "ERROR" not in log.read_text()


def end_of(folder: Path, address: str, audit_id: str) -> str:
    with client_of(folder, address) as client:
        return client.wait(audit_id, seconds=60).status


@pytest.mark.end_to_end
def test_who_waits_for_an_audit_bears_a_restart(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        with serving(tmp_path) as (process, address):
            audit_id = queued_audit(tmp_path, address)
            end = pool.submit(end_of, tmp_path, address, audit_id)
            time.sleep(1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=40) == 0
        port = int(address.rpartition(":")[2])

        with serving(tmp_path, port=port), client_of(tmp_path, address) as client:
            client.cancel(audit_id)

            assert end.result(timeout=30) == "cancelled"
