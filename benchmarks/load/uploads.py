"""Uploads of a large model: how fast, and in how much memory."""

import hashlib
import os
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load.callers import AUTHORIZATION, client, expect, outcome
from benchmarks.load.figures import Figure
from benchmarks.load.processes import MEBIBYTE, Server

_BOUNDARY = "load-benchmark-boundary"
_BLOCK_BYTES = 4 * MEBIBYTE
_ROUNDS = 3


@dataclass(frozen=True)
class Upload:
    """One upload, and what it took."""

    seconds: float
    processor_seconds: float
    peak_bytes: int


def large_model(path: Path, size_bytes: int) -> Path:
    """Write an archive that is a TorchScript model by its outside."""
    block = os.urandom(_BLOCK_BYTES)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("net/data.pkl", b"\x80\x02.")
        archive.writestr("net/code/__torch__.py", "class Net: pass")
        with archive.open("net/data/0", "w", force_zip64=True) as weights:
            for _ in range(size_bytes // _BLOCK_BYTES):
                weights.write(block)
    return path


def upload_figures(server: Server, folder: Path, *, size_bytes: int) -> list[Figure]:
    """Upload raw and as a form, in turns with hashing and writing the same bytes."""
    file = large_model(folder / "large.pt", size_bytes)
    size = file.stat().st_size
    raw, form, hashing, writing = [], [], [], []
    for _ in range(_ROUNDS):
        hashing.append(_seconds_to_hash(file))
        writing.append(_seconds_to_write(file))
        raw.append(_upload(server, file, is_form=False))
        form.append(_upload(server, file, is_form=True))
    megabytes = size / 1e6
    fastest_raw, fastest_form = (
        min(kind, key=lambda upload: upload.seconds) for kind in (raw, form)
    )
    shown = f"{megabytes / 1000:.2g} GB"
    return [
        Figure(
            f"upload of {shown}, raw", megabytes / fastest_raw.seconds, "MB/s", "≥", 300
        ),
        Figure("– processor time a gigabyte", _a_gigabyte(fastest_raw, size), "s"),
        Figure(
            "– against SHA-256 of it alone", min(hashing) / fastest_raw.seconds, "×"
        ),
        Figure(
            "– peak memory", max(u.peak_bytes for u in raw) / MEBIBYTE, "MiB", "<", 150
        ),
        Figure(
            f"upload of {shown}, multipart",
            megabytes / fastest_form.seconds,
            "MB/s",
            "≥",
            300,
        ),
        Figure("– processor time a gigabyte", _a_gigabyte(fastest_form, size), "s"),
        Figure(
            "– against SHA-256 of it alone", min(hashing) / fastest_form.seconds, "×"
        ),
        Figure(
            "– peak memory", max(u.peak_bytes for u in form) / MEBIBYTE, "MiB", "<", 150
        ),
        Figure("SHA-256 alone, to compare with", megabytes / min(hashing), "MB/s"),
        Figure(
            "write and fsync alone, to compare with", megabytes / min(writing), "MB/s"
        ),
    ]


def processor_ratio(
    server: Server, folder: Path, *, size_bytes: int
) -> tuple[float, float]:
    """Compare the processor time of uploads, raw and as a form, with hashing alone."""
    file = large_model(folder / "large.pt", size_bytes)
    began = time.process_time()
    _seconds_to_hash(file)
    hashing = time.process_time() - began
    raw, form = (
        min(_upload(server, file, is_form=is_form).processor_seconds for _ in range(2))
        for is_form in (False, True)
    )
    return raw / hashing, form / hashing


def _upload(server: Server, file: Path, *, is_form: bool) -> Upload:
    """Upload a file, check that it is kept, and remove it again."""
    head, tail, kind = "", "", "application/octet-stream"
    if is_form:
        part = 'Content-Disposition: form-data; name="file"; filename="large.pt"'
        head = f"--{_BOUNDARY}\r\n{part}\r\n\r\n"
        tail = f"\r\n--{_BOUNDARY}--\r\n"
        kind = f"multipart/form-data; boundary={_BOUNDARY}"
    length = len(head) + file.stat().st_size + len(tail)
    request = "\r\n".join(
        [
            "POST /v1/models HTTP/1.1",
            "Host: load",
            AUTHORIZATION,
            f"Content-Type: {kind}",
            f"Content-Length: {length}",
        ]
    )
    server.forget_peak()
    used = server.processor_seconds()
    seen: dict[str, Any] = outcome(
        work="upload",
        port=server.port,
        file=str(file),
        head=f"{request}\r\n\r\n{head}",
        tail=tail,
    )
    used = server.processor_seconds() - used
    expect({"statuses": [seen["status"]]}, 201)
    peak = server.peak_bytes()
    with client(server) as caller:
        address = str(caller.get("/v1/models").json()["items"][0]["id"])
        caller.delete(f"/v1/models/{address}").raise_for_status()
    return Upload(seen["seconds"], used, peak)


def _seconds_to_hash(file: Path) -> float:
    began = time.perf_counter()
    digest = hashlib.sha256()
    with file.open("rb", buffering=0) as source:
        while block := source.read(_BLOCK_BYTES):
            digest.update(block)
    return time.perf_counter() - began


def _seconds_to_write(file: Path) -> float:
    copy = file.with_suffix(".copy")
    began = time.perf_counter()
    with file.open("rb", buffering=0) as source, copy.open("wb", buffering=0) as target:
        while block := source.read(_BLOCK_BYTES):
            target.write(block)
        os.fsync(target.fileno())
    seconds = time.perf_counter() - began
    copy.unlink()
    return seconds


def _a_gigabyte(upload: Upload, size: int) -> float:
    return upload.processor_seconds / (size / 1e9)
