import pytest

from worker.engine.stats.learning_curve import extrapolate
from worker.engine.stats.pairs import PairedGain


def measured(value: float, error: float = 0.001) -> PairedGain:
    return PairedGain(value=value, error=error, degrees=1e6, seeds=8)


def test_a_power_law_is_continued():
    # error(n) = n^-1: 4, 2, 1 hundredths at a quarter, a half and all; then 0.5.
    curve = extrapolate(measured(-0.01), measured(-0.03))

    assert curve.doubled[0] == pytest.approx(0.005)
    assert curve.quadrupled[0] == pytest.approx(0.0075)
    assert curve.is_well_behaved


def test_of_a_subsample_all_rows_count_as_there():
    # As above, of an eighth of the rows: three doublings further.
    curve = extrapolate(measured(-0.01), measured(-0.03), times=8.0)

    assert curve.doubled[0] == pytest.approx(0.005 / 8)


def test_a_flat_curve_promises_nothing():
    value, _, high = extrapolate(measured(0.0), measured(-0.001)).doubled

    assert value == 0.0
    assert high < 0.01


def test_noise_widens_the_prediction():
    sharp = extrapolate(measured(-0.04), measured(-0.1))
    vague = extrapolate(measured(-0.04, 0.02), measured(-0.1, 0.02))

    assert vague.doubled[2] - vague.doubled[1] > sharp.doubled[2] - sharp.doubled[1]


def test_a_curve_that_gets_steeper_is_ill_behaved():
    assert not extrapolate(measured(-0.05), measured(-0.06)).is_well_behaved


def test_a_quarter_that_taught_nothing_does_not_make_the_curve_flat():
    half, quarter = measured(-0.06), measured(-0.7)

    at_chance = extrapolate(half, quarter, learned=False)

    assert extrapolate(half, quarter).doubled[2] < 0.01
    value, low, high = at_chance.doubled
    assert (low, value, high) == pytest.approx((0.03, 0.042, 0.054), abs=0.002)
    assert at_chance.quadrupled[0] > value
    assert not at_chance.is_well_behaved


def test_no_curve_brings_far_more_by_the_second_doubling_than_by_the_first():
    half, quarter = measured(-0.05, 0.01), measured(-0.042, 0.01)

    bent = extrapolate(half, quarter)

    value, low, high = bent.doubled
    assert bent.is_bent
    assert low <= value <= high
    assert value == pytest.approx(0.05 * 0.7)
    assert extrapolate(half, measured(-0.08, 0.01)).is_bent  # 3, then 5 points
    assert not extrapolate(half, measured(-0.09, 0.01)).is_bent
    assert not extrapolate(half, measured(-0.08, 0.01), learned=False).is_bent


def test_twice_the_data_at_most_halves_the_error_that_is_left():
    half = PairedGain(value=-0.12, error=0.01, degrees=100, seeds=8)
    quarter = PairedGain(value=-0.28, error=0.01, degrees=100, seeds=8)

    free = extrapolate(half, quarter)
    near_the_top = extrapolate(half, quarter, error=0.08)

    assert free.doubled[0] > 0.08
    assert near_the_top.doubled[0] == pytest.approx(0.04)
    assert near_the_top.doubled[2] <= 0.04
    assert near_the_top.quadrupled[2] <= 0.06
