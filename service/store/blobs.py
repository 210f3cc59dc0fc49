"""Files, kept under the SHA-256 of their bytes: in a folder or in an S3 bucket.

Both kinds write to a local file first. So a file is only ever stored whole, under a
digest that was computed while it came in, and can be looked at before it is kept.

Whoever keeps or deletes a file holds `database.lock_bytes` for its digest, and writes
the row that names it, or sees that none does, in the same transaction: else one caller
could delete what another has just been promised.

A file on its way in is locked by who writes it. The kernel gives the lock back when the
process dies, so what is not locked is abandoned.
"""

import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from service.contract.errors import Unavailable
from service.store import writeback

CHUNK_BYTES = 1024 * 1024
INCOMING = "incoming"
# From here on it pays to hash in another thread; neither needs the interpreter's lock.
_LARGE_BYTES = 256 * 1024
YOUNG_SECONDS = 60  # may not be locked yet
ABANDONED_SECONDS = 24 * 3600  # where the disk knows no locks
_PROBE = bytes(4096)
# Of the disk: without it the database beside the files could not even note a deletion.
_RESERVE_BYTES = 64 * 1024 * 1024
_RESERVE_SHARE = 0.1  # at most, of a small disk


class BlobMissingError(Exception):
    """There are no bytes under this digest."""

    def __init__(self, sha256: str) -> None:
        super().__init__(f"no blob {sha256}")


class BlobDamagedError(BlobMissingError):
    """Other bytes lie under this digest than were stored."""


class BlobStoreDown(Unavailable):
    """The folder or the bucket cannot be read or written."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The blob store does not work: {reason}")


class BlobWriter:
    """One file on its way in: `write` until all is there, `finish`, then `keep`.

    As a context manager it aborts what was not kept.

    Args:
        incoming: folder for files on their way in.
        keep: puts a finished file in its place; quick.
        stage: does before what of that takes long.

    Attributes:
        size_bytes: what was written so far.
        may_be_stored: whether the store may hold the file, kept or not.
    """

    def __init__(
        self,
        incoming: Path,
        keep: Callable[[Path, str], None],
        stage: Callable[[Path, str], None] | None = None,
    ) -> None:
        self._path = incoming / f"{secrets.token_hex(16)}.part"
        self._keep = keep
        self._stage = stage
        self._hash = hashlib.sha256()
        self._hasher: ThreadPoolExecutor | None = None
        self._begun_bytes = 0
        self._open = True
        self._kept = False
        self.size_bytes = 0
        self.may_be_stored = False
        try:
            incoming.mkdir(parents=True, exist_ok=True)
            # Unbuffered: chunks are large, and a buffer would only copy them.
            self._file = self._path.open("xb", buffering=0)
        except OSError as error:
            raise BlobStoreDown(error.strerror or "cannot write") from error
        with suppress(OSError):  # some disks of the network know no locks
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def write(self, chunk: bytes | memoryview) -> None:
        """Add bytes.

        Raises:
            BlobStoreDown: the disk is full or broken.
        """
        self.size_bytes += len(chunk)
        rest = memoryview(chunk)
        with self._hashing(chunk):
            try:
                while rest:
                    rest = rest[self._file.write(rest) :]
                left = _beyond_reserve(os.fstatvfs(self._file.fileno()))
            except OSError as error:
                raise BlobStoreDown(error.strerror or "cannot write") from error
        if left < 0:
            raise BlobStoreDown("the disk is full but for what the database needs")
        fresh = self.size_bytes - self._begun_bytes
        if fresh >= writeback.EVERY_BYTES:
            writeback.begin(self._file.fileno(), self._begun_bytes, fresh)
            self._begun_bytes = self.size_bytes

    def reader(self) -> BinaryIO:
        """Open what was written so far, to look at it before it is kept."""
        return self._path.open("rb")

    def finish(self) -> tuple[str, int]:
        """Make ready to `keep`; returns SHA-256 (hexadecimal) and size in bytes.

        Raises:
            BlobStoreDown: it could not be stored; nothing is kept.
        """
        digest = self._hash.hexdigest()
        try:
            os.fsync(self._file.fileno())
            if self._stage is not None:
                self.may_be_stored = True
                self._stage(self._path, digest)
        except OSError as error:
            self.abort()
            raise BlobStoreDown(error.strerror or "cannot write") from error
        except BlobStoreDown:
            self.abort()
            raise
        return digest, self.size_bytes

    def keep(self) -> None:
        """Keep the finished file under its digest; the caller holds `lock_bytes`.

        Harmless when repeated, as by a transaction that is tried again.

        Raises:
            BlobStoreDown: it could not be stored, or was given up meanwhile.
        """
        if self._kept:
            return
        if not self._open:
            raise BlobStoreDown("the file was given up")
        self.may_be_stored = True
        try:
            self._keep(self._path, self._hash.hexdigest())
            self._kept = True
        except OSError as error:
            raise BlobStoreDown(error.strerror or "cannot write") from error
        finally:
            self.abort()

    def abort(self) -> None:
        """Forget the file; harmless after `keep`."""
        if self._open:
            self._open = False
            if self._hasher is not None:
                self._hasher.shutdown()
            self._file.close()
            self._path.unlink(missing_ok=True)

    @contextmanager
    def _hashing(self, chunk: bytes | memoryview) -> Iterator[None]:
        """Hash a chunk while the context runs."""
        if len(chunk) < _LARGE_BYTES:
            self._hash.update(chunk)
            yield
            return
        if self._hasher is None:
            self._hasher = ThreadPoolExecutor(1, thread_name_prefix="hash")
        done = self._hasher.submit(self._hash.update, chunk)
        try:
            yield
        finally:
            done.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()


def _beyond_reserve(disk: os.statvfs_result) -> float:
    """Count the bytes that files may still take of a disk."""
    whole = disk.f_blocks * disk.f_frsize
    reserve = min(_RESERVE_BYTES, _RESERVE_SHARE * whole)
    return disk.f_bavail * disk.f_frsize - reserve


class BlobStore(Protocol):
    """Where files are kept."""

    def writer(self) -> BlobWriter:
        """Begin a new file."""

    def open(self, sha256: str) -> BinaryIO:
        """Open a file for reading; it has a real descriptor (`fileno()`).

        Raises:
            BlobMissingError: there is no such file, or it is damaged.
            BlobStoreDown: the store does not work.
        """

    def delete(self, sha256: str) -> None:
        """Remove the file; the caller holds `lock_bytes`. None there is no error."""

    def ping(self) -> None:
        """Raise BlobStoreDown unless files can be kept; it writes."""


class FolderBlobs:
    """Blobs as `root/ab/abcdef…` in a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / INCOMING
        self._verified: dict[str, tuple[int, ...]] = {}
        remove_abandoned(self._incoming)

    def writer(self) -> BlobWriter:
        """Begin a new file."""
        return BlobWriter(self._incoming, self._keep)

    def open(self, sha256: str) -> BinaryIO:
        """Open a file for reading; its bytes are verified once a process."""
        file = self._open(sha256)
        found = os.fstat(file.fileno())
        version = (found.st_ino, found.st_size, found.st_mtime_ns)
        if self._verified.get(sha256) != version:
            try:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                file.close()
                raise BlobStoreDown(error.strerror or "cannot read") from error
            if digest != sha256:
                file.close()
                raise BlobDamagedError(sha256)
            file.seek(0)
            self._verified[sha256] = version
        return file

    def _open(self, sha256: str) -> BufferedReader:
        try:
            return self._path(sha256).open("rb")
        except FileNotFoundError as error:
            raise BlobMissingError(sha256) from error
        except OSError as error:
            raise BlobStoreDown(error.strerror or "cannot read") from error

    def delete(self, sha256: str) -> None:
        """Remove the file."""
        self._path(sha256).unlink(missing_ok=True)

    def ping(self) -> None:
        """Raise BlobStoreDown unless the folder can be written."""
        probe_folder(self._incoming)

    def _path(self, sha256: str) -> Path:
        return self._root / sha256[:2] / sha256

    def _keep(self, source: Path, sha256: str) -> None:
        target = self._path(sha256)
        target.parent.mkdir(exist_ok=True)
        source.replace(target)
        # The rename itself must survive a power failure.
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def open_blobs(address: str, *, cache: Path) -> BlobStore:
    """Open the store at an address.

    Args:
        address: `s3://bucket/prefix`, `file:///folder` or a folder.
        cache: folder for local copies, used for S3 only.
    """
    if address.startswith("s3://"):
        # Only then: the S3 client costs 20 ms and some memory to import.
        from service.store.bucket import BucketBlobs  # noqa: PLC0415

        return BucketBlobs(address, cache)
    return FolderBlobs(_folder(address))


def chunks(file: BinaryIO, part: range) -> Iterator[bytes]:
    """Read some bytes of an open file, then close it."""
    with file:
        file.seek(part.start)
        left = len(part)
        while left and (chunk := file.read(min(left, CHUNK_BYTES))):
            left -= len(chunk)
            yield chunk


def probe_folder(folder: Path) -> None:
    """Write a small file to the disk of a folder and take it back.

    Raises:
        BlobStoreDown: that fails.
    """
    with BlobWriter(folder, lambda _path, _sha256: None) as writer:
        writer.write(_PROBE)
        writer.finish()


def incoming_folder(address: str, *, cache: Path) -> Path:
    """Say where the files of a store come in; arguments as of `open_blobs`."""
    root = cache if address.startswith("s3://") else _folder(address)
    return root / INCOMING


def remove_abandoned(incoming: Path) -> None:
    """Remove what was on its way in when a process died."""
    now = time.time()
    for path in incoming.glob("*.part"):
        # Somebody writes it, another process was faster, or it cannot be removed.
        with suppress(OSError), path.open("rb") as file:
            age = now - os.fstat(file.fileno()).st_mtime
            if age < YOUNG_SECONDS:
                continue
            if age < ABANDONED_SECONDS:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _folder(address: str) -> Path:
    return Path(address.removeprefix("file://"))
