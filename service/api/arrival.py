"""Files arriving: streamed to the store, hashed and written in a thread.

While one chunk is written the next one arrives; memory holds three of them at most.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from service.api.strict_json import refuse_encoded
from service.contract.errors import (
    BadRequest,
    FieldError,
    InvalidFields,
    TooLarge,
    UnsupportedMediaType,
)
from service.uploads import Upload

_CHUNK_BYTES = 2 * 1024 * 1024
_FIELDS_LIMIT_BYTES = 1024 * 1024
_PARTS_LIMIT = 16
RAW = "application/octet-stream"
FORM = "multipart/form-data"


class _Sink(Protocol):
    def feed(self, block: bytes) -> None: ...

    def finish(self) -> dict[str, str]: ...


async def receive(
    request: Request, upload: Upload, *, fields: frozenset[str], limit_bytes: int
) -> dict[str, str]:
    """Read a request's file into an upload.

    Args:
        request: multipart with a part `file`, or the raw bytes.
        upload: where the bytes go.
        fields: names of the other parts that are understood.
        limit_bytes: largest file.

    Returns:
        The texts of the other parts; none for raw bytes.

    Raises:
        BadRequest: cut off, or not what its content type says.
        InvalidFields: parts that are missing, unknown or there twice.
        TooLarge: more than allowed.
        UnsupportedMediaType: neither multipart nor raw bytes, or encoded.
    """
    refuse_encoded(request)
    kind, options = parse_options_header(request.headers.get("content-type"))
    sink: _Sink
    if kind == FORM.encode():
        boundary = options.get(b"boundary", b"")
        if not boundary:
            raise BadRequest(detail="The content type names no boundary.")
        sink = _Form(upload, boundary, fields)
    elif kind == RAW.encode():
        sink = _Raw(upload)
    else:
        raise UnsupportedMediaType(
            detail=f"Expected `Content-Type: {FORM}` with a part `file`, or `{RAW}`."
        )
    declared = _declared_bytes(request)
    if declared is not None and declared > limit_bytes + _FIELDS_LIMIT_BYTES:
        raise TooLarge(detail=f"Uploads may have {limit_bytes} bytes at most.")
    arrived = await _pump(request, sink)
    if declared is not None and arrived != declared:
        raise BadRequest(
            detail=f"The upload is cut off: {arrived} of {declared} bytes arrived."
        )
    return sink.finish()


async def _pump(request: Request, sink: _Sink) -> int:
    """Feed a sink from the network; returns the number of bytes."""
    arrived = waiting_bytes = 0
    waiting: list[bytes] = []
    writing: asyncio.Task[None] | None = None
    try:
        async for chunk in request.stream():
            arrived += len(chunk)
            waiting_bytes += len(chunk)
            waiting.append(chunk)
            if waiting_bytes >= _CHUNK_BYTES:
                if writing is not None:
                    await writing
                writing = asyncio.create_task(_feed(sink, waiting))
                waiting, waiting_bytes = [], 0
        if writing is not None:
            await writing
        await _feed(sink, waiting)
    except ClientDisconnect as error:
        raise BadRequest(detail="The upload is cut off.") from error
    finally:
        # Nobody may close the file under the thread that writes to it.
        if writing is not None and not writing.done():
            await asyncio.wait([writing])
    return arrived


def _feed(sink: _Sink, chunks: list[bytes]) -> Coroutine[Any, Any, None]:
    # One large block is hashed and written in two calls; small ones would fight with
    # the event loop over the interpreter's lock at each.
    return run_in_threadpool(lambda: sink.feed(b"".join(chunks)))


def _declared_bytes(request: Request) -> int | None:
    text = request.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else None


class _Raw:
    """The body is the file."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload

    def feed(self, block: bytes) -> None:
        self._upload.write(block)

    def finish(self) -> dict[str, str]:
        return {}


@dataclass
class _Part:
    name: str = ""
    is_file: bool = False
    header: bytearray = field(default_factory=bytearray)
    value: bytearray = field(default_factory=bytearray)
    disposition: bytes = b""
    text: bytearray = field(default_factory=bytearray)


class _Form:
    """One part is the file, the others are short texts."""

    def __init__(self, upload: Upload, boundary: bytes, fields: frozenset[str]) -> None:
        self._upload = upload
        self._known = fields
        self._fields: dict[str, str] = {}
        self._part = _Part()
        self._parts = 0
        self._fields_bytes = 0
        self._has_file = False
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_part_data": self._data,
                    "on_part_end": self._end,
                    "on_end": self._finished,
                },
            )
        except FormParserError as error:
            raise BadRequest(detail=f"The form is not valid: {error}.") from error

    def feed(self, block: bytes) -> None:
        try:
            self._parser.write(block)
        except FormParserError as error:
            raise BadRequest(detail=f"The form is not valid: {error}.") from error

    def finish(self) -> dict[str, str]:
        if not self._ended:
            raise BadRequest(
                detail="The form is cut off: its last boundary is missing."
            )
        if not self._has_file:
            raise _invalid("file", "expected a part with this name")
        return self._fields

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > _PARTS_LIMIT:
            raise BadRequest(detail=f"The form has more than {_PARTS_LIMIT} parts.")
        self._part = _Part()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._part.header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._part.value += data[start:end]

    def _header_end(self) -> None:
        if self._part.header.lower() == b"content-disposition":
            self._part.disposition = bytes(self._part.value)
        self._part.header.clear()
        self._part.value.clear()

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._part.disposition)
        self._part.name = options.get(b"name", b"").decode("utf-8", "replace")
        if self._part.name == "file":
            if self._has_file:
                raise _invalid("file", "expected one part with this name")
            self._has_file = self._part.is_file = True
            name = options.get(b"filename", b"").decode("utf-8", "replace")
            self._upload.file_name = name.replace("\0", "")
        elif self._part.name not in self._known:
            raise _invalid(self._part.name[:64], "no such field")
        elif self._part.name in self._fields:
            raise _invalid(self._part.name, "given twice")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part.is_file:
            self._upload.write(memoryview(data)[start:end])
            return
        self._fields_bytes += end - start
        if self._fields_bytes > _FIELDS_LIMIT_BYTES:
            raise TooLarge(
                detail=f"Fields may have {_FIELDS_LIMIT_BYTES} bytes in all."
            )
        self._part.text += data[start:end]

    def _end(self) -> None:
        if self._part.is_file:
            return
        try:
            text = self._part.text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadRequest(
                detail=f"The field {self._part.name!r} is not UTF-8."
            ) from error
        self._fields[self._part.name] = text

    def _finished(self) -> None:
        self._ended = True


def _invalid(name: str, detail: str) -> InvalidFields:
    pointer = "file" if name == "file" else f"/{name}"
    return InvalidFields(
        detail="The form is not valid.",
        errors=[FieldError(pointer=pointer, detail=detail)],
    )
