"""Brings back what was lost: leases of dead workers, messages the broker forgot.

What nobody can bring back is removed: files that were on their way in.
"""

import logging
import threading
from pathlib import Path

from service.contract.errors import Unavailable
from service.store import ending, outbox, workers
from service.store.blobs import remove_abandoned
from service.store.database import Database, database_time

LOG = logging.getLogger(__name__)
SUBJECTS_A_WORKER = 2  # invited again at once, for each worker that has nothing to do


def reap(database: Database) -> int:
    """Take back what lost its lease; returns how many pieces that were.

    Raises:
        Unavailable: the database does not answer.
    """
    with database.reading() as session:
        subjects = ending.subjects_with_lost_leases(session, database_time(session))
    taken = 0
    for subject_id in subjects:
        with database.transaction() as session:
            now = database_time(session)
            count = ending.reap(session, subject_id, now=now)
        LOG.warning("took %d lost leases of %s back", count, subject_id)
        taken += count
    return taken


def resend(database: Database) -> int:
    """Invite again to work that waits although workers have nothing to do.

    While all workers are busy nothing is sent, so nothing piles up.

    Returns:
        How many invitations were written.

    Raises:
        Unavailable: the database does not answer.
    """
    with database.reading() as session:
        now = database_time(session)
        limit = SUBJECTS_A_WORKER * len(workers.idle(session, now))
        if not limit or not outbox.stranded(session, now, quiet=outbox.QUIET, limit=1):
            return 0
    with database.transaction() as session:
        now = database_time(session)
        found = outbox.stranded(session, now, quiet=outbox.QUIET, limit=limit)
        for subject_id, queue in found:
            outbox.invite(session, subject_id, queue=queue, now=now)
    LOG.info("invited again to %d subjects", len(found))
    return len(found)


class Upkeep:
    """Reaps and sends again, until told to stop."""

    def __init__(
        self, database: Database, *, incoming: Path, interval_seconds: float
    ) -> None:
        """Prepare.

        Args:
            database: where leases and messages are.
            incoming: the folder of files on their way in.
            interval_seconds: how often to look.
        """
        self._database = database
        self._incoming = incoming
        self._interval = interval_seconds
        self._rounds = 0

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop."""
        while not stop.is_set():
            try:
                self.once()
            except Unavailable as error:
                LOG.warning("upkeep waits: %s", error.detail)
            stop.wait(self._interval)

    def once(self) -> None:
        """Do all of it once.

        Raises:
            Unavailable: the database does not answer.
        """
        reap(self._database)
        resend(self._database)
        if self._rounds % 100 == 0:
            with self._database.transaction() as session:
                outbox.prune(session, database_time(session))
            remove_abandoned(self._incoming)
        self._rounds += 1
