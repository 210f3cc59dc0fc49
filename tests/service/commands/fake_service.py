"""A small HTTP service that answers as ours does, from hand-made reports."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from service.contract.report import Report

MODEL = "mdl_01k6z8yq0v4d5s6t7u8w9x0y1z"
DATASET = "dst_01k6z8yq0v4d5s6t7u8w9x0y1z"
AUDIT = "aud_01k6z8yq0v4d5s6t7u8w9x0y1z"
NOW = "2026-01-02T03:04:05Z"


class FakeService:
    """What it answers, and what it was asked."""

    def __init__(self, report: Report, *, status: str = "succeeded") -> None:
        self.report = report
        self.status = status
        self.polls = 0
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.url = ""

    def answer(self, method: str, path: str) -> tuple[int, dict[str, Any] | str]:
        """Choose an answer for a request."""
        if method == "POST" and path == "/v1/models":
            return 201, _upload(MODEL, "torchscript")
        if method == "POST" and path == "/v1/datasets":
            return 201, _upload(DATASET, "npz")
        if method == "POST" and path == "/v1/audits":
            return 202, self.audit("queued")
        if path == f"/v1/audits/{AUDIT}":
            self.polls += 1
            return 200, self.audit("running" if self.polls < 3 else self.status)
        if path == f"/v1/audits/{AUDIT}/report":
            return 200, self.report.model_dump_json()
        problem = {"type": "/problems/not-found", "title": "There is no such thing"}
        return 404, {**problem, "status": 404, "detail": path}

    def audit(self, status: str) -> dict[str, Any]:
        """Show the audit in a state."""
        error = {
            "type": "/problems/crashed",
            "title": "The audit's process ended early",
            "status": 422,
            "detail": "killed",
        }
        return {
            "id": AUDIT,
            "status": status,
            "progress": {"fraction": 0.1 * self.polls, "stage": "screen"},
            "model_id": MODEL,
            "dataset_id": DATASET,
            "created_at": NOW,
            "error": error if status == "failed" else None,
            "request": {"model_id": MODEL, "dataset_id": DATASET},
            "links": {},
        }


def _upload(upload_id: str, form: str) -> dict[str, Any]:
    return {
        "id": upload_id,
        "name": "x",
        "format": form,
        "sha256": "0",
        "size_bytes": 1,
        "created_at": NOW,
        "inspection": {"status": "pending"},
    }


@contextmanager
def serving(fake: FakeService) -> Iterator[FakeService]:
    """Serve on a free port for as long as the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        def reply(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            path = self.path.partition("?")[0]
            headers = {name.lower(): value for name, value in self.headers.items()}
            fake.asked.append((self.command, path, headers, self.rfile.read(length)))
            status, body = fake.answer(self.command, path)
            text = body if isinstance(body, str) else json.dumps(body)
            self.send_response(status)
            self.send_header("etag", f'"{fake.polls}"')
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = reply  # noqa: N815 - the names that http.server calls

        def log_message(self, *args: Any) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
