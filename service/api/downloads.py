"""Files as answers: whole, in part, or not again (RFC 9110, sections 13 and 14)."""

import re

from fastapi import Response
from fastapi.responses import StreamingResponse

from service.api.error_handlers import respond
from service.api.polling import knows
from service.audits import RepairedModel
from service.contract.errors import RangeNotSatisfiable

_RANGE = re.compile(r"bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})", re.IGNORECASE)


def download(
    file: RepairedModel, name: str, *, if_none_match: str | None, wanted: str | None
) -> Response:
    """Send a file, or the part of it that is asked for; closes it.

    Args:
        file: open.
        name: what the caller's program may call it.
        if_none_match: the header of the request.
        wanted: its header `Range`, where that holds for this file.
    """
    tag = f'"{file.sha256}"'
    headers = {"ETag": tag, "Accept-Ranges": "bytes"}
    if knows(if_none_match, tag):
        file.close()
        return Response(status_code=304, headers=headers)
    part = wanted_part(wanted or "", file.size_bytes)
    if not part and file.size_bytes:
        file.close()
        problem = RangeNotSatisfiable(f"The file has {file.size_bytes} bytes.")
        return respond(problem, {"Content-Range": f"bytes */{file.size_bytes}"})
    is_whole = len(part) == file.size_bytes
    if not is_whole:
        shown = f"bytes {part.start}-{part.stop - 1}/{file.size_bytes}"
        headers["Content-Range"] = shown
    headers["Content-Length"] = str(len(part))
    headers["Content-Disposition"] = f'attachment; filename="{name}"'
    headers["X-Content-Type-Options"] = "nosniff"
    return StreamingResponse(
        file.chunks(part),
        status_code=200 if is_whole else 206,
        media_type="application/octet-stream",
        headers=headers,
    )


def wanted_part(header: str, size_bytes: int) -> range:
    """Choose the bytes that a `Range` header asks for.

    All of them where it cannot be read, or asks for several parts, which a server need
    not offer; none where it asks for what is not there.
    """
    everything = range(size_bytes)
    found = _RANGE.fullmatch(header.strip())
    if found is None or found[1] == found[2] == "":
        return everything
    if not found[1]:
        return everything[max(0, size_bytes - int(found[2])) :]
    first, last = int(found[1]), int(found[2] or size_bytes)
    return everything if last < first else everything[first : last + 1]
