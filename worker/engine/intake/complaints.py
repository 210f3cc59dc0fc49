"""The words in which intake refuses a file; each function ends by raising."""

from typing import NoReturn

from service.contract.errors import BadRequest, FieldError, TooLarge, UnusableDataset

FILE = "file"


def refuse(detail: str, *, at: str = FILE) -> NoReturn:
    """Refuse a file that opens but cannot be audited.

    Args:
        detail: what was found and what was expected.
        at: `file`, or a JSON pointer into the request, such as `/spec/label`.

    Raises:
        UnusableDataset: always.
    """
    raise UnusableDataset(detail, errors=[FieldError(pointer=at, detail=detail)])


def refuse_unreadable(detail: str) -> NoReturn:
    """Refuse a file that does not open.

    Raises:
        BadRequest: always.
    """
    raise BadRequest(detail, errors=[FieldError(pointer=FILE, detail=detail)])


def refuse_size(what: str, *, found: int, allowed: int, unit: str) -> NoReturn:
    """Refuse a file that would unfold to more than is allowed.

    Raises:
        TooLarge: always.
    """
    detail = f"{what}: {found:,} {unit}; {allowed:,} are allowed"
    raise TooLarge(detail, errors=[FieldError(pointer=FILE, detail=detail)])


def quoted(text: object, limit: int = 60) -> str:
    """Show a piece of untrusted text, on one line and not too long."""
    shown = "".join(
        character if character.isprintable() else "�" for character in str(text)
    )
    return f'"{shown[:limit]}…"' if len(shown) > limit else f'"{shown}"'
