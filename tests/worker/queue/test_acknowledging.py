"""A broker that stalls while a message is acknowledged leaves nobody deaf."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu import Consumer, Message

from tests.worker.queue.outside import Broker
from worker.app import make_app
from worker.settings import WorkerSettings


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.resume()
    broker.kill()


def test_a_message_that_could_not_be_acknowledged_is_not_waited_for(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.app.BROKER_TIMEOUT_SECONDS", 0.2)
    app = make_app(broker.url, WorkerSettings())
    seen: list[Message] = []
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue("cpu")
        queue.put("first")
        consumer = Consumer(
            connection, [queue.queue], on_message=seen.append, prefetch_count=1
        )
        with consumer:
            connection.drain_events(timeout=5)
            broker.suspend()
            seen[0].ack_log_error(_Silent(), connection.connection_errors)
            broker.resume()
            queue.put("second")
            connection.drain_events(timeout=5)

    assert [message.decode() for message in seen] == ["first", "second"]


class _Silent:
    def critical(self, *words: object, **more: object) -> None:
        """As Celery: it goes on."""
