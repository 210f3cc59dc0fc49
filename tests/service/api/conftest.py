from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from service.app import create_app
from service.settings import Settings
from tests.service.api.app_client import AppClient
from tests.service.api.callers import ADMIN_KEY, bearer, new_key


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path,
        api_key=ADMIN_KEY,
        poll_interval_seconds=0.02,
        upload_limit_bytes=5_000_000,
        json_limit_bytes=10_000,
        _env_file=None,
    )


@pytest.fixture
def app(settings: Settings) -> Iterator[FastAPI]:
    made = create_app(settings)
    yield made
    made.state.desk.close()


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
