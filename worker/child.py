"""The program inside: confines itself first, then serves one worker until it hangs up.

Started by `inmate.py` as `python -I -B -c START ROOT CONFIG`, or forked from a template
that has imported everything. There is one thread, and nothing that was uploaded, until
`confine` is done.
"""

import importlib
import json
import os
import socket
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypedDict

import service
import worker
from worker.confine import confine, limit_memory
from worker.escape import Targets, try_all

MAX_DESCRIPTORS = 8
MAX_TRACE_CHARACTERS = 20_000
PROGRESS_SECONDS = 0.1  # shortest time between two notes of progress

Operation = Callable[..., object]


class Config(TypedDict):
    """What the parent hands over.

    Attributes:
        channel: descriptor of our end of the socket pair.
        parent: process id of the worker.
        device: `cpu` or `cuda:0`.
        scratch: our own folder.
        memory_bytes: memory beside the libraries.
        file_bytes: the largest file.
        session: `module:Class`; empty to try to escape instead.
        code: further folders to import from.
        targets: where to escape to.
    """

    channel: int
    parent: int
    device: str
    scratch: str
    memory_bytes: int
    file_bytes: int
    session: str
    code: list[str]
    targets: Targets | None


class Channel:
    """Our end: frames in with their descriptors, frames out."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._last_progress = 0.0

    def receive(self) -> tuple[dict[str, object], list[int]]:
        """Wait for the next message.

        Raises:
            SystemExit: the worker hung up.
        """
        head, descriptors = self._read(4, with_descriptors=True)
        (length,) = struct.unpack(">I", head)
        body, _ = self._read(length)
        return json.loads(body), descriptors

    def _read(
        self, count: int, *, with_descriptors: bool = False
    ) -> tuple[bytes, list[int]]:
        data = bytearray()
        descriptors: list[int] = []
        room = socket.CMSG_SPACE(MAX_DESCRIPTORS * 4) if with_descriptors else 0
        while len(data) < count:
            part, extra, _, _ = self._socket.recvmsg(
                min(count - len(data), 1 << 20), room
            )
            if not part:
                raise SystemExit(0)
            data += part
            for level, kind, content in extra:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    whole = len(content) // 4
                    descriptors += struct.unpack(f"{whole}i", content[: 4 * whole])
        return bytes(data), descriptors

    def send(self, message: dict[str, object]) -> None:
        """Write a message."""
        # Imported late: it brings pydantic, which is not needed to confine.
        from worker.frames import encode  # noqa: PLC0415

        # write(), since the filter leaves no call that could name an address.
        view = memoryview(encode(message))
        while view:
            view = view[os.write(self._socket.fileno(), view) :]

    def progress(self, fraction: float, detail: str) -> None:
        """Tell how far the operation is, unless it was told just now."""
        now = time.monotonic()
        if now - self._last_progress >= PROGRESS_SECONDS:
            self._last_progress = now
            self.send({"kind": "progress", "fraction": fraction, "detail": detail})


def _run(session: object, message: dict[str, object], files: list[int]) -> object:
    """Do one operation; its files are closed when it returns."""
    names = message["files"]
    if not isinstance(names, list) or len(names) != len(files):
        reason = f"{len(files)} descriptors arrived for {names}"
        raise ValueError(reason)
    operation: Operation = getattr(session, str(message["op"]))
    arguments = message["arguments"]
    opened: dict[str, BinaryIO] = {}
    try:
        for name, descriptor in zip(names, files, strict=True):
            opened[name] = os.fdopen(descriptor, "rb")
            opened[name].seek(0)
        return operation(**arguments, **opened)  # type: ignore[arg-type]
    finally:
        for file in opened.values():
            file.close()


def _answer(
    session: object, message: dict[str, object], files: list[int], config: Config
) -> dict[str, object]:
    from service.contract.errors import Crashed, Problem  # noqa: PLC0415
    from worker.engine.memory import is_out_of_memory  # noqa: PLC0415

    try:
        return {"kind": "result", "value": _run(session, message, files)}
    except Problem as problem:
        return {"kind": "problem", "problem": problem.document().model_dump()}
    # The edge of the process: an exception that stayed inside would look like silence.
    except Exception as error:  # noqa: BLE001
        if is_out_of_memory(error):
            gib = config["memory_bytes"] / (1 << 30)
            detail = f"It needed more than the {gib:.1f} GiB of memory that it may use."
            document = Crashed(detail).document().model_dump()
            return {"kind": "problem", "problem": document}
        trace = traceback.format_exc()[-MAX_TRACE_CHARACTERS:]
        return {"kind": "crash", "trace": trace}


def _serve(channel: Channel, config: Config) -> None:
    module, _, name = config["session"].partition(":")
    kind: Callable[..., object] = getattr(importlib.import_module(module), name)
    session = kind(
        device=config["device"],
        scratch=Path(config["scratch"]),
        progress=channel.progress,
    )
    if config["device"] == "cpu":
        limit_memory(config["memory_bytes"])
    channel.send({"kind": "ready"})
    while True:
        message, files = channel.receive()
        answer = _answer(session, message, files, config)
        try:
            channel.send(answer)
        except (ValueError, TypeError):  # a value that JSON has no word for
            trace = traceback.format_exc()[-MAX_TRACE_CHARACTERS:]
            channel.send({"kind": "crash", "trace": f"{message['op']}: {trace}"})


def _source() -> tuple[Path, ...]:
    return tuple(
        Path(path) for package in (worker, service) for path in package.__path__
    )


def main() -> None:
    """Be the child that the command line describes."""
    serve(json.loads(sys.argv[2]))


def serve(config: Config) -> None:
    """Confine this process, then serve or try to escape."""
    channel = Channel(config["channel"])
    confine(
        parent_pid=config["parent"],
        scratch=Path(config["scratch"]),
        source=(*_source(), *(Path(folder) for folder in config["code"])),
        file_bytes=config["file_bytes"],
        gpu=config["device"] != "cpu",
    )
    # Looking for a folder for temporary files would remove one, which is denied.
    tempfile.tempdir = config["scratch"]
    targets = config["targets"]
    if targets is not None:
        try_all(
            targets,
            lambda results: channel.send({"kind": "result", "value": dict(results)}),
        )
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            _serve(channel, config)
        except Exception:  # noqa: BLE001 - the edge of the process, as in `_answer`
            trace = traceback.format_exc()[-MAX_TRACE_CHARACTERS:]
            channel.send({"kind": "crash", "trace": trace})
