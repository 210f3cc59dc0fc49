"""The private broker starts whatever became of its files."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from service.broker import SET_ASIDE, PrivateBroker


def leave_a_queue(data_dir: Path) -> Path:
    """Run the broker once, with something in it; returns the folder of its files."""
    broker = PrivateBroker(data_dir)
    broker.start()
    try:
        with redis.Redis.from_url(broker.url) as client:
            client.set("known", "1")
    finally:
        broker.stop()
    return data_dir / "queue" / "appendonlydir"


def starts(data_dir: Path) -> bool:
    """Say whether the broker starts and takes something."""
    broker = PrivateBroker(data_dir)
    broker.start()
    try:
        with redis.Redis.from_url(broker.url) as client:
            return bool(client.set("new", "1"))
    finally:
        broker.stop()


def empty_list(kept: Path) -> None:
    next(kept.glob("*.manifest")).write_bytes(b"")


def no_file(kept: Path) -> None:
    next(kept.glob("*.base.rdb")).unlink()


def garbage(kept: Path) -> None:
    next(kept.glob("*.base.rdb")).write_bytes(b"garbage" * 20)


def no_folder(kept: Path) -> None:
    shutil.rmtree(kept)
    kept.write_text("not a folder")


@pytest.mark.end_to_end
@pytest.mark.parametrize("damage", [empty_list, no_file, garbage, no_folder])
def test_a_queue_that_cannot_be_read_is_set_aside(
    tmp_path: Path,
    damage: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    damage(leave_a_queue(tmp_path))

    assert starts(tmp_path)

    assert (tmp_path / "queue" / SET_ASIDE).exists()
    assert caplog.text.count("begins anew") == 1


@pytest.mark.end_to_end
@pytest.mark.parametrize("damage", [empty_list, no_folder])
def test_what_was_set_aside_before_stands_in_nobodys_way(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    kept = leave_a_queue(tmp_path)
    (tmp_path / "queue" / SET_ASIDE).write_text("an earlier one")
    damage(kept)

    assert starts(tmp_path)


@pytest.mark.end_to_end
def test_a_queue_that_can_be_read_is_kept(tmp_path: Path) -> None:
    leave_a_queue(tmp_path)

    assert starts(tmp_path)

    assert not (tmp_path / "queue" / SET_ASIDE).exists()
