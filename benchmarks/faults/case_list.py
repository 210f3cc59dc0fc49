"""All cases, and which of them a run asks for."""

from collections.abc import Iterable
from fnmatch import fnmatch

from benchmarks.faults.cases.controls import control_cases
from benchmarks.faults.cases.open_programs import open_cases
from benchmarks.faults.cases.seeded_architecture import architecture_cases
from benchmarks.faults.cases.seeded_data import data_cases
from benchmarks.faults.cases.seeded_deployment import deployment_cases
from benchmarks.faults.cases.seeded_pairs import pair_cases
from benchmarks.faults.cases.seeded_training import training_cases
from benchmarks.faults.program import Case
from benchmarks.faults.verify import as_measured, read_table

# One of each kind that the product must never get wrong, and quick to audit.
SHORT = (
    "open/so_66407123",
    "open/dc_low_lr",
    "open/dc_missing_normalization",
    "open/so_68101077",
    "open/mutant_m_lr",
    "open/dc_clean_base",
    "controls/wine_plain",
    "controls/breast_cancer_one_logit",
    "controls/digits_dense",
    "controls/iris_wide",
)


def every_case() -> list[Case]:
    """List all cases, names unique."""
    return [
        *open_cases(),
        *data_cases(),
        *architecture_cases(),
        *training_cases(),
        *deployment_cases(),
        *pair_cases(),
        *control_cases(),
    ]


def wanted(
    cases: Iterable[Case], *, suite: str, pattern: str, half: str, dropped: bool
) -> list[Case]:
    """Pick cases.

    Args:
        cases: to pick from.
        suite: `open`, `seeded`, `controls` or `all`.
        pattern: shell pattern on the name.
        half: `tuning`, `held_out` or `both`.
        dropped: also those that `--verify` did not keep.
    """
    table = read_table()
    return [
        as_measured(case, table.get(case.name, {}))
        for case in cases
        if suite in {"all", case.suite}
        and half in {"both", case.half}
        and fnmatch(case.name, pattern)
        and (dropped or table.get(case.name, {}).get("kept", True))
    ]
