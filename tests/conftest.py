"""Holds for every test."""

import sys

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Draw the same weights for the same test in every run: torch starts at random."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(0)
