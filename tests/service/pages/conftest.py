from collections.abc import Iterator

import pytest

from tests.service.pages.page_scene import Scene, scene


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("pages")) as made:
        yield made


@pytest.fixture
def here(running: Scene) -> Scene:
    running.forget()
    return running
