"""Faults of delivery: label order, form of the inputs, training mode, weights."""

import copy
import json
from dataclasses import replace

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

from worker.engine.affine import affine_figures, affine_name
from worker.engine.lab.materials import Material
from worker.engine.network.freshness import as_array
from worker.engine.probes import (
    delivered,
    determinism,
    label_order,
    order,
    preprocessing,
    weights,
)
from worker.engine.probes.selection import cross_fitted, halves
from worker.engine.probes.transforms import is_known

# What is audited are TorchScript archives, deprecated as they are.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


class Reordered(torch.nn.Module):
    def __init__(self, inner: torch.nn.Module, order: list[int]) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("order", torch.tensor(order))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.index_select(self.inner(x), 1, self.order)


class Units(torch.nn.Module):
    """Brings inputs in some units back to those of the training."""

    def __init__(self, scale: np.ndarray, shift: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("scale", torch.from_numpy(scale).float())
        self.register_buffer("shift", torch.from_numpy(shift).float())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.shift) / self.scale


@pytest.fixture(scope="module")
def digits_parts():
    x, y = shuffled(*digits())
    x = x / 16
    module = fit(mlp(64, 10), x[:1100], y[:1100])
    return module, (x[:1100], y[:1100]), (x[1100:], y[1100:])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_scale_and_shift_of_other_data_are_found(channels):
    """Trained on inputs normalised by figures that are in no list, fed without them."""
    x, y = shuffled(*digits())
    x = np.repeat(x[:, None] / 16, channels, 1).reshape(-1, channels, 8, 8)
    x = (x * np.linspace(1, 0.5, channels)[:, None, None]).astype(np.float32)
    shift = np.array([300.0, 350.0, 250.0])[:channels, None, None]
    scale = np.array([40.0, 30.0, 55.0])[:channels, None, None]
    inner = fit(mlp(64 * channels, 10), x[:1100].reshape(1100, -1), y[:1100], epochs=8)
    module = torch.nn.Sequential(Units(scale, shift), torch.nn.Flatten(), inner)

    values = preprocessing.measure(
        subject(module, (x[:1100], y[:1100]), (x[1100:], y[1100:]), kind="image",
                layout="NCHW"),
        {},
    )  # fmt: skip

    json.dumps(values, allow_nan=False)
    assert values["best"].startswith("affine(")
    found = affine_figures(values["best"])
    assert len(found[0]) == channels
    assert values["before"] < 0.6
    assert values["after"] > 0.85
    assert values["train_gain"]["low"] > 0.2
    if channels == 1:
        assert found[1][0] == pytest.approx(300, rel=0.05)


@pytest.mark.parametrize(
    ("on_train", "chosen"),
    [
        # Held-out rows cannot tell the two; training rows were learned in one.
        ({"identity": 0.4, "standardize": 0.9, "standardize+flip": 0.7}, "standardize"),
        # Only held-out rows came in another form: training rows cannot tell which.
        (
            {"identity": 0.9, "standardize": 0.9, "standardize+flip": 0.4},
            "standardize+flip",
        ),
    ],
)
def test_training_rows_decide_between_forms_that_held_out_rows_cannot_tell(
    on_train, chosen
):
    scores = {"identity": 0.4, "standardize": 0.7, "standardize+flip": 0.74}

    assert preprocessing._best(scores, 0.06, on_train.__getitem__) == chosen
    assert preprocessing._best(scores, 0.01, on_train.__getitem__) == "standardize+flip"


def test_nothing_is_fitted_to_weights_that_do_well(digits_parts, monkeypatch):
    def fail(*_):
        raise AssertionError

    monkeypatch.setattr(preprocessing.affine_form, "fitted_form", fail)
    values = preprocessing.measure(subject(*digits_parts), {})

    assert values["best"] == "identity"
    assert values["train_gain"] is None


@pytest.mark.parametrize(("look_rows", "rows"), [(5_000, None), (20_000, 204)])
def test_a_scale_is_looked_for_with_as_many_rows_as_there_is_time_for(
    look_rows, rows, monkeypatch
):
    """Some hundred passes; with a few rows they tell nothing."""
    seen = []
    monkeypatch.setattr(
        preprocessing.affine_form,
        "fitted_form",
        lambda _material, train, *_: seen.append(len(train)),
    )
    x, y = shuffled(*digits())
    material = subject(mlp(64, 10), (x[:1100], y[:1100]), (x[1100:], y[1100:]))

    preprocessing.measure(replace(material, look_rows=look_rows), {})

    assert seen == ([] if rows is None else [rows])


@pytest.mark.parametrize(
    "step", ["affine()", "affine(1,2,3)", "affine(1 2,3)", "affine(a,b)", "affine(1,2"]
)
def test_what_is_no_scale_and_shift_is_no_form(step):
    assert not is_known(step)


def test_a_name_holds_no_sign_that_joins_steps():
    name = affine_name(np.array([1e9, -2.5e-7]), np.array([0.0, 1 / 3]))

    assert "+" not in name
    assert affine_figures(name) == ([1e9, -2.5e-7], [0.0, 0.333333])


def test_halves_share_every_class():
    y = np.array([0] * 40 + [1] * 10)

    first = halves(y)

    assert first.sum() == 25
    assert (y[first] == 1).sum() == 5


def test_a_choice_is_never_judged_on_the_rows_it_was_made_on():
    y = np.zeros(20, dtype=np.int64)
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def judge(choice: np.ndarray, rows: np.ndarray) -> np.ndarray:
        seen.append((choice, rows))
        return np.ones(int(rows.sum()), dtype=bool)

    hits, _ = cross_fitted(y, lambda rows: rows, judge)

    assert hits.all()
    assert all(not (choice & rows).any() for choice, rows in seen)


def test_a_permuted_head_is_found_with_its_order(digits_parts):
    module, train, held = digits_parts
    order = [3, 0, 1, 2, 4, 5, 9, 7, 8, 6]

    values = label_order.measure(subject(Reordered(module, order), train, held), {})

    json.dumps(values, allow_nan=False)
    assert values["permutation"] == order
    assert values["moved"] == 6
    assert values["gain"]["low"] > 0.4
    assert values["stable"] is True


def test_an_inverted_output_for_two_classes_is_found():
    x, y = shuffled(*breast_cancer())
    x = (x - x.mean(0)) / x.std(0)
    inner = fit(mlp(30, 2), x[:380], 1 - y[:380], epochs=10)

    class One(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raw = self.inner(x)
            return torch.sigmoid(raw[:, 1] - raw[:, 0])

    material = subject(One(), (x[:380], y[:380]), (x[380:], y[380:]))
    values = label_order.measure(material, {})

    assert values["permutation"] == [1, 0]
    assert values["gain"]["low"] > 0.7
    assert values["train_before"] < 0.1
    assert values["train_after"] > 0.9


def test_a_sound_order_is_left_alone(healthy_digits, healthy_cancer):
    for material in (healthy_digits, healthy_cancer):
        values = label_order.measure(material, {})

        assert values["permutation"] is None
        assert values["train_after"] is None
        assert values["gain"]["value"] == 0


@pytest.mark.parametrize("probe", [label_order, preprocessing])
def test_an_untrained_model_on_noise_gains_nothing(probe):
    lows = [
        probe.measure(noise_subject(seed=seed, rows=300), {})["gain"]["low"]
        for seed in range(40)
    ]

    # A 95 % interval may miss on this side once in forty; three are far out.
    assert sum(low > 0.01 for low in lows) <= 3


@pytest.mark.parametrize(
    ("spoil", "mends"),
    [
        (lambda x: x / 255, {"multiply_255", "scale_to_unit"}),
        (lambda x: 1 - x, {"invert"}),
        (lambda x: np.swapaxes(x, -1, -2), {"transpose_hw"}),
    ],
)
def test_pictures_in_another_form_are_found(digits_parts, spoil, mends):
    module, train, held = digits_parts
    whole = torch.nn.Sequential(torch.nn.Flatten(), module)
    parts = [
        (np.ascontiguousarray(spoil(x.reshape(-1, 1, 8, 8))).astype(np.float32), y)
        for x, y in (train, held)
    ]

    values = preprocessing.measure(
        subject(whole, *parts, kind="image", layout="NCHW"), {}
    )

    json.dumps(values, allow_nan=False)
    assert values["best"] in mends
    assert values["gain"]["low"] > 0.1
    assert values["after"] > 0.93


def test_a_table_that_was_not_standardised_is_found():
    x, y = shuffled(*breast_cancer())
    mean, std = x[:380].mean(0), x[:380].std(0)
    module = fit(mlp(30, 2), (x[:380] - mean) / std, y[:380], epochs=10)

    values = preprocessing.measure(
        subject(module, (x[:380], y[:380]), (x[380:], y[380:])), {}
    )

    assert values["best"] == "standardize"
    assert values["gain"]["low"] > 0.2


def test_only_trained_weights_are_sure_in_the_form_that_suits_them():
    x, y = shuffled(*breast_cancer())
    mean, std = x[:380].mean(0), x[:380].std(0)
    trained = fit(mlp(30, 2), (x[:380] - mean) / std, y[:380], epochs=10)
    torch.manual_seed(0)
    fresh = [mlp(30, 2) for _ in range(6)]

    def sureness(module: torch.nn.Module) -> float | None:
        parts = (x[:380], y[:380]), (x[380:], y[380:])
        sure = preprocessing.measure(subject(module, *parts), {})["sure"]
        if sure is None or sure["accuracy"] < 0.65:
            return None  # no form tells the classes apart
        return (sure["confidence"] - 0.5) / (sure["accuracy"] - 0.5)

    lucky = [found for module in fresh if (found := sureness(module)) is not None]
    assert sureness(trained) > 0.8
    assert lucky
    assert max(lucky) < 0.5


def test_a_normalisation_too_many_is_found(digits_parts):
    module, train, held = digits_parts

    values = preprocessing.measure(
        subject(module, train, held, normalization={"mean": 5.0, "std": 0.2}), {}
    )

    assert "undo_standardize" in values["best"] or values["best"] == "scale_to_unit"
    assert values["gain"]["low"] > 0.3


def test_another_scale_than_the_recipe_says_is_found(digits_parts):
    """The recipe says standardised, but the model was trained on bytes over 255."""
    module, train, held = digits_parts
    whole = torch.nn.Sequential(torch.nn.Flatten(), module)
    parts = [
        (np.round(x.reshape(-1, 1, 8, 8) * 255).astype(np.uint8), y)
        for x, y in (train, held)
    ]

    values = preprocessing.measure(
        subject(
            whole,
            *parts,
            kind="image",
            layout="NCHW",
            normalization="standardize",
        ),
        {},
    )

    assert values["tried"]["undo_standardize+divide_255"] > 0.93
    assert values["after"] > 0.93


def test_a_sound_form_is_left_alone(healthy_digits, healthy_cancer):
    for material in (healthy_digits, healthy_cancer):
        values = preprocessing.measure(material, {})

        assert values["best"] == "identity"
        assert values["gain"]["value"] == 0
        assert values["first_norm"] is values["best_norm"] is None


def normed(features: int, classes: int) -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Linear(features, 64),
        torch.nn.BatchNorm1d(64),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.4),
        torch.nn.Linear(64, classes),
    )


@pytest.fixture(scope="module")
def normed_parts(digits_parts):
    _, train, held = digits_parts
    return fit(normed(64, 10), *train, epochs=10), train, held


def test_stored_batch_statistics_are_held_against_the_data(normed_parts):
    module, train, held = normed_parts

    sound = preprocessing.measure(subject(module, train, held), {})["first_norm"]
    scaled = (train[0] * 255, train[1]), (held[0] * 255, held[1])
    values = preprocessing.measure(subject(module, *scaled), {})
    spoiled, mended = values["first_norm"], values["best_norm"]

    assert sound["features"] == 64
    assert 0.8 < sound["ratio"] < 1.25
    assert sound["shift"] < 0.5
    assert spoiled["ratio"] == pytest.approx(255 * sound["ratio"], rel=0.05)
    assert mended["ratio"] == pytest.approx(sound["ratio"], rel=0.05)
    assert mended["shift"] == pytest.approx(sound["shift"], abs=0.05)


def test_a_sound_model_is_the_same_from_call_to_call(normed_parts, healthy_cancer):
    for material in (subject(*normed_parts), healthy_cancer):
        values = determinism.measure(material, {})

        json.dumps(values, allow_nan=False)
        assert values["varies"] is False
        assert values["repeat"]["changed"] == 0
        assert values["company"]["changed"] == 0
        assert values["gain"]["value"] == 0


class AlwaysDropping(torch.nn.Module):
    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(torch.nn.functional.dropout(x, 0.5, training=True))


def test_dropout_left_on_changes_from_call_to_call(digits_parts):
    module, train, held = digits_parts

    values = determinism.measure(subject(AlwaysDropping(module), train, held), {})

    assert values["varies"] is True
    assert values["repeat"]["changed"] > 0.02


def test_a_model_saved_in_training_mode_is_found(normed_parts):
    module, train, held = normed_parts

    values = determinism.measure(subject(module, train, held, training=True), {})

    assert values["varies"] is True
    assert values["repeat"]["changed"] > 0.005
    module.eval()


@pytest.mark.parametrize("wrapped", [True, False])
def test_scores_are_those_of_the_file_as_it_runs(normed_parts, digits_parts, wrapped):
    if wrapped:
        inner, train, held = digits_parts
        material = subject(AlwaysDropping(inner), train, held)
    else:
        module, train, held = normed_parts
        material = subject(module, train, held, training=True)
        module.eval()

    values = delivered.measure(material, {})
    seen = determinism.measure(material, {})

    own = values["as_it_runs"]
    shown, evaluated = (
        part["scores"]["decide"]["balanced_accuracy"]["value"] for part in (own, values)
    )
    assert shown == pytest.approx(seen["before"], abs=0.03)  # another draw
    assert evaluated == pytest.approx(seen["after"])
    assert shown < evaluated
    assert own["correct"].keys() == values["correct"].keys()
    assert any("training mode" in text for text in values["notes"])


def test_in_evaluation_mode_there_is_one_score(healthy_digits, normed_parts):
    for material in (healthy_digits, subject(*normed_parts)):
        assert delivered.measure(material, {})["as_it_runs"] is None


def test_batch_statistics_left_on_change_with_the_company(digits_parts):
    _, train, held = digits_parts
    module = torch.nn.Sequential(
        torch.nn.Linear(64, 32),
        torch.nn.BatchNorm1d(32, track_running_stats=False),
        torch.nn.ReLU(),
        torch.nn.Linear(32, 10),
    )
    fit(module, *train, epochs=5)

    values = determinism.measure(subject(module, train, held), {})

    assert values["repeat"]["changed"] == 0
    assert values["company"]["difference"] > 0.01
    assert values["alone"]["needs_company"] is True
    assert values["varies"] is True


def test_the_probe_leaves_torchs_generator_alone(healthy_digits: Material):
    state = torch.random.get_rng_state()

    determinism.measure(healthy_digits, {})

    assert torch.equal(state, torch.random.get_rng_state())


def test_sound_weights_show_nothing_odd(healthy_digits, normed_parts):
    for material in (healthy_digits, subject(*normed_parts)):
        values = weights.measure(material, {})

        json.dumps(values, allow_nan=False)
        signs = "non_finite", "constant", "zero_rows", "zeros", "outliers", "untouched"
        for name in signs:
            assert not values[name], name
        assert values["untouched_norms"] == []
        assert max(values["dead"].values()) < 0.6


def test_a_matrix_of_which_most_was_cut_away_is_named(normed_parts):
    module, train, held = normed_parts
    module = copy.deepcopy(module)
    with torch.no_grad():
        head = module[-1].weight
        kept = torch.rand(head.shape, generator=torch.Generator().manual_seed(0)) > 0.9
        head *= kept

    values = weights.measure(subject(module, train, held), {})

    assert list(values["zeros"]) == ["4.weight"]
    assert values["zeros"]["4.weight"] == pytest.approx(0.9, abs=0.05)


@pytest.mark.parametrize(
    "initialize",
    [
        None,
        torch.nn.init.xavier_uniform_,
        torch.nn.init.kaiming_normal_,
    ],
)
def test_untrained_weights_are_recognised_whatever_the_scheme(digits_parts, initialize):
    _, train, held = digits_parts
    module = mlp(64, 10)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        for layer in (module[0], module[2]):
            layer.reset_parameters()
            if initialize is not None:
                initialize(layer.weight)

    values = weights.measure(subject(module, train, held), {})

    assert sum(values["untouched"].values()) == pytest.approx(1)


def test_the_row_of_an_embedding_that_pads_is_no_dead_unit():
    class Padded(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(20, 4, padding_idx=0)
            self.out = torch.nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.table(x).mean(1))

    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 20, (60, 5)), rng.integers(0, 2, 60)
    module = Padded()
    given = subject(module, (x[:40], y[:40]), (x[40:], y[40:]), kind="tokens")

    assert weights.measure(given, {})["zero_rows"] == {}
    with torch.no_grad():
        module.table.weight[7] = 0.0
    given = subject(module, (x[:40], y[:40]), (x[40:], y[40:]), kind="tokens")
    assert weights.measure(given, {})["zero_rows"] == {"table.weight": 1}


def test_spoiled_weights_are_named(digits_parts):
    _, train, held = digits_parts
    module = fit(mlp(64, 10), *train, epochs=3)
    with torch.no_grad():
        module[0].weight[3] = 0.0
        module[0].weight[5] = module[0].weight[4]
        module[0].weight[7, 7] = 1e4
        module[0].bias[:40] = -1e6
        module[2].weight[1, 1] = torch.nan

    values = weights.measure(subject(module, train, held), {})

    json.dumps(values, allow_nan=False)
    assert values["zero_rows"] == {"0.weight": 1}
    assert values["duplicate_rows"] == {"0.weight": 1}
    assert list(values["outliers"]) == ["0.weight"]
    assert values["non_finite"] == {"2.weight": 1}
    assert max(values["dead"].values()) >= 40 / 64


def test_a_constant_weight_and_an_unused_norm_are_named(digits_parts):
    _, train, held = digits_parts
    module = normed(64, 10)
    with torch.no_grad():
        module[4].weight.fill_(0.25)

    values = weights.measure(subject(module.eval(), train, held), {})

    assert values["constant"] == ["4.weight"]
    assert values["untouched_norms"] == ["1"]


class Attending(torch.nn.Module):
    """One layer of attention over the steps of a series, and their mean."""

    def __init__(self, features: int, steps: int, *, told: bool) -> None:
        super().__init__()
        self.inner = torch.nn.MultiheadAttention(features, 1, batch_first=True)
        places = torch.randn(1, steps, features) * float(told)
        self.places = torch.nn.Parameter(places)
        self.last = torch.nn.Linear(features, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.places
        return self.last(self.inner(x, x, x)[0].mean(1))


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("is_dead", [False, True])
def test_attention_that_is_told_no_positions_is_blind_for_the_order(told, is_dead):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((60, 5, 4)).astype(np.float32), np.arange(60) % 3
    module = Attending(4, 5, told=told)
    if is_dead:  # always the same answer, which says nothing of the order
        torch.nn.init.zeros_(module.last.weight)
    material = subject(module, (x, y), (x, y), kind="series")

    values = order.measure(material, {})

    assert values["blind"] is (not told and not is_dead)


@pytest.mark.parametrize(
    ("kind", "layout", "shape", "blind"),
    [
        ("series", "NCL", (4, 6), True),  # kernel 1 over the steps
        ("series", None, (4, 6), False),  # the same, steps and features exchanged
        ("series", None, (4, 1), None),  # too few steps for an order
    ],
)
def test_steps_lie_where_the_layout_says(kind, layout, shape, blind):
    rng = np.random.default_rng(0)
    channels = shape[0]
    x = rng.standard_normal((40, *shape)).astype(np.float32)
    if blind is None and kind == "series":
        x = x.transpose(0, 2, 1)
        channels = 1
    y = np.arange(40) % 3
    layers = [torch.nn.Conv1d(channels, 5, 1), torch.nn.AdaptiveAvgPool1d(1)]
    module = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(5, 3))
    material = subject(module, (x, y), (x, y), kind=kind, layout=layout)

    assert order.measure(material, {})["blind"] is blind


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_convolutions_of_single_pixels_are_blind_for_their_order(kernel, layout):
    rng = np.random.default_rng(0)
    x, y = rng.random((40, 3, 6, 5)).astype(np.float32), np.arange(40) % 3
    layers = [torch.nn.Conv2d(3, 5, kernel), torch.nn.ReLU()]
    pooled = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(5, 3)]
    module = torch.nn.Sequential(*layers, *pooled)
    if layout == "NHWC":
        x = x.transpose(0, 2, 3, 1)
        module = torch.nn.Sequential(Moved(), module)
    material = subject(module, (x, y), (x, y), kind="image", layout=layout)

    values = order.measure(material, {})

    assert values["blind"] is (kernel == 1)
    assert values["sees_only"] is None


class Pooling(torch.nn.Module):
    """Takes the columns of a table for a set."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.last = torch.nn.Linear(1, 6), torch.nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.inner(x[:, :, None])).mean(1))


@pytest.mark.parametrize("is_set", [True, False])
def test_a_table_whose_columns_are_pooled_is_taken_for_a_set(is_set):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 5)).astype(np.float32), np.arange(40) % 3
    module = Pooling() if is_set else torch.nn.Linear(5, 3)

    values = order.measure(subject(module, (x, y), (x, y)), {})

    assert values["blind"] is is_set
    assert values["sees_only"] is None


class Moved(torch.nn.Module):
    """Puts the channels first."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 3, 1, 2)


class Read(torch.nn.Module):
    """Answers by one output of a recurrent layer, or by their mean."""

    def __init__(self, step: int | None) -> None:
        super().__init__()
        self.inner = torch.nn.GRU(4, 6, batch_first=True)
        self.last = torch.nn.Linear(6, 3)
        self.step = step

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states = self.inner(x)[0]
        state = states.mean(1) if self.step is None else states[:, self.step]
        return self.last(state)


@pytest.mark.parametrize(
    ("step", "wiped", "seen"),
    [
        (0, False, "first"),
        (-1, False, None),  # which has seen them all
        (None, False, None),
        (-1, True, "last"),  # it keeps nothing of those before
        (3, False, None),
    ],
)
def test_a_network_that_sees_a_single_step_is_told(step, wiped, seen):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((60, 5, 4)).astype(np.float32), np.arange(60) % 3
    module = Read(step)
    if wiped:
        torch.nn.init.zeros_(module.inner.weight_hh_l0)
        with torch.no_grad():  # the update gate is shut for what was
            module.inner.bias_ih_l0[6:12] = -40
    material = subject(module, (x, y), (x, y), kind="series")

    values = order.measure(material, {})

    assert values["sees_only"] == seen
    assert values["blind"] is False


class OverTheBatch(torch.nn.Module):
    """An LSTM that takes the first axis of a batch for time."""

    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.inner = torch.nn.LSTM(4, 6, batch_first=batch_first)
        self.last = torch.nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.inner(x)[0][:, -1])


class OverRows(torch.nn.Module):
    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.inner(x), 0)


@pytest.mark.parametrize("batch_first", [False, True])
def test_an_lstm_over_the_batch_mixes_samples_in_evaluation_mode(batch_first):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((90, 5, 4)).astype(np.float32), np.arange(90) % 3
    module = OverTheBatch(batch_first=batch_first)

    values = determinism.measure(subject(module, (x, y), (x, y), kind="series"), {})

    assert values["mixes"] is not batch_first
    assert values["varies"] is not batch_first


def test_what_changes_with_the_company_in_training_mode_alone_mixes_nothing(
    digits_parts, normed_parts
):
    module, train, held = digits_parts
    over_rows = determinism.measure(subject(OverRows(module), train, held), {})
    dropping = determinism.measure(subject(AlwaysDropping(module), train, held), {})
    module, train, held = normed_parts
    normed = determinism.measure(subject(module, train, held, training=True), {})

    assert over_rows["mixes"] is True
    assert [dropping["mixes"], normed["mixes"]] == [False, False]
    assert dropping["varies"]
    assert normed["varies"]


@pytest.mark.parametrize(
    "form",
    [
        lambda eye: eye.to_sparse(),
        lambda eye: eye.to_sparse_csr(),
        lambda eye: torch._neg_view(-eye.diagonal()),
        lambda eye: eye.diagonal().bfloat16(),
    ],
    ids=["listed", "rows", "other sign", "half"],
)
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning")
def test_the_numbers_of_any_tensor_are_looked_at(form):
    np.testing.assert_array_equal(as_array(form(torch.eye(3))), np.ones(3))
