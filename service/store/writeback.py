"""Lets the disk begin early with what was written: `fsync` then finds little to do."""

import ctypes
import sys

EVERY_BYTES = 32 * 1024 * 1024
_START_WRITE = 2  # SYNC_FILE_RANGE_WRITE, see `man 2 sync_file_range`


def begin(descriptor: int, start: int, length: int) -> None:
    """Ask the kernel to write a range to the disk; a hint, without any promise.

    Args:
        descriptor: of an open file.
        start: first byte.
        length: number of bytes.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).sync_file_range(
            descriptor,
            ctypes.c_int64(start),
            ctypes.c_int64(length),
            ctypes.c_uint(_START_WRITE),
        )
