"""What a poll of an audit is answered with, at once or after a wait."""

from dataclasses import dataclass

from service.api.polling import entity_tag, knows, wait_seconds
from service.api.waiting import Waiting
from service.audits import Snapshot
from service.contract.errors import NotFound
from service.ids import is_id

_UNCHANGED = 304


@dataclass(frozen=True, slots=True)
class Poll:
    """What a caller asks."""

    audit_id: str
    project: str
    if_none_match: str | None
    prefer: str | None


@dataclass(frozen=True, slots=True)
class PollAnswer:
    """What the caller is sent; a body of JSON, none with 304."""

    status: int
    headers: dict[str, str]
    body: bytes


async def answer_poll(waiting: Waiting, poll: Poll, *, retry_after: str) -> PollAnswer:
    """Answer a poll; holds the answer as long as the caller wishes.

    Raises:
        NotFound: not in the caller's project.
        Unavailable: the database does not answer.
    """
    found = await current(waiting, poll.project, poll.audit_id)
    known = poll.if_none_match
    tag = entity_tag(found.version)
    has_news = known is not None and not knows(known, tag)
    seconds = wait_seconds(poll.prefer)
    headers = {}
    if seconds:
        headers["Preference-Applied"] = f"wait={seconds}"
        if not found.is_finished and not has_news:
            await waiting.changed(poll.audit_id, found.version, seconds=seconds)
            found = await current(waiting, poll.project, poll.audit_id)
            tag = entity_tag(found.version)
    headers["ETag"] = tag
    if not found.is_finished:
        headers["Retry-After"] = retry_after
    if knows(known, tag):
        return PollAnswer(_UNCHANGED, headers, b"")
    return PollAnswer(200, headers, found.body)


async def current(waiting: Waiting, project: str, audit_id: str) -> Snapshot:
    """Read an audit of a project as it is now.

    Raises:
        NotFound: not in the project.
        Unavailable: the database does not answer.
    """
    found = await waiting.current(audit_id) if is_id(audit_id, "aud") else None
    if found is None or found.project != project:
        raise NotFound(detail=f"There is no audit {audit_id[:64]!r}.")
    return found
