"""`serve` as a process of its own: how it starts, fails to start, and ends."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from service.embedded import worker_count
from service.settings import Settings

PROGRAM = """
import sys
from pathlib import Path
from service.embedded import serve
from service.settings import Settings
sys.exit(serve(
    Settings(data_dir=Path(sys.argv[1]), workers=2), "127.0.0.1", int(sys.argv[2]),
    with_worker=sys.argv[3] == "worker",
))
"""
WORKERS = 2
READY = "model-audit is ready: "


def command(folder: Path, port: int, *, worker: bool = False) -> list[str]:
    kind = "worker" if worker else "none"
    return [sys.executable, "-c", PROGRAM, str(folder), str(port), kind]


@contextmanager
def serving(
    folder: Path,
    *,
    worker: bool = False,
    port: int = 0,
    log: Path = Path(os.devnull),
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the service; yields its process and its address."""
    with log.open("ab") as complaints:
        process = subprocess.Popen(  # noqa: S603 - our own program
            command(folder, port, worker=worker),
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            start_new_session=True,
        )
    assert process.stdout is not None
    family: list[psutil.Process] = []
    try:
        for line in process.stdout:
            if line.startswith(READY):
                break
        family = relatives(process.pid)
        yield process, line.removeprefix(READY).strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        wait_for_end(family)


def relatives(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    found = []
    for process in processes:
        try:
            # Its number may belong to another process by now.
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def workers_of(server: int) -> list[psutil.Process]:
    """Workers that the server started and that are there now."""
    found = []
    for process in living(relatives(server)):
        try:
            if process.ppid() == server and process.cmdline()[-1:] == ["worker"]:
                found.append(process)
        except psutil.NoSuchProcess:  # it ended meanwhile
            continue
    return found


def wait_for(condition: Callable[[], object], *, seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)


def wait_for_end(family: list[psutil.Process]) -> None:
    with suppress(AssertionError):
        wait_for(lambda: living(family) == [])
    assert [described(process) for process in living(family)] == []


def described(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return f"{process.pid} {process.status()} {process.cmdline()[-3:]}"
    return "gone"


def refused(folder: Path, port: int) -> str:
    """Try to serve; returns the complaint."""
    ended = subprocess.run(  # noqa: S603 - our own program
        command(folder, port), capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    return ended.stderr


def seconds_used(pid: int) -> float:
    times = [p.cpu_times() for p in living(relatives(pid))]
    return float(sum(used.user + used.system for used in times))


def share_used(pid: int, *, seconds: float) -> float:
    begin, used = time.monotonic(), seconds_used(pid)
    time.sleep(seconds)
    return (seconds_used(pid) - used) / (time.monotonic() - begin)


def is_quiet(pid: int) -> bool:
    before = seconds_used(pid)
    time.sleep(5)
    return seconds_used(pid) - before < 0.1


def workers_alive(address: str) -> int:
    answer = httpx.get(f"{address}/readyz").json()
    return len(answer["workers"])


@pytest.mark.end_to_end
def test_it_says_where_it_is_once_it_accepts_requests(tmp_path: Path) -> None:
    with serving(tmp_path) as (_, address):
        assert httpx.get(f"{address}/readyz").status_code == 200


@pytest.mark.end_to_end
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_in_order(tmp_path: Path, how: signal.Signals) -> None:
    with serving(tmp_path, worker=True) as (process, address):
        wait_for(lambda: workers_alive(address) == WORKERS)
        family = relatives(process.pid)

        process.send_signal(how)

        assert process.wait(timeout=40) == 0
        assert len(family) >= 8  # itself, broker; a worker: two of Celery, a child
        assert living(family) == []


@pytest.mark.end_to_end
def test_children_die_with_it_even_where_it_is_killed(tmp_path: Path) -> None:
    with serving(tmp_path, worker=True) as (process, address):
        wait_for(lambda: workers_alive(address) == WORKERS)
        family = relatives(process.pid)

        process.kill()

        wait_for_end(family)


@pytest.mark.end_to_end
def test_a_worker_that_crashed_is_started_again(tmp_path: Path) -> None:
    with serving(tmp_path, worker=True) as (process, address):
        wait_for(lambda: workers_alive(address) == WORKERS)
        crashed, other = workers_of(process.pid)

        crashed.kill()

        wait_for(
            lambda: {p.pid for p in workers_of(process.pid)} - {crashed.pid, other.pid}
        )


def test_a_machine_gets_a_worker_a_core_and_one_for_a_gpu(tmp_path: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    given = Settings(data_dir=tmp_path, workers=3, device="cuda:0")

    assert worker_count(given) == 3
    assert worker_count(Settings(data_dir=tmp_path, device="cpu")) == min(4, cores)
    assert worker_count(Settings(data_dir=tmp_path, device="cuda:0")) == 1


@pytest.mark.end_to_end
def test_an_idle_machine_is_left_in_peace(tmp_path: Path) -> None:
    with serving(tmp_path, worker=True) as (process, address):
        wait_for(lambda: workers_alive(address) == WORKERS)
        wait_for(lambda: is_quiet(process.pid), seconds=120)  # all is imported

        # What else the machine does can only make it seem more.
        assert any(share_used(process.pid, seconds=20) < 0.01 for _ in range(3))


@pytest.mark.end_to_end
def test_a_second_service_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path):
        complaint = refused(tmp_path, 0)

    assert complaint.count("\n") == 1
    assert "already serves" in complaint


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        complaint = refused(tmp_path, port)

    assert complaint.count("\n") == 1
    assert str(port) in complaint


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")

    complaint = refused(tmp_path / "file" / "data", 0)

    assert complaint.count("\n") == 1
    assert "data folder" in complaint


def test_a_database_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "model-audit.sqlite3").mkdir()

    assert "database" in refused(tmp_path, 0)


def test_the_service_imports_neither_torch_nor_the_worker() -> None:
    program = (
        "import sys, service.app, service.embedded, service.scheduler;"
        "print([m for m in ('torch', 'numpy', 'worker') if m in sys.modules])"
    )

    found = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert found.stdout.strip() == "[]"
