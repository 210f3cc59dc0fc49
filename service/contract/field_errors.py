"""What validation found wrong with a caller's JSON, in a caller's words."""

import re
from collections.abc import Sequence

from service.contract.errors import FieldError

_OBJECT = re.compile(r"valid dictionary( or instance of \w+)?|instance of \w+")


def escaped(name: str) -> str:
    """Escape a name for a JSON pointer (RFC 6901, section 3)."""
    return name.replace("~", "~0").replace("/", "~1")


def in_words(message: str) -> str:
    """Say of a message what a caller can use: JSON has objects, not our classes."""
    if message == "Extra inputs are not permitted":
        return "there is no such field here; the contract lists those that there are"
    shown = _OBJECT.sub("JSON object", message)
    shown = shown.replace(" or object to extract fields from", "")
    return shown.encode("utf-8", "replace").decode()


def of_one_reading(errors: Sequence[FieldError]) -> list[FieldError]:
    """Leave out what is wrong with a value read as what it was not meant to be.

    A value may be one of several kinds. What is said of its parts says more than that
    it is no name, and is wanted in its place.
    """
    places = [error.pointer for error in errors]
    return [
        error
        for error in errors
        if not any(place.startswith(f"{error.pointer}/") for place in places)
    ]
