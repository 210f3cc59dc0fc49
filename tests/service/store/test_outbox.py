from datetime import datetime, timedelta
from threading import Barrier, Thread

from sqlalchemy import select

from service.store import outbox, workers
from service.store.database import Database
from service.store.tables import AuditRow, PieceRow
from service.store.work import claim
from tests.service.store.rows import NOW, add_audit, worker_row

SOON = NOW + timedelta(seconds=20)
QUIET = timedelta(seconds=10)


def take(database: Database, *, at: object = NOW) -> list[outbox.Invitation]:
    with database.transaction() as session:
        return outbox.take(session, at)  # type: ignore[arg-type]


def test_an_invitation_is_sent_once(database: Database) -> None:
    with database.transaction() as session:
        outbox.invite(session, "aud_a", queue="gpu", now=NOW)

    [invitation] = take(database)
    with database.transaction() as session:
        outbox.mark_sent(session, [invitation.id], NOW)

    assert invitation.subject_id == "aud_a"
    assert take(database, at=SOON) == []


def test_an_invitation_that_was_not_sent_is_tried_again_later(
    database: Database,
) -> None:
    with database.transaction() as session:
        outbox.invite(session, "aud_a", queue="gpu", now=NOW)
    take(database)

    assert take(database) == []
    assert len(take(database, at=SOON)) == 1


def test_relays_share_the_invitations(database: Database) -> None:
    with database.transaction() as session:
        outbox.invite(session, "aud_a", queue="cpu", now=NOW, count=50)
    taken: list[int] = []
    start = Barrier(3)

    def relay() -> None:
        start.wait()
        for _ in range(10):
            with database.transaction() as session:
                taken.extend(i.id for i in outbox.take(session, NOW, limit=5))

    threads = [Thread(target=relay) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(taken) == 50
    assert len(set(taken)) == 50


def test_work_that_nobody_was_invited_to_lately_is_stranded(
    database: Database,
) -> None:
    def stranded(at: object) -> list[str]:
        with database.reading() as session:
            found = outbox.stranded(session, at, quiet=QUIET, limit=10)  # type: ignore[arg-type]
        return [subject for subject, _ in found if subject == audit_id]

    with database.transaction() as session:
        audit_id = add_audit(session)
    assert stranded(SOON) == []  # not sent yet, so the relay will

    with database.transaction() as session:
        outbox.mark_sent(session, [i.id for i in outbox.take(session, NOW)], NOW)
    assert stranded(NOW + timedelta(seconds=5)) == []
    assert stranded(SOON) == [audit_id]

    with database.transaction() as session:
        claim(session, audit_id, worker="a", lease=QUIET, now=NOW)
    assert stranded(SOON) == []


def test_an_audit_left_in_the_middle_is_no_audit_that_waits_its_turn(
    database: Database,
) -> None:
    """The first was invited to before its last piece, the second since."""
    later = NOW + timedelta(minutes=5)

    def interrupted(at: datetime = later) -> list[str]:
        with database.reading() as session:
            return outbox.interrupted(session, at, quiet=QUIET)

    with database.transaction() as session:
        left, waits, fresh = (add_audit(session) for _ in range(3))
        for audit_id in (left, waits):
            audit = session.get_one(AuditRow, audit_id)
            audit.status = "running"
            piece = session.scalars(
                select(PieceRow).filter_by(subject_id=audit_id)
            ).one()
            piece.status, piece.finished_at = "done", NOW + timedelta(minutes=1)
            more = PieceRow(id=audit_id, subject_id=audit_id, kind="experiment",
                            digest="d", body={}, created_at=NOW)  # fmt: skip
            session.add(more)
        outbox.invite(session, waits, queue="gpu", now=NOW + timedelta(minutes=2))

    assert interrupted() == [left]
    assert interrupted(NOW + timedelta(seconds=65)) == []  # someone may go on

    with database.transaction() as session:
        session.get_one(PieceRow, waits).attempts = 1  # it was lost, and taken back
    assert interrupted() == [left, waits]

    with database.transaction() as session:
        for audit_id in (left, waits):
            assert claim(session, audit_id, worker="a", lease=QUIET, now=later)
    assert interrupted() == []
    assert fresh not in interrupted()


def test_old_invitations_are_forgotten(database: Database) -> None:
    with database.transaction() as session:
        outbox.invite(session, "aud_a", queue="cpu", now=NOW, count=2)
        first = outbox.take(session, NOW, limit=1)
        outbox.mark_sent(session, [first[0].id], NOW)

    with database.transaction() as session:
        outbox.prune(session, NOW + timedelta(hours=2))

    assert len(take(database)) == 1


def test_workers_are_alive_while_they_are_seen(database: Database) -> None:
    with database.transaction() as session:
        workers.register(session, worker_row("old", seen_at=NOW - timedelta(minutes=2)))
        workers.register(session, worker_row("new"))
        workers.register(session, worker_row("new"))

    with database.transaction() as session:
        assert [w.id for w in workers.alive(session, NOW)] == ["new"]
        assert workers.seen(session, "old", NOW)
        assert [w.id for w in workers.alive(session, NOW)] == ["new", "old"]
        workers.leave(session, "old")
        assert not workers.seen(session, "old", NOW)


def test_a_worker_with_a_piece_is_not_idle(database: Database) -> None:
    with database.transaction() as session:
        workers.register(session, worker_row("busy"))
        workers.register(session, worker_row("idle"))
        audit_id = add_audit(session)
        claim(session, audit_id, worker="busy", lease=QUIET, now=NOW)

    with database.reading() as session:
        assert [w.id for w in workers.idle(session, NOW)] == ["idle"]
