"""Identifiers: prefixed, opaque, sortable by time.

A ULID (https://github.com/ulid/spec) in lower case: 48 bits of milliseconds and 80 bits
of randomness in Crockford's base 32. Within one process two ids of one millisecond
still sort in the order in which they were made.
"""

import re
import secrets
import threading
import time
from typing import Literal

Prefix = Literal["mdl", "dst", "aud", "sch", "key", "pce", "whk"]

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_RANDOM_BITS = 80
_LENGTH = 26
_SHAPE = re.compile(r"(mdl|dst|aud|sch|key|pce|whk)_[0-7][0-9a-hjkmnp-tv-z]{25}")
_lock = threading.Lock()
_last = 0


def new_id(prefix: Prefix) -> str:
    """Make an id such as `aud_01k6z8yq0v4d5s6t7u8w9x0y1z`."""
    global _last  # noqa: PLW0603 - the order of ids is a property of the process
    stamp = time.time_ns() // 1_000_000
    with _lock:
        number = (stamp << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS - 1)
        _last = number if number > _last else _last + 1
        number = _last
    digits = [_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5)]
    return f"{prefix}_{''.join(digits)}"


def is_id(text: str, prefix: Prefix) -> bool:
    """Say whether the text can be an id of this kind at all."""
    return text.startswith(prefix) and _SHAPE.fullmatch(text) is not None
