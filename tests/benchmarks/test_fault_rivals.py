"""Tables of competitors count what they say they count."""

from typing import Any

import pytest

from benchmarks.faults import label_noise
from benchmarks.faults.case_list import every_case
from benchmarks.faults.deepchecks_rival import covers, deepchecks_table


def make_row(**fields: Any) -> dict[str, Any]:
    row = {"data": "wine", "kind": "symmetric", "share": 0.2, "seed": 0}
    for method in label_noise.METHODS:
        row |= {f"{method}_rate": 0.2, f"{method}_auroc": 0.9}
    return {**row, **fields}


def test_ranking_is_averaged_over_seeds_and_of_rates_the_farthest_is_shown() -> None:
    rows = [
        make_row(probe_auroc=0.9, probe_rate=0.21),
        make_row(seed=1, probe_auroc=1.0, probe_rate=0.15),
    ]

    line = label_noise.table(rows).splitlines()[-1]

    assert "| wine | tuning | symmetric, 20 % | 2 | 0.950, " in line
    assert "| -5.0, +0.0" in line


def test_a_probe_that_says_nothing_is_no_error_of_its_rate() -> None:
    line = label_noise.table([make_row(probe_rate=float("nan"))]).splitlines()[-1]

    assert "| -, +0.0" in line


@pytest.mark.slow
def test_the_probe_ranks_wrong_labels_first() -> None:
    row = label_noise.judge("digits", "symmetric", 0.2, 0)

    assert row["probe_auroc"] > 0.99
    assert abs(row["probe_rate"] - 0.2) < 0.025


def make_answer(cause: str | None, *named: str, audit: list[str]) -> dict[str, Any]:
    return {
        "causes": [cause] if cause else [],
        "named": list(named),
        "failed": dict.fromkeys(named, ""),
        "audit_found": audit,
    }


def test_what_deepchecks_says_of_another_cause_is_no_detection() -> None:
    rows = [
        make_answer("split_leakage", "class_imbalance", audit=["split_leakage"]),
        make_answer(None, "class_imbalance", audit=[]),
    ]

    cells = {
        line.split(" | ")[0].strip("| "): line.split(" | ")[1:]
        for line in deepchecks_table(rows).splitlines()
    }

    theirs, ours, alarms, ours_healthy = cells["split_leakage"]
    assert theirs.startswith("0.000 (0/1")
    assert ours.startswith("1.000 (1/1")
    assert alarms.startswith("0.000 (0/1")
    assert cells["any of these"][2].startswith("1.000 (1/1")
    assert ours_healthy.startswith("0.000 (0/1")


def test_deepchecks_is_asked_about_data_only() -> None:
    named = {case.name: case for case in every_case()}

    assert covers(named["seeded/split_leakage/vehicle_70"])
    assert covers(named["controls/wine_plain"])
    assert not covers(named["seeded/learning_rate_too_low/vowel_adam"])
