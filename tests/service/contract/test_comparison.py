import pytest

from service.contract.causes import Cause
from service.contract.comparison import compare_reports, difference
from service.contract.report import Gain, Interval, Verdict
from tests.builders_report import (
    make_finding,
    make_healthy_report,
    make_interval,
    make_rate_finding,
    make_report,
)


def test_a_report_compared_with_itself_shows_no_change() -> None:
    comparison = compare_reports(make_report(), make_report())

    assert not comparison.appeared
    assert not comparison.went_away
    assert {change.cause for change in comparison.unchanged} == {
        Cause.LEARNING_RATE_TOO_HIGH,
        Cause.LABEL_NOISE,
    }
    assert all(change.difference.value == 0 for change in comparison.metrics)
    assert not any(change.beyond_noise for change in comparison.metrics)


def test_mended_faults_go_away_and_new_ones_appear() -> None:
    faulty, healthy = make_report(), make_healthy_report()

    forth = compare_reports(faulty, healthy)
    back = compare_reports(healthy, faulty)

    causes = [Cause.LABEL_NOISE, Cause.LEARNING_RATE_TOO_HIGH]
    assert [change.cause for change in forth.went_away] == causes
    assert {change.cause for change in back.appeared} == set(causes)
    accuracy = next(
        m for m in forth.metrics if (m.metric, m.split) == ("accuracy", "eval")
    )
    assert accuracy.beyond_noise
    assert accuracy.difference.value == pytest.approx(0.34)


@pytest.mark.parametrize(
    ("verdict", "movement"),
    [
        ("inconclusive", "undecided"),
        ("suspected", "undecided"),
        ("not_applicable", "undecided"),  # it was not asked for, say
        ("not_found", "went_away"),
    ],
)
def test_only_what_was_ruled_out_has_gone_away(verdict: Verdict, movement: str) -> None:
    later = make_rate_finding(verdict=verdict, severity="info")

    comparison = compare_reports(
        make_report(findings=[make_rate_finding()]), make_report(findings=[later])
    )

    [change] = [*comparison.went_away, *comparison.undecided]
    assert (change.movement, change.verdict_after) == (movement, verdict)


@pytest.mark.parametrize(
    ("value", "movement"), [(0.6, "grew"), (0.1, "shrank"), (0.36, "unchanged")]
)
def test_a_gain_moves_only_beyond_noise(value: float, movement: str) -> None:
    moved = make_rate_finding(
        gain=Gain(value=value, low=value - 0.04, high=value + 0.04, seeds=6)
    )

    comparison = compare_reports(
        make_report(findings=[make_rate_finding()]), make_report(findings=[moved])
    )

    [change] = getattr(comparison, movement)
    assert change.cause is Cause.LEARNING_RATE_TOO_HIGH


def test_gains_in_different_units_are_not_subtracted() -> None:
    nats = make_rate_finding(
        gain=Gain(metric="log_loss", value=0.9, low=0.8, high=1.0, seeds=6)
    )

    comparison = compare_reports(
        make_report(findings=[make_rate_finding()]), make_report(findings=[nats])
    )

    assert comparison.unchanged[0].difference is None


def test_a_finding_that_only_one_report_has_is_left_out() -> None:
    comparison = compare_reports(
        make_report(findings=[make_finding()]),
        make_report(findings=[make_rate_finding()]),
    )

    assert not comparison.appeared


def test_the_interval_of_a_difference_adds_up_squared() -> None:
    moved = difference(make_interval(0.8, 0.03), make_interval(0.5, 0.04))

    assert moved.value == pytest.approx(0.3)
    assert moved.low == pytest.approx(0.25)
    assert moved.high == pytest.approx(0.35)


def test_an_unknown_value_has_no_difference() -> None:
    unknown = Interval(value=None, low=None, high=None)

    assert difference(unknown, make_interval(0.5)).value is None
