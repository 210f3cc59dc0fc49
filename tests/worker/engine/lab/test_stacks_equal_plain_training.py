"""A stack trains to the weights that plain PyTorch reaches member by member."""

import lab_material as lab
import pytest
import torch
from torch import nn

from worker.engine.lab import optimizers
from worker.engine.lab.bench import Bench
from worker.engine.lab.members import merged, stacks
from worker.engine.recipe import CompleteLoss

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

# float64 leaves only the order of additions: about 1e-15 a step, grown by training.
EXACT = 1e-10


def dense(outputs: int = lab.CLASSES, last: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, outputs)]
    return nn.Sequential(*layers, *([last] if last else [])).double()


def trained(material, training, *, capture: bool):
    """Train the stacks of an experiment; returns them with their members."""
    bench = Bench(material)
    run = bench._prepared(training)
    assert not run.failures
    found = []
    for group in stacks(merged(run.members)):
        stack = bench._stack(group, training, run)
        stack.gradients.capture = capture
        rows = stack.rows  # members are compacted away as they finish
        stack._compact = lambda _step: None
        stack.run(lambda _ahead: False, lambda _steps: None)
        assert stack.rows is rows
        found.append(stack)
    return found


def assert_equal_to_plain(make, material, training, *, capture, tolerance=EXACT):
    for stack in trained(material, training, capture=capture):
        for k, member in enumerate(stack.members):
            plain = lab.train_plainly(make(), material, member)
            ours = stack.layout.parameters(stack.rows[k])
            for name, value in plain.named_parameters():
                torch.testing.assert_close(
                    ours[name], value.detach(), rtol=tolerance, atol=tolerance
                )
            for name, value in plain.named_buffers():
                torch.testing.assert_close(
                    stack.buffers[name][k], value, rtol=tolerance, atol=tolerance
                )


@pytest.mark.parametrize("capture", [True, False], ids=["captured", "direct"])
@pytest.mark.parametrize(
    "name", ["sgd", "adam", "adamw", "nadam", "rmsprop", "adagrad", "adadelta"]
)
def test_every_optimizer_reaches_the_weights_of_torch_optim(name, capture):
    material = lab.make_material(dense(), (5,), recipe=lab.make_recipe(name))
    other = {"optimizer": {"lr": 0.03, "weight_decay": 0.02, "eps": 1e-3}}
    training = lab.make_training({}, other, {"optimizer": {"momentum": 0.7}})
    # torch keeps NAdam's product of momenta in single precision, even here.
    tolerance = 1e-8 if name == "nadam" else EXACT

    assert_equal_to_plain(
        dense, material, training, capture=capture, tolerance=tolerance
    )


@pytest.mark.parametrize("schedule", [None, {"name": "cosine"}], ids=str)
@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_one_pass_for_all_who_agree_means_the_same(name, schedule, monkeypatch):
    monkeypatch.setattr(optimizers, "_FUSED_VALUES", 0)
    recipe = lab.make_recipe(name, schedule=schedule)
    material = lab.make_material(dense(), (5,), recipe=recipe)
    other = {"optimizer": {"lr": 0.03, "weight_decay": 0.02, "eps": 1e-3}}
    training = lab.make_training(
        {}, other, {"optimizer": {"momentum": 0.7}}, {"loss": {"label_smoothing": 0.1}}
    )
    calls = []
    fused = optimizers._FUSED[name]
    monkeypatch.setitem(
        optimizers._FUSED,
        name,
        lambda rows, *given, **settings: (
            calls.append(len(rows[0])),
            fused(rows, *given, **settings),
        ),
    )

    assert_equal_to_plain(dense, material, training, capture=True)
    assert set(calls) == {2, 4}  # two seeds an arm; two arms agree


@pytest.mark.parametrize(
    ("loss", "last"),
    [
        ("cross_entropy", None),
        ("cross_entropy", nn.Softmax(1)),
        ("nll", nn.LogSoftmax(1)),
        ("nll", None),
        ("bce", nn.Sigmoid()),
        ("bce_with_logits", None),
        ("mse", None),
        ("mae", None),
        ("hinge", None),
        ("focal", None),
    ],
    ids=str,
)
def test_every_loss_on_several_outputs_means_what_torch_means(loss, last):
    def make():
        return dense(last=last)

    material = lab.make_material(make(), (5,), recipe=lab.make_recipe(loss=loss))

    assert_equal_to_plain(make, material, lab.make_training(), capture=True)


def test_nll_takes_probabilities_as_they_are_where_it_is_told_so():
    def make():
        return dense(last=nn.Softmax(1))

    material = lab.make_material(make(), (5,), recipe=lab.make_recipe(loss="nll"))
    training = lab.make_training({"loss": {"probabilities": "plain"}})

    assert_equal_to_plain(make, material, training, capture=True)


@pytest.mark.parametrize(
    ("loss", "last"),
    [
        ("bce", nn.Sigmoid()),
        ("bce_with_logits", None),
        ("mse", None),
        ("mae", nn.Sigmoid()),
        ("hinge", None),
    ],
    ids=str,
)
def test_every_loss_on_one_output_means_what_torch_means(loss, last):
    def make():
        return dense(1, last)

    material = lab.make_material(
        make(), (5,), classes=2, recipe=lab.make_recipe(loss=loss)
    )

    assert_equal_to_plain(make, material, lab.make_training(), capture=True)


def test_smoothing_and_class_weights_differ_by_member_and_mean_what_torch_means():
    material = lab.make_material(dense(), (5,))
    training = lab.make_training(
        {},
        {"loss": {"label_smoothing": 0.2}},
        {"loss": {"class_weights": [1.0, 5.0, 0.5]}},
        {"loss": {"class_weights": [1.0, 5.0, 0.5], "label_smoothing": 0.1}},
    )

    assert_equal_to_plain(dense, material, training, capture=True)


@pytest.mark.parametrize("capture", [True, False], ids=["captured", "direct"])
def test_a_loss_that_knows_the_mistakes_is_forward_correction(capture):
    material = lab.make_material(dense(), (5,))
    matrix = [[0.7, 0.3, 0.0], [0.0, 1.0, 0.0], [0.1, 0.1, 0.8]]
    training = lab.make_training(
        {},
        {"loss": {"transition_matrix": matrix}},
        {"loss": {"transition_matrix": matrix, "class_weights": [1.0, 5.0, 0.5]}},
    )

    assert_equal_to_plain(dense, material, training, capture=capture)


@pytest.mark.parametrize("name", ["mse", "focal"])
def test_only_cross_entropy_knows_mistakes(name):
    matrix = [[0.9, 0.1, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    material = lab.make_material(dense(), (5,))
    known = {"transition_matrix": matrix}
    training = lab.make_training(
        {"loss": known | {"name": "cross_entropy"}},
        {"loss": {"name": name}},
        {"loss": known | {"name": name}},
    )

    run = Bench(material)._prepared(training)

    assert [("transition" in reason) for reason in run.failures.values()] == [True]


def test_cross_entropy_on_one_output_learns_nothing():
    material = lab.make_material(dense(1), (5,), classes=2)
    [stack] = trained(material, lab.make_training(), capture=True)

    start, _ = stack.members[0].start()

    assert torch.equal(stack.rows[0], stack.layout.row(start))


def conv() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 3, 3, stride=2, padding=1, bias=False),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(3, lab.CLASSES),
    ).double()


def normed() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.LeakyReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 6),
        nn.BatchNorm1d(6),
        nn.GELU(),
        nn.Linear(6, lab.CLASSES),
    ).double()


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)
        self.norm = nn.LayerNorm(6)
        self.outer = nn.Linear(6, lab.CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.outer(x + self.norm(torch.sigmoid(self.inner(x))))


def residual() -> nn.Module:
    torch.manual_seed(0)
    return Residual().double()


class Temporal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(2, 4, 3, groups=2)
        self.second = nn.Conv1d(4, 4, 3, dilation=2)
        self.last = nn.Linear(4, lab.CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.silu(self.first(x))
        return self.last(torch.nn.functional.elu(self.second(x)).mean(-1))


def temporal() -> nn.Module:
    torch.manual_seed(0)
    return Temporal().double()


def normed_series() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=1),
        nn.BatchNorm1d(4, momentum=None),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(4, 6, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm1d(6, affine=False),
        nn.Tanh(),
        nn.ConvTranspose1d(6, 3, 2, stride=2, output_padding=1),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(3, lab.CLASSES),
    ).double()


class Skipping(nn.Module):
    """A residual block on pictures of one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.inner, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.last = nn.Linear(3, lab.CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.max_pool2d(torch.relu(self.first(self.stem(x))), 2)
        x = torch.relu(x + self.second(self.inner(x)))
        return self.last(x.mean((2, 3)))


def skipping() -> nn.Module:
    torch.manual_seed(0)
    return Skipping().double()


def volumes() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(1, 2, 2),
        nn.BatchNorm3d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(54, lab.CLASSES),
    ).double()


def grouped() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.GroupNorm(2, 4),
        nn.SiLU(),
        nn.Conv2d(4, 4, 3, groups=4),
        nn.InstanceNorm2d(4, affine=True),
        nn.ReLU6(),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(4, lab.CLASSES),
    ).double()


@pytest.mark.parametrize("capture", [True, False], ids=["captured", "direct"])
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (conv, (2, 8, 8)),
        (grouped, (2, 8, 8)),
        (normed, (2, 8, 8)),
        (residual, (6,)),
        (temporal, (2, 12)),
        (normed_series, (2, 12)),
        (skipping, (1, 8, 8)),
        (volumes, (1, 4, 4, 4)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_kind_of_layer_trains_to_the_plain_weights(make, shape, capture):
    # Adam would blow the rounding of a bias before batch norm up, whose gradient is 0.
    material = lab.make_material(make(), shape, recipe=lab.make_recipe("sgd"))
    training = lab.make_training({}, {"optimizer": {"lr": 0.01}})

    assert_equal_to_plain(make, material, training, capture=capture)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.LSTM(3, 4, batch_first=True)
        self.outer = nn.Linear(4, lab.CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.outer(self.inner(x)[0][:, -1])


def recurrent() -> nn.Module:
    torch.manual_seed(0)
    return Recurrent().double()


def test_a_recurrent_network_trains_to_the_plain_weights():
    material = lab.make_material(recurrent(), (6, 3), kind="series")

    assert_equal_to_plain(recurrent, material, lab.make_training(), capture=True)


def test_a_recurrent_network_that_is_not_stacked_stays_near_the_plain_weights():
    def make():
        return recurrent().float()

    material = lab.make_material(make(), (6, 3), kind="series")
    training = lab.make_training({}, {"optimizer": {"lr": 0.01}})

    assert not material.network.stacked
    assert_equal_to_plain(make, material, training, capture=True, tolerance=1e-4)


def dropping() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(5, 7),
        nn.Dropout(0.4),
        nn.ELU(),
        nn.Dropout(0.2),
        nn.Linear(7, lab.CLASSES),
    ).double()


def test_dropout_in_a_stack_drops_what_it_drops_for_a_member_alone():
    material = lab.make_material(dropping(), (5,))
    training = lab.make_training({}, {"optimizer": {"lr": 0.01}})
    [stack] = trained(material, training, capture=True)

    material.network.stackable = False
    [looped] = trained(material, training, capture=True)

    torch.testing.assert_close(stack.rows, looped.rows, rtol=EXACT, atol=EXACT)
    assert len(stack._noise.at(0)) == 2


def test_a_stack_in_single_precision_stays_near_the_plain_weights():
    def make():
        return dense().float()

    material = lab.make_material(make(), (5,))

    # Adam divides by the gradient's size, which magnifies rounding of tiny gradients.
    assert_equal_to_plain(
        make, material, lab.make_training(), capture=True, tolerance=1e-4
    )


def test_the_loss_settings_are_those_of_the_recipe():
    material = lab.make_material(dense(), (5,))
    training = lab.make_training({"loss": {"label_smoothing": 0.2}})
    [stack] = trained(material, training, capture=False)

    assert stack.members[0].recipe.loss == CompleteLoss(
        name="cross_entropy", label_smoothing=0.2
    )
