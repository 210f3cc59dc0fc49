"""A gain is measured again on the rows that are meant."""

import numpy as np

from benchmarks.faults.coverage import _on, coverage_table
from worker.engine.lab.experiment import ArmOutcome
from worker.engine.results import Ran, Results
from worker.engine.stats.pairs import Rows

DECIDED = 2


def make_results() -> Results:
    """Two rows that decide, three hidden ones, and four left out in turn."""
    labels = np.array([0, 1, 0, 1, 1, 0, 0, 1, 1])
    seen = np.ones((2, 9), dtype=np.bool_)
    seen[0, 5:7] = seen[1, 7:] = False
    correct = np.zeros((2, 9), dtype=np.bool_)
    correct[:, DECIDED:5] = True  # right on hidden rows alone
    ran = Ran(correct, ArmOutcome(name="a"), "exp_001")
    return Results(Rows(labels, 5, seen), {"a": ran})


def test_hidden_rows_are_those_after_the_ones_that_decide() -> None:
    hidden = _on(make_results(), DECIDED, hidden=True, borrows=False)

    assert hidden.accuracy("a") == 1
    assert hidden.rows.labels.tolist() == [0, 1, 1]
    assert hidden.rows.held_out == 3


def test_deciding_rows_hold_no_hidden_one() -> None:
    decide = _on(make_results(), DECIDED, hidden=False, borrows=False)

    assert decide.accuracy("a") == 0
    assert decide.rows.labels.tolist() == [0, 1]


def test_rows_left_out_in_turn_decide_only_where_the_audit_let_them() -> None:
    decide = _on(make_results(), DECIDED, hidden=False, borrows=True)

    assert decide.rows.labels.tolist() == [0, 1, 0, 0, 1, 1]
    assert decide.rows.held_out == DECIDED
    assert decide.rows.seen is not None
    assert decide.rows.seen.sum(axis=1).tolist() == [4, 4]


def test_gains_that_mean_something_are_told_from_those_of_the_screen() -> None:
    row = {
        "verdict": "found", "kind": "alone", "confirmed": True, "inside": True,
        "hidden_inside": False, "hidden_compatible": True,
    }  # fmt: skip

    lines = coverage_table([row, {**row, "verdict": "not_found", "inside": False}])

    found, not_found = lines.splitlines()[2:]
    assert "1.000 (1/1" in found.split(" | ")[2]
    assert "0.000 (0/1" in not_found.split(" | ")[2]
