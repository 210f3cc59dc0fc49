"""A worker's pulse while the database is away."""

import logging
import time
from datetime import timedelta

import pytest

from service.store.database import Database, DatabaseDown
from tests.service.store.rows import worker_row
from worker import pulse as pulse_module
from worker.pulse import Pulse


def test_that_there_is_no_pulse_is_said_once_while_it_lasts(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(pulse_module, "SEEN_SECONDS", 0.02)
    pulse = Pulse(
        database,
        lambda: worker_row("here"),
        lease=timedelta(seconds=9),
        idle=lambda: None,
    )
    tried: list[bool] = []

    def away() -> None:
        tried.append(True)
        raise DatabaseDown

    monkeypatch.setattr(pulse, "_be_seen", away)
    with caplog.at_level(logging.WARNING, "worker.pulse"):
        pulse.start()
        while len(tried) < 5:
            time.sleep(0.01)
        pulse.stop()

    assert [record.message for record in caplog.records].count(
        "no pulse: The database does not answer."
    ) == 1
