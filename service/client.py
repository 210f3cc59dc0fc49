"""The Python client of the HTTP API; needs httpx and the contract, nothing else.

with Client("http://127.0.0.1:8000", key) as client:
    model = client.upload_model(Path("model.pt"))
    dataset = client.upload_dataset(Path("data.npz"))
    audit = client.audit(model.id, dataset.id, recipe={"optimizer": {"lr": 0.5}})
    client.wait(audit.id)
    print(client.report(audit.id).primary_cause)
"""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import ValidationError

from service.contract.causes import CatalogueEntry
from service.contract.comparison import Comparison
from service.contract.errors import ProblemDocument
from service.contract.jobs import (
    TERMINAL,
    AuditBody,
    DatasetBody,
    KeyBody,
    ModelBody,
    NewAuditBody,
    NewKeyBody,
    NewScheduleBody,
    Page,
    ScheduleBody,
    WebhookBody,
)
from service.contract.report import Report

LONG_POLL_SECONDS = 20
PASSING = {429, 502, 503, 504}  # also of a proxy before a service that restarts


class ClientError(Exception):
    """Something that keeps the client from getting its answer."""


class Unreachable(ClientError):  # noqa: N818 - reads as it is raised
    """The service does not answer at that address."""

    def __init__(self, *, url: str, reason: str) -> None:
        super().__init__(f"No answer from {url}: {reason}")


class Refused(ClientError):  # noqa: N818
    """The service answered with a problem document.

    Attributes:
        problem: what the service said.
    """

    def __init__(self, problem: ProblemDocument) -> None:
        lines = [f"{problem.title}: {problem.detail}"]
        lines += [f"  {error.pointer}: {error.detail}" for error in problem.errors]
        super().__init__("\n".join(lines))
        self.problem = problem


class TookTooLong(ClientError):  # noqa: N818
    """The audit did not end within the time that the caller gave."""

    def __init__(self, *, audit_id: str, seconds: float) -> None:
        super().__init__(f"{audit_id} did not end within {seconds:g} seconds")


class Client:
    """Speaks with one service, as the holder of one key."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout_seconds: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers = {"accept": "application/json", "user-agent": "model-audit"}
        if key:
            headers["authorization"] = f"Bearer {key}"
        self.url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=httpx.Timeout(timeout_seconds, connect=5.0),
            transport=transport or httpx.HTTPTransport(retries=2),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # Models and datasets

    def upload_model(
        self,
        path: Path,
        *,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> ModelBody:
        """Upload a model; the same bytes give the same id.

        Raises:
            Refused: the service does not take it.
            Unreachable: no answer.
        """
        answer = self._upload("/v1/models", path, name=name, metadata=metadata)
        return ModelBody.model_validate_json(answer.content)

    def upload_dataset(
        self,
        path: Path,
        *,
        name: str | None = None,
        spec: Mapping[str, Any] | None = None,
    ) -> DatasetBody:
        """Upload a dataset.

        Raises:
            Refused: the service does not take it.
            Unreachable: no answer.
        """
        answer = self._upload("/v1/datasets", path, name=name, spec=spec)
        return DatasetBody.model_validate_json(answer.content)

    def model(self, model_id: str) -> ModelBody:
        """Read a model with its inspection."""
        return ModelBody.model_validate_json(self._get(f"/v1/models/{model_id}"))

    def dataset(self, dataset_id: str) -> DatasetBody:
        """Read a dataset with its inspection."""
        return DatasetBody.model_validate_json(self._get(f"/v1/datasets/{dataset_id}"))

    # Audits

    def audit(self, model_id: str, dataset_id: str, **request: object) -> NewAuditBody:
        """Ask for an audit; a repeated send of the same call makes one audit.

        Where the service made a secret for the callback, only this answer shows it.

        Args:
            model_id: the model.
            dataset_id: the dataset.
            **request: further fields of `POST /v1/audits`: `recipe`, `checks`,
                `budget`, `seed`, `policy`, `callback`, `tags`.

        Raises:
            Refused: a field is not valid, or model and dataset do not fit.
            Unreachable: no answer.
        """
        body = {"model_id": model_id, "dataset_id": dataset_id, **request}
        answer = self._send("POST", "/v1/audits", json_body=body)
        return NewAuditBody.model_validate_json(answer.content)

    def audit_state(self, audit_id: str) -> AuditBody:
        """Read an audit's state."""
        return AuditBody.model_validate_json(self._get(f"/v1/audits/{audit_id}"))

    def audits(self, **filters: str) -> Iterator[AuditBody]:
        """List audits, newest first."""
        yield from self._pages("/v1/audits", Page[AuditBody], filters)

    def wait(
        self,
        audit_id: str,
        *,
        seconds: float | None = None,
        on_change: Callable[[AuditBody], None] | None = None,
    ) -> AuditBody:
        """Wait for an audit to end, by long polls.

        Args:
            audit_id: the audit.
            seconds: how long at most; `None` waits for ever.
            on_change: called with every new state, the first included.

        Raises:
            TookTooLong: it did not end in time.
            Unreachable: no answer for a minute.
        """
        started = time.monotonic()
        tag: str | None = None
        while True:
            left = None if seconds is None else seconds - (time.monotonic() - started)
            if left is not None and left <= 0:
                raise TookTooLong(audit_id=audit_id, seconds=seconds or 0.0)
            hold = min(LONG_POLL_SECONDS, max(1, int(left or LONG_POLL_SECONDS)))
            headers = {"prefer": f"wait={hold}"} if tag else {}
            if tag:
                headers["if-none-match"] = tag
            answer = self._patiently(f"/v1/audits/{audit_id}", headers)
            tag = answer.headers.get("etag")
            if answer.status_code == httpx.codes.NOT_MODIFIED:
                continue
            state = AuditBody.model_validate_json(answer.content)
            if on_change is not None:
                on_change(state)
            if state.status in TERMINAL:
                return state
            if tag is None:
                time.sleep(1.0)

    def cancel(self, audit_id: str) -> AuditBody:
        """Cancel an audit."""
        answer = self._send("POST", f"/v1/audits/{audit_id}/cancel")
        return AuditBody.model_validate_json(answer.content)

    def report(self, audit_id: str) -> Report:
        """Read a report.

        Raises:
            Refused: the audit has not finished.
        """
        return Report.model_validate_json(self._get(f"/v1/audits/{audit_id}/report"))

    def report_as(self, audit_id: str, form: str) -> bytes:
        """Read a report as `json`, `html`, `markdown`, `junit` or `sarif`."""
        return self._send(
            "GET",
            f"/v1/audits/{audit_id}/report",
            query={"format": form},
            headers={"accept": "*/*"},
        ).content

    def repaired_model(self, audit_id: str, path: Path) -> None:
        """Write the repaired model to `path`.

        Raises:
            Refused: the audit made none.
        """
        with self._http.stream(
            "GET", f"/v1/audits/{audit_id}/model", headers={"accept": "*/*"}
        ) as answer:
            if answer.is_error:
                answer.read()
                raise _refused(answer)
            with path.open("wb") as file:
                for chunk in answer.iter_bytes():
                    file.write(chunk)

    def compare(self, earlier: str, later: str) -> Comparison:
        """Compare two audits."""
        return Comparison.model_validate_json(
            self._get(f"/v1/audits/{earlier}/compare/{later}")
        )

    # Everything else

    def causes(self) -> list[CatalogueEntry]:
        """Read the catalogue."""
        document = json.loads(self._get("/v1/causes"))
        items = document["items"] if isinstance(document, dict) else document
        return [CatalogueEntry.model_validate(item) for item in items]

    def webhook(self, webhook_id: str) -> WebhookBody:
        """Read the deliveries of a callback."""
        return WebhookBody.model_validate_json(self._get(f"/v1/webhooks/{webhook_id}"))

    def redeliver(self, webhook_id: str) -> WebhookBody:
        """Deliver the message of a callback again, at once.

        Raises:
            Refused: its audit has not ended.
        """
        answer = self._send("POST", f"/v1/webhooks/{webhook_id}/redeliver")
        return WebhookBody.model_validate_json(answer.content)

    def create_schedule(self, request: Mapping[str, Any]) -> NewScheduleBody:
        """Create a schedule from the fields of `POST /v1/schedules`."""
        answer = self._send("POST", "/v1/schedules", json_body=request)
        return NewScheduleBody.model_validate_json(answer.content)

    def change_schedule(
        self, schedule_id: str, changes: Mapping[str, Any]
    ) -> NewScheduleBody:
        """Change some fields of a schedule."""
        answer = self._send("PATCH", f"/v1/schedules/{schedule_id}", json_body=changes)
        return NewScheduleBody.model_validate_json(answer.content)

    def schedules(self) -> Iterator[ScheduleBody]:
        """List schedules, newest first."""
        yield from self._pages("/v1/schedules", Page[ScheduleBody], {})

    def delete_schedule(self, schedule_id: str) -> None:
        """Delete a schedule; the audits it started stay."""
        self._send("DELETE", f"/v1/schedules/{schedule_id}")

    def create_key(
        self, *, name: str, role: str, project: str | None = None
    ) -> NewKeyBody:
        """Make a key; the answer is the only place that shows its secret."""
        body = {"name": name, "role": role, "project": project}
        answer = self._send("POST", "/v1/keys", json_body=body)
        return NewKeyBody.model_validate_json(answer.content)

    def api_keys(self) -> Iterator[KeyBody]:
        """List keys, newest first."""
        yield from self._pages("/v1/keys", Page[KeyBody], {})

    def revoke_key(self, key_id: str) -> None:
        """Revoke a key."""
        self._send("DELETE", f"/v1/keys/{key_id}")

    def version(self) -> dict[str, Any]:
        """Read the versions of service, engine and torch."""
        document: dict[str, Any] = json.loads(self._get("/version"))
        return document

    # The wire

    def _upload(self, route: str, path: Path, **fields: object) -> httpx.Response:
        data = {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in fields.items()
            if value is not None
        }
        with path.open("rb") as file:  # httpx reads it chunk by chunk
            files = {"file": (path.name, file, "application/octet-stream")}
            return self._send("POST", route, data=data, files=files)

    def _get(self, route: str) -> bytes:
        return self._send("GET", route).content

    def _send(  # noqa: PLR0913 - the parts of one request
        self,
        method: str,
        route: str,
        *,
        json_body: object = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
        files: Any = None,  # noqa: ANN401 - httpx has no public name for it
    ) -> httpx.Response:
        given = dict(headers or {})
        if method == "POST" and not route.endswith("/cancel"):
            given["idempotency-key"] = str(uuid.uuid4())
        try:
            answer = self._http.request(
                method,
                route,
                json=json_body,
                params=query,
                headers=given,
                data=data,
                files=files,
            )
        except httpx.HTTPError as error:
            raise Unreachable(url=self.url, reason=_reason(error)) from error
        if answer.is_error:
            raise _refused(answer)
        return answer

    def _patiently(self, route: str, headers: Mapping[str, str]) -> httpx.Response:
        """Read, and bear a restart of the service of up to a minute."""
        deadline = time.monotonic() + 60
        while True:
            try:
                return self._send("GET", route, headers=headers)
            except Unreachable:
                if time.monotonic() > deadline:
                    raise
            except Refused as refused:
                status = refused.problem.status
                if status not in PASSING or time.monotonic() > deadline:
                    raise
            time.sleep(1.0)

    def _pages(
        self, route: str, kind: type[Page[Any]], filters: Mapping[str, str]
    ) -> Iterator[Any]:
        query = dict(filters)
        while True:
            answer = self._send("GET", route, query=query)
            page = kind.model_validate_json(answer.content)
            yield from page.items
            if page.next_cursor is None:
                return
            query["cursor"] = page.next_cursor


def _reason(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__


def _refused(answer: httpx.Response) -> Refused:
    try:
        problem = ProblemDocument.model_validate_json(answer.content)
    except ValidationError:
        problem = ProblemDocument(
            type="/problems/internal",
            title=f"HTTP {answer.status_code}",
            status=answer.status_code,
            detail=answer.text[:500] or "no body",
        )
    return Refused(problem)
