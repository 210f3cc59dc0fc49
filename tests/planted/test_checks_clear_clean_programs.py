"""A healthy program gets no cause named."""

import pytest

from tests.planted.defects import CLEAN


@pytest.mark.slow
@pytest.mark.parametrize("name", CLEAN)
def test_nothing_is_found_in_a_clean_program(name, audit):
    report = audit(name)

    found = [e["cause"] for e in report["findings"] if e["verdict"] == "found"]
    assert found == []
    assert report["primary_cause"] is None
