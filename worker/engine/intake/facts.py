"""What an inspection says of a dataset: small figures, never the data."""

import numpy as np
from pydantic import JsonValue

from worker.engine.data import Dataset, Split

_BLOCK_ROWS = 16_384
_MOST_NAMES = 1_000
_MOST_FEATURES = 50
_LARGEST = float(np.finfo(np.float32).max)


def facts(dataset: Dataset) -> dict[str, JsonValue]:
    """Describe a dataset for `inspection` and for the report.

    Returns:
        `splits` (rows, counts by class), `sample_shape`, `dtype`, `kind`, `layout`,
        `classes`, `class_names`, `feature_names`, `missing_values` (NaN and infinite
        values: in all, and by feature or flat position for the worst) and `notes`.
    """
    names = dataset.class_names
    first = next(iter(dataset.splits.values()))
    missing, infinite = _missing(dataset)
    notes: list[JsonValue] = [*dataset.notes]
    if infinite:
        notes.append(
            f"{infinite:,} values are infinite, or beyond {_LARGEST:.1e}, the largest "
            "32-bit float, and count as infinite."
        )
    return {
        "kind": dataset.kind,
        "layout": dataset.layout,
        "sample_shape": list(dataset.sample_shape),
        "dtype": str(first.x.dtype),
        "classes": len(names),
        "class_names": list(names[:_MOST_NAMES]),
        "feature_names": list(dataset.feature_names[:_MOST_NAMES]),
        "splits": {
            name: {
                "rows": len(split),
                "class_counts": [
                    int(count) for count in np.bincount(split.y, minlength=len(names))
                ],
            }
            for name, split in dataset.splits.items()
        },
        "missing_values": missing,
        "notes": notes,
    }


def _missing(dataset: Dataset) -> tuple[dict[str, JsonValue], int]:
    """Count NaN and infinite values; returns what is shown, and the infinite ones."""
    width = int(np.prod(dataset.sample_shape))
    missing = np.zeros(width, np.int64)
    infinite = 0
    for split in dataset.splits.values():
        if split.x.dtype.kind == "f":
            infinite += _count(split, missing)
    worst = [
        int(index)
        for index in np.argsort(-missing, kind="stable")[:_MOST_FEATURES]
        if missing[index]
    ]
    shown: dict[str, JsonValue] = {
        "nan": int(missing.sum()),
        "infinite": infinite,
        "by_feature": {
            dataset.feature_names[index]
            if index < len(dataset.feature_names)
            else str(index): int(missing[index])
            for index in worst
        },
    }
    return shown, infinite


def _count(split: Split, missing: np.ndarray[tuple[int], np.dtype[np.int64]]) -> int:
    """Add NaN by position to `missing`; return the number of infinite values."""
    infinite = 0
    for begin in range(0, len(split), _BLOCK_ROWS):
        block = split.x[begin : begin + _BLOCK_ROWS].reshape(-1, len(missing))
        missing += np.isnan(block).sum(0)
        infinite += int(np.isinf(block).sum())
    return infinite
