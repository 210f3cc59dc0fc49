"""Turns an `Idempotency-Key` into what the store keeps of it."""

import hashlib

from service.store.idempotency import Promise


def promise(
    project: str, route: str, idempotency_key: str | None, body: str
) -> Promise | None:
    """Describe a request that shall have one effect; None without a key.

    Args:
        project: of the caller.
        route: method and path template.
        idempotency_key: as sent.
        body: the checked body, written in one way only.
    """
    if idempotency_key is None:
        return None
    digest = hashlib.sha256(body.encode()).hexdigest()
    return Promise(project, route, idempotency_key, digest)
