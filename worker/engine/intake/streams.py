"""Reads announced bytes into arrays, in pieces, never more than was announced."""

from typing import NoReturn, Protocol

import numpy as np

from worker.engine.intake.complaints import quoted, refuse_unreadable
from worker.engine.intake.raw import AnyArray, convert

_PIECE_BYTES = 4 << 20


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Read at most `size` bytes."""
        ...


def read_exactly(stream: Readable, count: int, *, name: str) -> bytes:
    """Read `count` bytes.

    Raises:
        BadRequest: the file ends earlier.
    """
    data = stream.read(count)
    while len(data) < count:
        more = stream.read(count - len(data))
        if not more:
            _cut_off(name)
        data += more
    return data


def read_values(
    stream: Readable,
    count: int,
    *,
    stored: np.dtype[np.generic],
    wanted: np.dtype[np.generic],
    name: str,
) -> AnyArray:
    """Read `count` values into one array of `wanted`, a piece at a time.

    The array is the only thing of full size: values that are stored wider than they
    are wanted never stand in memory twice.

    Raises:
        BadRequest: the file ends earlier.
    """
    values: AnyArray = np.empty(count, dtype=wanted)
    step = max(1, _PIECE_BYTES // max(1, stored.itemsize))
    for begin in range(0, count, step):
        size = min(step, count - begin)
        piece = read_exactly(stream, size * stored.itemsize, name=name)
        values[begin : begin + size] = convert(np.frombuffer(piece, stored), wanted)
    return values


def _cut_off(name: str) -> NoReturn:
    refuse_unreadable(f"the file is cut off: {quoted(name)} is not whole")
