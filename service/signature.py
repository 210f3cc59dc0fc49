"""Signs messages as Standard Webhooks has it: symmetric, version 1.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec
"""

import base64
import hashlib
import hmac
import secrets
from datetime import datetime

_PREFIX = "whsec_"
_SECRET_BYTES = 32


def new_secret() -> str:
    """Make a secret for one callback."""
    key = secrets.token_bytes(_SECRET_BYTES)
    return _PREFIX + base64.b64encode(key).decode()


def signed_headers(
    secret: str, message_id: str, at: datetime, body: bytes
) -> dict[str, str]:
    """Name, date and sign a message.

    Args:
        secret: `whsec_` and a key in base64.
        message_id: the same at every try, so that a receiver can tell repetitions.
        at: time of the try; receivers refuse what is minutes old.
        body: exactly what is sent.
    """
    stamp = str(int(at.timestamp()))
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    signed = b".".join((message_id.encode(), stamp.encode(), body))
    digest = hmac.digest(key, signed, hashlib.sha256)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
