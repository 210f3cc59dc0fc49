"""Find equal samples by a digest of their bytes."""

import hashlib

import numpy as np

from worker.engine.probes.material import Array, Labels


def digests(x: Array) -> list[bytes]:
    """Digest each sample; equal numbers give equal digests, -0.0 equals 0.0."""
    result = []
    step = max(1, 4_000_000 // max(1, x[:1].size))
    for start in range(0, len(x), step):
        part = np.ascontiguousarray(x[start : start + step])
        if np.issubdtype(part.dtype, np.floating):
            part = np.add(part, 0.0, dtype=np.float64)  # turns -0.0 into 0.0
        result += [
            hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in part
        ]
    return result


def repeated(x: Array) -> Labels:
    """Point each sample to the first equal one before it.

    Returns:
        int64, (rows,): place of the first equal sample, -1 where there is none.
    """
    seen: dict[bytes, int] = {}
    first = np.full(len(x), -1, dtype=np.int64)
    for place, digest in enumerate(digests(x)):
        known = seen.setdefault(digest, place)
        if known != place:
            first[place] = known
    return first
