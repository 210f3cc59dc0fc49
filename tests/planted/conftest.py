"""Audits of programs, run once each and shared by the tests."""

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.faults.assemble import write
from benchmarks.faults.drive import audit_here
from tests.planted.defects import case_named


@pytest.fixture
def audit(tmp_path) -> Callable[[str], dict[str, Any]]:
    """Build a program, audit it, return the report."""

    def run(name: str) -> dict[str, Any]:
        folder = tmp_path / "program"
        write(case_named(name).sketch, folder)
        return audit_here(folder, tmp_path / "scratch").report

    return run
