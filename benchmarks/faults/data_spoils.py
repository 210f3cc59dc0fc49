"""What goes wrong with data: each spoil takes the material and a strength.

Spoils of `SPOILS` work on what is delivered (training and held-out rows); the hidden
rows change only where the fault lies in how data reaches the model.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.faults.label_spoils import flipped, noisy
from benchmarks.faults.set_files import Floats
from benchmarks.faults.splits import Material, Rows

SENTINEL = -999.0
FAR = 20.0  # robust deviations
Spoiler = Callable[[Material, float], Material]


def _each(
    material: Material, change: Callable[[Floats], Floats], *parts: str
) -> Material:
    changed = {
        part: Rows(change(getattr(material, part).x), getattr(material, part).y)
        for part in parts
    }
    return replace(material, **changed)  # type: ignore[arg-type]


def label_noise(material: Material, share: float) -> Material:
    """Replace a share of the training labels by another class, evenly."""
    return replace(material, train=noisy(material.train, share, material.classes, 21))


def label_noise_everywhere(material: Material, share: float) -> Material:
    """Replace labels in the held-out rows too, as one careless annotator would."""
    spoiled = label_noise(material, share)
    return replace(spoiled, val=noisy(material.val, share, material.classes, 22))


def label_flip_to_next(material: Material, share: float) -> Material:
    """Mistake a share of every class's training labels for the next class."""
    return replace(material, train=flipped(material.train, share, material.classes, 23))


def random_labels(material: Material, share: float) -> Material:
    """Shuffle a share of the labels against the inputs, everywhere."""
    rng = np.random.default_rng(24)

    def shuffled(rows: Rows) -> Rows:
        y = rows.y.copy()
        hit = rng.permutation(len(y))[: round(share * len(y))]
        y[hit] = y[rng.permutation(hit)]
        return Rows(rows.x, y)

    return replace(
        material,
        train=shuffled(material.train),
        val=shuffled(material.val),
        hidden=shuffled(material.hidden),
    )


def noise_features(material: Material, _strength: float) -> Material:
    """Replace every input by noise of the same size."""
    rng = np.random.default_rng(25)

    def noise(x: Floats) -> Floats:
        return rng.normal(0, float(x.std()) or 1.0, x.shape).astype(np.float32)

    return _each(material, noise, "train", "val", "hidden")


def _thin(rows: Rows, keep: int, classes: range) -> Rows:
    rng = np.random.default_rng(26)
    kept = [
        index[:keep] if label in classes else index
        for label in range(int(rows.y.max()) + 1)
        for index in [rng.permutation(np.flatnonzero(rows.y == label))]
    ]
    return rows.take(np.sort(np.concatenate(kept)))


def imbalance(material: Material, ratio: float) -> Material:
    """Thin the upper half of the classes to 1/ratio of their training rows."""
    largest = int(np.bincount(material.train.y).max())
    keep = max(4, round(largest / ratio))
    thinned = range(material.classes - material.classes // 2, material.classes)
    return replace(material, train=_thin(material.train, keep, thinned))


def _spoil_cells(
    x: Floats, share: float, value: float, seed: int, *, one_in: int = 5
) -> Floats:
    """Overwrite one feature in so many, in a share of the rows."""
    rng = np.random.default_rng(seed)
    flat = x.reshape(len(x), -1).copy()
    columns = np.random.default_rng(27).permutation(flat.shape[1])
    columns = columns[: max(1, flat.shape[1] // one_in)]
    hit = rng.random((len(flat), len(columns))) < share
    part = flat[:, columns]
    part[hit] = value
    flat[:, columns] = part
    return flat.reshape(x.shape)


def sentinels(material: Material, share: float) -> Material:
    """Write -999 where a value is missing."""
    return _cells_everywhere(material, share, SENTINEL)


def filled_gaps(material: Material, share: float) -> Material:
    """Write a value below all others where one of any feature is missing.

    As a 0 does, before the inputs are put on their scale, in what lies far from it.
    """
    train = material.train.x
    low, high = train.min(0), train.max(0)
    filling = (low - (high - low) / 2).astype(np.float32)

    def fill(x: Floats) -> Floats:
        return np.where(x == SENTINEL, filling, x)

    return _each(marked_gaps(material, share), fill, "train", "val", "hidden")


def marked_gaps(material: Material, share: float) -> Material:
    """Write -999 where `filled_gaps` writes another value, so that they can be told."""
    return _cells_everywhere(material, share, SENTINEL, one_in=1)


def missing(material: Material, share: float) -> Material:
    """Write NaN where a value is missing."""
    return _cells_everywhere(material, share, float("nan"))


def _cells_everywhere(
    material: Material, share: float, value: float, *, one_in: int = 5
) -> Material:
    seeds = {"train": 31, "val": 32, "hidden": 33}
    changed = {
        part: Rows(
            _spoil_cells(getattr(material, part).x, share, value, seed, one_in=one_in),
            getattr(material, part).y,
        )
        for part, seed in seeds.items()
    }
    return replace(material, **changed)  # type: ignore[arg-type]


def outliers(material: Material, share: float) -> Material:
    """Multiply a share of one feature in five by 1000: a slipped decimal point."""

    def slip(x: Floats, seed: int) -> Floats:
        marked = _spoil_cells(x, share, float("nan"), seed)
        return np.where(np.isnan(marked), x * 1000, x).astype(np.float32)

    return replace(
        material,
        train=Rows(slip(material.train.x, 31), material.train.y),
        val=Rows(slip(material.val.x, 32), material.val.y),
        hidden=Rows(slip(material.hidden.x, 33), material.hidden.y),
    )


def repaired_by_median(material: Material, _strength: float) -> Material:
    """Mend: missing, sentinel and far values become the feature's training median."""
    train = material.train.x.reshape(len(material.train.x), -1)
    known = np.where(np.isfinite(train) & (train != SENTINEL), train, np.nan)
    center = np.nanmedian(known, axis=0)
    spread = np.nanmedian(np.abs(known - center), axis=0)
    # a feature that is mostly constant is judged by its whole deviation
    spread = np.where(spread > 0, 1.5 * spread, np.nanstd(known, axis=0))

    def mend(x: Floats) -> Floats:
        flat = x.reshape(len(x), -1)
        far = ~(np.abs(flat - center) <= FAR * spread) | (flat == SENTINEL)
        return np.where(far, center, flat).reshape(x.shape).astype(np.float32)

    return _each(material, mend, "train", "val", "hidden")


def blank(material: Material, share: float) -> Material:
    """Lose a share of the training inputs: all zeros, the label kept."""
    rng = np.random.default_rng(34)
    x = material.train.x.copy()
    x[rng.random(len(x)) < share] = 0
    return replace(material, train=Rows(x, material.train.y))


def mixed_units(material: Material, factor: float) -> Material:
    """Give each feature its own unit, up to `factor` apart, everywhere.

    All of a series' channel, or of a picture's, has one unit.
    """
    rng = np.random.default_rng(35)
    shape = material.train.x.shape[1:]
    if len(shape) > 1:
        series = len(shape) == 2  # noqa: PLR2004 - (steps, channels), else channels first
        shape = (1, shape[1]) if series else (shape[0], 1, 1)
    unit = factor ** rng.random(shape)
    return _each(
        material, lambda x: (x * unit).astype(np.float32), "train", "val", "hidden"
    )


def times(material: Material, factor: float) -> Material:
    """Multiply every input."""
    return _each(
        material, lambda x: (x * factor).astype(np.float32), "train", "val", "hidden"
    )


def offset(material: Material, shift: float) -> Material:
    """Add a constant to every input."""
    return _each(
        material, lambda x: (x + shift).astype(np.float32), "train", "val", "hidden"
    )


def inverted(material: Material, _strength: float) -> Material:
    """Swap black and white."""
    top = float(material.train.x.max())
    return _each(
        material, lambda x: (top - x).astype(np.float32), "train", "val", "hidden"
    )


def label_shift(material: Material, step: float) -> Material:
    """Number the classes from another start: label y becomes y + step."""

    def renamed(rows: Rows) -> Rows:
        return Rows(rows.x, (rows.y + round(step)) % material.classes)

    return replace(
        material,
        train=renamed(material.train),
        val=renamed(material.val),
        hidden=renamed(material.hidden),
    )


def label_swap(material: Material, _strength: float) -> Material:
    """Swap the first two classes' numbers."""

    def renamed(rows: Rows) -> Rows:
        swap = np.arange(material.classes)
        swap[[0, 1]] = [1, 0]
        return Rows(rows.x, swap[rows.y].astype(np.int64))

    return replace(
        material,
        train=renamed(material.train),
        val=renamed(material.val),
        hidden=renamed(material.hidden),
    )


def leak(material: Material, share: float) -> Material:
    """Copy training rows over a share of the held-out rows."""
    count = min(round(share * len(material.val.y)), len(material.train.y))
    rng = np.random.default_rng(36)
    source = rng.permutation(len(material.train.y))[:count]
    target = rng.permutation(len(material.val.y))[:count]
    x, y = material.val.x.copy(), material.val.y.copy()
    x[target], y[target] = material.train.x[source], material.train.y[source]
    return replace(material, val=Rows(x, y))


def drift(material: Material, strength: float) -> Material:
    """Move every other feature of the held-out rows, by deviations."""
    spread = material.train.x.std(axis=0)
    direction = np.where(np.arange(spread.size) % 2 == 0, strength, 0.0)
    move = direction.reshape(spread.shape) * spread
    return _each(material, lambda x: (x + move).astype(np.float32), "val", "hidden")


def blur_noise(material: Material, strength: float) -> Material:
    """Hold out inputs from a worse sensor: noise of this many deviations."""
    rng = np.random.default_rng(37)
    size = strength * float(material.train.x.std())
    return _each(
        material,
        lambda x: (x + rng.normal(0, size, x.shape)).astype(np.float32),
        "val",
        "hidden",
    )


SPOILS: dict[str, Spoiler] = {
    function.__name__: function
    for function in (
        label_noise,
        label_noise_everywhere,
        label_flip_to_next,
        random_labels,
        noise_features,
        imbalance,
        sentinels,
        filled_gaps,
        marked_gaps,
        missing,
        outliers,
        repaired_by_median,
        blank,
        mixed_units,
        times,
        offset,
        inverted,
        label_shift,
        label_swap,
        leak,
        drift,
        blur_noise,
    )
}


def spoil(material: Material, spoils: tuple[tuple[str, float], ...]) -> Material:
    """Apply spoils in order."""
    for name, strength in spoils:
        material = SPOILS[name](material, strength)
    return material
