import hashlib
import os
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from service.contract.errors import Unavailable
from service.store.blobs import (
    BlobDamagedError,
    BlobMissingError,
    BlobStore,
    BlobStoreDown,
    FolderBlobs,
    open_blobs,
)
from service.store.bucket import BucketBlobs

TEXT = b"some bytes" * 1000
DIGEST = hashlib.sha256(TEXT).hexdigest()


def keep(blobs: BlobStore, content: bytes) -> str:
    with blobs.writer() as writer:
        writer.write(content)
        digest, _ = writer.finish()
        writer.keep()
    return digest


def is_kept(blobs: BlobStore, sha256: str) -> bool:
    try:
        blobs.open(sha256).close()
    except BlobMissingError:
        return False
    return True


def leftovers(folder: Path) -> list[Path]:
    return list(folder.rglob("*.part"))


def test_what_was_written_can_be_read(blobs: BlobStore) -> None:
    with blobs.writer() as writer:
        for start in range(0, len(TEXT), 777):
            writer.write(TEXT[start : start + 777])

        finished = writer.finish()
        writer.keep()

    assert finished == (DIGEST, len(TEXT))
    assert is_kept(blobs, DIGEST)
    with blobs.open(DIGEST) as file:
        assert file.fileno() > 0
        assert file.read() == TEXT


def test_the_same_bytes_are_kept_once(blobs: BlobStore) -> None:
    assert keep(blobs, TEXT) == keep(blobs, TEXT)


def test_a_large_file_goes_in_parts(blobs: BlobStore) -> None:
    content = bytes(range(256)) * (40 * 4096)  # 40 MiB: three parts of an upload

    digest = keep(blobs, content)

    with blobs.open(digest) as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == digest


def test_a_file_can_be_looked_at_before_it_is_kept(blobs: BlobStore) -> None:
    with blobs.writer() as writer:
        writer.write(TEXT)
        with writer.reader() as file:
            file.seek(-10, 2)

            assert file.read() == TEXT[-10:]


def test_an_upload_that_broke_off_leaves_nothing(
    blobs: BlobStore, tmp_path: Path
) -> None:
    def break_off() -> None:
        with blobs.writer() as writer:
            writer.write(b"half a file")
            raise ConnectionError

    with pytest.raises(ConnectionError):
        break_off()

    assert leftovers(tmp_path) == []
    assert not is_kept(blobs, hashlib.sha256(b"half a file").hexdigest())


def test_finishing_leaves_no_temporary_file(blobs: BlobStore, tmp_path: Path) -> None:
    keep(blobs, TEXT)

    assert leftovers(tmp_path) == []


def left_alone_for(path: Path, seconds: float) -> Path:
    path.touch()
    os.utime(path, times=(time.time() - seconds,) * 2)
    return path


@pytest.mark.parametrize("finished", [False, True])
def test_a_start_removes_what_nobody_writes_any_more(
    tmp_path: Path, *, finished: bool
) -> None:
    blobs = FolderBlobs(tmp_path)
    with blobs.writer() as writer:
        writer.write(TEXT)
        if finished:
            writer.finish()
        [arriving] = leftovers(tmp_path)
        left_alone_for(arriving, 7200)
        left_alone_for(tmp_path / "incoming" / "abandoned.part", 120)
        young = left_alone_for(tmp_path / "incoming" / "young.part", 1)

        FolderBlobs(tmp_path)

        assert sorted(leftovers(tmp_path)) == sorted([arriving, young])
        writer.finish()
        writer.keep()
    assert is_kept(blobs, DIGEST)


def test_what_is_written_to_a_disk_without_locks_goes_after_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr("service.store.blobs.fcntl.flock", refuse)
    with FolderBlobs(tmp_path).writer() as writer:
        writer.write(TEXT)
        [path] = leftovers(tmp_path)

        left_alone_for(path, 7200)
        FolderBlobs(tmp_path)
        assert leftovers(tmp_path) == [path]

        left_alone_for(path, 90_000)
        FolderBlobs(tmp_path)
        assert leftovers(tmp_path) == []


def test_a_file_that_was_given_up_is_not_said_to_be_kept(blobs: BlobStore) -> None:
    with blobs.writer() as writer:
        writer.write(TEXT)
        writer.finish()

    with pytest.raises(BlobStoreDown, match="given up"):
        writer.keep()


def test_a_deleted_file_is_missing(blobs: BlobStore) -> None:
    keep(blobs, TEXT)

    blobs.delete(DIGEST)
    blobs.delete(DIGEST)

    assert not is_kept(blobs, DIGEST)
    with pytest.raises(BlobMissingError):
        blobs.open(DIGEST)


def test_a_store_that_works_answers_the_ping(blobs: BlobStore) -> None:
    blobs.ping()

    assert not is_kept(blobs, DIGEST[::-1])


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    blobs = FolderBlobs(tmp_path / "file" / "blobs")

    with pytest.raises(Unavailable):
        blobs.ping()
    with pytest.raises(Unavailable):
        blobs.writer()


@pytest.mark.parametrize(
    ("whole_mib", "free_mib", "goes"),
    [(100_000, 65, True), (100_000, 63, False), (24, 3, True), (24, 2, False)],
)
def test_files_leave_the_database_room_on_the_disk(
    tmp_path: Path, monkeypatch, whole_mib: int, free_mib: int, *, goes: bool
) -> None:
    disk = SimpleNamespace(
        f_frsize=4096, f_blocks=whole_mib * 256, f_bavail=free_mib * 256
    )
    monkeypatch.setattr("service.store.blobs.os.fstatvfs", lambda _: disk)
    blobs = open_blobs(str(tmp_path / "blobs"), cache=tmp_path / "cache")

    with nullcontext() if goes else pytest.raises(BlobStoreDown, match="disk is full"):
        keep(blobs, TEXT)

    assert is_kept(blobs, DIGEST) is goes
    assert leftovers(tmp_path) == []


def test_a_bucket_that_is_not_there_is_unavailable(s3: str, tmp_path: Path) -> None:
    blobs = open_blobs(s3.replace("blobs", "elsewhere"), cache=tmp_path)

    with pytest.raises(Unavailable):
        blobs.ping()


def test_another_machine_fetches_and_verifies_a_copy(s3: str, tmp_path: Path) -> None:
    keep(open_blobs(s3, cache=tmp_path / "here"), TEXT)
    there = open_blobs(s3, cache=tmp_path / "there")

    with there.open(DIGEST) as file:
        assert file.read() == TEXT

    assert (tmp_path / "there" / DIGEST).read_bytes() == TEXT


def test_a_copy_that_differs_from_its_digest_is_refused(
    s3: str, tmp_path: Path
) -> None:
    blobs = BucketBlobs(s3, tmp_path)
    keep(blobs, TEXT)
    other = hashlib.sha256(b"other").hexdigest()
    blobs._store.put(f"{other[:2]}/{other}", TEXT)

    with pytest.raises(Unavailable, match="other bytes"):
        blobs.open(other)


def test_a_file_that_is_damaged_is_not_opened(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    keep(blobs, TEXT)
    blobs.open(DIGEST).close()
    path = tmp_path / DIGEST[:2] / DIGEST

    path.write_bytes(TEXT[:-1] + b"?")

    with pytest.raises(BlobDamagedError):
        blobs.open(DIGEST)
    keep(blobs, TEXT)
    with blobs.open(DIGEST) as file:
        assert file.read() == TEXT


def test_the_cache_of_a_bucket_is_bounded(s3: str, tmp_path: Path) -> None:
    blobs = BucketBlobs(s3, tmp_path, cache_bytes=2500)

    digests = [keep(blobs, bytes([number]) * 1000) for number in range(5)]

    assert (
        sum(path.stat().st_size for path in tmp_path.glob("*") if path.is_file())
        <= 2500
    )
    for number, digest in enumerate(digests):
        with blobs.open(digest) as file:
            assert file.read() == bytes([number]) * 1000
