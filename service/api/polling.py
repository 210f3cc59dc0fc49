"""The headers of polling: `If-None-Match`, `Prefer: wait`, `ETag`, `Retry-After`."""

import re

LONGEST_WAIT_SECONDS = 60
_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?(\d{1,9})"?\s*(?:$|[,;])', re.IGNORECASE)
_TAG = re.compile(r'(?:W/)?("[^"]*")')


def entity_tag(version: int) -> str:
    """Name a state."""
    return f'"v{version}"'


def knows(if_none_match: str | None, tag: str) -> bool:
    """Say whether the caller has this state (weak comparison, RFC 9110, 13.1.2)."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or tag in _TAG.findall(if_none_match)


def wait_seconds(prefer: str | None) -> int:
    """Read for how long an answer may be held (RFC 7240); 0 without that wish.

    A wish that cannot be read is no error, but no wish.
    """
    found = _WAIT.search(prefer or "")
    return min(int(found[1]), LONGEST_WAIT_SECONDS) if found else 0
