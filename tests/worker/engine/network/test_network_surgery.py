"""Surgery changes what it says, leaves the rest, and says when it cannot."""

from collections.abc import Callable

import pytest
import torch
from network_models import ARCHITECTURES, archive, lifted, perceptron, settled
from torch import nn

from worker.engine.lab.experiment import NetworkChange
from worker.engine.network.editing import SurgeryImpossible
from worker.engine.network.network import Network

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]


def changed(network: Network, x: torch.Tensor, **change) -> Network:
    return network.changed(NetworkChange(**change), classes=3, sample=x)


def runs_everywhere(network: Network, x: torch.Tensor) -> None:
    """Fresh weights train, and the archive written from them returns the same."""
    parameters, buffers = network.initial(1)
    raw, _ = network.forward(parameters, buffers, x, training=True)
    assert torch.isfinite(raw).all()
    script = torch.jit.load(archive(network.script(parameters, buffers)))
    for rows in (1, len(x)):
        expected, _ = network.forward(parameters, buffers, x[:rows], training=False)
        torch.testing.assert_close(script(x[:rows]), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_width_follows_every_hidden_channel(name, factor):
    network = lifted(*settled(name))
    x = settled(name)[1]

    wider = changed(network, x, name="width", factor=factor)

    larger = wider.facts.parameters > network.facts.parameters
    assert larger == (factor > 1)
    assert wider.facts.outputs == network.facts.outputs
    runs_everywhere(wider, x)


class Necked(nn.Module):
    """Convolutions that a layer of two channels follows, before the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12)
        self.neck, self.last = nn.Conv2d(12, 2, 1), nn.Linear(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.last(torch.relu(self.neck(x)).mean((2, 3)))


def test_narrow_layers_alone_can_be_widened():
    network = lifted(Necked().eval(), x := torch.randn(4, 3, 8, 8))

    wider = changed(network, x, name="width", factor=1.0, least=10)

    shapes = {name: tuple(value.shape) for name, value in wider.parameters.items()}
    assert shapes["first.weight"] == (12, 3, 3, 3)
    assert shapes["neck.weight"] == (10, 12, 1, 1)
    assert shapes["last.weight"] == (3, 10)
    runs_everywhere(wider, x)


@pytest.mark.parametrize("how", ["scripted", "traced"])
@pytest.mark.parametrize(
    "pool",
    [
        nn.AdaptiveMaxPool1d(1),
        nn.MaxPool1d(8),
        nn.MaxPool1d(8, return_indices=True),
        nn.AdaptiveAvgPool1d(1),
    ],
    ids=lambda pool: f"{type(pool).__name__}",
)
def test_width_follows_channels_through_pooling(pool, how):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.pool = nn.Conv1d(3, 6, 5, padding=2), pool
            self.last = nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            pooled = self.pool(torch.relu(self.first(x)))
            if isinstance(pooled, tuple):
                pooled = pooled[0]
            return self.last(pooled.flatten(1))

    x = torch.randn(4, 3, 8)
    network = lifted(Net().eval(), x, how)

    wider = changed(network, x, name="width", factor=2.0)

    assert {tuple(p.shape) for p in wider.parameters.values()} == {
        (12, 3, 5), (12,), (3, 12), (3,)
    }  # fmt: skip
    runs_everywhere(wider, x)


def test_width_of_a_perceptron_is_exact():
    network = lifted(*settled("perceptron"))

    wider = changed(network, settled("perceptron")[1], name="width", factor=3)

    shapes = [tuple(p.shape) for p in wider.parameters.values()]
    assert shapes == [
        (24, 4), (24,), (24,), (24,), (24, 24), (24,), (24,), (24,), (3, 24), (3,)
    ]  # fmt: skip


def test_activations_are_swapped_before_the_output_only():
    x = settled("perceptron")[1]

    network = changed(lifted(*settled("perceptron")), x, name="activation", to="gelu")

    assert network.facts.activations == ("gelu", "gelu")
    assert network.facts.output_activation == "softmax"
    runs_everywhere(network, x)


class Bounded(nn.Module):
    """A masked mean, whose divisor is kept from 0; then what may be an activation."""

    def __init__(self, low: float, high: float | None) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 3)
        self.low, self.high = low, high

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        there = (x != 0).to(x.dtype)
        x = x * there / there.sum(1, keepdim=True).clamp(min=1.0)
        return self.last(torch.clamp(self.first(x), self.low, self.high))


@pytest.mark.parametrize(
    ("low", "high", "activations"),
    [(0.0, None, ("clamp",)), (-1.0, 1.0, ("clamp",)), (1e-6, None, ())],
)
def test_a_bound_that_keeps_a_divisor_from_zero_is_no_activation(
    low, high, activations
):
    network = lifted(Bounded(low, high).eval(), torch.randn(6, 4))

    assert network.facts.activations == activations


def test_a_linear_stack_gets_activations_between_its_layers():
    module = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3)).eval()
    x = torch.randn(6, 4)
    network = lifted(module, x)

    mended = changed(network, x, name="activation", to="relu")

    assert network.facts.missing_activations == ("0", "1")
    assert mended.facts.activations == ("relu", "relu")
    assert not mended.facts.linear_stack
    runs_everywhere(mended, x)


def test_removing_the_output_activation_returns_what_went_into_it():
    module, x = settled("perceptron")
    network = changed(lifted(module, x), x, name="output")

    raw, _ = network.forward(network.parameters, network.buffers, x, training=False)

    torch.testing.assert_close(raw, module[:-1](x))
    assert network.facts.output_activation == "none"


def test_what_stands_before_the_output_is_taken_away_alone():
    layers = [nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3), nn.ReLU()]
    module, x = nn.Sequential(*layers, nn.LogSoftmax(-1)).eval(), torch.randn(6, 4)
    network = lifted(module, x)

    freed = changed(network, x, name="output", to="last")

    assert (network.facts.before_output, network.facts.output_activation) == (
        "relu",
        "log_softmax",
    )
    assert freed.facts.before_output == "none"
    assert freed.facts.output_activation == "log_softmax"
    raw, _ = freed.forward(freed.parameters, freed.buffers, x, training=False)
    torch.testing.assert_close(raw, module[4](module[:3](x)))
    with pytest.raises(SurgeryImpossible, match="no such activation"):
        changed(freed, x, name="output", to="last")


def test_dropout_is_set_added_and_removed():
    x = settled("perceptron")[1]
    network = lifted(*settled("perceptron"))

    stronger = changed(network, x, name="dropout", p=0.5)
    without = changed(network, x, name="dropout", p=0.0)
    again = changed(without, x, name="dropout", p=0.2)

    assert stronger.facts.dropout_p == 0.5
    assert without.noise_shapes(x) == []
    assert again.noise_shapes(x) == [(6, 8), (6, 8)]
    runs_everywhere(again, x)


def test_a_one_output_head_becomes_one_score_a_class():
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1), nn.Sigmoid())
    x = torch.randn(6, 4)

    network = changed(lifted(module.eval(), x), x, name="head")

    raw, _ = network.forward(network.parameters, network.buffers, x, training=False)
    assert raw.shape == (6, 3)
    assert network.facts.output_activation == "none"
    runs_everywhere(network, x)


@pytest.mark.parametrize(("factor", "layers"), [(2, 4), (0.5, 2)])
def test_depth_repeats_or_drops_square_layers(factor, layers):
    x = settled("perceptron")[1]

    network = changed(lifted(*settled("perceptron")), x, name="depth", factor=factor)

    kinds = [layer.kind for layer in network.facts.layers]
    assert kinds.count("linear") == layers
    runs_everywhere(network, x)


@pytest.mark.parametrize(
    ("family", "shape"),
    [
        ("linear", (20,)),
        ("dense", (20,)),
        ("dense", (1, 12, 12)),
        ("conv", (1, 12, 12)),
        ("conv", (12, 12, 3)),
        ("conv", (144,)),
        ("conv", (30, 2)),
        ("conv", (3, 2)),  # too short to be pooled
        ("conv_channels_first", (2, 30)),
        ("conv_channels_first", (1, 100)),
        ("recurrent", (30, 2)),
    ],
)
def test_a_reference_network_has_about_as_many_parameters(family, shape):
    x = torch.randn(4, *shape)
    features = x[0].numel()
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(features, 40), nn.ReLU(), nn.Linear(40, 3)
    )
    network = lifted(module.eval(), x)

    reference = changed(network, x, name="reference", to=family)

    if family != "linear":
        share = reference.facts.parameters / network.facts.parameters
        assert 0.8 < share < 1.25
    assert reference.facts.outputs == 3
    assert (
        reference.structure
        == changed(network, x, name="reference", to=family).structure
    )
    runs_everywhere(reference, x)


def test_a_reference_is_as_wide_as_is_asked_whatever_the_given_network_has():
    """Of a linear one as many parameters make two units, which are too few."""
    x = torch.randn(4, 20)
    network = lifted(nn.Linear(20, 2).eval(), x)

    small = changed(network, x, name="reference", to="dense")
    wide = changed(network, x, name="reference", to="dense", least=32)

    assert small.facts.layers[0].detail["out"] == 2
    assert wide.facts.layers[0].detail["out"] == 32


@pytest.mark.parametrize("family", ["linear", "dense", "conv", "recurrent"])
def test_a_network_made_for_tokens_takes_them_as_floats(family):
    """The contract sends floats; a delivered network casts them by itself."""
    module, x = settled("bag of means")
    network = changed(lifted(module, x), x, name="reference", to=family)

    made = network.script(network.parameters, network.buffers)

    assert network.facts.takes_tokens
    torch.testing.assert_close(made(x.float()), made(x))


@pytest.mark.parametrize("sizes", [(3, 0, 5), (4, 4, 4)])
def test_a_network_for_codes_gives_each_its_own_column(sizes):
    """What it makes of a code says nothing of its neighbours; of a quantity it does."""
    x = torch.tensor([[0.0, 1.0, 1.0], [1.0, 2.0, 3.0], [2.0, 3.0, 2.0]])
    module = nn.Sequential(nn.Linear(3, 40), nn.ReLU(), nn.Linear(40, 3))
    network = lifted(module.eval(), x)

    made = changed(network, x, name="reference", to="codes", codes=sizes)
    first = next(p for name, p in made.parameters.items() if p.dim() == 2)

    assert first.shape[1] == sum(sizes) + sizes.count(0)
    runs_everywhere(made, x)
    written = made.script(made.parameters, made.buffers)
    between = x.clone()
    between[:, 0] += 0.5  # between two codes there is none
    unknown = torch.where(torch.arange(3) == 0, torch.tensor(99.0), x)
    assert not torch.allclose(written(x), written(between))
    torch.testing.assert_close(written(between), written(unknown))


def test_a_recurrent_reference_does_not_forget_what_stands_before_the_padding():
    x, y = torch.zeros(64, 40, dtype=torch.long), torch.arange(64) % 2
    x[:, :3] = torch.randint(2, 20, (64, 3), generator=torch.Generator().manual_seed(0))
    x[:, 1] = torch.where(y == 1, 1, x[:, 1])
    bag = nn.Sequential(nn.Embedding(20, 8), nn.Flatten(), nn.Linear(320, 2))
    made = changed(lifted(bag.eval(), x), x, name="reference", to="recurrent")
    reference = made.script(made.parameters, made.buffers)
    optimizer = torch.optim.Adam(reference.parameters(), lr=0.01)

    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(reference(x), y).backward()
        optimizer.step()

    assert (reference(x).argmax(1) == y).float().mean() > 0.95


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "reference", "to": "codes", "codes": (3, 3)}, "no family `codes`"),
        ({"name": "reference", "to": "conv"}, "no pictures"),
        ({"name": "reference", "to": "recurrent"}, "no steps in time"),
        ({"name": "reference", "to": "forest"}, "no family"),
        ({"name": "activation", "to": "square"}, "no activation `square`"),
        ({"name": "dropout", "p": 1.0}, "0 <= p < 1"),
        ({"name": "width", "factor": 0.0}, "positive factor"),
        ({"name": "width", "factor": 1.01}, "stays as it is"),
        ({"name": "depth", "factor": 3.0}, "2 or 0.5"),
    ],
)
def test_what_cannot_be_changed_surely_is_refused_with_the_reason(change, reason):
    x = settled("perceptron")[1]

    with pytest.raises(SurgeryImpossible, match=reason):
        changed(lifted(*settled("perceptron")), x, **change)


class _Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.inward = nn.Linear(4, 8)
        self.gate = nn.Linear(8, 8)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.inward(x))
        return self.out(x * torch.sigmoid(self.gate(x)))


def test_a_gate_keeps_its_sigmoid():
    x = torch.randn(6, 4)

    network = changed(lifted(_Gated().eval(), x), x, name="activation", to="tanh")

    assert sorted(network.facts.activations) == ["sigmoid", "tanh"]


def test_unchanged_layers_of_a_changed_network_start_equal():
    x = settled("perceptron")[1]
    network = lifted(*settled("perceptron"))

    one, _ = network.initial(7)
    other, _ = changed(network, x, name="activation", to="tanh").initial(7)

    assert all(torch.equal(one[name], other[name]) for name in one)


Bound = Callable[[torch.Tensor], float]


def test_default_initialisation_is_that_of_torch():
    network = lifted(perceptron(), torch.randn(6, 4))

    drawn = [network.initial(seed)[0] for seed in range(200)]

    weights = torch.stack([one["0.weight"] for one in drawn])
    biases = torch.stack([one["0.bias"] for one in drawn])
    # Uniform within 1 / sqrt(fan in); 6400 draws come within 1 % of the bound.
    for values in (weights, biases):
        assert 0.495 < values.abs().max() <= 0.5
        assert abs(values.std() - 0.5 / 3**0.5) < 0.01
    assert torch.equal(drawn[0]["1.weight"], torch.ones(8))
    assert torch.equal(drawn[0]["1.bias"], torch.zeros(8))


def test_initialisation_is_decided_by_the_seed_and_resets_statistics():
    network = lifted(*settled("residual"))

    one, buffers = network.initial(3)
    same, _ = network.initial(3)
    other, _ = network.initial(4)

    assert all(torch.equal(one[n], same[n]) for n in one)
    assert not torch.equal(one["out.weight"], other["out.weight"])
    assert torch.equal(buffers["norm.running_var"], torch.ones(8))
    assert buffers["norm.num_batches_tracked"] == 0
    assert network.untouched() == ()


@pytest.mark.parametrize(
    ("scheme", "deviation"), [("he", (2 / 4) ** 0.5), ("glorot", (2 / 12) ** 0.5)]
)
def test_he_and_glorot_have_their_deviation_and_no_bias(scheme, deviation):
    network = lifted(perceptron(), torch.randn(6, 4))

    drawn = [network.initial(seed, scheme)[0] for seed in range(200)]

    weights = torch.stack([one["0.weight"] for one in drawn])
    assert abs(weights.std() / deviation - 1) < 0.05  # 6400 draws: 1 % is one sigma
    assert torch.equal(drawn[0]["0.bias"], torch.zeros(8))


@pytest.mark.parametrize("how", ["scripted", "traced"])
def test_an_unchanged_network_is_written_with_its_weights_and_a_shift(how):
    module, x = settled("residual")
    network = lifted(module, x, how)
    parameters = {n: p * 1.5 for n, p in network.parameters.items()}
    shift, scale = torch.tensor(0.5), torch.tensor(2.0)

    script = network.script(
        parameters, network.buffers, input_shift=shift, input_scale=scale
    )

    loaded = torch.jit.load(archive(script))
    expected, _ = network.forward(
        parameters, network.buffers, (x - 0.5) / 2, training=False
    )
    torch.testing.assert_close(loaded(x), expected)


def test_a_model_traced_in_training_mode_is_written_as_at_inference():
    module, x = settled("residual")
    network = lifted(module.train(), x, "traced")

    script = torch.jit.load(
        archive(network.script(network.parameters, network.buffers))
    )

    expected, _ = network.forward(
        network.parameters, network.buffers, x, training=False
    )
    torch.testing.assert_close(script(x), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(script(x), script(x))


class Recurrent(nn.Module):
    def __init__(self, kind: str, *, batch_first: bool, at_rows: bool = False) -> None:
        super().__init__()
        made = getattr(nn, kind)
        self.inner = made(4, 6, 2, batch_first=batch_first, bidirectional=True)
        self.last = nn.Linear(12, 3)
        self.at_rows = at_rows

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.inner(x)[0]
        return self.last(out[-1] if self.at_rows else out[:, -1])


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers_over_the_batch_are_turned(kind):
    wrong, right = (Recurrent(kind, batch_first=first) for first in (False, True))
    right.load_state_dict(wrong.state_dict())
    x = torch.randn(6, 5, 4)
    network = lifted(wrong.eval(), x)

    turned = changed(network, x, name="batch_first")

    raw, _ = turned.forward(turned.parameters, turned.buffers, x, training=False)
    torch.testing.assert_close(raw, right.eval()(x))
    runs_everywhere(turned, x)
    with pytest.raises(SurgeryImpossible, match="takes the first axis for time"):
        changed(turned, x, name="batch_first")


def test_what_reads_the_last_step_of_the_first_axis_cannot_be_turned():
    module = Recurrent("GRU", batch_first=False, at_rows=True).eval()
    x = torch.randn(6, 6, 4)  # as many steps as rows, or it would not run

    with pytest.raises(SurgeryImpossible):
        changed(lifted(module, x), x, name="batch_first")
