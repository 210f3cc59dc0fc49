"""How often the probes see what is there, and what is not: measured by simulation."""

import numpy as np
import pytest
import torch
from probe_subjects import digits, mlp, noise_subject, subject
from sklearn.metrics import roc_auc_score

from worker.engine.lab.materials import Material
from worker.engine.probes import shift, signal
from worker.engine.probes.crossfit import watch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
]


def of(x: np.ndarray, y: np.ndarray, **how: object) -> Material:
    cut = 2 * len(y) // 3
    parts = (x[:cut].astype(np.float32), y[:cut]), (x[cut:].astype(np.float32), y[cut:])
    module = torch.nn.Sequential(torch.nn.Flatten(), mlp(x[0].size, int(y.max()) + 1))
    return subject(module, *parts, **how)


def weak_linear(seed: int) -> Material:
    """Two classes that the best possible rule tells apart in 57 % of the cases."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, 2000)
    x = rng.standard_normal((2000, 10))
    x[:, 0] += 0.35 * (y - 0.5)
    return of(x, y)


def parity(seed: int) -> Material:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, (2000, 10))
    return of(x, x[:, 2] ^ x[:, 7])


def textures(seed: int) -> Material:
    """Stripes of random phase, upright or lying: no pixel says which."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, 600)
    wave = np.sin(np.arange(16) * 1.5 + rng.uniform(0, 6.28, 600)[:, None])
    x = np.repeat(wave[:, :, None], 16, axis=2)
    x[y == 1] = x[y == 1].transpose(0, 2, 1)
    x = x + rng.normal(0, 1, x.shape)
    return of(x[:, None], y, kind="image", layout="NCHW")


@pytest.mark.parametrize(
    ("make", "least"), [(weak_linear, 4), (parity, 4), (textures, 4)]
)
def test_weak_but_real_signals_are_seen(make, least: int):
    seen = sum(signal.measure(make(seed), {})["p_value"] <= 0.01 for seed in range(4))

    assert seen >= least


def test_noise_is_rarely_called_signal():
    p_values = [
        signal.measure(noise_subject(rows=200, seed=seed), {"permutations": 199})[
            "p_value"
        ]
        for seed in range(30)
    ]

    # Of 30 at 5 %, 1.5 are expected and 6 are far out; at 1 % as many as 3 are.
    assert sum(p <= 0.05 for p in p_values) <= 5
    assert sum(p <= 0.01 for p in p_values) <= 2


def test_alike_splits_are_rarely_called_shifted():
    p_values = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x, y = rng.standard_normal((500, 6)) ** 3, rng.integers(0, 3, 500)
        p_values.append(shift.measure(of(x, y), {})["p_value"])

    assert sum(p <= 0.05 for p in p_values) <= 4
    assert sum(p <= 0.0025 for p in p_values) <= 1


@pytest.mark.parametrize("share", [0.1, 0.2])
def test_wrong_labels_rank_first(share: float):
    x, y = digits()
    rng = np.random.default_rng(7)
    wrong = rng.random(len(y)) < share
    given = np.where(wrong, (y + rng.integers(1, 10, len(y))) % 10, y)

    seen = watch((x / 16).astype(np.float64), given, 10)

    assert roc_auc_score(wrong, -seen.margin) >= 0.99
