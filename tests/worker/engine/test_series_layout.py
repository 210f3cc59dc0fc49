"""Which axis of a series is time."""

import numpy as np
import pytest

from service.contract.request import DatasetSpec
from worker.engine.data import CHANNELS_FIRST, channel_axis
from worker.engine.intake.kinds import layout_of


def walks(rows: int, steps: int, features: int) -> np.ndarray:
    """Random walks, (rows, steps, features), each feature of another size."""
    rng = np.random.default_rng(0)
    moves = rng.standard_normal((rows, steps, features))
    return (moves.cumsum(1) * 10.0 ** (np.arange(features) % 5)).astype(np.float32)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("x", "layout"),
    [
        (walks(50, 40, 12), None),
        (walks(50, 40, 12).swapaxes(1, 2), CHANNELS_FIRST),
        (walks(50, 10, 30), None),  # by its course: longer than its time is
        (walks(50, 10, 30).swapaxes(1, 2), CHANNELS_FIRST),
        (noise(50, 1, 100), CHANNELS_FIRST),
        (noise(50, 100, 1), None),
        (noise(50, 3, 100), CHANNELS_FIRST),
        (noise(50, 100, 3), None),
        (noise(50, 20, 30), None),
        (np.zeros((5, 20, 30), dtype=np.float32), None),
        (np.full((5, 3, 30), np.nan, dtype=np.float32), CHANNELS_FIRST),
    ],
)
def test_time_is_told_by_the_course_of_a_series_or_its_shape(x, layout):
    assert layout_of(x, DatasetSpec(), "series") == layout


def test_features_have_their_own_figures_wherever_they_stand():
    assert channel_axis("series", CHANNELS_FIRST, 2) == 0
    assert channel_axis("series", None, 2) == 1
