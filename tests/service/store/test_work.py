from datetime import datetime, timedelta
from threading import Barrier, Thread

import pytest
from sqlalchemy import delete, func, select

from service.contract.errors import Crashed, UnusableModel
from service.store import ending, rounds, work, workers
from service.store.database import Database
from service.store.tables import (
    AuditRow,
    ModelRow,
    OutboxRow,
    OutcomeRow,
    PieceRow,
    ReportRow,
)
from tests.service.store.rows import NOW, add_audit, add_model, worker_row

LEASE = timedelta(seconds=15)
LATER = NOW + timedelta(minutes=1)


def new_audit(database: Database) -> str:
    with database.transaction() as session:
        return add_audit(session)


def claim(
    database: Database, subject_id: str, *, worker: str = "one"
) -> work.Claim | None:
    with database.transaction() as session:
        return work.claim(session, subject_id, worker=worker, lease=LEASE, now=NOW)


def claimed(database: Database, subject_id: str, *, worker: str = "one") -> work.Claim:
    held = claim(database, subject_id, worker=worker)
    assert held is not None
    return held


def ask(
    database: Database,
    held: work.Claim,
    *names: str,
    workers: int = 1,
    now: datetime = NOW,
) -> None:
    asked = rounds.Round(
        stage="screen",
        fraction=0.2,
        detail="training",
        experiments=[(name, {"name": name}) for name in names],
    )
    with database.transaction() as session:
        rounds.record_round(session, held, asked, workers=workers, now=now)


def answer(database: Database, held: work.Claim) -> None:
    with database.transaction() as session:
        rounds.record_outcome(session, held, '{"n": 1}', 1.5, now=NOW)


def in_round(database: Database, *names: str, now: datetime = NOW) -> str:
    """Make an audit whose first round asked for these experiments."""
    audit_id = new_audit(database)
    ask(database, claimed(database, audit_id), *names, now=now)
    return audit_id


def audit_row(database: Database, audit_id: str) -> AuditRow:
    with database.reading() as session:
        audit = session.get(AuditRow, audit_id)
        assert audit is not None
        return audit


def count(database: Database, table: type, **values: object) -> int:
    with database.reading() as session:
        query = select(func.count()).select_from(table).filter_by(**values)
        return session.execute(query).scalar_one()


def reap(database: Database, subject_id: str) -> int:
    with database.transaction() as session:
        return ending.reap(session, subject_id, now=LATER)


def test_the_first_claim_starts_the_audit(database: Database) -> None:
    audit_id = new_audit(database)

    held = claimed(database, audit_id)

    audit = audit_row(database, audit_id)
    assert (held.kind, held.digest, held.attempt) == ("advance", "0", 1)
    assert (audit.status, audit.started_at, audit.version) == ("running", NOW, 2)


def test_a_piece_is_claimed_once(database: Database) -> None:
    audit_id = new_audit(database)
    claimed(database, audit_id)

    assert claim(database, audit_id, worker="two") is None


def test_workers_that_claim_at_once_get_different_pieces(database: Database) -> None:
    names = [f"e{number}" for number in range(12)]
    audit_id = in_round(database, *names)
    got: list[str] = []
    start = Barrier(4)

    def work_on_it(worker: str) -> None:
        start.wait()
        while held := claim(database, audit_id, worker=worker):
            got.append(held.digest)

    threads = [Thread(target=work_on_it, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(got) == sorted(names)


def test_two_workers_that_finish_a_round_together_close_it_once(
    database: Database,
) -> None:
    audit_id = in_round(database, "a", "b")
    first, second = claimed(database, audit_id), claimed(database, audit_id)
    other = Thread(target=answer, args=(database, second))
    version = audit_row(database, audit_id).version

    with database.transaction() as session:
        rounds.record_outcome(session, first, "{}", 1.0, now=NOW)
        other.start()
        other.join(timeout=0.5)
        overlapped = other.is_alive()  # it waits until this one is committed
    other.join()

    assert overlapped
    assert audit_row(database, audit_id).version == version + 2
    assert count(database, PieceRow, subject_id=audit_id, kind="advance") == 2
    assert claimed(database, audit_id).digest == "1"


def test_an_outcome_without_its_token_is_refused(database: Database) -> None:
    audit_id = in_round(database, "a")
    late = claimed(database, audit_id)
    assert reap(database, audit_id) == 1
    claimed(database, audit_id, worker="two")

    with pytest.raises(work.LeaseLostError):
        answer(database, late)

    assert count(database, OutcomeRow) == 0


def test_a_heartbeat_keeps_the_lease(database: Database) -> None:
    audit_id = new_audit(database)
    held = claimed(database, audit_id)
    with database.transaction() as session:
        assert work.heartbeat(session, held, lease=LEASE, now=LATER)

    assert reap(database, audit_id) == 0


def test_a_heartbeat_without_the_token_says_so(database: Database) -> None:
    audit_id = new_audit(database)
    held = claimed(database, audit_id)
    reap(database, audit_id)

    with database.transaction() as session:
        assert not work.heartbeat(session, held, lease=LEASE, now=LATER)


@pytest.mark.parametrize(
    ("alive", "busy", "invited"), [(1, 0, 1), (2, 0, 2), (3, 2, 1)]
)
def test_an_audit_invites_a_second_worker_that_no_audit_needs(
    database: Database, alive: int, busy: int, invited: int
) -> None:
    with database.transaction() as session:
        for number in range(alive):
            workers.register(session, worker_row(f"worker {number}"))
    for number in range(busy):
        claimed(database, new_audit(database), worker=f"worker {number}")

    audit_id = new_audit(database)

    assert count(database, OutboxRow, subject_id=audit_id) == invited


def test_an_audit_invites_nobody_that_another_waits_for(database: Database) -> None:
    with database.transaction() as session:
        for number in range(2):
            workers.register(session, worker_row(f"worker {number}"))
    new_audit(database)

    audit_id = new_audit(database)

    assert count(database, OutboxRow, subject_id=audit_id) == 1


def test_a_worker_is_told_what_to_expect_of_an_audit(database: Database) -> None:
    audit_id = new_audit(database)
    expected = []
    for step in ("asked for", "inspected", "claimed", "another comes", "ended"):
        with database.transaction() as session:
            match step:
                case "inspected":
                    inspections = PieceRow.kind.like("inspect%")
                    session.execute(delete(PieceRow).where(inspections))
                case "claimed":
                    work.claim(session, audit_id, worker="one", lease=LEASE, now=NOW)
                case "another comes":
                    add_model(session)
                case "ended":
                    ending.cancel(session, audit_id, now=NOW)
            expected.append(work.outlook(session, audit_id))

    assert expected == ["ready", "ready", "busy", "elsewhere", "over"]


def test_a_lost_lease_invites_another_worker(database: Database) -> None:
    audit_id = new_audit(database)
    claimed(database, audit_id)

    reap(database, audit_id)

    assert count(database, OutboxRow, subject_id=audit_id) == 2
    assert claimed(database, audit_id, worker="two").attempt == 2


def test_an_audit_whose_worker_is_lost_too_often_fails_visibly(
    database: Database,
) -> None:
    audit_id = in_round(database, "a", "b")
    for _ in range(work.MAX_ATTEMPTS):
        claimed(database, audit_id)
        reap(database, audit_id)

    audit = audit_row(database, audit_id)
    assert audit.status == "failed"
    assert audit.finished_at == LATER
    assert audit.error is not None
    assert audit.error["type"] == "/problems/crashed"
    assert claim(database, audit_id) is None


def test_a_child_killed_twice_fails_the_audit(database: Database) -> None:
    audit_id = new_audit(database)
    crash = Crashed("The process was killed by signal 11.")
    again = []
    for _ in range(2):
        held = claimed(database, audit_id)
        with database.transaction() as session:
            again.append(ending.died(session, held, crash, now=NOW))

    audit = audit_row(database, audit_id)
    assert again == [True, False]
    assert audit.status == "failed"
    assert audit.error is not None
    assert audit.error["detail"] == "The process was killed by signal 11."


def test_a_stopping_worker_gives_its_piece_back_for_free(database: Database) -> None:
    audit_id = new_audit(database)
    for _ in range(work.MAX_ATTEMPTS + 1):
        held = claimed(database, audit_id)
        with database.transaction() as session:
            work.release(session, held, now=NOW)

    assert claimed(database, audit_id).attempt == 1


def test_a_known_outcome_is_not_computed_again(database: Database) -> None:
    answer(database, claimed(database, in_round(database, "a")))

    audit_id = in_round(database, "a", "b")

    held = claimed(database, audit_id)
    assert held.digest == "b"
    answer(database, held)
    with database.reading() as session:
        assert rounds.outcomes_of(session, audit_id) == [
            ({"name": "a"}, {"n": 1}),
            ({"name": "b"}, {"n": 1}),
        ]


def test_a_round_of_known_outcomes_asks_the_auditor_at_once(
    database: Database,
) -> None:
    answer(database, claimed(database, in_round(database, "a")))

    audit_id = in_round(database, "a")

    assert claimed(database, audit_id).kind == "advance"


def test_an_outcome_that_another_audit_made_meanwhile_is_taken(
    database: Database,
) -> None:
    first, second = in_round(database, "a"), in_round(database, "a")
    held = claimed(database, second)
    answer(database, claimed(database, first))

    with database.transaction() as session:
        assert rounds.take_known_outcome(session, held, now=NOW)

    assert claimed(database, second).kind == "advance"


def test_outcomes_that_other_audits_made_are_counted(database: Database) -> None:
    first = in_round(database, "a")
    answer(database, claimed(database, first))
    second = in_round(database, "a", "b", now=LATER)
    answer(database, claimed(database, second))

    with database.reading() as session:
        assert rounds.count_taken_over(session, first) == (0, 1)
        assert rounds.count_taken_over(session, second) == (1, 2)


def test_an_auditor_that_asks_the_same_again_is_stopped(database: Database) -> None:
    audit_id = in_round(database, "a")
    answer(database, claimed(database, audit_id))

    with pytest.raises(rounds.NoNewExperimentsError):
        ask(database, claimed(database, audit_id), "a")


def test_as_many_workers_are_invited_as_can_help(database: Database) -> None:
    audit_id = new_audit(database)
    ask(database, claimed(database, audit_id), "a", "b", "c", workers=8)

    # One invitation came with the audit; its worker goes on, so two more can help.
    assert count(database, OutboxRow, subject_id=audit_id) == 3


def test_progress_never_falls_and_each_change_has_a_version(
    database: Database,
) -> None:
    audit_id = in_round(database, "a", "b")
    held = claimed(database, audit_id)
    seen = [audit_row(database, audit_id)]

    for share in (0.5, 0.2, 0.9):
        with database.transaction() as session:
            rounds.record_progress(session, held, share, "epoch 3", now=LATER)
        seen.append(audit_row(database, audit_id))
    answer(database, held)
    seen.append(audit_row(database, audit_id))

    fractions = [audit.progress["fraction"] for audit in seen]
    versions = [audit.version for audit in seen]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0.2
    assert 0.2 < fractions[-1] < 1
    assert versions == list(range(versions[0], versions[0] + len(seen)))
    assert seen[-1].progress["detail"] == "epoch 3"
    assert seen[-1].progress["eta_seconds"] is not None


def test_progress_without_the_token_changes_nothing(database: Database) -> None:
    audit_id = in_round(database, "a")
    held = claimed(database, audit_id)
    reap(database, audit_id)
    before = audit_row(database, audit_id).version

    with database.transaction() as session:
        rounds.record_progress(session, held, 0.9, "late", now=LATER)

    assert audit_row(database, audit_id).version == before


def test_a_report_ends_the_audit_once(database: Database) -> None:
    audit_id = new_audit(database)
    held = claimed(database, audit_id)

    def report() -> None:
        with database.transaction() as session:
            rounds.record_report(session, held, "{}", remedy_sha256="ab", now=NOW)

    report()
    with pytest.raises(work.LeaseLostError):
        report()

    audit = audit_row(database, audit_id)
    assert (audit.status, audit.remedy_sha256) == ("succeeded", "ab")
    assert audit.progress["fraction"] == 1.0
    assert count(database, ReportRow) == 1


def test_a_cancelled_audit_stays_cancelled(database: Database) -> None:
    audit_id = in_round(database, "a", "b")
    answer(database, claimed(database, audit_id))
    held = claimed(database, audit_id)

    with database.transaction() as session:
        ending.cancel(session, audit_id, now=NOW)
    version = audit_row(database, audit_id).version
    with pytest.raises(work.LeaseLostError):
        answer(database, held)
    with database.transaction() as session:
        ending.cancel(session, audit_id, now=LATER)
        assert not work.is_held(session, held)
    reap(database, audit_id)

    audit = audit_row(database, audit_id)
    assert (audit.status, audit.finished_at) == ("cancelled", NOW)
    assert audit.version == version
    assert claim(database, audit_id) is None
    assert count(database, OutcomeRow) == 1


def cancelled_after_a_round(database: Database) -> str:
    audit_id = in_round(database, "a")
    answer(database, claimed(database, audit_id))
    with database.transaction() as session:
        ending.cancel(session, audit_id, now=NOW)
    return audit_id


def test_a_cancelled_audit_is_concluded_where_a_round_was_done(
    database: Database,
) -> None:
    audit_id = cancelled_after_a_round(database)
    before = audit_row(database, audit_id)

    held = claimed(database, audit_id)
    with database.transaction() as session:
        rounds.record_report(session, held, "{}", remedy_sha256=None, now=LATER)

    audit = audit_row(database, audit_id)
    assert (held.kind, before.has_report, audit.has_report) == ("conclude", False, True)
    assert (audit.status, audit.finished_at) == ("cancelled", NOW)
    assert audit.version > before.version  # a poll sees the link
    assert claim(database, audit_id) is None


def test_a_conclusion_survives_a_lost_worker(database: Database) -> None:
    audit_id = cancelled_after_a_round(database)
    lost = claimed(database, audit_id)

    reap(database, audit_id)

    assert claimed(database, audit_id, worker="two").token != lost.token


def test_a_conclusion_that_fails_leaves_the_audit_cancelled(
    database: Database,
) -> None:
    audit_id = cancelled_after_a_round(database)
    before = audit_row(database, audit_id)
    held = claimed(database, audit_id)

    with database.transaction() as session:
        ending.fail(session, held, Crashed("It took too long."), now=LATER)

    audit = audit_row(database, audit_id)
    assert (audit.status, audit.error) == ("cancelled", None)
    assert (audit.finished_at, audit.version) == (NOW, before.version)
    assert claim(database, audit_id) is None


def test_a_finished_audit_cannot_be_cancelled(database: Database) -> None:
    audit_id = new_audit(database)
    held = claimed(database, audit_id)
    with database.transaction() as session:
        rounds.record_report(session, held, "{}", remedy_sha256=None, now=NOW)

    with database.transaction() as session:
        ending.cancel(session, audit_id, now=LATER)

    assert audit_row(database, audit_id).status == "succeeded"


def test_a_problem_fails_audit_and_open_pieces(database: Database) -> None:
    audit_id = in_round(database, "a", "b", "c")
    held = claimed(database, audit_id)
    other = claimed(database, audit_id, worker="two")

    with database.transaction() as session:
        ending.fail(session, held, UnusableModel("It has two inputs."), now=NOW)

    audit = audit_row(database, audit_id)
    assert audit.status == "failed"
    assert audit.error is not None
    assert audit.error["type"] == "/problems/unusable-model"
    assert count(database, PieceRow, subject_id=audit_id, status="failed") == 3
    with pytest.raises(work.LeaseLostError):
        answer(database, other)


def test_an_inspection_is_written_to_its_upload(database: Database) -> None:
    with database.transaction() as session:
        model_id = add_model(session)
    held = claimed(database, model_id)

    with database.transaction() as session:
        facts = {"status": "ok", "facts": {"parameters": 7}, "problem": None}
        work.record_inspection(session, held, facts, now=NOW)

    with database.reading() as session:
        model = session.get(ModelRow, model_id)
        assert model is not None
        assert model.inspection["facts"] == {"parameters": 7}
    assert claim(database, model_id) is None


def test_an_inspection_that_is_given_up_is_failed(database: Database) -> None:
    with database.transaction() as session:
        model_id = add_model(session)
    for _ in range(work.MAX_ATTEMPTS):
        claimed(database, model_id)
        reap(database, model_id)

    with database.reading() as session:
        model = session.get(ModelRow, model_id)
        assert model is not None
        assert model.inspection["status"] == "failed"
        assert model.inspection["problem"]["type"] == "/problems/crashed"


def test_lost_leases_are_found_without_a_lock(database: Database) -> None:
    audit_id = new_audit(database)
    claimed(database, audit_id)

    with database.reading() as session:
        assert ending.subjects_with_lost_leases(session, NOW) == []
        assert ending.subjects_with_lost_leases(session, LATER) == [audit_id]
