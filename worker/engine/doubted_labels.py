"""What to do about labels that are doubted: leave them out, or correct them."""

from collections.abc import Mapping

from pydantic import JsonValue

from worker.engine.lab.experiment import DataChange

SECOND_LOOK = "second_look"  # the measurement, beside the probe `noise`


def dropped(noise: Mapping[str, JsonValue]) -> tuple[DataChange, ...]:
    """Leave out the rows that are better left out; nothing where none are named.

    Args:
        noise: what the probe `noise`, or `second_look`, says.
    """
    mask = noise.get("mask")
    return (DataChange(name="drop", mask=mask),) if isinstance(mask, str) else ()


def corrected(noise: Mapping[str, JsonValue]) -> tuple[DataChange, ...]:
    """Correct the suspects whose suggestion can be believed, drop the others.

    Args:
        noise: as for `dropped`.

    Returns:
        Nothing where no suggestion can be believed.
    """
    return _relabelled(noise, "sure_mask", "corrections", "unsure_mask")


def _relabelled(
    noise: Mapping[str, JsonValue], mask: str, labels: str, others: str
) -> tuple[DataChange, ...]:
    """Give flagged rows other labels and drop others; nothing where none are known."""
    flagged, dropped_too, given = map(noise.get, (mask, others, labels))
    if not (
        isinstance(flagged, str)
        and isinstance(dropped_too, str)
        and isinstance(given, list)
        and given
    ):
        return ()
    new = tuple(int(str(k)) for k in given)
    return (
        DataChange(name="relabel", mask=flagged, labels=new),
        DataChange(name="drop", mask=dropped_too),
    )


def without_run(
    noise: Mapping[str, JsonValue],
) -> tuple[tuple[DataChange, ...], tuple[DataChange, ...]]:
    """Leave out the rows that stand together and are contradicted, or random ones.

    Args:
        noise: what the probe `noise` says.

    Returns:
        The change and its control; nothing where no such rows stand out.
    """
    mask, random = noise.get("run_mask"), noise.get("run_random_mask")
    if not (isinstance(mask, str) and isinstance(random, str)):
        return (), ()
    return (DataChange(name="drop", mask=mask),), (
        DataChange(name="drop", mask=random),
    )


def moved_back(noise: Mapping[str, JsonValue]) -> tuple[DataChange, ...]:
    """Give rows that stand together the labels of their neighbours, which fit.

    Args:
        noise: as for `without_run`.
    """
    return _relabelled(noise, "moved_mask", "moved_labels", "unmoved_mask")
