"""Frames between a worker and its confined child: a length, then JSON in UTF-8.

The child is not trusted: whatever does not read as a small, plain JSON object is an
error, found before anything is built from it.
"""

import json
import re
import struct
from collections.abc import Mapping
from typing import NoReturn

from pydantic import JsonValue

HEAD = struct.Struct(">I")
MAX_FRAME_BYTES = 32 << 20  # parsed, the worst text takes some 20 times as much

# Databases refuse both in text: a NUL, and half of a surrogate pair.
_UNSTORABLE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")


class BadFrame(Exception):  # noqa: N818 - names the frame, not the error
    """What arrived is not a frame that may be read."""

    def __init__(self, *, found: str) -> None:
        super().__init__(found)


def encode(message: Mapping[str, object]) -> bytes:
    """Write a message as a frame.

    Raises:
        ValueError: it holds NaN or infinity, which JSON has no word for.
        TypeError: it holds something else that JSON has no word for.
    """
    text = json.dumps(message, ensure_ascii=False, allow_nan=False)
    body = text.encode("utf-8")
    return HEAD.pack(len(body)) + body


def _refuse(word: str) -> NoReturn:
    reason = f"{word} is not JSON"
    raise ValueError(reason)


def _decode(body: bytes) -> dict[str, JsonValue]:
    if _UNSTORABLE.search(body):
        raise BadFrame(found="text with a character that cannot be stored")
    try:
        message = json.loads(body.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BadFrame(found=f"not JSON: {error}") from error
    if not isinstance(message, dict):
        raise BadFrame(
            found=f"a JSON object was expected, not {type(message).__name__}"
        )
    return message


class FrameReader:
    """Collects bytes and hands out whole messages."""

    def __init__(self, *, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._buffer = bytearray()
        self._max = max_frame_bytes

    def feed(self, data: bytes) -> None:
        """Add bytes as they came.

        Raises:
            BadFrame: the frame under way says that it is longer than allowed.
        """
        self._buffer += data
        self._length()

    def _length(self) -> int | None:
        if len(self._buffer) < HEAD.size:
            return None
        length: int = HEAD.unpack_from(self._buffer)[0]
        if length > self._max:
            raise BadFrame(found=f"a frame of {length} bytes; {self._max} are allowed")
        return length

    def next(self) -> dict[str, JsonValue] | None:
        """Take the next whole message, None while there is none.

        Raises:
            BadFrame: it is too long, or no JSON object.
        """
        length = self._length()
        if length is None or len(self._buffer) < HEAD.size + length:
            return None
        body = bytes(memoryview(self._buffer)[HEAD.size : HEAD.size + length])
        del self._buffer[: HEAD.size + length]
        return _decode(body)
