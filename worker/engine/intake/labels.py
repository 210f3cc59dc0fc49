"""Labels of any form in, numbers 0 to classes - 1 out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from worker.engine.intake.complaints import quoted, refuse
from worker.engine.intake.limits import IntakeLimits
from worker.engine.intake.raw import MISSING, AnyArray, is_number, shown

Labels = npt.NDArray[np.int64]
_CLASS_NAMES = "/spec/class_names"
_MATRIX = 2
LONGEST_NAME = 1_000  # characters of a class's name


@dataclass
class Read:
    """Labels by split, what the classes are called, and what was assumed."""

    y: dict[str, Labels]
    class_names: tuple[str, ...]
    notes: list[str] = field(default_factory=list)


def read_labels(
    found: Mapping[str, AnyArray],
    class_names: tuple[str, ...] | None,
    limits: IntakeLimits,
) -> Read:
    """Read the labels of all splits together.

    Integers, whole floats, booleans, numbers as text, one-hot rows and names are
    understood. Names are ordered by `class_names`, or by the alphabet.

    Args:
        found: split -> labels, (rows,), (rows, 1) or one-hot (rows, classes).
        class_names: what the caller or the file's folders named, else None.
        limits: how many classes are allowed.

    Raises:
        UnusableDataset: they are no labels; names the split and the first such row.
    """
    if class_names is not None:
        _check_class_names(class_names, limits)
    notes: list[str] = []
    flat = {split: _flatten(split, values, notes) for split, values in found.items()}
    if any(values.dtype.kind in "OUS" for values in flat.values()):
        flat, class_names = _read_names(flat, class_names, notes, limits)
    y = {split: _whole(split, values) for split, values in flat.items()}
    return Read(y, _name_classes(y, class_names, limits), list(dict.fromkeys(notes)))


def _check_class_names(class_names: tuple[str, ...], limits: IntakeLimits) -> None:
    if len(set(class_names)) < len(class_names):
        refuse("class_names holds a name twice", at=_CLASS_NAMES)
    if len(class_names) > limits.classes:
        _too_many(len(class_names), limits)
    if any("\0" in name for name in class_names):
        refuse("class_names holds a NUL character", at=_CLASS_NAMES)


def _too_many(count: int, limits: IntakeLimits) -> NoReturn:
    refuse(f"{count:,} classes; at most {limits.classes:,} can be audited")


def _flatten(split: str, values: AnyArray, notes: list[str]) -> AnyArray:
    """Bring labels to one dimension.

    Raises:
        UnusableDataset: several dimensions that are not one-hot.
    """
    if values.dtype.kind not in "OUSbiuf":
        refuse(f"labels of {shown(split)} are of type {values.dtype}, not numbers")
    if values.ndim == _MATRIX and values.shape[1] == 1:
        return values[:, 0]
    if values.ndim == _MATRIX and values.dtype.kind in "biuf" and values.shape[1]:
        is_one_hot = ((values == 0) | (values == 1)).all(1) & (
            (values == 1).sum(1) == 1
        )
        if not is_one_hot.all():
            row = int(np.flatnonzero(~is_one_hot)[0])
            refuse(
                f"labels of {shown(split)} have shape {list(values.shape)}, but "
                f"row {row} is not one-hot (a single 1 among zeros)"
            )
        notes.append("Labels were one-hot and were read as class numbers.")
        flat: AnyArray = values.argmax(1)
        return flat
    if values.ndim != 1:
        refuse(
            f"labels of {shown(split)} have shape {list(values.shape)}; "
            "one label a row is expected"
        )
    return values


def _as_text(
    split: str, values: AnyArray, class_names: tuple[str, ...] | None
) -> AnyArray:
    """Turn names into text, an object each.

    Raises:
        UnusableDataset: one is missing, is a word that says so and names no class, or
            is no name but a text.
    """
    missing = set(MISSING).difference(class_names or ())
    decoded: list[str] = []
    try:
        listed = values.tolist()
    except (SystemError, ValueError):  # of numbers that are no characters
        refuse(f"labels of {shown(split)} hold characters that do not exist")
    for row, value in enumerate(listed):
        if isinstance(value, bytes):
            text = value.decode("utf-8", errors="backslashreplace")
        elif isinstance(value, float) and value.is_integer():
            text = str(int(value))
        else:
            text = "" if value is None else str(value)
        text = text.strip().replace("\0", "")
        if not text:
            refuse(f"the label of {shown(split)}, row {row}, is missing")
        if text in missing:
            refuse(
                f"the label of {shown(split)}, row {row}, is missing ({quoted(text)}); "
                "if that is the name of a class, list it in spec.class_names",
                at=_CLASS_NAMES,
            )
        if len(text) > LONGEST_NAME:
            refuse(
                f"the label of {shown(split)}, row {row}, has {len(text):,} "
                f"characters; at most {LONGEST_NAME:,} are allowed"
            )
        decoded.append(text)
    return np.array(decoded, dtype=object)


def _read_names(
    flat: Mapping[str, AnyArray],
    class_names: tuple[str, ...] | None,
    notes: list[str],
    limits: IntakeLimits,
) -> tuple[dict[str, AnyArray], tuple[str, ...] | None]:
    """Turn names into numbers, unless they are numbers written as text."""
    words = {
        split: _as_text(split, values, class_names) for split, values in flat.items()
    }
    known: set[str] = set().union(*(set(values.tolist()) for values in words.values()))
    is_named = class_names is not None and not known.isdisjoint(class_names)
    if not is_named and known and all(is_number(word) for word in known):
        return {
            split: values.astype(np.float64) for split, values in words.items()
        }, class_names
    if class_names is None:
        if len(known) > limits.classes:
            _too_many(len(known), limits)
        class_names = tuple(sorted(known))
        notes.append(
            "class_names was not given: names of classes were ordered by the alphabet."
        )
    numbers = {name: number for number, name in enumerate(class_names)}
    for split, values in words.items():
        for row, word in enumerate(values.tolist()):
            if word not in numbers:
                refuse(
                    f"the label {quoted(word)} of {shown(split)}, row {row}, is none "
                    "of class_names",
                    at=_CLASS_NAMES,
                )
    return {
        split: np.array([numbers[word] for word in values.tolist()], np.int64)
        for split, values in words.items()
    }, class_names


def _whole(split: str, values: AnyArray) -> Labels:
    """Take whole numbers from 0 on.

    Raises:
        UnusableDataset: one is missing, broken or negative.
    """
    if values.dtype.kind == "f":
        floats = values.astype(np.float64)
        _refuse_first(split, floats, np.isnan(floats), "is missing (NaN)")
        _refuse_first(split, floats, np.isinf(floats), "is infinite")
        _refuse_first(
            split,
            floats,
            floats != np.floor(floats),
            "is not a whole number; a classifier's labels are classes",
        )
        _refuse_first(split, floats, np.abs(floats) > 2**53, "is no class")
    if values.dtype.kind == "u":
        beyond = values.astype(np.uint64) > np.uint64(2**62)
        _refuse_first(split, values, beyond, "is outside the classes")
    numbers = values.astype(np.int64)
    _refuse_first(
        split, numbers, numbers < 0, "is outside the classes, which start at 0"
    )
    return numbers


def _refuse_first(
    split: str, values: npt.NDArray[Any], wrong: npt.NDArray[np.bool_], what: str
) -> None:
    rows = np.flatnonzero(wrong)
    if len(rows):
        row = int(rows[0])
        refuse(
            f"the label of {shown(split)}, row {row}, {what}: {values[row]} "
            f"({len(rows)} such labels)"
        )


def _name_classes(
    y: Mapping[str, Labels],
    class_names: tuple[str, ...] | None,
    limits: IntakeLimits,
) -> tuple[str, ...]:
    """Count the classes, and name those that nobody named.

    Raises:
        UnusableDataset: a label is outside the classes, or they are too many.
    """
    filled = [values for values in y.values() if len(values)]
    if not filled:
        return class_names or ()
    if class_names is not None:
        for split, values in y.items():
            _refuse_first(
                split,
                values,
                values >= len(class_names),
                f"is outside the {len(class_names)} classes of class_names",
            )
        return class_names
    last = max(int(values.max()) for values in filled)
    if last >= limits.classes:
        present = len(np.unique(np.concatenate(filled)))
        if present < limits.classes // 10:
            refuse(
                f"labels go up to {last:,} though there are only {present} different "
                "ones; labels 0 to classes - 1 are expected"
            )
        _too_many(max(present, last + 1), limits)
    first = min(int(values.min()) for values in filled)
    if first == 1:
        refuse(
            f"labels run from 1 to {last}; 0 to {last - 1} are expected, or names with "
            "class_names"
        )
    return tuple(str(number) for number in range(last + 1))
