from collections.abc import Iterator
from pathlib import Path

import pytest

from service.store.blobs import BlobStore, open_blobs
from service.store.database import Database
from tests.service.store.places import (
    migrated,
    new_postgresql,
    postgresql_server,
    s3_server,
)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    with postgresql_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/test.sqlite3"
    else:
        with new_postgresql(request.getfixturevalue("postgresql")) as url:
            yield url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with migrated(database_url) as database:
        yield database


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture(params=["folder", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "folder":
        return open_blobs(str(tmp_path / "blobs"), cache=tmp_path / "cache")
    return open_blobs(request.getfixturevalue("s3"), cache=tmp_path / "cache")
