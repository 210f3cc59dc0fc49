"""The confined child as a process: its start, its scratch folder, what it uses."""

import contextlib
import fcntl
import json
import os
import resource
import shutil
import socket
import stat
import sys
import tempfile
import time
from pathlib import Path
from typing import BinaryIO

from worker.child import Config
from worker.confine import library_paths
from worker.escape import Targets
from worker.nursery import start
from worker.template import Template
from worker.template_process import TemplateConfig

_START = (
    "import sys;sys.path[:0]=sys.argv[1].split(':');from worker.{} import main;main()"
)
_PREFIX = "child-"
_STALE_SECONDS = 60.0
MAX_SCRATCH_FILES = 1_000
MAX_THREADS = 1_024
_OUTPUT_KEPT_BYTES = 16 << 10


def usable_cores() -> int:
    """Count the cores that this process may use, by affinity and cgroup quota."""
    cores = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text("ascii").split()
        if quota != "max":
            cores = min(cores, max(1, round(int(quota) / int(period))))
    return cores


def _gpu_environment(index: int) -> dict[str, str]:
    """Show the child one GPU, which it then calls `cuda:0`."""
    visible = [
        name.strip()
        for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        if name.strip()
    ]
    chosen = visible[index] if index < len(visible) else str(index)
    kept = {
        name: os.environ[name]
        for name in ("LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH", "CUDA_DEVICE_ORDER")
        if name in os.environ
    }
    return {**kept, "CUDA_VISIBLE_DEVICES": chosen, "CUDA_CACHE_DISABLE": "1"}


def _environment(*, scratch: Path, device: str, threads: int) -> dict[str, str]:
    environment = {
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "LANG": "C.UTF-8",
        "PATH": "",
        # Only large networks get more than one thread, see `worker.engine.lab.threads`.
        "MODEL_AUDIT_THREADS": str(threads),
        "OMP_NUM_THREADS": "1",
        # Threads that spin while they wait take the cores from the threads they wait
        # for, as soon as anything else runs: small steps then take ten times as long.
        "OMP_WAIT_POLICY": "PASSIVE",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "JOBLIB_MULTIPROCESSING": "0",  # it would ask for semaphores and processes
        "TORCHINDUCTOR_CACHE_DIR": str(scratch),
        # Its allocator would start a thread, and a template must not have any.
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
    }
    if device.startswith("cuda"):
        _, _, index = device.partition(":")
        environment |= _gpu_environment(int(index or 0))
    else:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return environment


def sweep(parent: Path) -> None:
    """Remove scratch folders whose worker is gone: a living one holds a lock."""
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            if time.time() - folder.stat().st_mtime < _STALE_SECONDS:
                continue
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(handle)


class Inmate:
    """One confined process.

    Attributes:
        channel: our end of the socket pair, not blocking.
        output: descriptor of what it prints, not blocking.
        scratch: its own folder.
    """

    def __init__(  # noqa: PLR0913 - each is a different limit
        self,
        *,
        device: str,
        scratch: Path,
        memory_bytes: int,
        file_bytes: int,
        threads: int,
        session: str,
        code: tuple[Path, ...] = (),
        targets: Targets | None = None,
        descriptors: tuple[int, ...] = (),
        template: Template | None = None,
    ) -> None:
        """Fork it from the template, where that is ready, or start it by itself."""
        scratch.mkdir(parents=True, exist_ok=True)
        self.scratch = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=scratch.resolve()))
        self._folder = os.open(self.scratch, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._folder, fcntl.LOCK_SH)
        self._printed = bytearray()
        self.channel, theirs = socket.socketpair()
        self.output, output = os.pipe()
        config = Config(
            channel=theirs.fileno(),
            parent=os.getpid(),
            device="cuda:0" if device.startswith("cuda") else device,
            scratch=str(self.scratch),
            memory_bytes=memory_bytes,
            file_bytes=file_bytes,
            session=session,
            code=[str(folder.resolve()) for folder in code],
            targets=targets,
        )
        environment = _environment(scratch=self.scratch, device=device, threads=threads)
        inherited = (theirs.fileno(), *descriptors)
        try:
            forked = template and template.fork(
                config,
                environment=environment,
                folder=self.scratch,
                descriptors=inherited,
                output=output,
            )
            self.process = forked or start(
                _command("child", code, config),
                environment=environment,
                folder=self.scratch,
                descriptors=inherited,
                output=output,
            )
        except OSError:
            self._release()
            raise
        finally:
            theirs.close()
            os.close(output)
        for end in (self.channel.fileno(), self.output):
            os.set_blocking(end, False)
        self._statm = os.open(f"/proc/{self.process.pid}/statm", os.O_RDONLY)
        self._stat = os.open(f"/proc/{self.process.pid}/stat", os.O_RDONLY)

    def resident_bytes(self) -> int:
        """Memory it uses, 0 once it has ended."""
        try:
            pages = os.pread(self._statm, 200, 0).split()[1]
        except (OSError, IndexError):
            return 0
        return int(pages) * resource.getpagesize()

    def thread_count(self) -> int:
        """Threads it has, 0 once it has ended."""
        try:
            fields = os.pread(self._stat, 2_000, 0).rpartition(b")")[2].split()
            return int(fields[17])
        except (OSError, IndexError):
            return 0

    def has_scratch(self) -> bool:
        """Say whether its folder is still there: whoever cleans up may take it."""
        return self.scratch.is_dir()

    def scratch_use(self) -> tuple[int, int]:
        """Bytes and files in its folder; the count stops above the allowed number."""
        total = count = 0
        with contextlib.suppress(OSError), os.scandir(self.scratch) as entries:
            for entry in entries:
                count += 1
                total += entry.stat(follow_symlinks=False).st_size
                if count > MAX_SCRATCH_FILES:
                    break
        return total, count

    def open_scratch(self, name: str) -> BinaryIO:
        """Open a file that it made.

        Raises:
            ValueError: the name is a path, or the thing is no plain file.
            OSError: there is no such file.
        """
        if not name or "/" in name or name in {".", ".."}:
            reason = f"not a file of the scratch folder: {name!r}"
            raise ValueError(reason)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        handle = os.open(name, flags, dir_fd=self._folder)
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            os.close(handle)
            reason = f"not a plain file: {name!r}"
            raise ValueError(reason)
        return os.fdopen(handle, "rb")

    def drain(self) -> bool:
        """Take what it printed, keeping the end of it; False at the end."""
        try:
            data = os.read(self.output, 1 << 16)
        except BlockingIOError:
            return True
        self._printed += data
        del self._printed[:-_OUTPUT_KEPT_BYTES]
        return bool(data)

    @property
    def printed(self) -> str:
        """The end of what it printed."""
        return self._printed.decode("utf-8", errors="replace")

    def end(self) -> int:
        """Kill it, wait, and return its exit status (minus the signal)."""
        self.process.kill()
        return self.process.wait()

    def close(self) -> None:
        """Kill it and remove its folder."""
        self.end()
        for handle in (self._statm, self._stat):
            os.close(handle)
        self._release()

    def _release(self) -> None:
        self.channel.close()
        os.close(self.output)
        shutil.rmtree(self.scratch, ignore_errors=True)
        os.close(self._folder)


def start_template(
    *, device: str, scratch: Path, threads: int, session: str, code: tuple[Path, ...]
) -> Template:
    """Start what children are forked from; arguments as of `Child.start`.

    Raises:
        OSError: no process can be started.
    """
    ours, theirs = socket.socketpair()
    config = TemplateConfig(
        control=theirs.fileno(), parent=os.getpid(), session=session
    )
    with theirs, Path(os.devnull).open("wb") as nowhere:
        process = start(
            _command("template_process", code, config),
            environment=_environment(scratch=scratch, device=device, threads=threads),
            folder=Path("/"),
            descriptors=(theirs.fileno(),),
            output=nowhere.fileno(),
        )
    return Template(process, ours)


def _command(
    program: str, code: tuple[Path, ...], config: Config | TemplateConfig
) -> list[str]:
    # An isolated interpreter knows neither our source nor a user's own packages.
    root = Path(__file__).resolve().parent.parent
    path = ":".join(str(entry) for entry in (root, *code, *_package_folders()))
    begin = _START.format(program)
    return [sys.executable, "-I", "-B", "-c", begin, path, json.dumps(config)]


def _package_folders() -> tuple[Path, ...]:
    return tuple(
        path
        for path in library_paths()
        if path.name in {"site-packages", "dist-packages"}
    )
