from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from sqlalchemy import delete

from service.app import create_app
from service.keys import BOOTSTRAP_NAME
from service.settings import Settings
from service.store.tables import KeyRow, Table
from tests.service.api.app_client import AppClient
from tests.service.api.callers import ADMIN_KEY, bearer, new_key


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        data_dir=tmp_path_factory.mktemp("data"),
        api_key=ADMIN_KEY,
        poll_interval_seconds=0.02,
        upload_limit_bytes=5_000_000,
        json_limit_bytes=10_000,
    )


@pytest.fixture(scope="session")
def only_app(settings: Settings) -> Iterator[FastAPI]:
    made = create_app(settings)
    yield made
    made.state.desk.close()


@pytest.fixture
def app(only_app: FastAPI, settings: Settings) -> FastAPI:
    """The application, empty but for the first key; to make one takes long."""
    with only_app.state.desk.database.transaction() as session:
        for table in reversed(Table.metadata.sorted_tables):
            if table.name != KeyRow.__tablename__:
                session.execute(table.delete())
        session.execute(delete(KeyRow).where(KeyRow.name != BOOTSTRAP_NAME))
    for path in (settings.data_dir / "blobs").rglob("*"):
        if path.is_file():
            path.unlink()
    return only_app


@pytest.fixture
def admin(app: FastAPI) -> AppClient:
    return AppClient(app, headers=bearer(ADMIN_KEY))


@pytest.fixture
def stranger(app: FastAPI) -> AppClient:
    return AppClient(app)


@pytest.fixture
def viewer(app: FastAPI, admin: AppClient) -> AppClient:
    return AppClient(app, headers=bearer(new_key(admin, "viewer")))


@pytest.fixture
def submitter(app: FastAPI, admin: AppClient) -> AppClient:
    return AppClient(app, headers=bearer(new_key(admin, "submitter")))
