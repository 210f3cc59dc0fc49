"""The database: one synchronous session style for SQLite and PostgreSQL."""

import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DatabaseError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from service.contract.errors import Unavailable
from service.store.tables import IdempotencyRow

BUSY_TIMEOUT_SECONDS = 20
HASTE_SECONDS = 2
LOCK_POLL_SECONDS = 0.01
CONNECT_TIMEOUT_SECONDS = 5
STATEMENT_TIMEOUT_SECONDS = 60
POOL_SIZE = 10
POOL_OVERFLOW = 30
POOL_WAIT_SECONDS = 10
MIGRATION_LOCK = 0x6D6F64656C  # any number, the same in every process
MIGRATIONS = Path(__file__).parent / "migrations"

_FAULTS = (DatabaseError, InterfaceError, PoolTimeoutError)


class DatabaseDown(Unavailable):
    """The database does not answer, is damaged, or is locked for too long."""

    def __init__(self, detail: str = "The database does not answer.") -> None:
        super().__init__(detail)


class UnknownDatabaseError(ValueError):
    """An URL of a kind that is not supported."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"expected sqlite:// or postgresql://, got {kind}://")


class Database:
    """Gives out sessions; safe to share between threads, not across a fork."""

    def __init__(self, url: str) -> None:
        """Prepare the engine; nothing is connected yet.

        Args:
            url: `sqlite:///FILE` or `postgresql://…` (psycopg 3 is used).

        Raises:
            UnknownDatabaseError: another kind of database.
        """
        address = _address(url)
        self.dialect: str = address.get_backend_name()
        self.engine: Engine = (
            _sqlite(address) if self.dialect == "sqlite" else _postgresql(address)
        )
        self._hasty = (
            _sqlite(address, wait_seconds=HASTE_SECONDS)
            if self.dialect == "sqlite"
            else self.engine
        )
        self._readers = self.engine.execution_options(reading=True)
        self._glances = self.engine.execution_options(glancing=True)

    @contextmanager
    def transaction(self, *, hasty: bool = False) -> Iterator[Session]:
        """Open a session that writes; commit at the end, roll back on an error.

        On SQLite the write lock is taken at once, so that what was read cannot change
        before it is written; `hasty` gives up after two seconds without it.

        Raises:
            DatabaseDown: it does not answer, is damaged, or is locked for too long.
        """
        with (
            _telling_if_down(),
            Session(
                self._hasty if hasty else self.engine, expire_on_commit=False
            ) as session,
            session.begin(),
        ):
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a session that only reads; it never waits for a writer.

        Raises:
            DatabaseDown: the database does not answer.
        """
        with (
            _telling_if_down(),
            Session(self._readers, expire_on_commit=False) as session,
        ):
            yield session

    @contextmanager
    def glancing(self) -> Iterator[Connection]:
        """Open a connection for one query, at a fifth of the price of a session.

        Raises:
            DatabaseDown: the database does not answer.
        """
        with _telling_if_down(), self._glances.connect() as connection:
            yield connection

    def ping(self) -> None:
        """Ask the database for one row.

        Raises:
            DatabaseDown: it does not answer.
        """
        with self.reading() as session:
            session.execute(text("SELECT 1"))

    def probe(self) -> None:
        """Write a row and take it back.

        Raises:
            DatabaseDown: nothing can be written.
        """
        row = IdempotencyRow(
            project="",
            route="probe",
            key=secrets.token_hex(16),
            request_sha256="",
            resource_id="",
            answer={},
            created_at=datetime.now(UTC),
        )
        with self.transaction(hasty=True) as session:
            session.add(row)
            session.flush()
            session.delete(row)

    def migrate(self) -> None:
        """Bring the tables to the newest version; several processes may do so at once.

        Raises:
            DatabaseDown: the database does not answer.
        """
        with _telling_if_down(), self.engine.begin() as connection:
            if self.dialect == "postgresql":
                connection.execute(
                    text("SELECT pg_advisory_xact_lock(:lock)"),
                    {"lock": MIGRATION_LOCK},
                )
            if not _is_newest(connection):
                _upgrade(connection)

    def close(self) -> None:
        """Close all pooled connections."""
        self.engine.dispose()
        self._hasty.dispose()


@contextmanager
def _telling_if_down() -> Iterator[None]:
    """Raise DatabaseDown where the database is at fault, not the statement."""
    try:
        yield
    except _FAULTS as fault:
        # Of no kind that is more exact: so the driver names a file that is no database.
        if type(fault) is DatabaseError:
            raise DatabaseDown("The database is damaged.") from fault
        if isinstance(fault, OperationalError) or not isinstance(fault, DatabaseError):
            raise DatabaseDown from fault
        raise


def _is_newest(connection: Connection) -> bool:
    """Say whether nothing is to be done; then Alembic is not even imported."""
    if not inspect(connection).has_table("alembic_version"):
        return False
    found = connection.execute(text("SELECT version_num FROM alembic_version"))
    newest = max(path.stem for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))
    return found.scalars().all() == [newest.partition("_")[0]]


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - a tenth of a second at each start
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _address(url: str) -> URL:
    address = make_url(url.replace("postgres://", "postgresql://", 1))
    kind = address.get_backend_name()
    if kind not in {"sqlite", "postgresql"}:
        raise UnknownDatabaseError(kind)
    driver = "sqlite+pysqlite" if kind == "sqlite" else "postgresql+psycopg"
    return address.set(drivername=driver)


def _sqlite(address: URL, *, wait_seconds: int = BUSY_TIMEOUT_SECONDS) -> Engine:
    engine = create_engine(
        address,
        connect_args={"timeout": wait_seconds, "check_same_thread": False},
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=POOL_WAIT_SECONDS,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:  # noqa: ANN401 - DBAPI
        # The driver would begin transactions by itself, and too late; see
        # https://docs.sqlalchemy.org/en/21/dialects/sqlite.html
        connection.isolation_level = None
        cursor = connection.cursor()
        _keep_a_log(cursor, wait_seconds)
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if "glancing" in options:  # one query sees one state by itself
            return
        reading = options.get("reading", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _keep_a_log(cursor: sqlite3.Cursor, wait_seconds: float) -> None:
    """Write ahead; processes that open a new database together wait for each other.

    SQLite's own timeout does not hold while it changes to this mode.
    """
    until = time.monotonic() + wait_seconds
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() >= until:
                raise
            time.sleep(LOCK_POLL_SECONDS)
        else:
            return


def _postgresql(address: URL) -> Engine:
    return create_engine(
        address,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT_SECONDS}s "
            "-c idle_in_transaction_session_timeout=60s",
            # Notices a server that vanished without a word.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
        },
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=POOL_WAIT_SECONDS,
        pool_pre_ping=True,
    )


def lock_bytes(session: Session, sha256: str) -> None:
    """Keep others from keeping or deleting a file until the transaction ends.

    SQLite lets one transaction write at a time, so there it needs only to have begun.
    """
    connection = session.connection()
    if connection.dialect.name == "postgresql":
        connection.execute(
            text("SELECT pg_advisory_xact_lock(:lock)"),
            {"lock": int.from_bytes(bytes.fromhex(sha256[:16]), signed=True)},
        )


def database_time(session: Session) -> datetime:
    """Read the clock that leases go by: the database's own.

    Machines whose clocks differ then still agree on when a lease ends. SQLite has one
    machine, hence one clock.
    """
    if session.get_bind().dialect.name == "postgresql":
        moment: datetime = session.execute(
            text("SELECT clock_timestamp()")
        ).scalar_one()
        return moment.astimezone(UTC)
    return datetime.now(UTC)
