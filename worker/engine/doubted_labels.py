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
    sure, unsure = noise.get("sure_mask"), noise.get("unsure_mask")
    corrections = noise.get("corrections")
    if not (
        isinstance(sure, str)
        and isinstance(unsure, str)
        and isinstance(corrections, list)
        and corrections
    ):
        return ()
    labels = tuple(int(str(k)) for k in corrections)
    return (
        DataChange(name="relabel", mask=sure, labels=labels),
        DataChange(name="drop", mask=unsure),
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
    moved, others = noise.get("moved_mask"), noise.get("unmoved_mask")
    labels = noise.get("moved_labels")
    if not (
        isinstance(moved, str) and isinstance(others, str) and isinstance(labels, list)
    ):
        return ()
    return (
        DataChange(
            name="relabel", mask=moved, labels=tuple(int(str(k)) for k in labels)
        ),
        DataChange(name="drop", mask=others),
    )
