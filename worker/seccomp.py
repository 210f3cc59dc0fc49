"""A seccomp filter in classic BPF: which system calls the confined child may make.

Source: Linux `Documentation/userspace-api/seccomp_filter.rst`, `linux/filter.h`.
"""

import ctypes
import os
import struct
from collections.abc import Sequence
from errno import ENOSYS, EPERM

from worker.syscalls import FIRST_SHARED, SHARED_ALLOWED, Calls

_LOAD, _EQUAL, _ANY_BIT, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_KILL, _ALLOW, _ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_X32 = 0x40000000
_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER, _TSYNC = 1, 1

_CLONE_THREAD, _CLONE_NAMESPACES = 0x00010000, 0x7E020080
_TMPFILE = 0x400000  # __O_TMPFILE: a file that no total of the folder would show
# F_SETOWN, F_SETSIG and F_SETOWN_EX send signals to others; a lease (F_SETLEASE) or a
# notification (F_NOTIFY) would hold up whoever opens the same stored file.
_FCNTL_DENIED = (8, 10, 15, 1024, 1026)
# TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX.
_IOCTL_ALLOWED = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
# FIOSETOWN, SIOCSPGRP, TIOCSTI, TIOCLINUX, TIOCSETD, FS_IOC_SETFLAGS, FSSETXATTR.
_IOCTL_DENIED = (0x8901, 0x8902, 0x5412, 0x541C, 0x5423, 0x40086602, 0x401C5820)
# PR_GET_PDEATHSIG, _GET_DUMPABLE, _SET_NAME, _GET_NAME, _GET_SECCOMP, _CAPBSET_READ,
# _SET_TIMERSLACK, _GET_TIMERSLACK, _SET_NO_NEW_PRIVS, _GET_NO_NEW_PRIVS,
# _SET_THP_DISABLE, _GET_THP_DISABLE, _SVE_GET_VL, _GET_TAGGED_ADDR_CTRL,
# _SME_GET_VL, _SET_VMA. Neither the parent-death signal nor `dumpable` can be reset.
_PRCTL_ALLOWED = (2, 3, 15, 16, 21, 23, 29, 30, 38, 39, 41, 42, 51, 56, 64, 0x53564D41)

Instruction = bytes


def _instruction(code: int, yes: int, no: int, value: int) -> Instruction:
    return struct.pack("HBBI", code, yes, no, value)


def _answer(errno: int) -> Instruction:
    return _instruction(_RETURN, 0, 0, _ERRNO | errno)


_LET = _instruction(_RETURN, 0, 0, _ALLOW)


def _argument(index: int) -> Instruction:
    return _instruction(_LOAD, 0, 0, _ARGUMENTS + 8 * index)  # low half


def _only(number: int, index: int, values: Sequence[int]) -> list[Instruction]:
    """Allow call `number` only where argument `index` is one of `values`."""
    body = [_argument(index)]
    for value in values:
        body += [_instruction(_EQUAL, 0, 1, value), _LET]
    return [_instruction(_EQUAL, 0, len(body) + 1, number), *body, _answer(EPERM)]


def _except(number: int, index: int, values: Sequence[int]) -> list[Instruction]:
    """Allow call `number` unless argument `index` is one of `values`."""
    body = [_argument(index)]
    for value in values:
        body += [_instruction(_EQUAL, 0, 1, value), _answer(EPERM)]
    return [_instruction(_EQUAL, 0, len(body) + 1, number), *body, _LET]


def _without_bits(number: int, index: int, bits: int) -> list[Instruction]:
    """Allow call `number` unless argument `index` has any of `bits`."""
    return [
        _instruction(_EQUAL, 0, 4, number),
        _argument(index),
        _instruction(_ANY_BIT, 0, 1, bits),
        _answer(EPERM),
        _LET,
    ]


def _threads_only(number: int) -> list[Instruction]:
    """Allow `clone` for threads, never for processes or namespaces."""
    return [
        _instruction(_EQUAL, 0, 6, number),
        _argument(0),
        _instruction(_ANY_BIT, 0, 1, _CLONE_NAMESPACES),
        _answer(EPERM),
        _instruction(_ANY_BIT, 1, 0, _CLONE_THREAD),
        _answer(EPERM),
        _LET,
    ]


def _head(calls: Calls) -> list[Instruction]:
    return [
        _instruction(_LOAD, 0, 0, _ARCHITECTURE),
        _instruction(_EQUAL, 1, 0, calls.audit_arch),
        _instruction(_RETURN, 0, 0, _KILL),
        _instruction(_LOAD, 0, 0, _NUMBER),
        _instruction(_AT_LEAST, 0, 1, _X32),
        _instruction(_RETURN, 0, 0, _KILL),
    ]


def child_filter(calls: Calls, *, own_pid: int, gpu: bool) -> list[Instruction]:
    """Write the filter of the confined child.

    Args:
        calls: numbers of this architecture.
        own_pid: the only process that may be signalled or limited.
        gpu: whether device drivers are spoken to, whose ioctls cannot be listed.
    """
    watched = calls.watched
    program = _head(calls)
    shared = []
    for number in SHARED_ALLOWED:
        shared += [_instruction(_EQUAL, 0, 1, number), _LET]
    # ENOSYS, not EPERM: the C library then falls back to the older call.
    program += [
        _instruction(_AT_LEAST, 0, len(shared) + 1, FIRST_SHARED),
        *shared,
        _answer(ENOSYS),
        _instruction(_AT_LEAST, 0, 1, calls.last_own + 1),
        _answer(ENOSYS),
    ]
    for number in calls.denied.values():
        program += [_instruction(_EQUAL, 0, 1, number), _answer(EPERM)]
    program += _only(watched["kill"], 0, [own_pid])
    program += _only(watched["tgkill"], 0, [own_pid])
    program += _only(watched["prlimit64"], 0, [0, own_pid])
    program += _only(watched["sched_setaffinity"], 0, [0, own_pid])
    program += _only(watched["prctl"], 0, _PRCTL_ALLOWED)
    program += _except(watched["fcntl"], 1, _FCNTL_DENIED)
    if gpu:
        program += _except(watched["ioctl"], 1, _IOCTL_DENIED)
    else:
        program += _only(watched["ioctl"], 1, _IOCTL_ALLOWED)
    program += _without_bits(watched["openat"], 2, _TMPFILE)
    if "open" in watched:
        program += _without_bits(watched["open"], 1, _TMPFILE)
    program += _threads_only(watched["clone"])
    return [*program, _LET]


def without(calls: Calls, numbers: Sequence[int]) -> list[Instruction]:
    """Write a filter for which the given calls do not exist (an older kernel)."""
    program = _head(calls)
    for number in numbers:
        program += [_instruction(_EQUAL, 0, 1, number), _answer(ENOSYS)]
    return [*program, _LET]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install(calls: Calls, program: Sequence[Instruction]) -> None:
    """Put the filter on every thread of this process, for good.

    Raises:
        OSError: the kernel has no seccomp filters or refused this one.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    code = b"".join(program)
    buffer = ctypes.create_string_buffer(code, len(code))
    argument = _Program(len(program), ctypes.addressof(buffer))
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    done = libc.syscall(calls.seccomp, _SET_MODE_FILTER, _TSYNC, ctypes.byref(argument))
    if done != 0:
        # TSYNC answers with a thread's id where that thread could not follow.
        errno = ctypes.get_errno() or EPERM
        raise OSError(errno, f"seccomp: {os.strerror(errno)}")
