import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, select, update

from service.contract.report import Report
from service.store import ending, outbox, rounds, work
from service.store.database import database_time
from service.store.tables import (
    AuditRow,
    ModelRow,
    OutboxRow,
    OutcomeRow,
    PieceRow,
    WorkerRow,
)
from service.store.work import Claim
from tests.builders_report import make_report
from tests.worker.queue.scenes import Stage
from worker import companion as companion_module
from worker import turn as turn_module
from worker.sandbox import probe_level

OTHER = "0123456789abcdef"


def count(here: Stage, table: type, **values: object) -> int:
    with here.database.reading() as session:
        query = select(func.count()).select_from(table).filter_by(**values)
        return session.execute(query).scalar_one()


def child_pids(here: Stage) -> set[int]:
    with here.database.reading() as session:
        bodies = session.scalars(select(OutcomeRow.body)).all()
    return {int(body.partition('"pid":')[2].partition(",")[0]) for body in bodies}


def in_background(here: Stage, subject_id: str) -> threading.Thread:
    thread = threading.Thread(target=here.turn.take, args=(subject_id,))
    thread.start()
    return thread


def claimed_elsewhere(here: Stage, audit_id: str) -> Claim:
    """Have another worker claim the audit's next piece; nothing else waits."""
    with here.database.transaction() as session:
        session.execute(delete(PieceRow).where(PieceRow.kind == "inspect_model"))
        now = database_time(session)
        held = work.claim(
            session, audit_id, worker="there", lease=timedelta(minutes=1), now=now
        )
    assert held is not None
    return held


def wait_for(condition: Any, *, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


def test_the_parent_never_imports_torch() -> None:
    program = (
        "import sys, worker.supervise, worker.tasks, worker.turn;"
        "print([m for m in ('torch', 'numpy', 'sklearn') if m in sys.modules])"
    )

    found = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert found.stdout.strip() == "[]"


def test_a_turn_takes_an_audit_to_its_report(here: Stage) -> None:
    audit_id = here.audit({})

    pieces = here.turn.take(audit_id)

    audit = here.row(audit_id)
    assert pieces == 6  # advance, a, b, advance, c, advance
    assert (audit.status, audit.error) == ("succeeded", None)
    assert audit.progress["fraction"] == 1.0
    Report.model_validate(here.report(audit_id))


def test_one_child_serves_an_audit_for_as_long_as_it_is_warm(here: Stage) -> None:
    here.turn.take(here.audit({}))

    assert len(child_pids(here)) == 1


def test_another_audit_gets_another_child(here: Stage) -> None:
    here.turn.take(here.audit({}))
    first = child_pids(here)

    here.turn.take(here.audit({}, seed=1))

    assert len(child_pids(here) - first) == 1


def test_a_repeated_audit_trains_nothing(here: Stage) -> None:
    first = here.audit({})
    here.turn.take(first)

    again = here.audit({})
    pieces = here.turn.take(again)

    assert here.row(again).status == "succeeded"
    [said] = set(here.report(again)["limits"]) - set(here.report(first)["limits"])
    assert said.startswith("3 of 3 outcomes were taken over from earlier audits")
    assert pieces == 3  # only what the auditor says is asked again
    assert count(here, OutcomeRow) == 3


def test_what_another_project_audits_is_not_told(here: Stage) -> None:
    first = here.audit({})
    here.turn.take(first)
    with here.database.transaction() as session:
        session.execute(
            update(AuditRow).where(AuditRow.id == first).values(project="another")
        )

    again = here.audit({})
    here.turn.take(again)

    assert here.report(again)["limits"] == here.report(first)["limits"]


def test_an_outcome_is_kept_as_one_of_the_engine_that_it_comes_from(
    here: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit_id = here.audit({})
    here.set(turn_seconds=0.0)
    here.turn.take(audit_id)  # the first round is asked for

    with monkeypatch.context() as other:
        other.setattr("worker.recorder.ENGINE", "another")
        while here.turn.take(audit_id):
            pass
    again = here.audit({})
    while here.turn.take(again):
        pass

    assert here.row(audit_id).status == here.row(again).status == "succeeded"
    assert count(here, OutcomeRow) == 6  # three experiments by each engine


def test_the_parent_says_whose_report_it_is_and_how_confined(here: Stage) -> None:
    audit_id = here.audit({})

    here.turn.take(audit_id)

    report = here.report(audit_id)
    assert report["audit_id"] == audit_id
    assert report["environment"]["sandbox"] == probe_level()[0]


def test_the_policy_fills_the_gate(here: Stage) -> None:
    strict = here.audit({}, policy={"min_accuracy": 1.0})
    lenient = here.audit({}, policy={"min_accuracy": 0.0})

    here.turn.take(strict)
    here.turn.take(lenient)

    assert here.report(strict)["gate"]["passed"] is False
    assert "accuracy" in here.report(strict)["gate"]["reasons"][0]
    assert here.report(lenient)["gate"]["passed"] is True


def test_a_report_without_a_kept_model_has_no_link(here: Stage) -> None:
    audit_id = here.audit({})

    here.turn.take(audit_id)

    assert here.report(audit_id)["remedy"]["model"] is None
    assert here.row(audit_id).remedy_sha256 is None


def test_a_child_cannot_hand_out_a_file_that_its_audit_did_not_make(
    here: Stage,
) -> None:
    report = make_report().model_dump(mode="json")
    report["remedy"]["model"] = here.keep(b"the model of another project")
    audit_id = here.audit({"report": report})

    here.turn.take(audit_id)

    assert here.report(audit_id)["remedy"]["model"] is None
    assert here.row(audit_id).remedy_sha256 is None


@pytest.mark.parametrize("moment", ["open", "c"])
def test_a_problem_that_the_child_finds_fails_the_audit(
    here: Stage, moment: str
) -> None:
    audit_id = here.audit({moment: "problem"})

    here.turn.take(audit_id)

    audit = here.row(audit_id)
    assert audit.status == "failed"
    assert audit.error is not None
    assert audit.error["type"] == "/problems/unusable-model"
    assert audit.error["detail"] == "It has two inputs."


@pytest.mark.parametrize(("moment", "how"), [("open", "kill"), ("b", "segfault")])
def test_a_child_that_is_killed_twice_fails_the_audit(
    here: Stage, moment: str, how: str
) -> None:
    audit_id = here.audit({moment: how})

    here.turn.take(audit_id)

    audit = here.row(audit_id)
    assert audit.status == "failed"
    assert audit.error is not None
    assert audit.error["type"] == "/problems/crashed"
    assert "signal" in audit.error["detail"]
    assert count(here, PieceRow, subject_id=audit_id, deaths_by_signal=2) == 1


@pytest.fixture
def without_room(here: Stage, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in place of the folder in which children work."""
    monkeypatch.setattr(turn_module, "ROOM_PAUSE_SECONDS", 0.05)
    scratch = here.companion._place.scratch
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.touch()
    return scratch


def test_an_audit_waits_until_there_is_room_for_a_child(
    here: Stage, without_room: Path
) -> None:
    audit_id = here.audit({})

    turn = in_background(here, audit_id)
    time.sleep(1.0)
    waiting = here.row(audit_id)
    without_room.unlink()
    turn.join(timeout=20)

    assert waiting.status == "running"
    assert here.row(audit_id).status == "succeeded"
    assert count(here, PieceRow, subject_id=audit_id, attempts=1) == 6


@pytest.mark.parametrize("how", ["exception", "kill"])
def test_a_child_that_has_no_room_to_write_has_not_failed(
    here: Stage, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Torch aborts where the disk is full, in the midst of the repaired model."""
    monkeypatch.setattr(turn_module, "ROOM_PAUSE_SECONDS", 0.05)
    audit_id = here.audit({"a": how})
    tried: list[bool] = []

    def is_full(*_: object, **__: object) -> None:
        tried.append(True)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(companion_module.tempfile, "TemporaryFile", is_full)
        turn = in_background(here, audit_id)
        wait_for(lambda: len(tried) > 3)
        assert here.row(audit_id).status == "running"
    turn.join(timeout=20)

    assert here.row(audit_id).status == "failed"


def test_a_defect_in_the_engine_fails_the_audit_without_its_trace(
    here: Stage,
) -> None:
    audit_id = here.audit({"a": "exception"})

    here.turn.take(audit_id)

    error = here.row(audit_id).error
    assert error is not None
    assert error["type"] == "/problems/internal"
    assert "Traceback" not in error["detail"]


def test_an_answer_that_is_nonsense_fails_the_audit(here: Stage) -> None:
    for script in ({"nonsense": "b"}, {"report": {"audit_id": 7}}):
        audit_id = here.audit(script)

        here.turn.take(audit_id)

        error = here.row(audit_id).error
        assert error is not None
        assert error["type"] == "/problems/internal"


def test_what_a_stopped_worker_left_is_done_before_what_was_asked_for_since(
    here: Stage,
) -> None:
    """Its invitation is used up, and the queue may be long."""
    left = here.audit({"a": {"value": 1}, "b": {"value": 2}})
    begun = here.turn.take(left) and here.row(left).status
    assert begun == "succeeded"
    left, asked = here.audit({"a": {"value": 1}}, seed=7), here.audit({}, seed=8)
    with here.database.transaction() as session:
        now = database_time(session)
        early = now - timedelta(minutes=1)
        session.execute(update(AuditRow).filter_by(id=left).values(status="running"))
        session.execute(
            update(OutboxRow).filter_by(subject_id=left).values(created_at=early)
        )
        piece = session.scalars(select(PieceRow).filter_by(subject_id=left)).one()
        piece.attempts = 1  # it was given back

    here.turn.take(asked)

    assert here.row(left).status == "succeeded"
    assert here.row(left).finished_at < here.row(asked).finished_at  # type: ignore[operator]


def test_a_hanging_child_is_ended(here: Stage) -> None:
    here.set(measurement_seconds=0.5)
    audit_id = here.audit({"a": "hang"})

    here.turn.take(audit_id)

    error = here.row(audit_id).error
    assert error is not None
    assert error["type"] == "/problems/crashed"
    assert "0.5 s" in error["detail"]
    # Tried once: what hung once would keep others waiting again.
    assert (
        count(here, PieceRow, subject_id=audit_id, kind="experiment", attempts=1) == 1
    )


@pytest.mark.parametrize(
    ("request_", "opening", "measuring"),
    [
        ({"budget": {"seconds": 5}}, 70.0, 70.0),
        ({"budget": "quick"}, 110.0, 110.0),
        ({}, 260.0, 260.0),
        ({"budget": "thorough"}, 300.0, 600.0),
    ],
)
def test_what_hangs_holds_a_worker_as_its_budget_is(
    here: Stage,
    monkeypatch: pytest.MonkeyPatch,
    request_: dict[str, Any],
    opening: float,
    measuring: float,
) -> None:
    seen = []
    call = here.companion.call

    def watched(child: Any, operation: str, *args: Any, **settings: Any) -> Any:
        seen.append((operation, settings.get("seconds")))
        return call(child, operation, *args, **settings)

    monkeypatch.setattr(here.companion, "call", watched)

    here.turn.take(here.audit({"a": {}}, **request_))

    assert ("open", opening) in seen
    assert ("run", measuring) in seen


def test_a_cancelled_audit_stops_within_a_second(here: Stage) -> None:
    audit_id = here.audit({"a": "hang"})
    thread = in_background(here, audit_id)
    wait_for(lambda: count(here, PieceRow, status="running", kind="experiment"))
    time.sleep(0.3)

    begin = time.monotonic()
    with here.database.transaction() as session:
        ending.cancel(session, audit_id, now=database_time(session))
    thread.join(timeout=10)

    assert time.monotonic() - begin < 1.5
    assert here.row(audit_id).status == "cancelled"
    assert count(here, OutcomeRow) == 0


def _cancel_during_the_third(here: Stage, audit_id: str) -> None:
    thread = in_background(here, audit_id)
    wait_for(lambda: here.row(audit_id).progress.get("detail") == "2 done")
    wait_for(lambda: count(here, PieceRow, status="running", kind="experiment"))

    with here.database.transaction() as session:
        ending.cancel(session, audit_id, now=database_time(session))
    thread.join(timeout=20)


def test_what_a_cancelled_audit_had_finished_is_reported(here: Stage) -> None:
    audit_id = here.audit({"c": "hang"})
    _cancel_during_the_third(here, audit_id)

    report = here.report(audit_id)
    assert here.row(audit_id).status == "cancelled"
    assert report["audit_id"] == audit_id
    assert report["limits"] == ["a was done", "b was done"]
    assert report["gate"]["passed"] is False
    assert "cancelled" in report["gate"]["reasons"][0]


def test_a_cancelled_audit_that_cannot_be_concluded_says_why(here: Stage) -> None:
    audit_id = here.audit({"c": "hang", "conclude": "exception"})
    _cancel_during_the_third(here, audit_id)

    assert (here.row(audit_id).status, here.row(audit_id).error) == ("cancelled", None)
    with here.database.reading() as session:
        conclusion = rounds.conclusion_of(session, audit_id)
        assert conclusion is not None
        assert conclusion.error is not None
        assert conclusion.error["type"] == "/problems/internal"


def test_a_lost_lease_stops_the_work_and_nothing_is_written(here: Stage) -> None:
    audit_id = here.audit({"a": "hang"})
    thread = in_background(here, audit_id)
    wait_for(lambda: count(here, PieceRow, status="running", kind="experiment"))

    with here.database.transaction() as session:
        piece = session.scalars(
            select(PieceRow).filter_by(status="running", kind="experiment")
        ).one()
        piece.token = OTHER
    thread.join(timeout=10)

    assert not thread.is_alive()
    assert count(here, PieceRow, token=OTHER, status="running") == 1
    with here.database.reading() as session:  # it went on with the other experiment
        [body] = session.scalars(select(OutcomeRow.body))
    assert json.loads(body)["values"]["name"] == "b"


def test_a_stopping_worker_gives_its_piece_back(here: Stage) -> None:
    audit_id = here.audit({"a": "hang"})
    thread = in_background(here, audit_id)
    wait_for(lambda: count(here, PieceRow, status="running", kind="experiment"))

    here.stopping.set()
    thread.join(timeout=10)

    ready = {"subject_id": audit_id, "kind": "experiment", "status": "ready"}
    assert count(here, PieceRow, **ready, attempts=0, token=None) == 2
    assert here.row(audit_id).status == "running"
    with here.database.reading() as session:
        assert outbox.has_due(session, database_time(session))


def test_an_inspection_is_written_to_the_model(here: Stage) -> None:
    model_id = here.model({})

    here.turn.take(model_id)

    with here.database.reading() as session:
        model = session.get(ModelRow, model_id)
        assert model is not None
        assert model.inspection == {
            "status": "ok",
            "facts": {"parameters": 7, "format": "torchscript"},
            "problem": None,
        }


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ("problem", "unusable-model"),
        ("segfault", "crashed"),
        ("exception", "internal"),
    ],
)
def test_an_inspection_that_fails_says_why(here: Stage, how: str, problem: str) -> None:
    model_id = here.model({"inspect": how})

    here.turn.take(model_id)

    with here.database.reading() as session:
        model = session.get(ModelRow, model_id)
        assert model is not None
        assert model.inspection["status"] == "failed"
        assert model.inspection["problem"]["type"] == f"/problems/{problem}"


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_file_that_is_gone_or_damaged_fails_the_audit(
    here: Stage, tmp_path: Path, *, is_damaged: bool
) -> None:
    audit_id = here.audit({})
    with here.database.reading() as session:
        model = session.get(ModelRow, here.row(audit_id).model_id)
        assert model is not None
    path = tmp_path / "blobs" / model.sha256[:2] / model.sha256
    if is_damaged:
        path.write_bytes(path.read_bytes().replace(b"{", b"[", 1))
    else:
        path.unlink()

    here.turn.take(audit_id)

    error = here.row(audit_id).error
    assert error is not None
    assert error["type"] == "/problems/internal"
    assert "not in the store" in error["detail"]


def test_an_audit_goes_on_though_somebody_clears_the_scratch_folder(
    here: Stage, tmp_path: Path
) -> None:
    audit_id = here.audit({"seconds": 1.0, "writes": True})
    here.companion.warm_up()
    turn = in_background(here, audit_id)
    wait_for(lambda: here.row(audit_id).progress.get("detail") == "0 done")

    shutil.rmtree(tmp_path / "scratch")
    turn.join(30)

    assert (here.row(audit_id).status, here.row(audit_id).error) == ("succeeded", None)


@pytest.mark.parametrize(("seconds", "status"), [(5.0, "succeeded"), (0.0, "running")])
def test_a_worker_waits_a_moment_for_what_another_will_ask_for(
    here: Stage, monkeypatch: pytest.MonkeyPatch, seconds: float, status: str
) -> None:
    here.set(linger_seconds=seconds)
    audit_id = here.audit({})
    recorder = here.turn._recorder
    claim, outlook = recorder.claim, recorder.outlook
    claimed: list[str] = []

    def claim_unless_another_has_it(subject_id: str) -> Claim | None:
        claimed.append(subject_id)
        return None if len(claimed) == 2 else claim(subject_id)

    looks = iter(["busy", "busy"])
    monkeypatch.setattr(recorder, "claim", claim_unless_another_has_it)
    monkeypatch.setattr(
        recorder, "outlook", lambda audit_id: next(looks, None) or outlook(audit_id)
    )

    here.turn.take(audit_id)

    assert here.row(audit_id).status == status


def test_a_worker_opens_an_audit_while_another_takes_its_first_piece(
    here: Stage,
) -> None:
    audit_id = here.audit({})
    here.set(linger_seconds=9.0)
    first = claimed_elsewhere(here, audit_id)

    turn = in_background(here, audit_id)
    wait_for(lambda: here.companion._audit_id == audit_id)
    assert count(here, PieceRow, status="running") == 1  # it has none of its own
    with here.database.transaction() as session:
        work.release(session, first, now=database_time(session))
    turn.join(timeout=20)

    assert here.row(audit_id).status == "succeeded"
    assert len(child_pids(here)) == 1


@pytest.mark.parametrize("fault", ["problem", "exception", "segfault", "hang"])
def test_what_cannot_be_opened_is_for_its_worker_to_say(
    here: Stage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: str,
) -> None:
    monkeypatch.setattr("worker.turn.AHEAD_SECONDS", 0.5)
    audit_id = here.audit({"open": fault})
    claimed_elsewhere(here, audit_id)

    with caplog.at_level("INFO", "worker.turn"):
        assert here.turn.take(audit_id) == 0

    assert f"{audit_id} was not opened ahead" in caplog.text
    assert (here.row(audit_id).status, here.row(audit_id).error) == ("running", None)
    assert here.companion._child is None


def test_a_turn_ends_so_that_others_are_served(here: Stage) -> None:
    here.set(turn_seconds=0.0)
    audit_id = here.audit({})
    before = count(here, OutboxRow, subject_id=audit_id)

    assert here.turn.take(audit_id) == 1
    assert count(here, OutboxRow, subject_id=audit_id) == before + 1


def test_a_worker_is_seen_while_it_lives(here: Stage) -> None:
    wait_for(lambda: count(here, WorkerRow, id="here") == 1)

    assert count(here, WorkerRow) == 1
