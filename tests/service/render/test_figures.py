import math

import pytest

from service.contract.report import Gain
from service.render import figures
from service.render.charts import Axes, Line, line_chart
from tests.builders_report import make_interval


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.05, "0.05"),
        (1e-5, "1e-5"),
        (1234567.0, "1.23e6"),
        (1437, "1,437"),
        (0.12345, "0.123"),
        (0, "0"),
        (None, "\N{EN DASH}"),
        (math.nan, "\N{EN DASH}"),
        (20.0, "20"),
    ],
)
def test_numbers_read_well(value: float | None, shown: str) -> None:
    assert figures.number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.213, "+21.3"), (-0.004, "\N{MINUS SIGN}0.4"), (-0.0001, "±0.0")],
)
def test_points_carry_their_sign(value: float, shown: str) -> None:
    assert figures.points(value) == shown


def test_gains_show_their_interval_and_unit() -> None:
    nats = Gain(metric="log_loss", value=0.5, low=0.4, high=0.6, seeds=3)

    assert figures.gain(nats) == "+0.500 nats (+0.400 to +0.600)"
    assert figures.gain(None) == "\N{EN DASH}"
    assert (
        figures.metric("log_loss", make_interval(1.5, 0.25)) == "1.500 (1.250 to 1.750)"
    )


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(4.21, "4.2 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (None, "\N{EN DASH}")],
)
def test_durations_read_well(seconds: float | None, shown: str) -> None:
    assert figures.duration(seconds) == shown


def test_sizes_read_well() -> None:
    assert figures.size(999) == "999 B"
    assert figures.size(4_200_000) == "4.2 MB"


def test_a_chart_leaves_gaps_where_values_are_missing() -> None:
    values = [1.0, 2.0, None, math.inf, 2.0, 1.0]

    chart = line_chart(Axes("t", "x", "y"), [Line("a", range(6), values)])

    assert chart.count("<polyline") == 2
    assert "nan" not in chart
    assert "inf" not in chart


def test_a_chart_of_one_value_repeated_has_room() -> None:
    assert "<polyline" in line_chart(
        Axes("t", "x", "y"), [Line("", [1, 2], [0.5, 0.5])]
    )


def test_a_chart_without_values_is_not_drawn() -> None:
    assert not line_chart(Axes("t", "x", "y"), [Line("a", [1], [None])])
