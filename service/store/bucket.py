"""Blobs in an S3-compatible bucket, with local copies of what is being read."""

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from service.store.blobs import (
    CHUNK_BYTES,
    INCOMING,
    BlobMissingError,
    BlobStoreDown,
    BlobWriter,
    probe_folder,
    remove_abandoned,
)

CACHE_BYTES = 32 * 1024**3
PART_BYTES = 16 * 1024 * 1024  # of a multipart upload; S3 allows 10,000 of them
PARTS_AT_ONCE = 4
_OTHER_BYTES = "the bucket returned other bytes than were stored"


class BucketBlobs:
    """Blobs as `prefix/ab/abcdef…` in a bucket.

    Credentials, region and endpoint come from the usual variables
    (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`).
    """

    def __init__(
        self, address: str, cache: Path, *, cache_bytes: int = CACHE_BYTES
    ) -> None:
        plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
        self._store = S3Store.from_url(
            address,
            client_options={
                "connect_timeout": "5s",
                "timeout": "120s",
                "allow_http": plain,
            },
            retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=20)},
        )
        self._cache = cache
        self._cache_bytes = cache_bytes
        self._incoming = cache / INCOMING
        self._lock = threading.Lock()
        remove_abandoned(self._incoming)

    def writer(self) -> BlobWriter:
        """Begin a new file."""
        return BlobWriter(self._incoming, self._keep, self._put)

    def open(self, sha256: str) -> BinaryIO:
        """Open the local copy of a file, fetched now if need be."""
        path = self._cache / sha256
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return self._fetch(sha256)
        path.touch()  # the cache drops what was not used for the longest time
        return file

    def delete(self, sha256: str) -> None:
        """Remove the file and its local copy."""
        (self._cache / sha256).unlink(missing_ok=True)
        try:
            obstore.delete(self._store, _key(sha256))
        except FileNotFoundError:
            return
        except BaseError as error:
            raise BlobStoreDown(_first_line(error)) from error

    def ping(self) -> None:
        """Raise BlobStoreDown unless files can come in and the bucket answers."""
        probe_folder(self._incoming)
        try:
            next(iter(obstore.list(self._store, chunk_size=1)), None)
        except (BaseError, FileNotFoundError) as error:
            raise BlobStoreDown(_first_line(error)) from error

    def _put(self, source: Path, sha256: str) -> None:
        if not self._holds(sha256):
            try:
                with source.open("rb") as file:
                    obstore.put(
                        self._store,
                        _key(sha256),
                        file,
                        chunk_size=PART_BYTES,
                        max_concurrency=PARTS_AT_ONCE,
                    )
            except BaseError as error:
                raise BlobStoreDown(_first_line(error)) from error

    def _keep(self, source: Path, sha256: str) -> None:
        self._put(source, sha256)  # again, where another caller deleted it meanwhile
        # It will be opened soon, so the local file is the first cached copy.
        source.replace(self._cache / sha256)
        self._evict(keep=sha256)

    def _fetch(self, sha256: str) -> BinaryIO:
        self._cache.mkdir(parents=True, exist_ok=True)
        with BlobWriter(self._incoming, self._adopt) as writer:
            for chunk in self._stream(sha256):
                writer.write(chunk)
            # Opened before it can be evicted.
            file = writer.reader()
            found, _ = writer.finish()
            writer.keep()
        if found != sha256:
            file.close()
            (self._cache / found).unlink(missing_ok=True)
            raise BlobStoreDown(_OTHER_BYTES)
        self._evict(keep=sha256)
        return file

    def _holds(self, sha256: str) -> bool:
        """Say whether the file is in the bucket."""
        try:
            obstore.head(self._store, _key(sha256))
        except FileNotFoundError:
            return False
        except BaseError as error:
            raise BlobStoreDown(_first_line(error)) from error
        return True

    def _stream(self, sha256: str) -> Iterator[bytes]:
        """Read a file in chunks, straight from the bucket."""
        try:
            for chunk in obstore.get(self._store, _key(sha256)).stream(
                min_chunk_size=CHUNK_BYTES
            ):
                yield bytes(chunk)
        except FileNotFoundError as error:
            raise BlobMissingError(sha256) from error
        except BaseError as error:
            raise BlobStoreDown(_first_line(error)) from error

    def _adopt(self, source: Path, sha256: str) -> None:
        source.replace(self._cache / sha256)

    def _evict(self, *, keep: str) -> None:
        with self._lock:
            copies = []
            total = 0
            for path in self._cache.iterdir():
                with suppress(FileNotFoundError):  # another process evicts, too
                    status = path.stat()
                    if stat.S_ISREG(status.st_mode):
                        total += status.st_size
                        copies.append((status.st_mtime, status.st_size, path))
            for _, size, path in sorted(copies):
                if total <= self._cache_bytes:
                    break
                if path.name == keep:
                    continue
                path.unlink(missing_ok=True)
                total -= size


def _key(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256}"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
