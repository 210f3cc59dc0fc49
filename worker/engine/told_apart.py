"""Whether another form of the held-out inputs undoes what tells them from training."""

from collections.abc import Mapping

from pydantic import JsonValue

TOLD_APART = 0.8  # area under the curve, from which two samples differ at a glance
LEFT_APART = 0.3  # of how far above one half that is, where a form undoes it


def is_undone(areas: Mapping[str, JsonValue]) -> bool:
    """Whether held-out inputs look like training inputs in a form alone.

    Args:
        areas: under the curve of a classifier that tells them from training inputs
            `as_given` and `in_form`; nothing where that is not known.
    """
    given, left = areas.get("as_given"), areas.get("in_form")
    if not isinstance(given, float) or not isinstance(left, float):
        return False
    return have_moved(areas) and left - 0.5 <= LEFT_APART * (given - 0.5)


def have_moved(areas: Mapping[str, JsonValue]) -> bool:
    """Whether held-out inputs as given are told from training inputs at a glance."""
    given = areas.get("as_given")
    return isinstance(given, float) and given >= TOLD_APART
