"""How much an untrusted dataset may ask for, checked before memory is given to it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class IntakeLimits:
    """Bounds on what a file may unfold to.

    Attributes:
        total_bytes: all arrays together, as they will lie in memory.
        columns: columns of a table.
        classes: different labels.
        members: files in an archive.
        picture_bytes: one encoded picture.
        picture_pixels: one decoded picture.
        rows_to_split: rows needed where no held-out split is given.
        rows_a_split: rows needed in each of training and held-out data, where given.
        rows_a_class: rows needed for each class, on average.
    """

    total_bytes: int = 4 << 30
    columns: int = 20_000
    classes: int = 1_000
    members: int = 2_000_000
    picture_bytes: int = 64 << 20
    picture_pixels: int = 50_000_000
    rows_to_split: int = 20
    rows_a_split: int = 4
    rows_a_class: int = 2
