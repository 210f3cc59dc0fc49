"""Every cause of the catalogue is named where it was planted."""

import pytest

from benchmarks.faults.real_sets import load_real
from benchmarks.faults.splits import draw
from service.contract.causes import Cause
from tests.planted.defects import ANY_OF_SEVERAL, CLEAN, SPOILED, case_named


def test_every_cause_has_a_spoiled_program():
    assert set(SPOILED) == set(Cause)
    for cause, name in SPOILED.items():
        assert cause in case_named(name).causes


@pytest.mark.parametrize("name", sorted({*SPOILED.values(), *CLEAN}))
def test_a_program_needs_no_package_of_data(name, monkeypatch, tmp_path):
    monkeypatch.setenv("MODEL_AUDIT_BENCH_DATA", str(tmp_path))
    load_real.cache_clear()

    assert len(draw(case_named(name).sketch).train.x)


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
