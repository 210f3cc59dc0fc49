"""Columns of a table: which are features, which the label, which the split."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from service.contract.request import DatasetSpec
from worker.engine.intake.complaints import quoted, refuse, refuse_size
from worker.engine.intake.limits import IntakeLimits
from worker.engine.intake.raw import SPLIT_WORDS, SPLITS, AnyArray, Raw

_LABEL, _SPLIT = "label", "split"


@dataclass(frozen=True)
class Columns:
    """Names of columns by what they are for."""

    features: tuple[str, ...]
    label: str
    split: str | None
    notes: tuple[str, ...]


def choose_columns(
    names: Sequence[str], spec: DatasetSpec, limits: IntakeLimits
) -> Columns:
    """Divide a table's columns.

    Raises:
        UnusableDataset: a column that the spec names is missing, or a name is not
            unique.
        TooLarge: more columns than allowed.
    """
    if len(names) > limits.columns:
        refuse_size(
            "the table", found=len(names), allowed=limits.columns, unit="columns"
        )
    _check_unique(names)
    notes = []
    label = spec.label or (_LABEL if _LABEL in names else names[-1])
    _check_known(label, names, at="/spec/label", what="label column")
    if spec.label is None and label != _LABEL:
        notes.append(f"The last column, {quoted(label)}, was taken as the label.")
    split = spec.split
    if split is not None:
        _check_known(split, names, at="/spec/split", what="split column")
    elif _SPLIT in names and label != _SPLIT and _SPLIT not in (spec.features or ()):
        split = _SPLIT
        notes.append(f"The column {quoted(_SPLIT)} was taken as the split.")
    if split == label:
        refuse(
            f"the column {quoted(label)} cannot be both label and split",
            at="/spec/split",
        )
    taken = {label, split}
    features = tuple(spec.features or (name for name in names if name not in taken))
    for name in features:
        _check_known(name, names, at="/spec/features", what="feature column")
        if name in taken:
            refuse(
                f"the column {quoted(name)} is the label or the split, so it cannot "
                "be a feature",
                at="/spec/features",
            )
    _check_unique(features, at="/spec/features")
    if not features:
        refuse("the table has no column beside the label")
    return Columns(features, label, split, tuple(notes))


def _check_unique(names: Iterable[str], *, at: str = "file") -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            refuse(f"the column {quoted(name)} stands there twice", at=at)
        seen.add(name)


def _check_known(name: str, names: Sequence[str], *, at: str, what: str) -> None:
    if name not in names:
        listed = ", ".join(quoted(known) for known in names[:20])
        refuse(f"there is no {what} {quoted(name)}; the columns are {listed}", at=at)


def text_in(column: str, row: int, value: object) -> NoReturn:
    """Refuse text where numbers belong.

    Args:
        column: its name.
        row: of the first such value, counted from 1 without the header.
        value: what stands there.
    """
    refuse(
        f"column {quoted(column)}, row {row}: {quoted(value)} is text where a number "
        "belongs; encode it as numbers, or leave the column out with spec.features"
    )


def divide_table(
    x: AnyArray, labels: AnyArray, splits: AnyArray | None, columns: Columns
) -> Raw:
    """Divide the rows of a table into its splits.

    Rows of a split that stand together are not copied.

    Raises:
        UnusableDataset: a value of the split column is no split.
    """
    raw = Raw(
        x={}, y={}, feature_names=columns.features, is_table=True,
        notes=list(columns.notes),
    )  # fmt: skip
    if splits is None:
        raw.x["all"], raw.y["all"] = x, labels
        return raw
    words, codes = np.unique(splits.astype(str), return_inverse=True)
    meaning = [SPLIT_WORDS.get(str(word).strip().lower()) for word in words]
    for code, split in enumerate(meaning):
        if split is None:
            row = int(np.flatnonzero(codes == code)[0]) + 1
            refuse(
                f"column {quoted(columns.split)}, row {row}: {quoted(words[code])} is "
                "no split; expected are train, val and test",
                at="/spec/split",
            )
    for split in SPLITS:
        wanted = [code for code, found in enumerate(meaning) if found == split]
        rows = np.flatnonzero(np.isin(codes, wanted))
        if not len(rows):
            continue
        if rows[-1] - rows[0] + 1 == len(rows):
            together = slice(int(rows[0]), int(rows[-1]) + 1)
            raw.x[split], raw.y[split] = x[together], labels[together]
        else:
            raw.x[split], raw.y[split] = x[rows], labels[rows]
    return raw


class GrowingTable:
    """Rows of float32 that arrive in blocks; grows in place, without a second copy."""

    def __init__(self, columns: int, limits: IntakeLimits) -> None:
        self._values = np.empty((0, columns), np.float32)
        self._rows = 0
        self._columns = columns
        self._limit = limits.total_bytes

    def add(self, block: Sequence[AnyArray], rows: int) -> None:
        """Add rows, given a column at a time.

        Raises:
            TooLarge: the table grows beyond what is allowed.
        """
        needed = self._rows + rows
        if 4 * needed * self._columns > self._limit:
            refuse_size(
                "the table in memory",
                found=4 * needed * self._columns,
                allowed=self._limit,
                unit="bytes",
            )
        if needed > len(self._values):
            roomy = max(needed, 2 * len(self._values))
            self._values.resize((roomy, self._columns), refcheck=False)
        for index, values in enumerate(block):
            self._values[self._rows : needed, index] = values
        self._rows = needed

    def finish(self) -> AnyArray:
        """Give the table back what it did not need, and hand it out."""
        self._values.resize((self._rows, self._columns), refcheck=False)
        return self._values
