"""How well uploads are confined on this machine, found by really trying to escape."""

import contextlib
import functools
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from worker.escape import ALLOWED, FILE_ATTEMPTS, Targets, attempts
from worker.frames import BadFrame, FrameReader
from worker.inmate import Inmate
from worker.template import Template

Level = Literal["strong", "reduced", "none"]
_SECONDS = 30.0
_ENDING_SECONDS = 1.0  # for a process that has closed its channel
_MORE_TRIES = 2
NO_ANSWER = "no answer"
CUT_SHORT = "no answer: the child was killed, or stopped for long"


def level_of(results: dict[str, str]) -> Level:
    """Judge: every attempt must have been made.

    `strong` where nothing worked; `reduced` where only files can be reached that
    Landlock would have kept shut; `none` otherwise.
    """
    open_ways = {name for name, result in results.items() if not _is_denied(result)}
    if not open_ways:
        return "strong"
    return "reduced" if open_ways <= FILE_ATTEMPTS else "none"


def _is_denied(result: str) -> bool:
    return result.startswith("denied")


@contextlib.contextmanager
def _targets(folder: Path) -> Iterator[Targets]:
    """Set up what an escape would reach."""
    secret = folder / "secret"
    secret.write_text("secret")
    name = f"model-audit-{secrets.token_hex(8)}"
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as unix,
        socket.socket(socket.AF_UNIX) as abstract,
        secret.open("rb") as received,
    ):
        udp.bind(("127.0.0.1", 0))
        unix.bind(str(folder / "socket"))
        unix.listen()
        abstract.bind("\0" + name)
        abstract.listen()
        yield Targets(
            secret=str(secret),
            folder=str(folder),
            tcp_port=tcp.getsockname()[1],
            udp_port=udp.getsockname()[1],
            unix_path=str(folder / "socket"),
            abstract_name=name,
            parent_pid=os.getpid(),
            descriptor=received.fileno(),
        )


def _listen(inmate: Inmate, results: dict[str, str]) -> None:
    """Collect results until the child has nothing more to say."""
    reader = FrameReader()
    deadline = time.monotonic() + _SECONDS
    inmate.channel.settimeout(1.0)
    while time.monotonic() < deadline:
        try:
            data = inmate.channel.recv(1 << 16)
        except TimeoutError:
            continue
        except OSError:
            return
        if not data:
            return
        reader.feed(data)
        while (message := reader.next()) is not None:
            value = message["value"]
            if isinstance(value, dict):
                results.update({name: str(result) for name, result in value.items()})


def _ended_by_itself(inmate: Inmate) -> bool:
    """Whether it is gone, and nobody killed it."""
    try:
        return inmate.process.wait(_ENDING_SECONDS) != -signal.SIGKILL
    except subprocess.TimeoutExpired:
        return False


@functools.cache
def probe_level() -> tuple[Level, dict[str, str]]:
    """Try to escape from a throw-away child, once a process.

    A child that was killed, or stopped for long, has shown nothing: another one tries.

    Returns:
        The level, and each attempt with `allowed`, `denied: …` or `no answer …`.
    """
    results = try_escapes()
    for _ in range(_MORE_TRIES):
        if not was_cut_short(results):
            break
        results = try_escapes()
    return level_of(results), results


def try_escapes(template: Template | None = None) -> dict[str, str]:
    """Try to escape from a child that is started, or forked from a template."""
    with tempfile.TemporaryDirectory(prefix="model-audit-") as name:
        folder = Path(name)
        outside = folder / "outside"
        outside.mkdir()
        with _targets(outside) as targets:
            results = dict.fromkeys(attempts(targets), NO_ANSWER)
            inmate = Inmate(
                device="cpu",
                scratch=folder / "scratch",
                memory_bytes=1 << 30,
                file_bytes=1 << 20,
                threads=1,
                session="",
                targets=targets,
                descriptors=(targets["descriptor"],),
                template=template,
            )
            try:
                with contextlib.suppress(BadFrame):
                    _listen(inmate, results)
                if NO_ANSWER in results.values() and not _ended_by_itself(inmate):
                    results = {
                        name: CUT_SHORT if result == NO_ANSWER else result
                        for name, result in results.items()
                    }
            finally:
                inmate.close()
    return results


def was_cut_short(results: dict[str, str]) -> bool:
    """Whether nothing is known to be open, and the child could not show the rest."""
    return CUT_SHORT in results.values() and not open_ways(results)


def open_ways(results: dict[str, str]) -> list[str]:
    """Name the attempts that worked, for people."""
    return [name for name, result in results.items() if result == ALLOWED]
