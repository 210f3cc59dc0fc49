"""Really try to get out of the confined child; run by a throw-away child only.

Each attempt aims at something that the parent set up for it and that would work in a
process that is not confined.
"""

import ctypes
import fcntl
import os
import resource
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

ALLOWED = "allowed"

# Attempts that only Landlock stops. All others are the filter's.
FILE_ATTEMPTS = frozenset(
    {"read a file", "read the parent's environment", "write outside", "list a folder"}
)


class Targets(TypedDict):
    """What the parent set up, all reachable without confinement."""

    secret: str
    folder: str
    tcp_port: int
    udp_port: int
    unix_path: str
    abstract_name: str
    parent_pid: int
    descriptor: int


def _checked(result: int) -> None:
    if result != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))


def _connect(family: int, kind: int, address: object) -> None:
    with socket.socket(family, kind) as connection:
        connection.settimeout(2)
        connection.connect(address)  # type: ignore[arg-type]
        connection.send(b"out")


def _fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _execute() -> None:
    # A failed exec returns; one that works replaces us, and the parent sees silence.
    os.execv("/bin/true", ["true"])  # noqa: S606


def _trace(parent: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    seize, detach = 0x4206, 17
    _checked(libc.ptrace(seize, parent, 0, 0))
    libc.ptrace(detach, parent, 0, 0)


def _signal_by_owner(parent: int) -> None:
    reader, writer = os.pipe()
    try:
        fcntl.fcntl(reader, fcntl.F_SETOWN, parent)
    finally:
        os.close(reader)
        os.close(writer)


def _truncate(path: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    _checked(libc.truncate(path.encode(), 6))


def _memory_file() -> None:
    os.close(os.memfd_create("hidden"))


def attempts(targets: Targets) -> dict[str, Callable[[], object]]:
    """List the attempts, by what they are after; those that end the process last."""
    secret, parent = targets["secret"], targets["parent_pid"]
    folder = targets["folder"]
    inet, unix = socket.AF_INET, socket.AF_UNIX
    stream, datagram = socket.SOCK_STREAM, socket.SOCK_DGRAM
    local = "127.0.0.1"
    return {
        "read a file": lambda: Path(secret).read_bytes(),
        "read the parent's environment": lambda: Path(
            f"/proc/{parent}/environ"
        ).read_bytes(),
        "list a folder": lambda: list(Path(folder).iterdir()),
        "write outside": lambda: Path(folder, "written").write_bytes(b"x"),
        "truncate a file": lambda: _truncate(secret),
        "change a file's mode": lambda: Path(secret).chmod(0o600),
        "change a received file's mode": lambda: os.fchmod(
            targets["descriptor"], 0o600
        ),
        "link to a file": lambda: os.symlink(secret, f"{folder}/link"),  # noqa: PTH211
        "connect by TCP": lambda: _connect(inet, stream, (local, targets["tcp_port"])),
        "send by UDP": lambda: _connect(inet, datagram, (local, targets["udp_port"])),
        "connect to a Unix socket": lambda: _connect(
            unix, stream, targets["unix_path"]
        ),
        "connect to an abstract socket": lambda: _connect(
            unix, stream, "\0" + targets["abstract_name"]
        ),
        "ask the kernel by netlink": lambda: socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW, 0
        ).close(),
        "fork": _fork,
        "signal the parent": lambda: os.kill(parent, 0),
        "signal the parent as a file's owner": lambda: _signal_by_owner(parent),
        "open a handle on the parent": lambda: os.close(os.pidfd_open(parent)),
        "trace the parent": lambda: _trace(parent),
        "limit the parent": lambda: resource.prlimit(parent, resource.RLIMIT_CORE),
        "slow the parent": lambda: os.setpriority(os.PRIO_PROCESS, parent, 1),
        "hide memory in a file": _memory_file,
        "outlive the parent": lambda: _checked(
            ctypes.CDLL(None, use_errno=True).prctl(1, 0, 0, 0, 0)
        ),
        "execute a program": _execute,
    }


def try_all(targets: Targets, report: Callable[[dict[str, str]], None]) -> None:
    """Make every attempt, reporting all results so far after each.

    The last, `execute a program`, is reported as allowed beforehand: where it works
    nothing of this program is left to say so.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    results: dict[str, str] = {}
    for name, attempt in attempts(targets).items():
        results[name] = ALLOWED
        if name == "execute a program":
            report(results)
        try:
            attempt()
        except OSError as error:
            results[name] = f"denied: {error.strerror or error}"
        report(results)
