"""Acknowledging to a broker that does not answer, without going deaf.

Kombu counts a message as unacknowledged until the broker has answered, and Celery only
logs where it does not. With a prefetch of one, a worker then takes no other message any
more. Here such a message no longer counts: the broker brings it again once its
visibility ends, which does no harm, since messages are mere invitations.
"""

import logging
from typing import Any

from kombu.transport import redis, virtual

LOG = logging.getLogger(__name__)


class Acknowledging(redis.QoS):
    """Forgets a message even where the broker cannot be told."""

    def ack(self, delivery_tag: Any) -> None:  # noqa: ANN401 - as Kombu has it
        """Acknowledge a message."""
        try:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]
        except self.channel.connection_errors as error:
            LOG.warning("the broker did not hear that a message was done: %s", error)
            virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]


def install() -> None:
    """Have every channel to Redis or Valkey acknowledge so."""
    redis.Channel.QoS = Acknowledging
