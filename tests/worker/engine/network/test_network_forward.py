"""The lifted network is the module: outputs, gradients, buffers, stacks."""

import pytest
import torch
from network_models import (
    ARCHITECTURES,
    Recurrent,
    Written,
    archive,
    as_torchscript,
    lifted,
    settled,
    without_dropout,
)
from torch import nn
from torch.nn import functional as F

from worker.engine.lab.recording import recorded
from worker.engine.network.torch_export import load_torch_export
from worker.engine.network.torchscript import load_torchscript

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]
# Float sums in another order: attention written out, batch norm under vmap.
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
CASES = [
    *[(name, how) for name in ARCHITECTURES for how in ("scripted", "traced")],
    ("transformer", "traced_fast"),
]


@pytest.mark.parametrize(("name", "how"), CASES)
def test_inference_equals_the_module(name, how):
    module, x = settled(name)

    network = lifted(module, x, how)
    raw, buffers = network.forward(
        network.parameters, network.buffers, x, training=False
    )

    torch.testing.assert_close(raw, module(x), **TOLERANCE)
    assert all(torch.equal(buffers[n], network.buffers[n]) for n in buffers)


class Viewed(torch.nn.Module):
    """Flattens pictures by a view, as they lie one after the other."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(channels, 4, 3)
        self.out = torch.nn.Linear(4 * 16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.relu(self.conv(x)).view(x.size(0), -1))


@pytest.mark.parametrize("how", ["scripted", "traced"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_convolved_with_their_channels_last(channels, how):
    module, x = Viewed(channels).eval(), torch.randn(8, channels, 6, 6)
    network = lifted(module, x, how)
    given = (network.parameters, network.buffers, x)

    seen = {one.kind: one.value for one in network.activations(*given)}
    raw, _ = network.forward(*given, training=False)

    assert seen["conv"].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(raw, module(x), **TOLERANCE)


@pytest.mark.parametrize("how", ["scripted", "traced"])
@pytest.mark.parametrize("name", ["bag of means", "bag of sums", "pooled"])
def test_token_ids_are_known_by_the_table_that_they_are_looked_up_in(name, how):
    module, x = settled(name)

    network = lifted(module, x, how)

    assert network.facts.takes_tokens
    assert network.facts.layers[0].kind == "embedding"
    assert network.stackable
    fresh, _ = network.initial(0)
    [table] = [fresh[key] for key in fresh if fresh[key].shape[0] == 20]
    assert 0.7 < table[1:].std() < 1.3  # as torch draws it
    assert bool((table[0] == 0).all()) is (name == "bag of means")


@pytest.mark.parametrize("how", ["scripted", "traced"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_training_equals_the_module_in_gradients_and_running_statistics(name, how):
    module, x = settled(name)
    without_dropout(module)
    network = lifted(module, x, how)
    ours = {n: p.clone().requires_grad_() for n, p in network.parameters.items()}
    target = torch.tensor([0, 1, 0, 1, 0, 1])

    module.train()
    theirs_raw = module(x)
    theirs = torch.autograd.grad(
        F.cross_entropy(theirs_raw, target), list(module.parameters())
    )
    raw, buffers = network.forward(ours, network.buffers, x, training=True)

    found = torch.autograd.grad(F.cross_entropy(raw, target), list(ours.values()))
    torch.testing.assert_close(raw, theirs_raw, **TOLERANCE)
    for one, other in zip(found, theirs, strict=True):
        torch.testing.assert_close(one, other, **TOLERANCE)
    for key, value in module.named_buffers():
        torch.testing.assert_close(buffers[key], value, **TOLERANCE)


@pytest.mark.parametrize(("name", "how"), CASES)
def test_a_stack_of_three_equals_three_single_runs(name, how):
    module, x = settled(name)
    network = lifted(module, x, how)
    factors = torch.tensor([1.0, 1.1, 0.9])
    parameters = {
        n: p * factors.reshape(3, *[1] * p.dim()) for n, p in network.parameters.items()
    }
    buffers = {n: torch.stack([b] * 3) for n, b in network.buffers.items()}
    rng = torch.Generator().manual_seed(2)
    noise = [torch.rand(3, *shape, generator=rng) for shape in network.noise_shapes(x)]

    def run(p, b, z):
        return network.forward(p, b, x, training=True, noise=z)

    raw, after = torch.func.vmap(run)(parameters, buffers, noise)

    for k in range(3):
        alone, kept = run(
            {n: p[k] for n, p in parameters.items()},
            {n: b[k] for n, b in buffers.items()},
            [z[k] for z in noise],
        )
        torch.testing.assert_close(raw[k], alone, **TOLERANCE)
        for key in kept:
            torch.testing.assert_close(after[key][k], kept[key], **TOLERANCE)


@pytest.mark.parametrize(
    "name",
    [
        "perceptron",
        pytest.param("residual", marks=pytest.mark.slow),
        pytest.param("gru", marks=pytest.mark.slow),
        pytest.param("transformer", marks=pytest.mark.slow),
    ],
)
def test_a_stacked_training_step_can_be_captured(name):
    module, x = settled(name)
    network = lifted(module, x)
    parameters = {n: torch.stack([p, p]) for n, p in network.parameters.items()}
    buffers = {n: torch.stack([b, b]) for n, b in network.buffers.items()}
    noise = [torch.full((2, *shape), 0.5) for shape in network.noise_shapes(x)]

    def loss(p, b, z):
        raw, after = network.forward(p, b, x, training=True, noise=z)
        return raw.square().sum(), after

    step = torch.func.vmap(torch.func.grad(loss, has_aux=True))
    expected, _ = step(parameters, buffers, noise)

    def flat(*values):
        own = dict(zip(parameters, values, strict=False))
        return [*step(own, buffers, noise)[0].values()]

    graph = recorded(flat, *parameters.values())

    for found, value in zip(
        graph(*parameters.values()), expected.values(), strict=True
    ):
        torch.testing.assert_close(found, value, **TOLERANCE)


@pytest.mark.parametrize("how", ["scripted", "traced"])
def test_dropout_keeps_where_the_noise_is_at_least_p(how):
    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.25)).eval()
    x = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    network = lifted(module, x, how)
    noise = torch.tensor([[0.2, 0.25, 0.3, 0.0], [0.9, 0.1, 0.5, 0.24]])

    raw, _ = network.forward(
        network.parameters, network.buffers, x, training=True, noise=[noise]
    )

    keep = torch.tensor([[0, 1, 1, 0], [1, 0, 1, 0]], dtype=torch.bool)
    torch.testing.assert_close(raw, module(x) * keep / 0.75)


def test_channel_dropout_asks_for_one_number_a_channel():
    module, x = settled("residual")

    assert lifted(module, x).noise_shapes(x) == [(6, 8, 1, 1)]


@pytest.mark.parametrize("name", ["perceptron", "residual"])
def test_a_model_traced_in_training_mode_is_told_and_runs_clean(name):
    module, x = settled(name)
    reference = module(x)
    network = lifted(module.train(), x, "traced")

    network.parameters = {n: p.detach() for n, p in module.named_parameters()}
    state = {n: b.clone() for n, b in settled(name)[0].named_buffers()}
    raw, _ = network.forward(network.parameters, state, x, training=False)

    assert network.facts.baked_training
    torch.testing.assert_close(raw, reference, **TOLERANCE)
    assert not torch.equal(network.as_delivered(x), network.as_delivered(x))


def test_running_the_module_as_delivered_leaves_its_buffers_as_they_were():
    module, x = settled("residual")
    network = lifted(module.train(), x, "traced")
    before = {n: b.clone() for n, b in network.module.named_buffers()}

    network.as_delivered(x)

    after = dict(network.module.named_buffers())
    assert before
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_model_exported_in_evaluation_mode_is_not_said_to_be_in_training():
    for how in ("scripted", "traced"):
        assert not lifted(*settled("perceptron"), how).facts.baked_training


@pytest.mark.parametrize(
    ("norm", "baked"),
    [
        (nn.BatchNorm1d(4, track_running_stats=False), True),
        (nn.BatchNorm1d(4), False),
        (nn.InstanceNorm1d(4), False),  # has nothing to keep
    ],
)
def test_a_batch_norm_that_keeps_no_statistics_is_in_training_in_either_mode(
    norm, baked
):
    module = nn.Sequential(norm, nn.Flatten(), nn.Linear(12, 3)).eval()

    assert (
        lifted(module, torch.randn(5, 4, 3), "scripted").facts.baked_training is baked
    )


def test_what_cannot_be_lifted_runs_and_learns_on_the_module_itself():
    module = Written().eval()
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    network = load_torchscript(archive(as_torchscript(module, x, "scripted")))
    ours = {n: p.clone().requires_grad_() for n, p in network.parameters.items()}

    raw, _ = network.forward(ours, network.buffers, x, training=True)
    found = torch.autograd.grad(raw.square().sum(), list(ours.values()))

    theirs = torch.autograd.grad(module(x).square().sum(), list(module.parameters()))
    assert not network.stackable
    assert "could not be lifted" in network.facts.notes[0]
    torch.testing.assert_close(raw, module(x))
    for one, other in zip(found, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_a_frozen_archive_gets_its_parameters_back():
    module, x = settled("residual")
    frozen = torch.jit.freeze(torch.jit.script(module))

    network = load_torchscript(archive(frozen))

    raw, _ = network.forward(network.parameters, network.buffers, x, training=False)
    torch.testing.assert_close(raw, module(x), **TOLERANCE)
    torch.testing.assert_close(network.as_delivered(x), module(x), **TOLERANCE)
    assert network.facts.parameters > 500
    assert "frozen" in network.facts.notes[0]

    fresh, buffers = network.initial(1)
    raw, _ = network.forward(fresh, buffers, x, training=False)
    torch.testing.assert_close(network.script(fresh, buffers)(x), raw, **TOLERANCE)


class _OneBatch(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.out = torch.nn.Linear(16, 3)

    def forward(self, x):
        return self.out(torch.relu(x.view(8, -1)))


def test_a_batch_size_baked_in_by_tracing_is_freed():
    module = _OneBatch().eval()
    x = torch.randn(8, 4, 4, generator=torch.Generator().manual_seed(0))
    traced = lifted(module, x, "traced")

    network = traced.fitted(x[:2])

    raw, _ = network.forward(network.parameters, network.buffers, x[:3], training=False)
    torch.testing.assert_close(raw, module(x)[:3])
    assert "only took batches of 8" in network.facts.notes[-1]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_fitting_to_a_sample_takes_control_flow_out_and_changes_nothing(name):
    module, x = settled(name)
    network = lifted(module, x)

    fitted = network.fitted(x[:1])

    raw, _ = fitted.forward(fitted.parameters, fitted.buffers, x, training=False)
    torch.testing.assert_close(raw, module(x), **TOLERANCE)
    assert fitted.stackable
    assert all(not node.bodies for node in fitted.train_program.body.nodes)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_torch_export_archive_lifts_to_the_same_network(name, tmp_path):
    module, x = settled(name)
    rows = torch.export.Dim("rows")
    exported = torch.export.export(module, (x,), dynamic_shapes=({0: rows},))
    torch.export.save(exported, tmp_path / "model.pt2")

    with (tmp_path / "model.pt2").open("rb") as file:
        network = load_torch_export(file)

    raw, _ = network.forward(network.parameters, network.buffers, x[:4], training=False)
    torch.testing.assert_close(raw, module(x[:4]), **TOLERANCE)


@pytest.mark.parametrize(
    ("cell", "dtype", "stacked"),
    [
        (torch.nn.LSTM, torch.float32, False),  # all steps in one kernel
        (torch.nn.LSTM, torch.float64, True),
        (torch.nn.GRU, torch.float32, True),
    ],
)
def test_a_layer_that_torch_does_faster_alone_is_not_stacked(cell, dtype, stacked):
    network = lifted(Recurrent(cell).to(dtype).eval(), ARCHITECTURES["lstm"][1]())

    assert network.stackable
    assert network.stacked is stacked


def test_a_device_baked_in_by_tracing_is_that_of_the_input():
    module, x = settled("lstm")
    network = lifted(module, x, "traced")
    held = {n: p.to("meta") for n, p in network.parameters.items()}

    raw, _ = network.forward(held, network.buffers, x.to("meta"), training=False)

    assert raw.device.type == "meta"
