"""Faults of the data: odd values, leakage, shift, weak segments, wrong labels."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from probe_subjects import (
    breast_cancer,
    digits,
    fit,
    mlp,
    noise_subject,
    shuffled,
    subject,
)

from service.contract.report import Finding, Segment
from tests.builders_engine import make_subject
from worker.engine.check import Case
from worker.engine.checks.split_leakage import SplitLeakage
from worker.engine.data import Split
from worker.engine.lab.experiment import unpack_mask
from worker.engine.lab.materials import Material
from worker.engine.probes import inputs, leakage, noise, segments, shift, signal
from worker.engine.probes.columns import (
    deviations,
    isolated,
    pooled_far,
    second_mode,
    spikes,
)
from worker.engine.probes.table import PROBES

# What is audited are TorchScript archives, deprecated as they are.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")

NAMES = ("age", "dose", "count", "level")


def table(rows: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Age, dose, count and level; the label follows age and level."""
    rng = np.random.default_rng(seed)
    x = np.stack(
        [
            rng.normal(50, 12, rows),
            rng.lognormal(0, 1, rows),
            rng.poisson(4, rows),
            rng.normal(0, 1, rows),
        ],
        1,
    )
    y = ((x[:, 0] - 50) / 12 + x[:, 3] + rng.normal(0, 0.5, rows) > 0).astype(np.int64)
    return x.astype(np.float32), y


def table_subject(
    x: np.ndarray, y: np.ndarray, held: tuple[np.ndarray, np.ndarray] | None = None
) -> Material:
    return subject(mlp(4, 2), (x, y), held or table(200, 1), feature_names=NAMES)


@pytest.mark.parametrize("seed", range(5))
def test_clean_tables_with_heavy_tails_show_nothing_odd(seed: int):
    values = inputs.measure(table_subject(*table(1000, seed)), {})

    json.dumps(values, allow_nan=False)
    assert values["non_finite"] == values["sentinels"] == 0
    assert values["outliers"] <= 1
    assert values["affected"] <= 0.001
    assert values["conflicting"]["count"] == 0


def test_real_tables_and_pictures_show_nothing_odd(healthy_cancer, healthy_digits):
    for material in (healthy_cancer, healthy_digits):
        assert inputs.measure(material, {})["affected"] == 0


@pytest.mark.parametrize("scale", ["given", "standardised", "ranged"])
def test_features_that_were_scaled_with_their_erroneous_values_are_named(scale):
    x, y = table(1000)
    x[::10, 0] *= 1000  # another unit in a tenth of the rows
    x[::10, 2] = -999
    if scale == "standardised":
        x = (x - x.mean(0)) / x.std(0)
    if scale == "ranged":
        x = (x - x.min(0)) / np.ptp(x, 0)

    values = inputs.measure(table_subject(x, y), {})

    assert values["affected"] == pytest.approx(0.1, abs=0.01)
    assert values["squeezed"] == ([] if scale == "given" else ["age", "count"])


def test_odd_values_are_named_with_their_rows():
    x, y = table()
    x[[3, 8], 0] = np.nan
    x[5, 1] = np.inf
    x[[10, 20, 30, 40], 2] = -999
    x[7, 3] *= 1000

    values = inputs.measure(table_subject(x, y), {})

    json.dumps(values, allow_nan=False)
    by_name = {entry["name"]: entry for entry in values["columns"]}
    assert by_name["age"]["nan"] == 2
    assert by_name["age"]["rows"] == [3, 8]
    assert by_name["dose"]["inf"] == 1
    assert by_name["count"]["sentinels"] == [
        {"value": -999.0, "kind": "code", "count": 4}
    ]
    assert by_name["level"]["outliers"] == 1
    flags = unpack_mask(values["mask"], 400)
    assert [k for k, flag in enumerate(flags) if flag] == [3, 5, 7, 8, 10, 20, 30, 40]
    assert values["affected"] == pytest.approx(8 / 400)


def test_held_out_rows_with_a_training_code_are_counted():
    x, y = table()
    x[:5, 2] = -999
    held, labels = table(200, 1)
    held[:10, 2] = -999

    values = inputs.measure(table_subject(x, y, (held, labels)), {})

    assert values["held_out_affected"] == pytest.approx(0.05)


def test_held_out_rows_with_values_far_outside_the_training_ones_are_counted():
    x, y = table()
    x[:5, 2] = 1e5
    held, labels = table(200, 1)
    held[:30, 2] = -1e5

    values = inputs.measure(table_subject(x, y, (held, labels)), {})

    assert values["held_out_affected"] == pytest.approx(0.15)
    assert values["plainly_affected"] == pytest.approx(5 / len(x))


def test_rows_that_contradict_each_other_are_odd_yet_not_plainly_affected():
    x, y = table()
    x[1], y[0], y[1] = x[0], 0, 1

    values = inputs.measure(table_subject(x, y), {})

    assert values["affected"] == pytest.approx(1 / len(x))
    assert values["plainly_affected"] == 0


@pytest.mark.parametrize("value", [-999.0, -40.0])
def test_a_code_in_most_pictures_is_found(value: float):
    rng = np.random.default_rng(0)
    x, y = shuffled(*digits())
    x = x / 16
    lost = (rng.random(x.shape) < 0.2) & (rng.permutation(64) < 12)
    x[lost] = value
    pictures = x.reshape(-1, 1, 8, 8)
    module = torch.nn.Sequential(torch.nn.Flatten(), mlp(64, 10))
    spoiled = subject(
        module, (pictures[:1100], y[:1100]), (pictures[1100:], y[1100:]),
        kind="image", layout="NCHW",
    )  # fmt: skip

    values = inputs.measure(spoiled, {})

    json.dumps(values, allow_nan=False)
    entry = next(entry for entry in values["columns"] if entry["name"] == "value")
    assert [odd["value"] for odd in entry["sentinels"]] == [value]
    assert values["affected"] == pytest.approx(lost[:1100].any(1).mean(), abs=0.01)
    assert values["held_out_affected"] == pytest.approx(
        lost[1100:].any(1).mean(), abs=0.01
    )


def test_a_code_of_minus_one_counts_only_where_all_else_is_positive():
    rng = np.random.default_rng(0)
    column = rng.uniform(0, 30, 300)
    column[:6] = -1
    symmetric = rng.normal(0, 1, 300)
    symmetric[:6] = -1

    assert [spike.value for spike in spikes(column)] == [-1.0]
    assert spikes(symmetric) == []


@pytest.mark.parametrize(
    ("others", "value", "found"),
    [
        ([-0.3, 3.6], -999.0, [-999.0]),
        ([0.0, 1.0, 2.0], 999.0, [999.0]),
        ([0.0], 999.0, []),  # a feature of two values, one of them large
        ([0.0, 1.0, 2.0], 9.0, []),  # may be a category of its own
        ([10.0, 990.0], 999.0, []),
        ([0.0, 1.0], 500.0, []),  # nobody's code
    ],
)
def test_a_code_among_categories_is_found_where_it_can_be_nothing_else(
    others, value, found
):
    rng = np.random.default_rng(0)
    column = np.where(rng.random(600) < 0.2, value, rng.choice(others, 600))

    assert [(spike.value, spike.kind) for spike in spikes(column)] == [
        (one, "code") for one in found
    ]


def test_a_bounded_or_binary_column_has_no_spikes():
    rng = np.random.default_rng(0)

    assert spikes(np.clip(rng.normal(0.5, 0.4, 500), 0, 1)) == []
    assert spikes(rng.integers(0, 2, 500).astype(float)) == []


@pytest.mark.parametrize("share", [0.05, 0.3, 0.55])
@pytest.mark.parametrize("scale", [1.0, -3.0])
def test_zeros_that_missing_values_were_filled_with_are_found_whatever_the_scale(
    share, scale
):
    rng = np.random.default_rng(0)
    column = scale * (np.where(rng.random(400) < share, 0.0, rng.normal(9, 2, 400)) - 8)

    assert [(spike.value, spike.kind) for spike in spikes(column, filled=True)] == [
        (scale * -8.0, "filled")
    ]
    assert spikes(column) == []


@pytest.mark.parametrize(
    "column",
    [
        # most of them are zero: the rule, not the exception
        np.where(np.arange(400) < 300, 0.0, np.linspace(5, 9, 400)),
        # they go on from zero without a gap
        np.where(np.arange(400) < 120, 0.0, np.linspace(-3, 9, 400).clip(0)),
        # counts, of which each value repeats
        np.where(np.arange(400) < 60, 0.0, 3 + np.arange(400) % 12),
    ],
)
def test_zeros_that_may_well_be_meant_are_left_alone(column):
    assert spikes(column, filled=True) == []


def test_a_slipped_decimal_point_is_isolated_and_a_heavy_tail_is_not():
    rng = np.random.default_rng(0)
    column = rng.lognormal(0, 1.5, 2000)
    slipped = rng.normal(20, 2, 2000)
    slipped[4] = 2000

    assert isolated(column).sum() == 0
    assert np.flatnonzero(isolated(slipped)).tolist() == [4]


def test_many_slipped_decimal_points_are_a_second_mode_and_a_heavy_tail_is_not():
    rng = np.random.default_rng(0)
    column = rng.normal(20, 2, 2000)
    slipped = np.arange(2000) % 4 == 0
    column[slipped] *= 1000

    assert isolated(column).sum() == 0  # too many to stand alone
    assert (second_mode(column) == slipped).all()
    for tail in (rng.lognormal(0, 3, 2000), rng.standard_cauchy(2000)):
        assert not second_mode(tail).any()


def test_the_edge_of_a_picture_has_no_second_mode():
    rng = np.random.default_rng(0)
    edge = rng.uniform(0.3, 1, 2000)
    edge[:960] = 0  # and a few next to it, so that the middle has a width
    edge[960:1060] = 1 / 255

    assert deviations(edge) is not None
    assert not second_mode(edge).any()


def waves(rows: int = 300, steps: int = 40, seed: int = 0) -> np.ndarray:
    """Series of two channels, whose scales are 1,000 times apart."""
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 6, steps)
    wave = np.sin(time + rng.uniform(0, 6, (rows, 1)))
    wave += 0.1 * rng.standard_normal(wave.shape)
    return np.stack([wave, 1000 + 50 * wave[::-1]], 2).astype(np.float32)


def test_slipped_decimal_points_in_most_series_are_told_by_their_channel():
    x = waves()
    assert not pooled_far(x, 1).any()
    slipped = np.random.default_rng(1).random(x.shape) < 0.03
    spoiled = np.where(slipped, x * 1000, x)
    assert slipped.any((1, 2)).mean() > 0.8
    plainly = slipped & (np.abs(x) > 0.1)  # others stay near the sound values

    far = pooled_far(spoiled, 1)

    assert (far & ~slipped).sum() == 0
    assert far[plainly].all()
    assert (pooled_far(np.moveaxis(spoiled, 2, 1), 0) == np.moveaxis(far, 2, 1)).all()
    assert (pooled_far(spoiled[:, :, 0], None) == far[:, :, 0]).all()


def test_series_with_far_values_are_counted_and_flagged():
    x = waves()
    slipped = np.arange(len(x)) % 3 > 0
    x[slipped, 5, 0] = 2_000.0
    y = np.arange(len(x)) % 2
    module = torch.nn.Sequential(torch.nn.Flatten(), mlp(80, 2))

    values = inputs.measure(
        subject(module, (x[:240], y[:240]), (x[240:], y[240:]), kind="series"), {}
    )

    column = next(c for c in values["columns"] if c["name"] == "value")
    assert column["outliers"] == slipped[:240].sum() == values["outliers"]
    assert column["extreme"] == 2_000.0
    assert values["affected"] == pytest.approx(slipped[:240].mean())


def test_contradictions_and_blank_pictures_are_listed():
    x, y = shuffled(*digits())
    x = (x / 16).reshape(-1, 1, 8, 8)[:600].copy()
    y = y[:600].copy()
    x[11] = x[10]
    y[11] = (y[10] + 1) % 10
    x[20:23] = 0.0
    y[20:23] = y[20]
    module = torch.nn.Sequential(torch.nn.Flatten(), mlp(64, 10))

    values = inputs.measure(
        subject(module, (x[:400], y[:400]), (x[400:], y[400:]), kind="image",
                layout="NCHW"),
        {},
    )  # fmt: skip

    assert values["blank"]["count"] == 3
    assert values["blank"]["rows"] == [20, 21, 22]
    assert values["duplicates"]["count"] == 3
    assert values["conflicting"]["pairs"] == [
        {
            "row": 11,
            "label": int(y[11]),
            "other_row": 10,
            "other_label": int(y[10]),
        }
    ]


def test_the_scale_is_that_of_the_inputs_as_trained(healthy_cancer: Material):
    x, y = shuffled(*breast_cancer())
    raw = inputs.measure(subject(mlp(30, 2), (x, y), (x, y)), {})

    prepared = inputs.measure(healthy_cancer, {})

    assert raw["scale"]["spread"] > 100
    assert raw["scale"]["largest_magnitude"] > 500
    assert raw["pre_activation"] > 10
    assert prepared["scale"]["spread"] == pytest.approx(1, abs=0.01)
    assert 0.4 < prepared["pre_activation"] < 0.8


def test_healthy_splits_do_not_leak(healthy_cancer, healthy_digits):
    for material in (healthy_cancer, healthy_digits, noise_subject(features=2)):
        values = leakage.measure(material, {})

        json.dumps(values, allow_nan=False)
        assert values["leaked"]["count"] == 0


def test_equal_and_near_equal_samples_are_found_with_their_twins():
    x, y = shuffled(*digits())
    x = (x / 16).reshape(-1, 1, 8, 8).copy()
    rng = np.random.default_rng(0)
    x[1100:1130], y[1100:1130] = x[:30], y[:30]
    faint = rng.normal(0, 0.01, (30, 1, 8, 8)).astype(np.float32)
    x[1130:1160], y[1130:1160] = x[30:60] + faint, y[30:60]
    inner = fit(mlp(64, 10), x[:1100].reshape(-1, 64), y[:1100], epochs=5)
    module = torch.nn.Sequential(torch.nn.Flatten(), inner)

    values = leakage.measure(
        subject(module, (x[:1100], y[:1100]), (x[1100:], y[1100:]), kind="image",
                layout="NCHW"),
        {},
    )  # fmt: skip

    json.dumps(values, allow_nan=False)
    assert values["exact"]["count"] == 30
    assert 28 <= values["near"]["count"] <= 30
    assert values["same_label"] == values["leaked"]["count"]
    assert values["pairs"][0]["row"] == 0
    assert values["pairs"][0]["train_row"] == 0
    assert values["by_chance"] is False
    assert sum(unpack_mask(values["mask"], 697)[:60]) == values["leaked"]["count"]
    assert values["accuracy"]["clean"]["value"] < 1


TURNS = {
    "mirrored": lambda x, down: np.flip(x, down + 1),
    "upside down": np.flip,
    "turned by a quarter": lambda x, down: np.rot90(x, 1, (down, down + 1)),
    "turned by a half": lambda x, down: np.rot90(x, 2, (down, down + 1)),
    "other pictures": None,
}


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize(
    ("shape", "layout", "down"),
    [((3, 6, 6), "NCHW", 2), ((6, 6, 3), "NHWC", 1), ((6, 6), None, 1)],
)
def test_pictures_that_were_turned_before_the_split_are_found(
    turn, shape, layout, down
):
    """Of 60 held-out pictures 20 are turned copies, and 10 look alike either way."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 255, (260, *shape)).astype(np.uint8)
    x[190:200] = x[250:260] = 7
    if TURNS[turn] is not None:
        x[200:220] = TURNS[turn](x[:20], down)
    y = np.arange(260) % 2
    module = torch.nn.Sequential(torch.nn.Flatten(), mlp(int(np.prod(shape)), 2))

    values = leakage.measure(
        subject(module, (x[:200], y[:200]), (x[200:], y[200:]), kind="image",
                layout=layout),
        {},
    )  # fmt: skip

    expected = 20 if TURNS[turn] else 0
    assert values["turned"]["count"] == expected
    assert values["exact"]["count"] == 10
    assert sum(unpack_mask(values["mask"], 60)[:20]) == expected
    pairs = [
        (p["row"], p["train_row"]) for p in values["pairs"] if p["kind"] == "turned"
    ]
    assert pairs == [(k, k) for k in range(expected)]
    alone = {**values, "exact": values["near"]}
    assert leak_verdict(alone) == ("found" if expected else "not_found")
    assert ("once mirrored or turned" in leak(values).evidence[0].statement) is bool(
        expected
    )


@pytest.mark.parametrize("planted", [0, 40])
def test_pictures_that_were_mirrored_and_blurred_before_the_split_are_found(planted):
    x, y = shuffled(*digits())
    x = x.reshape(-1, 8, 8)[:1300] / 16
    y = y[:1300]
    x[1000 : 1000 + planted] = np.flip(x[:planted], 2)
    x[1000 : 1000 + planted, 1:] += 0.01 * x[1000 : 1000 + planted, :-1]
    y[1000 : 1000 + planted] = y[:planted]
    module = torch.nn.Sequential(torch.nn.Flatten(), mlp(64, 10))

    values = leakage.measure(
        subject(module, (x[:1000], y[:1000]), (x[1000:], y[1000:]), kind="image"), {}
    )

    found = sum(unpack_mask(values["mask"], 300)[:planted])
    assert values["turned"]["count"] == found
    assert found >= 0.8 * planted
    assert leak_verdict(values) == ("found" if planted else "not_found")


def test_a_series_is_not_turned():
    x = np.random.default_rng(0).standard_normal((260, 6, 6)).astype(np.float32)
    x[200:220] = np.flip(x[:20], 2)
    y = np.arange(260) % 2
    module = torch.nn.Sequential(torch.nn.Flatten(), mlp(36, 2))

    values = leakage.measure(
        subject(module, (x[:200], y[:200]), (x[200:], y[200:]), kind="series"), {}
    )

    assert values["turned"]["count"] == 0


def test_equal_rows_of_a_coarse_table_are_expected():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (600, 4)).astype(np.float32)
    y = rng.integers(0, 2, 600)

    values = leakage.measure(
        subject(mlp(4, 2), (x[:400], y[:400]), (x[400:], y[400:])), {}
    )

    assert values["exact"]["share"] > 0.9
    assert values["expected_share"] > 0.9
    assert values["by_chance"] is True
    assert leak_verdict(values) == "not_found"


def leak(values: dict) -> Finding:
    return SplitLeakage().judge(make_subject(), Case(measures={"leakage": values}))


def leak_verdict(values: dict) -> str:
    return leak(values).verdict


def codes(rows: int, seed: int, *, kinds: int = 3, columns: int = 9) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, kinds, (rows, columns)).astype(np.float32)


def spread(rows: int, seed: int, columns: int = 8) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, columns)).astype(np.float32)


def leaked(
    train: np.ndarray, held: np.ndarray, labels: Sequence[np.ndarray] = ()
) -> dict:
    labels = labels or [np.arange(len(rows)) % 2 for rows in (train, held)]
    parts = zip((train, held), labels, strict=True)
    return leakage.measure(subject(mlp(train.shape[1], 2), *parts), {})


@pytest.mark.parametrize(("copied", "verdict"), [(0, "not_found"), (150, "found")])
@pytest.mark.parametrize(("rows", "columns"), [(600, 9), (200, 6)])
def test_copies_in_a_coarse_table_are_told_from_natural_repetition(
    rows, columns, copied, verdict
):
    """Of 19,683 or 729 samples that there can be, unrelated ones are equal as well."""
    train = codes(rows, 0, columns=columns)
    copies = np.tile(train, (2, 1))[:copied]
    held = np.concatenate([codes(300, 1, columns=columns), copies])

    values = leaked(train, held)

    assert values["by_chance"] is True
    assert leak_verdict(values) == verdict


@pytest.mark.parametrize("faint", [0.0, 0.01])
@pytest.mark.parametrize("copies", [1, 2, 4])
@pytest.mark.parametrize(("leaking", "verdict"), [(0, "not_found"), (100, "found")])
def test_a_leak_is_found_however_often_the_training_rows_were_multiplied(
    faint, copies, leaking, verdict
):
    rows = spread(300, 0)
    noise = [faint * spread(300, seed) for seed in range(10, 10 + copies)]
    held = np.concatenate([spread(200, 1), rows[:leaking]])
    held += faint * spread(len(held), 2)

    values = leaked(np.concatenate([rows + one for one in noise]), held)

    assert values["leaked"]["count"] == leaking
    assert leak_verdict(values) == verdict
    assert (values["grouped"] > 0.9) is values["in_groups"] is (copies > 1)
    said = leak(values).evidence[0].statement
    assert ("groups of near copies" in said) is (copies > 1)


def test_rows_that_lie_close_by_a_common_flaw_are_no_copies():
    """One huge value in a place leaves nothing else of the distance between rows."""
    rng = np.random.default_rng(0)
    train, held = spread(600, 1, columns=60), spread(300, 2, columns=60)
    for rows in (train, held):
        flawed = rng.choice(len(rows), len(rows) // 3, replace=False)
        huge = 400.0 * rng.choice([-1, 1], len(flawed))
        rows[flawed, rng.integers(0, 60, len(flawed))] = huge
    labels = [rng.integers(0, 3, len(rows)) for rows in (train, held)]
    parts = zip((train, held), labels, strict=True)
    given = subject(mlp(60, 3), *parts, kind="series")

    values = leakage.measure(given, {})

    assert values["near"]["count"] == 0
    assert leak_verdict(values) == "not_found"


def test_rows_augmented_before_they_were_split_leak():
    rows = np.repeat(spread(150, 0), 6, axis=0)
    rows += 0.05 * spread(900, 1)
    order = np.random.default_rng(2).permutation(900)
    held, fresh = rows[order[600:]], spread(100, 3)

    label = np.repeat(np.arange(150) % 2, 6)[order]
    labels = label[:600], np.concatenate([label[600:], np.arange(100) % 2])
    values = leaked(rows[order[:600]], np.concatenate([held, fresh]), labels)

    flags = unpack_mask(values["mask"], 400)
    assert sum(flags[:300]) > 270
    assert sum(flags[300:]) == 0
    assert leak_verdict(values) == "found"


def test_rows_doubled_with_a_little_noise_before_they_were_split_leak():
    """Copies of a few training rows made the data look flat, and all twins usual."""
    rng = np.random.default_rng(0)
    rows, y = rng.normal(size=(450, 4)), rng.integers(0, 2, 450)
    doubled = np.concatenate([rows, rows + 0.003 * rng.normal(size=rows.shape)])
    order = rng.permutation(900)
    train, held = order[:600], order[600:]
    labels = np.concatenate([y, y])

    values = leaked(doubled[train], doubled[held], (labels[train], labels[held]))

    assert values["near"]["share"] > 0.5
    assert leak_verdict(values) == "found"


def test_rows_that_share_codes_for_missing_values_are_no_copies():
    """Beside -999 all other differences are small, so that these rows lie close."""
    train, held = spread(400, 0, 30), spread(300, 1, 30)
    for rows in (train, held):
        patterns = np.random.default_rng(9).random((60, 30)) < 0.2
        rows[patterns[np.arange(len(rows)) % 60]] = -999.0

    values = leaked(train, held)

    assert values["leaked"]["count"] == 0
    assert leak_verdict(values) == "not_found"


def test_alike_splits_cannot_be_told_apart(healthy_cancer, healthy_digits):
    for material in (healthy_cancer, healthy_digits):
        values = shift.measure(material, {})

        json.dumps(values, allow_nan=False)
        assert values["p_value"] > 0.01
        assert values["auc"]["value"] < 0.58
        assert values["label_shift"]["distance"] < 0.1
        assert min(f["p_value"] for f in values["features"]) > 0.01


def two_alike(train: int, held: int, seed: int) -> Material:
    """Rows of one kind, in either split, of two classes that mean nothing."""
    x = np.random.default_rng(seed).normal(size=(train + held, 20)).astype(np.float32)
    y = np.arange(len(x)) % 2
    parts = (x[:train], y[:train]), (x[train:], y[train:])
    return subject(mlp(20, 2), *parts)


def test_rows_that_happen_to_be_told_apart_are_held_against_shuffled_ones():
    """Parts of a fold scheme are not independent: by the area's error p is 4e-5."""
    values = shift.measure(two_alike(93, 93, seed=46), {})

    assert values["auc"]["value"] > 0.64
    assert values["p_value"] > 0.0025


def test_other_rows_of_the_greater_split_are_compared_where_some_are_told_apart(
    monkeypatch: pytest.MonkeyPatch,
):
    """What is told apart by chance in some rows is not in others."""
    draws: list[int] = []
    matched_as_it_is = shift.matched

    def drawn(*given: Any, seed: int = 0) -> tuple[Split, Split]:
        draws.append(seed)
        return matched_as_it_is(*given, seed=seed)

    monkeypatch.setattr(shift, "matched", drawn)
    moved = two_alike(200, 90, seed=0)
    moved.decide.x[:, :4] += 0.85

    alike = shift.measure(two_alike(200, 90, seed=0), {})
    assert (alike["p_value"] > 0.01, draws) == (True, [0])
    draws.clear()
    values = shift.measure(moved, {})

    assert values["p_value"] < 0.0025
    assert draws == [0, 1, 2]


def test_a_moved_feature_is_named():
    held, labels = table(300, 1)
    held[:, 0] += 12

    values = shift.measure(table_subject(*table(600), (held, labels)), {})

    assert values["p_value"] < 1e-6
    assert values["auc"]["low"] > 0.6
    assert values["features"][0]["name"] == "age"
    assert values["features"][0]["p_value"] < 1e-6
    assert values["any_class"]["p_value"] < 1e-6


def test_wrong_labels_on_one_side_do_not_move_the_inputs():
    rng = np.random.default_rng(0)
    x, y = table(4000)[0], np.asarray(rng.random(4000) < 0.2, dtype=np.int64)
    x[y == 1, 0] += 60  # a rare class that is easy to tell
    given = np.where(rng.random(2000) < 0.35, 1 - y[:2000], y[:2000])

    values = shift.measure(table_subject(x[:2000], given, (x[2000:], y[2000:])), {})

    assert values["p_value"] < 0.01  # its rows in the training data are others
    assert values["label_shift"]["p_value"] < 1e-6
    assert values["any_class"]["p_value"] > 0.01


def test_another_mix_of_classes_is_not_another_kind_of_input():
    x, y = table(2000)
    held, labels = table(1000, 1)
    keep = np.flatnonzero(labels == 1)[:300]
    rest = np.flatnonzero(labels == 0)[:60]
    few = np.sort(np.concatenate([keep, rest]))

    values = shift.measure(table_subject(x, y, (held[few], labels[few])), {})

    assert values["label_shift"]["p_value"] < 1e-6
    assert values["label_shift"]["distance"] > 0.2
    assert values["p_value"] > 0.01


def weak_for_the_old() -> Material:
    """A model that answers at random above the age of 60."""
    x, y = table(1200)
    y = (x[:, 3] > 0).astype(np.int64)
    old = x[:, 0] > 60

    class Weak(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            sound = x[:, 3] * 10
            odd = torch.sin(x[:, 1] * 1000) * 10
            score = torch.where(x[:, 0] > 60, odd, sound)
            return torch.stack([-score, score], 1) * self.gain

        def __init__(self) -> None:
            super().__init__()
            self.gain = torch.nn.Parameter(torch.ones(1))

    assert 0.1 < old.mean() < 0.3
    return subject(Weak(), (x[:400], y[:400]), (x[400:], y[400:]), feature_names=NAMES)


def test_a_weak_slice_is_found_and_named_by_its_feature():
    values = segments.measure(weak_for_the_old(), {})

    json.dumps(values, allow_nan=False)
    found = [Segment.model_validate(entry) for entry in values["segments"]]
    assert found[0].where.startswith("age >")
    assert found[0].accuracy.high is not None
    assert found[0].accuracy.high < found[0].elsewhere - 0.05
    assert len(found) <= 8


def test_a_column_without_any_value_hides_no_weak_slice():
    """Nor is it warned of: that would be an error here."""
    x = np.random.default_rng(0).normal(size=(400, 4))
    x[:, 1], x[3, 2] = np.nan, np.inf
    hit = (x[:, 0] < 0.8) | (x[:, 3] < 0.5)
    held = Split(x, np.arange(400) % 2, np.arange(400), "test")

    found = next(segments._combined(x, list("abcd"), hit, held))

    assert found.where.startswith("a > 0.8")


def test_a_weak_class_is_found():
    x, y = shuffled(*digits())
    x = x / 16
    inner = fit(mlp(64, 10), x[:1100], np.where(y[:1100] == 8, 1, y[:1100]))

    values = segments.measure(
        subject(inner, (x[:1100], y[:1100]), (x[1100:], y[1100:])), {}
    )

    assert values["segments"][0]["where"] == "class = class 8"


def test_sound_models_have_no_weak_segments(healthy_cancer, healthy_digits):
    for material in (healthy_cancer, healthy_digits):
        assert segments.measure(material, {})["segments"] == []


def test_errors_without_a_pattern_make_no_segment():
    found = 0
    for seed in range(10):
        x, y = table(900, seed)
        rng = np.random.default_rng(seed)
        y = np.where(rng.random(900) < 0.8, (x[:, 3] > 0), rng.integers(0, 2, 900))
        module = fit(mlp(4, 2), x[:100], (x[:100, 3] > 0).astype(np.int64), epochs=1)
        with torch.no_grad():
            module[0].weight[:] = 0
            module[0].weight[0, 3], module[0].weight[1, 3] = 5, -5
            module[2].weight[:] = 0
            module[2].weight[1, 0], module[2].weight[0, 1] = 5, 5
            module[0].bias[:] = 0
            module[2].bias[:] = 0
        found += len(
            segments.measure(
                subject(module, (x[:100], y[:100]), (x[100:], y[100:])), {}
            )["segments"]
        )

    # Five in a hundred audits may name one; two in ten is far out.
    assert found <= 1


@pytest.mark.parametrize("share", [0.1, 0.2])
def test_wrong_labels_are_counted_and_ranked(share: float):
    x, y = shuffled(*digits())
    x = x / 16
    rng = np.random.default_rng(1)
    wrong = rng.random(1100) < share
    given = y[:1100].copy()
    given[wrong] = (given[wrong] + rng.integers(1, 10, wrong.sum())) % 10

    values = noise.measure(
        subject(mlp(64, 10), (x[:1100], given), (x[1100:], y[1100:])), {}
    )

    json.dumps(values, allow_nan=False)
    assert values["rate"]["value"] == pytest.approx(wrong.mean(), abs=0.025)
    flags = np.array(unpack_mask(values["mask"], 1100))
    assert wrong[flags].mean() > 0.85
    worst = values["suspects"][0]
    assert wrong[worst["row"]]
    assert worst["given"] == f"class {given[worst['row']]}"
    assert worst["suggested"] == f"class {y[worst['row']]}"


def test_as_many_random_rows_of_each_class_are_flagged():
    x, y = shuffled(*digits())
    given = np.where(np.arange(600) % 10 == 0, (y[:600] + 1) % 10, y[:600])

    values = noise.measure(
        subject(mlp(64, 10), (x[:600] / 16, given), (x[600:] / 16, y[600:])), {}
    )

    flags, random = (
        np.array(unpack_mask(values[name], 600)) for name in ("mask", "random_mask")
    )
    assert (np.bincount(given[flags]) == np.bincount(given[random])).all()
    assert (flags != random).any()


def test_clean_labels_are_hardly_contradicted(healthy_digits, healthy_cancer):
    for material in (healthy_digits, healthy_cancer):
        assert noise.measure(material, {})["rate"]["value"] <= 0.025


def test_labels_that_nothing_predicts_are_not_called_noisy():
    values = noise.measure(noise_subject(), {})

    assert "rate" not in values
    assert "no better than chance" in values["notes"][0]


def test_signal_in_real_data_is_beyond_doubt(healthy_digits, healthy_cancer):
    for material in (healthy_digits, healthy_cancer):
        values = signal.measure(material, {})

        json.dumps(values, allow_nan=False)
        assert values["p_value"] <= 0.001
        assert values["delivered"]["p_value"] <= 0.001
        assert values["balanced_accuracy"]["low"] > values["chance"]
        assert values["delivered"]["balanced_accuracy"] > values["chance"]
        assert values["best"] in values["learners"]


def test_an_interaction_of_two_features_is_signal():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2000, 10)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)

    values = signal.measure(
        subject(mlp(10, 2), (x[:1400], y[:1400]), (x[1400:], y[1400:])), {}
    )

    assert values["p_value"] <= 0.005
    assert values["learners"]["logistic regression"]["z"] < 4


def test_labels_without_signal_are_as_good_in_any_order():
    values = signal.measure(noise_subject(rows=300), {"permutations": 199})

    assert values["p_value"] > 0.05
    assert set(values["learners"]) == {
        "logistic regression",
        "nearest neighbours",
        "randomised trees",
    }
    inside = values["out_of_fold"]
    best = max(one["out_of_fold"] for one in values["learners"].values())
    assert inside["balanced_accuracy"]["value"] == pytest.approx(best)
    assert inside["balanced_accuracy"]["low"] < inside["chance"]


@pytest.mark.slow
def test_every_probe_is_deterministic_and_json(healthy_cancer: Material):
    for name, probe in PROBES.items():
        first = json.dumps(probe(healthy_cancer, {}), allow_nan=False, sort_keys=True)

        again = json.dumps(probe(healthy_cancer, {}), allow_nan=False, sort_keys=True)

        assert first == again, name
