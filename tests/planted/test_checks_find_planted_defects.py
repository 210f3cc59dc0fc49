"""Every cause of the catalogue is named where it was planted."""

import pytest

from service.contract.causes import Cause
from tests.planted.defects import ANY_OF_SEVERAL, SPOILED, case_named


def test_every_cause_has_a_spoiled_program():
    assert set(SPOILED) == set(Cause)
    for cause, name in SPOILED.items():
        assert cause in case_named(name).causes


@pytest.mark.slow
@pytest.mark.parametrize("cause", SPOILED, ids=lambda cause: cause.value)
def test_the_planted_defect_is_named(cause, audit):
    case = case_named(SPOILED[cause])

    report = audit(case.name)

    verdicts = {entry["cause"]: entry["verdict"] for entry in report["findings"]}
    named = {name for name, verdict in verdicts.items() if verdict == "found"}
    tied = {*report["equivalent"], *report["explained_by"]}
    enough = {cause, *case.equivalents} if cause in ANY_OF_SEVERAL else {cause}
    assert enough & (named | tied), verdicts
    is_first = report["primary_cause"] in {*case.causes, *case.equivalents}
    assert is_first or cause in report["equivalent"]
