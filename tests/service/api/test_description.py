"""The description of the API and the API itself may not disagree."""

import json

import httpx
import pytest
import requests
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from openapi_spec_validator import validate

from tests.service.api.app_client import AppClient
from tests.service.api.callers import ADMIN_KEY, bearer, new_audit

EXAMPLES = 15
REQUEST_PARTS = {"method", "url", "headers", "params", "json", "data", "files"}


def test_the_description_is_valid(app: FastAPI):
    validate(json.loads(json.dumps(app.openapi())))


def test_every_route_documents_its_errors_and_needs_a_key(app: FastAPI):
    for path, methods in app.openapi()["paths"].items():
        for operation in methods.values():
            statuses = set(operation["responses"])
            assert "405" in statuses, path
            if path.startswith("/v1"):
                assert operation["security"] == [{"key": []}], path
                assert {"400", "401", "403", "422", "503"} <= statuses, path
            for status, answer in operation["responses"].items():
                if status[0] in "45" and path != "/readyz":
                    assert "application/problem+json" in answer["content"], path


def test_what_a_callback_is_sent_is_described(app: FastAPI):
    operation = app.openapi()["paths"]["/v1/audits"]["post"]

    [sent] = operation["callbacks"].values()
    message = sent["{$request.body#/callback/url}"]["post"]
    assert {p["name"] for p in message["parameters"]} == {
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
    }


@pytest.mark.slow
def test_no_input_gets_an_undocumented_answer(app: FastAPI, admin: AppClient):
    new_audit(admin)
    described = schemathesis.openapi.from_dict(app.openapi())
    failures: set[str] = set()

    for found in described.get_all_operations():
        operation = found.ok()
        if operation.path.endswith("/events"):
            continue  # it waits for the end of the audit, by design

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def check(case: schemathesis.Case) -> None:
            answer = _send(admin, case)
            documented = case.operation.definition.raw["responses"]
            if answer.status_code >= 500 or str(answer.status_code) not in documented:
                failures.add(f"{case.method} {case.path}: {answer.status_code}")

        check()

    assert failures == set()


def _send(client: AppClient, case: schemathesis.Case) -> httpx.Response:
    kwargs = case.as_transport_kwargs(base_url="http://test")
    kwargs.pop("cookies", None)
    prepared = requests.Request(
        **{name: value for name, value in kwargs.items() if name in REQUEST_PARTS}
    ).prepare()
    headers = {
        name: value
        for name, value in prepared.headers.items()
        if name.lower() not in {"prefer", "authorization"}
    }
    return client.request(
        prepared.method or "GET",
        str(prepared.url),
        content=prepared.body or b"",
        headers={**headers, **bearer(ADMIN_KEY)},
    )
