from collections.abc import Iterator
from pathlib import Path

import pytest

from service.store.blobs import open_blobs
from service.store.database import Database
from tests.service.store.places import migrated, new_postgresql, postgresql_server
from tests.worker.queue.scenes import Stage, stage


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    with postgresql_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        with migrated(f"sqlite:///{tmp_path}/test.sqlite3") as database:
            yield database
    else:
        with (
            new_postgresql(request.getfixturevalue("postgresql")) as url,
            migrated(url) as database,
        ):
            yield database


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Stage]:
    blobs = open_blobs(str(tmp_path / "blobs"), cache=tmp_path / "cache")
    with (
        migrated(f"sqlite:///{tmp_path}/test.sqlite3") as database,
        stage(database, blobs, tmp_path / "scratch") as scene,
    ):
        yield scene
