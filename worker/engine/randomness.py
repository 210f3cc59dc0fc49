"""Randomness that depends on names, never on the order in which things happen.

Every draw is keyed by a seed and what the draw is for, so that two arms with the same
seed see the same numbers (common random numbers) whatever else is trained beside them.
"""

import hashlib

import numpy as np


def derive(*parts: int | str) -> int:
    """Return a 63-bit seed that is a function of `parts` alone."""
    text = "\x1f".join(str(part) for part in parts)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """Return a numpy generator keyed by `parts`."""
    return np.random.default_rng(derive(*parts))
