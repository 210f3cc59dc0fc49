"""Ratios between the bench and what a user would write: `python -m benchmarks.speed`."""
