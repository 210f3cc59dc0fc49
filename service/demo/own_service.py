"""A service for the demonstration: the one that runs already, or one just started."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from service.client import ClientError

START_SECONDS = 60.0
STOP_SECONDS = 20.0


@dataclass(frozen=True)
class OwnService:
    """Where it is, and whether it was started here."""

    url: str
    is_started_here: bool


class DidNotStart(ClientError):  # noqa: N818 - reads as it is raised
    """The service ended, or took too long, before it answered."""

    def __init__(self, *, log: Path) -> None:
        tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
        super().__init__(
            f"The service did not start; its log, {log}, ends with:\n{tail}"
        )


@contextlib.contextmanager
def own_service(data_dir: Path, *, url: str) -> Iterator[OwnService]:
    """Use the service at `url`, else start one on a free port and stop it afterwards.

    Raises:
        DidNotStart: it did not answer in time.
    """
    if _answers(url):
        yield OwnService(url=url, is_started_here=False)
        return
    port = _free_port()
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = data_dir / "demo-service.log"
    command = [sys.executable, "-m", "service.cli", "serve"]
    command += ["--port", str(port), "--data-dir", str(data_dir)]
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_until_it_answers(process, address, log)
        yield OwnService(url=address, is_started_here=True)
    finally:
        _stop(process)


def _wait_until_it_answers(
    process: "subprocess.Popen[bytes]", url: str, log: Path
) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _answers(url):
        if process.poll() is not None or time.monotonic() > deadline:
            raise DidNotStart(log=log)
        time.sleep(0.1)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask it to stop, as Ctrl-C does; if it does not, end its whole session."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/livez", timeout=2.0).is_success
    except httpx.HTTPError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
