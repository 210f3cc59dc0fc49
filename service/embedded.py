"""One machine: broker, API, worker and the loops that keep them going, one command."""

import asyncio
import fcntl
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import Protocol

import uvicorn

from service.contract.errors import Unavailable
from service.leash import Leashed
from service.scheduler import loops
from service.settings import Settings
from service.store.database import Database

LOG = logging.getLogger(__name__)
GRACE_SECONDS = 3  # for requests under way, once told to stop
ANSWER_SECONDS = 0.5  # for the answers of those that are given up then
LAST_SECONDS = 5  # whatever has not ended by then is broken off
TICK_SECONDS = 1.0  # the date of an answer has whole seconds
BACKLOG = 2048
OPEN_FILES = 65_536
HIGHEST_PORT = 65535
MOST_WORKERS = 4  # unless told otherwise; each holds torch and the data in memory
WORKER_GIVES_UP = frozenset({2, 3})  # see worker/supervise.py
FAILED = 1


class CannotServeError(Exception):
    """Why the service cannot start, in one line for its operator."""


def serve(
    settings: Settings,
    host: str,
    port: int,
    *,
    with_worker: bool,
    with_scheduler: bool = True,
) -> int:
    """Run the service on this machine until it is told to stop.

    Args:
        settings: where its data is, and the rest.
        host: the address to listen on.
        port: the port; 0 takes a free one.
        with_worker: whether to run workers as well.
        with_scheduler: whether to run the loops that keep audits going as well; else
            a `model-audit scheduler` must run somewhere.

    Returns:
        The exit code; what went wrong was written to standard error in one line.
    """
    # Here, since they would cost --help half a second.
    from service.api.http_protocol import HttpProtocol  # noqa: PLC0415
    from service.app import create_app  # noqa: PLC0415

    _allow_many_connections()
    try:
        with (
            _listening(host, port) as listener,
            one_machine(
                settings, with_worker=with_worker, with_scheduler=with_scheduler
            ) as running,
        ):
            app = create_app(running)
            config = uvicorn.Config(
                app,
                log_level=settings.log_level,
                access_log=False,
                server_header=False,
                loop="uvloop",
                http=HttpProtocol,
                ws="none",
                timeout_graceful_shutdown=LAST_SECONDS,
            )
            address = _address(host, listener.getsockname()[1])
            with _signals_end_quietly():
                _Server(config, address=address, stop=app.state.stop).run(
                    sockets=[listener]
                )
    except (CannotServeError, Unavailable) as error:
        sys.stderr.write(f"model-audit: {error}\n")
        return FAILED
    return 0


@contextmanager
def one_machine(
    settings: Settings, *, with_worker: bool, with_scheduler: bool = True
) -> Iterator[Settings]:
    """Run all that the API needs beside it.

    Yields:
        The settings with the broker in use.

    Raises:
        CannotServeError: something it needs cannot be had.
    """
    with (
        _data_dir(settings.data_dir),
        _broker(settings) as running,
        _database(running) as database,
        loops(running, database) if with_scheduler else nullcontext(),
        _workers(running, count=worker_count(running) if with_worker else 0),
    ):
        yield running


class _Stop(Protocol):
    def begin(self) -> None:
        """Answer those who wait."""

    def cut(self) -> None:
        """Give up what has no answer yet."""


class _Server(uvicorn.Server):
    """Says where it is once it accepts requests, and sleeps while there are none."""

    def __init__(self, config: uvicorn.Config, *, address: str, stop: _Stop) -> None:
        super().__init__(config)
        self._address = address
        self._stop = stop
        self._told = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then print the address."""
        await super().startup(sockets)
        # What is imported stays: to look through it again and again would hold
        # requests up, and during the start takes a fifth of the time.
        gc.freeze()
        gc.enable()
        if self.started:
            sys.stdout.write(f"model-audit is ready: {self._address}\n")
            sys.stdout.flush()

    async def main_loop(self) -> None:
        """Renew the date of the answers each second, until told to stop.

        The library looks ten times a second whether it was told, which is a fifth
        of what an idle service does.
        """
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), TICK_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Have what is under way answered, then shut down."""
        self._stop.begin()
        cutting = asyncio.create_task(self._cut())
        await super().shutdown(sockets)
        cutting.cancel()

    async def _cut(self) -> None:
        """End what has not ended by itself.

        The library would cancel it, and log each request as a defect.
        """
        await asyncio.sleep(GRACE_SECONDS)
        self._stop.cut()
        await asyncio.sleep(ANSWER_SECONDS)
        for connection in tuple(self.server_state.connections):
            connection.transport.abort()  # a download, or a reader that is too slow

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note the signal, and wake the loop for it."""
        super().handle_exit(sig, frame)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._told.set)


def _allow_many_connections() -> None:
    """Let thousands wait: many systems allow 1024 files unless asked for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextmanager
def _signals_end_quietly() -> Iterator[None]:
    """Let the server's own handlers stop it, and what it stopped for end there.

    Once it has shut down the server raises the signal again, which would end this
    process before it has stopped its children.
    """
    before = {
        number: signal.signal(number, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    if not 0 <= port <= HIGHEST_PORT:  # the resolver would take it modulo 2**16
        reason = f"there is no port {port}"
        raise CannotServeError(reason)
    try:
        kind = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(kind[0], kind[1])
    except OSError as error:
        reason = f"cannot listen on {host}: {error.strerror or error}"
        raise CannotServeError(reason) from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(kind[4])
            listener.listen(BACKLOG)
        except OSError as error:
            reason = (
                f"cannot listen on {host} port {port}: "
                f"{(error.strerror or str(error)).lower()}; choose another --port"
            )
            raise CannotServeError(reason) from error
        yield listener


@contextmanager
def _data_dir(folder: Path) -> Iterator[None]:
    """Claim the data folder for this process, for as long as it lives."""
    try:
        # It holds secrets and other people's data.
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (folder / "serve.lock").open("a+")
    except OSError as error:
        reason = f"cannot use the data folder {folder}: {error.strerror or error}"
        raise CannotServeError(reason) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            reason = f"another model-audit already serves the data folder {folder}"
            raise CannotServeError(reason) from error
        yield


@contextmanager
def _broker(settings: Settings) -> Iterator[Settings]:
    """Start the private broker, unless another is named."""
    if settings.redis_url is not None:
        yield settings
        return
    try:
        from service.broker import (  # noqa: PLC0415 - an optional library
            BrokerDidNotStartError,
            PrivateBroker,
        )
    except ImportError as error:
        reason = (
            "no broker: set MODEL_AUDIT_REDIS_URL, or pip install "
            "'model-audit[embedded]'"
        )
        raise CannotServeError(reason) from error
    broker = PrivateBroker(settings.data_dir)
    try:
        broker.start()
    except (BrokerDidNotStartError, OSError) as error:
        raise CannotServeError(str(error)) from error
    try:
        yield settings.model_copy(update={"redis_url": broker.url})
    finally:
        broker.stop()


@contextmanager
def _database(settings: Settings) -> Iterator[Database]:
    database = Database(settings.database_address)
    try:
        database.migrate()
    except Unavailable as error:
        cause = str(error.__cause__).strip().partition("\n")[0]
        reason = f"cannot open the database: {cause}"
        raise CannotServeError(reason) from error
    try:
        yield database
    finally:
        database.close()


def worker_count(settings: Settings) -> int:
    """How many workers this machine gets: they share audits, an experiment each."""
    if settings.workers is not None:
        return settings.workers
    has_gpu = any(Path("/dev").glob("nvidia[0-9]*"))
    if settings.device.startswith("cuda") or (settings.device == "auto" and has_gpu):
        return 1
    return max(1, min(MOST_WORKERS, len(os.sched_getaffinity(0))))


@contextmanager
def _workers(settings: Settings, *, count: int) -> Iterator[None]:
    # By name, and in other processes: this one never imports torch.
    workers = [
        Leashed(
            f"worker {number}",
            [sys.executable, "-m", "worker"],
            environment=_environment(settings, shared_by=count),
            final_codes=WORKER_GIVES_UP,
        )
        for number in range(1, count + 1)
    ]
    with ExitStack() as running:
        for worker in workers:
            worker.start()
            running.callback(worker.stop)
        try:
            yield
        finally:
            for worker in workers:
                worker.ask_to_stop()


def _environment(settings: Settings, *, shared_by: int) -> dict[str, str]:
    """The environment of one of some workers that serve the same data."""
    return {
        **os.environ,
        "MODEL_AUDIT_DATA_DIR": str(settings.data_dir.resolve()),
        "MODEL_AUDIT_DATABASE_URL": settings.database_address,
        "MODEL_AUDIT_BLOB_URL": settings.blob_address,
        "MODEL_AUDIT_REDIS_URL": settings.redis_url or "",
        "MODEL_AUDIT_DEVICE": settings.device,
        "MODEL_AUDIT_LOG_LEVEL": settings.log_level,
        "MODEL_AUDIT_SHARED_BY": str(shared_by),
    }


def _address(host: str, port: int) -> str:
    shown = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
