"""Subjects that many tests share; they are never changed."""

import pytest
from probe_subjects import breast_cancer, digits, fit, mlp, shuffled, subject

from worker.engine.lab.materials import Material


@pytest.fixture(scope="session")
def healthy_digits() -> Material:
    x, y = shuffled(*digits())
    x = x / 16
    module = fit(mlp(64, 10), x[:1100], y[:1100])
    return subject(module, (x[:1100], y[:1100]), (x[1100:], y[1100:]))


@pytest.fixture(scope="session")
def healthy_cancer() -> Material:
    x, y = shuffled(*breast_cancer())
    mean, std = x[:380].mean(0), x[:380].std(0)
    module = fit(mlp(30, 2), (x[:380] - mean) / std, y[:380], epochs=10)
    return subject(
        module, (x[:380], y[:380]), (x[380:], y[380:]), normalization="standardize"
    )
