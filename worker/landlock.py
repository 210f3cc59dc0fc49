"""Landlock: which files this process and its threads may reach, for good.

Source: Linux `Documentation/userspace-api/landlock.rst`.
"""

import ctypes
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from worker.syscalls import (
    LANDLOCK_ADD_RULE,
    LANDLOCK_CREATE_RULESET,
    LANDLOCK_RESTRICT_SELF,
)

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_REG = 1 << 8
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_ALL_OF_ABI_1 = (1 << 13) - 1
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV

_READ = _READ_FILE | _READ_DIR
# Only plain files in one flat folder, never removed, renamed or linked: so whatever
# takes space there stays visible to the parent, and nothing there can mislead it.
_SCRATCH = _READ | _WRITE_FILE | _TRUNCATE | _MAKE_REG
_DEVICE = _READ | _WRITE_FILE | _IOCTL_DEV

_PATH_BENEATH = 1
_VERSION = 1
_TCP, _SCOPES = 3, 3  # bind and connect; abstract sockets and signals
_ABI_REFER, _ABI_TRUNCATE, _ABI_TCP, _ABI_IOCTL, _ABI_SCOPES = 2, 3, 4, 5, 6
_PR_SET_NO_NEW_PRIVS = 38


@dataclass(frozen=True)
class Reach:
    """What stays reachable.

    Attributes:
        read: files and folders to read.
        scratch: folders to make, read and write plain files in.
        devices: device files to open, read, write and control.
    """

    read: tuple[Path, ...]
    scratch: tuple[Path, ...] = ()
    devices: tuple[Path, ...] = ()


def abi() -> int:
    """Ask the kernel for its version of Landlock, 0 where it has none."""
    libc = ctypes.CDLL(None, use_errno=True)
    return max(0, int(libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, _VERSION)))


def _handled(version: int) -> tuple[int, bytes]:
    files = _ALL_OF_ABI_1
    if version >= _ABI_REFER:
        files |= _REFER
    if version >= _ABI_TRUNCATE:
        files |= _TRUNCATE
    if version >= _ABI_IOCTL:
        files |= _IOCTL_DEV
    attribute = struct.pack("=Q", files)
    if version >= _ABI_TCP:
        attribute += struct.pack("=Q", _TCP)
    if version >= _ABI_SCOPES:
        attribute += struct.pack("=Q", _SCOPES)
    return files, attribute


def restrict(reach: Reach) -> int:
    """Leave this thread, and those it starts, only what `reach` names.

    Must run before other threads exist. Paths that do not exist are passed over.

    Returns:
        The kernel's Landlock version; 0 where it has none and nothing was restricted.

    Raises:
        OSError: the kernel has Landlock and refused.
    """
    version = abi()
    if version < 1:
        return 0
    libc = ctypes.CDLL(None, use_errno=True)

    def checked(result: int, what: str) -> int:
        if result < 0:
            errno = ctypes.get_errno()
            raise OSError(errno, f"{what}: {os.strerror(errno)}")
        return int(result)

    files, attribute = _handled(version)
    rules = checked(
        libc.syscall(LANDLOCK_CREATE_RULESET, attribute, len(attribute), 0),
        "landlock_create_ruleset",
    )

    def allow(paths: Iterable[Path], rights: int) -> None:
        for path in paths:
            try:
                handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            granted = rights & files & (-1 if path.is_dir() else _ON_FILES)
            rule = struct.pack("=Qi", granted, handle)
            checked(
                libc.syscall(LANDLOCK_ADD_RULE, rules, _PATH_BENEATH, rule, 0),
                f"landlock_add_rule {path}",
            )
            os.close(handle)

    allow(reach.read, _READ)
    allow(reach.scratch, _SCRATCH)
    allow(reach.devices, _DEVICE)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    checked(libc.syscall(LANDLOCK_RESTRICT_SELF, rules, 0), "landlock_restrict_self")
    os.close(rules)
    return version
