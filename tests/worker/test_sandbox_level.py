"""The level is found by really trying, here with and without parts of the kernel."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from service.embedded import WORKER_GIVES_UP
from service.settings import Settings
from tests.worker.templates import ready
from worker import level as level_module
from worker.escape import attempts
from worker.inmate import start_template
from worker.level import level_of, probe_level, try_escapes, was_cut_short
from worker.settings import WorkerSettings
from worker.supervise import run_worker
from worker.syscalls import calls_of

ROOT = Path(__file__).resolve().parents[2]
NAMES = list(attempts({"secret": "", "folder": "", "tcp_port": 0, "udp_port": 0,
                       "unix_path": "", "abstract_name": "", "parent_pid": 0,
                       "descriptor": 0}))  # fmt: skip


def test_every_way_out_is_shut_here():
    level, results = probe_level()

    assert list(results) == NAMES
    assert {name: text for name, text in results.items() if "denied" not in text} == {}
    assert level == "strong"


def test_every_way_out_of_a_forked_child_is_shut(tmp_path):
    template = start_template(
        device="cpu", scratch=tmp_path, threads=1, session="json:x", code=()
    )
    try:
        results = try_escapes(ready(template))
    finally:
        template.close()

    assert list(results) == NAMES
    assert {name: text for name, text in results.items() if "denied" not in text} == {}


@pytest.mark.parametrize(
    ("open_way", "level"),
    [
        ("read a file", "reduced"),
        ("write outside", "reduced"),
        ("fork", "none"),
        ("connect by TCP", "none"),
        ("execute a program", "none"),
    ],
)
@pytest.mark.parametrize("result", ["allowed", "no answer"])
def test_one_open_way_lowers_the_level(open_way, level, result):
    results = dict.fromkeys(NAMES, "denied: no")

    assert level_of(results) == "strong"
    assert level_of({**results, open_way: result}) == level


# Takes calls away from this process, as an older kernel would not have them.
PROBE = textwrap.dedent("""
    import json, sys
    from worker.seccomp import install, without
    from worker.syscalls import calls_of
    calls = calls_of()
    install(calls, without(calls, json.loads(sys.argv[1])))
    from worker.level import probe_level
    print(json.dumps(probe_level()))
""")


@pytest.mark.parametrize(
    ("missing", "level", "shut"),
    [
        ("landlock", "reduced", "fork"),
        ("seccomp", "none", "read a file"),
    ],
)
def test_a_kernel_without_a_part_lowers_the_level(missing, level, shut):
    calls = calls_of()
    assert calls is not None
    numbers = {"landlock": [444, 445, 446], "seccomp": [calls.seccomp]}[missing]

    shown = subprocess.run(  # noqa: S603
        [sys.executable, "-c", PROBE, str(numbers)],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )

    found, results = __import__("json").loads(shown.stdout)
    assert found == level
    assert results[shut].startswith("denied")


def test_both_architectures_have_a_table():
    intel, arm = calls_of("x86_64"), calls_of("aarch64")

    assert intel is not None
    assert arm is not None
    assert set(arm.denied) < set(intel.denied)
    assert len(set(arm.denied.values())) == len(arm.denied)
    assert len(set(intel.denied.values())) == len(intel.denied)
    assert not set(arm.denied.values()) & set(arm.watched.values())
    assert calls_of("riscv64") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_an_ordinary_user_is_confined_as_well():
    code = "from worker.level import probe_level; print(*probe_level())"

    shown = subprocess.run(  # noqa: S603
        ["/usr/bin/unshare", "--user", sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        check=False,
        text=True,
    )

    if "unshare failed" in shown.stderr:
        pytest.skip("user namespaces are not allowed here")
    assert shown.stdout.startswith("strong"), shown.stderr


def killed_while_it_tries(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """Have the first children that try to escape be killed; their pids."""
    killed: list[int] = []
    listen = level_module._listen

    def kill_and_listen(inmate, results):
        if len(killed) < times:
            killed.append(inmate.process.pid)
            os.kill(inmate.process.pid, signal.SIGKILL)
        listen(inmate, results)

    monkeypatch.setattr(level_module, "_listen", kill_and_listen)
    probe_level.cache_clear()
    return killed


def test_a_child_that_was_killed_while_it_tried_says_nothing(monkeypatch):
    killed = killed_while_it_tries(monkeypatch, times=2)
    try:
        level, results = probe_level()
    finally:
        probe_level.cache_clear()

    assert len(killed) == 2
    assert level == "strong"
    assert not was_cut_short(results)


def test_a_worker_that_cannot_tell_how_it_confines_is_started_again(
    monkeypatch, tmp_path, capsys
):
    killed_while_it_tries(monkeypatch, times=9)
    settings = Settings(data_dir=tmp_path, redis_url="redis://127.0.0.1:1")
    try:
        code = run_worker(settings, WorkerSettings())
    finally:
        probe_level.cache_clear()

    assert code not in WORKER_GIVES_UP | {0}
    assert "cannot be told" in capsys.readouterr().err


def test_a_child_that_ends_by_itself_has_shown_that_it_is_not_confined():
    results = dict.fromkeys(NAMES, "no answer")

    assert level_of(results) == "none"
    assert not was_cut_short(results)
