"""JSON from callers: limited in size, and without what the stores cannot keep."""

import email.message
import json
from collections import Counter
from http import HTTPStatus
from typing import Any

from fastapi import HTTPException
from starlette.requests import ClientDisconnect, Request

from service.contract.errors import (
    BadRequest,
    FieldError,
    Problem,
    TooLarge,
    UnsupportedMediaType,
)
from service.contract.field_errors import escaped

_LARGEST_INTEGER = 2**63
_DEEPEST = 32
_SHOWN = 100  # characters of a name that is refused


def refuse_encoded(request: Request) -> None:
    """Refuse a body that would have to be decoded before it is what it is said to be.

    Raises:
        UnsupportedMediaType: its content encoding is not `identity`.
    """
    encoding = request.headers.get("content-encoding", "").strip()
    if encoding and encoding.lower() != "identity":
        raise UnsupportedMediaType(
            detail=f"`Content-Encoding: {ascii(encoding[:_SHOWN])[1:-1]}` is not "
            "decoded; send the body as it is."
        )


class BodyRefused(HTTPException):
    """Carries a problem through the framework's parsing of bodies."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(HTTPStatus(problem.status), problem.detail)
        self.problem = problem


class StrictRequest(Request):
    """A request whose JSON body is limited and checked."""

    def __init__(self, inner: Request, *, limit_bytes: int) -> None:
        super().__init__(inner.scope, inner.receive)
        self._limit_bytes = limit_bytes

    async def body(self) -> bytes:
        """Read the body, up to the limit."""
        if not hasattr(self, "_body"):
            try:
                self._body = await self._read()
            except Problem as problem:
                raise BodyRefused(problem) from problem
        return self._body

    async def json(self) -> Any:  # noqa: ANN401 - what JSON can be
        """Read the body as JSON."""
        try:
            return parse_json(await self.body())
        except Problem as problem:
            raise BodyRefused(problem) from problem

    async def _read(self) -> bytes:
        refuse_encoded(self)
        found = bytearray()
        try:
            async for chunk in self.stream():
                found += chunk
                if len(found) > self._limit_bytes:
                    raise TooLarge(
                        detail=f"This body may have {self._limit_bytes} bytes at most."
                    )
        except ClientDisconnect as error:
            raise BadRequest(detail="The body is cut off.") from error
        if found and not _is_json(self.headers.get("content-type", "")):
            raise UnsupportedMediaType(
                detail="Expected `Content-Type: application/json`."
            )
        return bytes(found)


def parse_json(body: bytes) -> Any:  # noqa: ANN401 - what JSON can be
    """Parse JSON as RFC 8259 has it, and refuse what cannot be stored.

    Raises:
        BadRequest: not UTF-8 or not JSON; `NaN`, integers of more than 64 bits, zero
            characters, half surrogates, a name twice in an object; nested too deeply.
    """
    try:
        value = json.loads(
            body.decode("utf-8"),
            parse_constant=_no_constant,
            parse_float=_finite,
            object_pairs_hook=_each_once,
        )
    except UnicodeDecodeError as error:
        raise BadRequest(detail="The body is not UTF-8.") from error
    except json.JSONDecodeError as error:
        raise BadRequest(
            detail=f"The body is not JSON: {error.msg} at character {error.pos}."
        ) from error
    except RecursionError as error:
        raise BadRequest(detail="The body is nested too deeply.") from error
    except ValueError as error:
        raise BadRequest(detail=f"The body is not JSON: {error}.") from error
    _check(value)
    return value


def _no_constant(name: str) -> float:
    raise BadRequest(detail=f"The body is not JSON: {name} is no number.")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        shown = ascii(twice[:_SHOWN])
        raise BadRequest(detail=f"An object of the body holds the name {shown} twice.")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise BadRequest(detail=f"The number {text[:32]} is too large.")
    return number


def _check(value: object) -> None:
    rest: list[tuple[object, int, str]] = [(value, 0, "")]
    while rest:
        item, depth, pointer = rest.pop()
        if depth > _DEEPEST:
            raise _refused(pointer, f"nested more than {_DEEPEST} deep")
        if isinstance(item, str):
            _check_text(item, pointer)
        elif isinstance(item, dict):
            for name, inner in item.items():
                _check_text(name, pointer)
                rest.append((inner, depth + 1, f"{pointer}/{escaped(name)}"))
        elif isinstance(item, list):
            rest += [
                (inner, depth + 1, f"{pointer}/{index}")
                for index, inner in enumerate(item)
            ]
        elif isinstance(item, int) and not -_LARGEST_INTEGER <= item < _LARGEST_INTEGER:
            raise _refused(pointer, "expected an integer of at most 64 bits")


def _check_text(text: str, pointer: str) -> None:
    if "\0" in text:
        raise _refused(pointer, "text may not hold a zero character")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise _refused(pointer, "text may not hold half a surrogate") from error


def _refused(pointer: str, detail: str) -> BadRequest:
    return BadRequest(
        detail="The body holds what cannot be kept.",
        errors=[FieldError(pointer=pointer, detail=detail)],
    )


def _is_json(content_type: str) -> bool:
    message = email.message.Message()
    message["content-type"] = content_type.encode("ascii", "replace").decode()
    subtype = message.get_content_subtype()
    return message.get_content_maintype() == "application" and (
        subtype == "json" or subtype.endswith("+json")
    )
