import httpx
import pytest

from service.client import Client, Refused
from tests.builders_report import make_report
from tests.service.commands.fake_service import AUDIT, FakeService, serving


class Restarting(FakeService):
    """Answers its first poll as what stands before it would while it restarts."""

    def __init__(self, status: int) -> None:
        super().__init__(make_report())
        self.first = status

    def answer(self, method: str, path: str):
        if not self.polls:
            self.polls += 1
            return self.first, httpx.codes.get_reason_phrase(self.first)
        return super().answer(method, path)


@pytest.mark.parametrize("status", [502, 503, 504])
def test_who_waits_bears_what_a_proxy_answers_during_a_restart(status: int) -> None:
    with serving(Restarting(status)) as fake, Client(fake.url) as client:
        assert client.wait(AUDIT, seconds=30).status == "succeeded"


def test_a_defect_is_not_waited_out() -> None:
    with (
        serving(Restarting(500)) as fake,
        Client(fake.url) as client,
        pytest.raises(Refused, match="HTTP 500"),
    ):
        client.wait(AUDIT, seconds=30)
