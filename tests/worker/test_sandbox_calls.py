"""The worker's side: whatever the child does, the worker gets an answer or an error."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from service.contract.errors import Crashed, UnusableModel
from tests.worker.templates import ready
from worker import sandbox
from worker import template as template_module
from worker.sandbox import (
    Child,
    ChildCrashed,
    ChildDied,
    ChildMisbehaved,
    ChildStopped,
    ChildTimedOut,
    usable_cores,
)
from worker.template import Forked

CODE = (Path(__file__).parent / "inmates",)
ECHO = {"device": "cpu", "session": "inmate_sessions:Echo", "code": CODE}
KIND = sandbox._Kind(threads=usable_cores(), **ECHO)
ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
FORGED = (
    '{"kind": "problem", "problem": {"type": "/problems/unauthorized", "title": "", '
    '"status": 401, "detail": "send your key to this address"}}'
)


def template_of(scratch, **kind):
    """The template that children of a kind are forked from, once it is ready."""
    kind = {"device": "cpu", "threads": None, **kind}
    sandbox.warm_up(scratch=scratch, **kind)
    known = sandbox._Kind(**kind | {"threads": kind["threads"] or usable_cores()})
    return ready(sandbox._TEMPLATES.of(known))


@pytest.fixture(params=["started", "forked"])
def start(tmp_path, request):
    children = []

    def start_child(session="Echo", **limits):
        wanted = {
            "device": "cpu",
            "scratch": tmp_path / "scratch",
            "memory_bytes": 300 * MIB,
            "scratch_bytes": 20 * MIB,
            "session": f"inmate_sessions:{session}",
            "code": CODE,
            "keep_template": False,
            **limits,
        }
        if request.param == "forked":
            wanted["scratch"].mkdir(exist_ok=True)
            kind = {k: wanted[k] for k in ("device", "session", "code")}
            template_of(tmp_path, threads=wanted.get("threads"), **kind)
        child = Child.start(**wanted)
        assert isinstance(child._inmate.process, Forked) is (request.param == "forked")
        children.append(child)
        return child

    yield start_child
    for child in children:
        child.close()
    sandbox.close_templates()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_values_cross_in_both_directions(start):
    child = start()

    value = child.call("echo", {"a": [1, None, "é\n\u2028"], "b": 0.5}, seconds=10)

    assert value == {"a": [1, None, "é\n\u2028"], "b": 0.5}


def test_files_are_handed_over_by_name_and_read_from_the_start(start, tmp_path):
    (tmp_path / "first").write_text("one")
    (tmp_path / "second").write_text("two")
    child = start()

    with (
        (tmp_path / "second").open("rb") as second,
        (tmp_path / "first").open("rb") as first,
    ):
        second.read()
        files = {"second": second.fileno(), "first": first.fileno()}
        contents = child.call("read", {}, files=files, seconds=10)

    assert contents == ["one", "two"]


def test_a_descriptor_that_could_be_written_to_is_never_handed_over(start, tmp_path):
    child = start()

    with (tmp_path / "file").open("w+b") as file, pytest.raises(ValueError, match="it"):
        child.call("read", {}, files={"first": file.fileno()}, seconds=10)


def test_a_large_message_crosses(start):
    text = "x" * (8 * MIB)

    assert start().call("echo", {"text": text}, seconds=20) == {"text": text}


def test_the_child_has_a_clean_environment_and_no_other_descriptor(start, monkeypatch):
    monkeypatch.setenv("MODEL_AUDIT_API_KEY", "secret")
    child = start()

    environment = child.call("environment", {}, seconds=10)
    descriptors = child.call("descriptors", {}, seconds=10)

    assert "secret" not in str(environment)
    assert environment["HOME"] == str(child.scratch)
    assert len(descriptors) == 4  # three standard streams and the channel


def test_a_child_whose_folder_is_gone_does_not_serve(start):
    child = start()
    child.call("echo", {}, seconds=10)

    shutil.rmtree(child.scratch)

    assert not child.is_alive
    with pytest.raises(ChildDied, match="folder"):
        child.call("echo", {}, seconds=10)


def test_progress_is_told_in_between(start):
    seen = []

    start().call(
        "count", {"steps": 4}, seconds=10, on_progress=lambda *told: seen.append(told)
    )

    assert seen[0] == (0.0, "step 0")
    assert len(seen) >= 2


def test_a_problem_reaches_the_caller_and_the_child_lives_on(start):
    child = start()

    with pytest.raises(UnusableModel, match="two inputs"):
        child.call("problem", {}, seconds=10)

    assert child.call("echo", {}, seconds=10) == {}


def test_an_exception_of_our_own_code_is_a_crash_with_its_trace(start):
    child = start()

    with pytest.raises(ChildCrashed) as caught:
        child.call("crash", {}, seconds=10)

    assert "ZeroDivisionError: ours" in caught.value.trace
    assert "inmate_sessions.py" in caught.value.trace
    with pytest.raises(ChildCrashed, match="JSON"):
        child.call("not_a_number", {}, seconds=10)
    assert child.is_alive


def test_a_session_that_cannot_be_made_is_a_crash(start):
    with pytest.raises(ChildCrashed, match="no session"):
        start("Broken").call("echo", {}, seconds=10)


def test_a_child_that_leaves_or_is_killed_has_died(start):
    with pytest.raises(ChildDied) as left:
        start().call("leave", {"code": 3}, seconds=10)
    with pytest.raises(ChildDied) as killed:
        start().call("die", {}, seconds=10)

    assert (left.value.exit_code, left.value.signal) == (3, None)
    assert (killed.value.exit_code, killed.value.signal) == (None, signal.SIGSEGV)


@pytest.mark.parametrize("operation", ["hang", "print_without_end"])
def test_a_child_that_never_answers_is_killed_in_time(start, operation):
    child = start()
    child.call("echo", {}, seconds=10)
    begin = time.monotonic()

    with pytest.raises(ChildTimedOut):
        child.call(operation, {}, seconds=0.5)

    assert time.monotonic() - begin < 2
    assert not child.is_alive
    assert len(child.printed) <= 16 << 10
    with pytest.raises(ChildDied):
        child.call("echo", {}, seconds=10)


def test_a_stop_is_heeded_within_a_second(start):
    child = start()
    child.call("echo", {}, seconds=10)
    begin = time.monotonic()

    with pytest.raises(ChildStopped):
        child.call(
            "hang", {}, seconds=60, should_stop=lambda: time.monotonic() > begin + 0.2
        )

    assert time.monotonic() - begin < 1.2
    assert not child.is_alive


def test_memory_without_end_ends_the_child(start):
    # Which of the two limits it meets first depends on how busy the machine is.
    with pytest.raises((ChildDied, Crashed), match="memory"):
        start(memory_bytes=150 * MIB).call("allocate", {}, seconds=30)


def test_memory_in_use_over_the_limit_ends_the_child(start):
    child = start(memory_bytes=150 * MIB)

    with pytest.raises(ChildDied, match="memory"):
        child.call("allocate_and_wait", {"size": 250 * MIB}, seconds=30)


def test_memory_asked_for_at_once_is_a_problem_in_words(start):
    child = start()

    with pytest.raises(Crashed, match="memory"):
        child.call("allocate_at_once", {"size": 1 << 40}, seconds=10)

    assert child.is_alive


def test_files_without_end_end_the_child(start):
    with pytest.raises(ChildDied, match="files"):
        start().call("fill_scratch", {}, seconds=30)


def test_threads_without_end_end_the_child(start):
    with pytest.raises((ChildDied, ChildCrashed), match="thread"):
        start(memory_bytes=64 << 30).call("start_threads", {"count": 3_000}, seconds=30)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"kind": "result"}',
        '{"kind": "ready"}',
        '{"kind": "gift", "value": 1}',
        '{"kind": "progress", "fraction": 7, "detail": ""}',
        '{"kind": "progress", "fraction": "a", "detail": ""}',
        '{"kind": "problem", "problem": {"type": "x"}}',
        FORGED,
    ],
)
def test_nonsense_ends_the_child(start, text):
    child = start("Hostile")

    with pytest.raises(ChildMisbehaved):
        child.call("frame", {"text": text}, seconds=10)

    assert not child.is_alive


@pytest.mark.parametrize("raw", ["ffffffff", "00000002ff"])
def test_bytes_that_are_no_frame_never_hang_the_worker(start, raw):
    with pytest.raises((ChildMisbehaved, ChildTimedOut)):
        start("Hostile").call("write_raw", {"text": raw}, seconds=1)


def test_a_flood_of_progress_does_not_hide_the_clock(start):
    seen = []

    with pytest.raises(ChildTimedOut):
        start("Hostile").call(
            "flood", {}, seconds=1, on_progress=lambda *told: seen.append(told)
        )

    assert 1 <= len(seen) <= 7


def test_a_file_of_the_child_is_opened_as_a_plain_file_only(start):
    child = start()
    child.call("write_file", {"name": "out", "size": 5}, seconds=10)
    (child.scratch / "link").symlink_to("/etc/passwd")
    (child.scratch / "folder").mkdir()
    os.link(child.scratch / "out", child.scratch / "second")

    with pytest.raises(OSError, match="symbolic"):
        child.open_scratch("link")
    for name in ("folder", "out", "../x", "", "."):
        with pytest.raises(ValueError, match="file"):
            child.open_scratch(name)
    (child.scratch / "second").unlink()
    with child.open_scratch("out") as file:
        assert file.read() == b"xxxxx"


@pytest.fixture
def echo(tmp_path):
    """Start a child as a worker does."""

    def start_echo():
        return Child.start(scratch=tmp_path, memory_bytes=300 * MIB, **ECHO)

    yield start_echo
    sandbox.close_templates()


def test_once_a_child_is_ready_the_next_ones_are_forked(echo):
    with echo() as first:
        first.call("echo", {}, seconds=10)
        ready(sandbox._TEMPLATES.of(KIND))
        begin = time.monotonic()

        with echo() as second:
            assert second.call("echo", {"n": 2}, seconds=10) == {"n": 2}
            assert time.monotonic() - begin < 1
            assert second.pid != first.pid
            assert isinstance(second._inmate.process, Forked)


def test_a_template_that_died_is_replaced(echo, tmp_path):
    template = template_of(tmp_path, **ECHO)
    os.kill(template.process.pid, signal.SIGKILL)
    template.process.wait()

    with echo() as child:
        assert not isinstance(child._inmate.process, Forked)
        assert child.call("echo", {}, seconds=10) == {}

    assert ready(sandbox._TEMPLATES.of(KIND)) is not template


def test_a_template_that_does_not_answer_is_given_up(echo, tmp_path, monkeypatch):
    template = template_of(tmp_path, **ECHO)
    os.kill(template.process.pid, signal.SIGSTOP)
    monkeypatch.setattr(template_module, "ANSWER_SECONDS", 0.2)

    with echo() as child:
        assert child.call("echo", {}, seconds=10) == {}

    assert not template.is_ready


def test_children_live_on_when_their_template_ends(echo, tmp_path):
    template = template_of(tmp_path, **ECHO)

    with echo() as child:
        child.call("echo", {}, seconds=10)
        template.close()
        time.sleep(0.1)

        assert child.call("echo", {"n": 3}, seconds=10) == {"n": 3}


def test_the_parent_never_imports_torch_or_numpy():
    code = "import sys, worker.sandbox; print({'torch','numpy'} & set(sys.modules))"

    shown = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True
    )

    assert shown.stdout == b"set()\n"


LONELY = textwrap.dedent("""
    import os, sys, threading, time
    from pathlib import Path
    from worker import sandbox
    from worker.sandbox import Child, warm_up
    kind = dict(device="cpu", scratch=Path(sys.argv[1]), memory_bytes=1 << 30,
                session="inmate_sessions:Echo", code=(Path(sys.argv[2]),))
    def work():
        if len(sys.argv) > 3:
            warm_up(**{k: v for k, v in kind.items() if k != "memory_bytes"})
            [template] = sandbox._TEMPLATES._known.values()
            while not template.is_ready:
                time.sleep(0.01)
        child = Child.start(**kind)
        child.call("echo", {}, seconds=20)
        children.append(child)
    children = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    del thread
    time.sleep(0.2)
    assert children[0].is_alive, "died with the thread that started it"
    print(children[0].pid, flush=True)
    children[0].call("hang", {}, seconds=1000)
""")


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize("how", [[], ["forked"]])
def test_a_hung_child_dies_with_its_worker_and_not_with_a_thread(tmp_path, how):
    (tmp_path / "scratch").mkdir()
    worker = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", LONELY, str(tmp_path / "scratch"), str(CODE[0]), *how],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    assert worker.stdout is not None
    with worker.stdout:
        pid = int(worker.stdout.readline())
        assert _is_running(pid)
        time.sleep(0.3)

        worker.kill()
        worker.wait()

    deadline = time.monotonic() + 5
    while _is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _is_running(pid)


def test_what_a_killed_worker_left_behind_is_swept_away(tmp_path, start):
    scratch = tmp_path / "scratch"
    left = scratch / "child-left"
    left.mkdir(parents=True)
    (left / "model").write_bytes(b"x")
    os.utime(left, (1, 1))
    sandbox._TEMPLATES._swept.clear()

    child = start()

    assert not left.exists()
    assert child.scratch.exists()
