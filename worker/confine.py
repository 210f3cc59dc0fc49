"""Confine this process for good, before it opens anything that was uploaded.

Landlock, a seccomp filter, resource limits, a parent-death signal, no new privileges,
no capabilities. Needs no privilege itself. Only the standard library is imported
here: importing numpy or torch starts threads, and Landlock binds only the calling
thread and those that it starts later.
"""

import contextlib
import ctypes
import os
import platform
import resource
import struct
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from worker.landlock import Reach, restrict
from worker.seccomp import child_filter, install
from worker.syscalls import calls_of

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP = 1, 4, 24
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITIES = 64
_CAPABILITY_VERSION_3 = 0x20080522
_SIGKILL = 9

MAX_FILES_OPEN = 256
LIBRARY_ADDRESS_BYTES = 64 << 30  # until the libraries are loaded and can be counted

# What an interpreter with torch reads beside its own files. Of /proc/self only what
# describes this process's memory and threads; its links into other files stay shut.
_SYSTEM_FILES = (
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/usr/share/zoneinfo",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/self/maps",
    "/proc/self/status",
    "/proc/self/statm",
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/dev/urandom",
    "/dev/random",
    "/dev/zero",
)
_GPU_FILES = (
    "/proc/self",
    "/proc/driver/nvidia",
    "/proc/devices",
    "/proc/modules",
    "/sys/module",
    "/sys/bus/pci",
    "/sys/devices",
    "/usr/local/cuda",
    "/usr/local/nvidia",
    "/etc/nvidia",
    "/usr/share/nvidia",
    "/run/nvidia-persistenced",
)


@dataclass(frozen=True)
class Confinement:
    """What took effect.

    Attributes:
        landlock: the kernel's Landlock version, 0 where it has none.
        seccomp: `on`, or why not.
        capabilities: `none`, or why some are left.
    """

    landlock: int
    seccomp: str
    capabilities: str


def library_paths() -> tuple[Path, ...]:
    """List the folders of the interpreter and of its installed packages."""
    found = {
        Path(path) for name, path in sysconfig.get_paths().items() if "lib" in name
    }
    found |= {Path(prefix) / "lib" for prefix in (sys.prefix, sys.base_prefix)}
    # Editable installs put whole source trees on the path: only real package folders.
    found |= {
        Path(entry)
        for entry in sys.path
        if Path(entry).name in {"site-packages", "dist-packages", "lib-dynload"}
    }
    return tuple(sorted({path.resolve() for path in found if path.exists()}))


def gpu_devices() -> tuple[Path, ...]:
    """List the device files of the GPUs."""
    caps = Path("/dev/nvidia-caps")
    return (*sorted(Path("/dev").glob("nvidia*")), *((caps,) if caps.exists() else ()))


def _limit(what: int, value: int) -> None:
    hard = resource.getrlimit(what)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(what, (value, value))


def _drop_capabilities(libc: ctypes.CDLL) -> str:
    """Give up every capability: a root without them is bound by file modes."""
    for capability in range(_CAPABILITIES):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    if libc.capset(header, bytes(24)) != 0:
        return os.strerror(ctypes.get_errno())
    return "none"


def tie_to(parent_pid: int) -> None:
    """Die when the parent dies.

    The signal is sent when the parent's *thread* that made this process ends, so the
    parent starts its children from a thread that lives as long as itself.

    Raises:
        SystemExit: the parent is gone already.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        raise SystemExit(0)


def confine(
    *,
    parent_pid: int,
    scratch: Path,
    source: tuple[Path, ...],
    file_bytes: int,
    gpu: bool,
) -> Confinement:
    """Confine this process; call it while there is a single thread.

    Args:
        parent_pid: whose death is this process's death.
        scratch: the only folder to write in.
        source: folders of our own packages.
        file_bytes: the largest file it may write.
        gpu: whether to leave the GPU's device files within reach. Drivers reserve
            far more address space than memory, so there is then no limit on it and
            only the parent's watch bounds memory.

    Raises:
        OSError: the kernel has a part of this and refused it.
        SystemExit: the parent is gone already.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    # Under pressure the kernel should take this process, not the worker.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, file_bytes)
    _limit(resource.RLIMIT_NOFILE, MAX_FILES_OPEN)
    _limit(resource.RLIMIT_MSGQUEUE, 0)
    if not gpu:
        _limit(resource.RLIMIT_AS, LIBRARY_ADDRESS_BYTES)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    capabilities = _drop_capabilities(libc)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    # Last, since a change of credentials would clear it.
    tie_to(parent_pid)
    reach = Reach(
        read=(
            *library_paths(),
            *source,
            *(Path(path) for path in _SYSTEM_FILES),
            *(Path(path) for path in _GPU_FILES if gpu),
        ),
        scratch=(scratch,),
        devices=(Path("/dev/null"), *(gpu_devices() if gpu else ())),
    )
    landlock = restrict(reach)
    return Confinement(
        landlock=landlock, seccomp=_filter_calls(gpu=gpu), capabilities=capabilities
    )


def _filter_calls(*, gpu: bool) -> str:
    calls = calls_of()
    if calls is None:
        return f"no table of system calls for {platform.machine()}"
    try:
        install(calls, child_filter(calls, own_pid=os.getpid(), gpu=gpu))
    except OSError as error:
        return str(error)
    return "on"


def limit_memory(memory_bytes: int) -> None:
    """Allow `memory_bytes` of address space beside what the libraries took.

    A thread reserves space for its stack and its heap without using it, hence the
    margin; the parent watches what is really used.
    """
    margin = (1 << 30) + (160 << 20) * (os.cpu_count() or 1)
    with Path("/proc/self/statm").open("rb") as statm:
        pages = int(statm.read().split()[0])
    _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + memory_bytes + margin)
