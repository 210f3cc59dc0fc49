from typing import Any

import pytest
from typer.testing import CliRunner, Result

from service.cli import app
from service.client import Client
from tests.builders_report import make_report
from tests.service.commands.fake_service import (
    AUDIT,
    DATASET,
    MODEL,
    NOW,
    FakeService,
    serving,
)

WEBHOOK = "whk_01k6z8yq0v4d5s6t7u8w9x0y1z"
URL = "https://ci.example.com/hooks"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="  # noqa: S105 - an example


class Calling(FakeService):
    """A service with one audit that has a callback, and one such schedule."""

    def answer(self, method: str, path: str) -> tuple[int, dict[str, Any] | str]:
        if path.startswith(f"/v1/webhooks/{WEBHOOK}"):
            return 202 if method == "POST" else 200, {
                "id": WEBHOOK,
                "audit_id": AUDIT,
                "url": URL,
                "created_at": NOW,
                "status": "pending",
                "attempts": [
                    {
                        "at": NOW,
                        "status_code": None,
                        "error": "no \x1b[31manswer",
                        "seconds": 10.0,
                    }
                ],
                "next_attempt_at": "2026-01-02T04:00:00Z",
            }
        if (method, path) == ("POST", "/v1/audits"):
            new = {"webhook": {"id": WEBHOOK, "secret": SECRET}}
            return 202, {**self.audit("queued"), **new}
        if (method, path) == ("POST", "/v1/schedules"):
            return 201, {
                "id": "sch_1",
                "name": "nightly",
                "cron": "0 3 * * *",
                "timezone": "UTC",
                "audit": {
                    "model_id": MODEL,
                    "dataset_id": DATASET,
                    "callback": {"url": URL},
                },
                "enabled": True,
                "created_at": NOW,
                "next_run_at": NOW,
                "callback_secret": SECRET,
            }
        return super().answer(method, path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("command", ["show", "redeliver"])
def test_deliveries_are_printed_and_cannot_steer_the_terminal(command: str):
    with serving(Calling(make_report())) as fake:
        result = run("webhook", command, WEBHOOK, "--url", fake.url)

    assert result.exit_code == 0, result.output
    assert f"{AUDIT} to {URL}" in result.output
    assert "pending, next try 2026-01-02 04:00:00 UTC" in result.output
    assert "2026-01-02 03:04:05" in result.output
    assert "\x1b" not in result.output


def test_the_secret_of_a_callback_is_told_apart_from_the_answer():
    with serving(Calling(make_report())) as fake:
        result = run(
            "audit", MODEL, DATASET, "--callback", URL, "--detach", "--url", fake.url
        )

    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == AUDIT
    assert f"callback {WEBHOOK}, signed with {SECRET}" in result.stderr
    assert URL.encode() in fake.asked[0][3]


def test_the_secret_of_a_schedule_is_told_apart_from_the_answer():
    with serving(Calling(make_report())) as fake:
        result = run(
            "schedule", "create", "nightly", "0 3 * * *", MODEL, DATASET,
            "--callback", URL, "--url", fake.url,
        )  # fmt: skip

    assert result.stdout.strip() == "sch_1"
    assert SECRET in result.stderr
    assert URL.encode() in fake.asked[0][3]


def test_a_local_audit_announces_nothing():
    result = run("audit", "m.pt", "d.npz", "--local", "--callback", URL)

    assert result.exit_code == 2
    assert "needs a service" in result.output


def test_the_client_reads_and_repeats_deliveries():
    with serving(Calling(make_report())) as fake, Client(fake.url) as client:
        asked = client.audit(MODEL, DATASET, callback={"url": URL})
        assert asked.webhook is not None

        read = client.webhook(asked.webhook.id)
        again = client.redeliver(asked.webhook.id)

    assert read == again
    assert read.attempts[0].seconds == 10.0
    assert "idempotency-key" in fake.asked[-1][2]
