"""The processes that are measured: the service, and a bare server to compare with."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

MEBIBYTE = 1024 * 1024
ADMIN_KEY = "load-benchmark-admin-key"
START_SECONDS = 60.0
STOP_SECONDS = 20.0
_KIBIBYTES = re.compile(r"^(\w+):\s+(\d+) kB$", re.MULTILINE)
_HELLO = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def hello(request):
    return PlainTextResponse("hello")

uvicorn.run(
    Starlette(routes=[Route("/livez", hello)]), port=int(sys.argv[1]),
    access_log=False, log_level="warning", loop="uvloop", http="httptools",
)
"""


@dataclass(frozen=True)
class Server:
    """A server that answers, by the process id of its API."""

    pid: int
    port: int
    start_seconds: float
    start_processor_seconds: float

    def processor_seconds(self) -> float:
        """Time that the API process has kept a core busy, in s."""
        used = psutil.Process(self.pid).cpu_times()
        return float(used.user + used.system)

    def family_processor_seconds(self) -> float:
        """The same of the API process and all of its children, in s."""
        root = psutil.Process(self.pid)
        times = [p.cpu_times() for p in [root, *root.children(recursive=True)]]
        return float(sum(used.user + used.system for used in times))

    def memory_bytes(self) -> int:
        """Resident memory of the API process."""
        return self._status("VmRSS")

    def peak_bytes(self) -> int:
        """The most resident memory since `forget_peak`."""
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        """Let the peak begin anew; `man 5 proc`, `clear_refs`."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5", encoding="ascii")

    def has_loaded(self, library: str) -> bool:
        """Say whether a shared library is mapped into the API process."""
        maps = Path(f"/proc/{self.pid}/maps").read_text(encoding="utf-8")
        return library in maps

    def _status(self, name: str) -> int:
        text = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        return int(dict(_KIBIBYTES.findall(text))[name]) * 1024


@contextmanager
def service(folder: Path, *, worker: bool = False) -> Iterator[Server]:
    """Run `model-audit serve` in a folder until the context ends."""
    extra = [] if worker else ["--no-worker"]
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MODEL_AUDIT_")
    }
    with _running(
        lambda port: [
            str(Path(sys.executable).with_name("model-audit")),
            *("serve", "--port", str(port), "--data-dir", str(folder), *extra),
        ],
        environment | {"MODEL_AUDIT_API_KEY": ADMIN_KEY},
    ) as server:
        yield server


@contextmanager
def hello() -> Iterator[Server]:
    """Run the least that the web framework can do: one route that says hello."""
    with _running(
        lambda port: [sys.executable, "-c", _HELLO, str(port)], dict(os.environ)
    ) as server:
        yield server


@contextmanager
def _running(
    command: Callable[[int], list[str]], environment: dict[str, str]
) -> Iterator[Server]:
    port = _free_port()
    began = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 - our own programs
        command(port),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await_answer(process, port)
        seconds = time.perf_counter() - began
        used = psutil.Process(process.pid).cpu_times()
        yield Server(process.pid, port, seconds, used.user + used.system)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_answer(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(b"GET /livez HTTP/1.1\r\nHost: load\r\n\r\n")
                if connection.recv(64).startswith(b"HTTP/1.1 200"):
                    return
        except OSError:
            pass
        time.sleep(0.005)
    raise RuntimeError("the server does not answer")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
