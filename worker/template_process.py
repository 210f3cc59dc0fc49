"""The program of a template: imports what children need, then forks them one by one.

Started by `worker.inmate` as `python -I -B -c START ROOT CONFIG`.
"""

import contextlib
import fcntl
import gc
import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import TypedDict

from worker.child import Channel, Config, serve
from worker.confine import tie_to

# What a child would import at its first upload.
_LATE = ("worker.frames", "service.contract.errors", "worker.engine.memory")


class Birth(TypedDict):
    """What a template is told of a child.

    Attributes:
        config: the child's own, as JSON.
        numbers: under which the child knows the descriptors that come along.
        environment: added to the template's.
        folder: where it starts.
    """

    config: str
    numbers: list[int]
    environment: dict[str, str]
    folder: str


class TemplateConfig(TypedDict):
    """What the worker hands over.

    Attributes:
        control: descriptor of our end of the socket pair.
        parent: process id of the worker.
        session: `module:Class` that children serve.
    """

    control: int
    parent: int
    session: str


def main() -> None:
    """Import, then fork at each wish; ends with the worker."""
    config: TemplateConfig = json.loads(sys.argv[2])
    tie_to(config["parent"])
    channel = Channel(config["control"])
    for module in (config["session"].partition(":")[0], *_LATE):
        importlib.import_module(module)
    if len([*Path("/proc/self/task").iterdir()]) > 1:
        reason = "a module started a thread, which no child would have"
        raise SystemExit(reason)
    gc.collect()
    gc.freeze()  # so that children do not write to all that they share
    channel.send({"kind": "ready"})
    while True:
        message, descriptors = channel.receive()
        birth: Birth = message  # type: ignore[assignment]
        pid = _forked(birth, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        channel.send({"kind": "born", "pid": pid})


def _forked(birth: Birth, descriptors: list[int]) -> int:
    """Fork twice, so that the worker adopts the child; returns its process id."""
    reading, writing = os.pipe()
    between = os.fork()
    if between == 0:
        maker = os.getpid()
        pid = os.fork()
        if pid == 0:
            _live(birth, descriptors, maker=maker)
        os.write(writing, str(pid).encode())
        os._exit(0)
    os.close(writing)
    try:
        pid = int(os.read(reading, 20))
        os.waitpid(between, 0)
    finally:
        os.close(reading)
    return pid


def _live(birth: Birth, descriptors: list[int], *, maker: int) -> None:
    """Be a child of `maker`, a passing process; never returns."""
    status = 1
    try:
        config: Config = json.loads(birth["config"])
        _become(birth, descriptors)
        await_adoption(config["parent"], maker=maker)
        serve(config)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - the edge of the process
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _become(birth: Birth, descriptors: list[int]) -> None:
    """Take on what a started process would have, and let go of what it would not."""
    os.setsid()
    os.umask(0o077)
    os.environ.update(birth["environment"])
    os.chdir(birth["folder"])
    # The first is for what is printed, the others are known by their numbers.
    numbers = birth["numbers"]
    aside = [
        fcntl.fcntl(descriptor, fcntl.F_DUPFD, max(2, *numbers) + 1)
        for descriptor in descriptors
    ]
    for number in (1, 2):
        os.dup2(aside[0], number)
    for descriptor, number in zip(aside[1:], numbers, strict=True):
        os.dup2(descriptor, number)
    kept = {0, 1, 2, *numbers}
    held = {int(entry.name) for entry in Path("/proc/self/fd").iterdir()}
    for descriptor in held - kept:
        with contextlib.suppress(OSError):  # the listing's own is closed already
            os.close(descriptor)


def await_adoption(parent: int, *, maker: int) -> None:
    """Wait until the process that made this one has ended and `parent` has it.

    Raises:
        SystemExit: somebody else has it, so the parent has ended.
    """
    while (owner := os.getppid()) == maker:
        time.sleep(0.001)
    if owner != parent:
        raise SystemExit(0)
