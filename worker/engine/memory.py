"""Memory: freed memory that is used again, and whether it ran out."""

import contextlib
import ctypes

# glibc gives large blocks back to the kernel as they are freed, and gets them anew,
# page by page, for the next operator: half of the time of a pass over large pictures.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BLOCK_BYTES, _KEPT_BYTES = 256 << 20, 512 << 20


def keep_freed_memory() -> None:
    """Keep what is freed for the next operator, where the C library can."""
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BLOCK_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell a lack of memory, which torch's processor side reports as plain text."""
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "not enough memory" in text
        or "can't allocate memory" in text
    )
