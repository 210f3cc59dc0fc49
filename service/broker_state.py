"""Asks the broker for a sign of life, without the weight of the queue's library."""


def broker_answers(url: str, *, timeout_seconds: float) -> bool:
    """Say whether the broker answers in time.

    Args:
        url: `redis://…`, `unix://…` or, as Celery writes it, `redis+socket://…`.
        timeout_seconds: for connecting and for the answer.
    """
    # Here, since the start of the service need not wait for it.
    from redis import Redis  # noqa: PLC0415
    from redis.exceptions import RedisError  # noqa: PLC0415

    address = url.replace("redis+socket://", "unix://", 1)
    client = Redis.from_url(
        address, socket_timeout=timeout_seconds, socket_connect_timeout=timeout_seconds
    )
    try:
        return bool(client.ping())
    except (RedisError, OSError):
        return False
    finally:
        client.close()
