"""What is no classifier is refused with what was found and what is expected."""

import io
import zipfile

import numpy as np
import pytest
import torch
from network_models import archive
from torch import nn

from service.contract.errors import BadRequest, UnusableModel
from worker.engine.data import Split
from worker.engine.network.torchscript import load_torchscript
from worker.engine.trying import try_out

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(4, 3)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls.add_(1)
        return self.out(x)


class Remembering(nn.Module):
    """Like a voice detector: its state goes from call to call."""

    state: torch.Tensor

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(4, 4)
        self.state = torch.zeros(1, 4)

    def forward(self, x):
        y = torch.tanh(self.out(x) + self.state)
        self.state = y[:1]
        return y


class Detecting(Remembering):
    """Two inputs and state, as the public voice detector has them."""

    def forward(self, x, rate: int):
        y = torch.tanh(self.out(x) + self.state) * rate
        self.state = y[:1]
        return y


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(4, 3)

    def forward(self, x, y):
        return self.out(x + y)


class Listing(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        return [self.out(x)]


class TwoOutputs(Listing):
    def forward(self, x):
        return self.out(x), x


class Named(Listing):
    def forward(self, x):
        return {"scores": self.out(x)}


class Drifting(Listing):
    def forward(self, x):
        self.out.weight.data.add_(0.01)
        return self.out(x)


class Saying(Listing):
    """It holds a text whose bytes are no UTF-8."""

    def forward(self, x):
        if x.shape[0] == 0:
            raise ValueError(chr(200) + chr(201))
        return self.out(x)


class Limited(nn.Module):
    """Rows of the embedding that are looked up are kept short, in place."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(9, 4, max_norm=1.0)
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.words(x).mean(1))


class Spread(nn.Module):
    """Tensors of which one number stands for many."""

    def __init__(self, times: int = 4):
        super().__init__()
        self.out = nn.Linear(4, 3)
        self.out.weight.data = torch.ones(1, 1).expand(3, 4)
        self.register_buffer("shift", torch.ones(1).expand(times))

    def forward(self, x):
        return self.out(x + self.shift[:4])


class Ruled(nn.Module):
    def forward(self, x):
        return torch.stack([x[:, 0], -x[:, 0]], 1)


@pytest.mark.parametrize(
    ("module", "found"),
    [
        (Counting(), "keeps state between calls: it writes to its buffer `calls`"),
        (Drifting(), "keeps state between calls: it writes to its parameter `out.w"),
        (
            Remembering(),
            "keeps state between calls: it writes to its attribute `state`",
        ),
        (
            Detecting(),
            "takes 2 inputs (x: Tensor, rate: int) and keeps state in `state`",
        ),
        (TwoInputs(), "takes 2 inputs (x: Tensor, y: Tensor)"),
        (Listing(), "returns List[Tensor]"),
        (TwoOutputs(), "returns Tuple[Tensor, Tensor]"),
        (Named(), "returns Dict[str, Tensor]"),
        (Ruled(), "no parameters that could be trained"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_an_unusable_model_is_refused_with_what_was_found(module, found):
    file = archive(torch.jit.script(module.eval()))

    with pytest.raises(UnusableModel) as refusal:
        load_torchscript(file)

    assert found in refusal.value.detail
    assert "A classifier is expected: one tensor in" in refusal.value.detail


def test_a_file_that_is_no_archive_is_refused():
    with pytest.raises(BadRequest, match="does not open as a TorchScript archive"):
        load_torchscript(io.BytesIO(b"no archive"))


def test_a_truncated_archive_is_refused():
    whole = archive(torch.jit.script(Listing())).getvalue()

    with pytest.raises(BadRequest, match="does not open"):
        load_torchscript(io.BytesIO(whole[: len(whole) // 2]))


class Unwatched(Listing):
    """It writes to its weights where no gradient sees it, which cannot be read."""

    def forward(self, x):
        with torch.no_grad():
            self.out.weight.add_(0.1)
        return self.out(x)


@pytest.mark.parametrize("kind", [Unwatched, Saying])
def test_a_model_that_cannot_be_read_is_watched_for_what_it_keeps(kind):
    network = load_torchscript(archive(torch.jit.script(kind().eval())))
    x = np.zeros((20, 4), np.float32)
    rows = np.arange(20)
    split = Split(x=x, y=np.zeros(20, np.int64), rows=rows, source="x")

    if kind is Saying:
        assert try_out(network, split, torch.device("cpu")).shape[1] == 3
        return
    with pytest.raises(UnusableModel, match=r"keeps state .* `out.weight`"):
        try_out(network, split, torch.device("cpu"))


def test_an_archive_of_an_impossible_version_is_refused():
    whole = archive(torch.jit.script(Listing()))
    file = io.BytesIO()
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(file, "w") as new:
        for entry in old.infolist():
            is_it = entry.filename.endswith("/version")
            new.writestr(entry.filename, b"9" * 20 if is_it else old.read(entry))
    file.seek(0)

    with pytest.raises(BadRequest, match="does not open as a TorchScript archive"):
        load_torchscript(file)


def test_a_network_that_holds_bytes_for_a_text_is_run_as_it_is():
    module = Saying().eval()
    network = load_torchscript(archive(torch.jit.script(module)))
    x = torch.randn(2, 4)

    assert torch.equal(network.as_delivered(x), module.out(x))


def test_words_that_are_kept_short_keep_no_state():
    module, x = Limited().eval(), torch.tensor([[1, 2, 3, 1]])
    traced = torch.jit.trace(module, x)

    assert "embedding_renorm_" in str(traced.inlined_graph)
    network = load_torchscript(archive(traced))
    assert torch.equal(network.as_delivered(x), module(x))


def test_tensors_of_which_one_number_stands_for_many_can_be_written_to():
    network = load_torchscript(archive(torch.jit.script(Spread().eval())))
    weights = {name: value + 1 for name, value in network.parameters.items()}

    made = network.script(weights, network.buffers)

    x = torch.randn(5, 4)
    expected = network.forward(weights, network.buffers, x, training=False)[0]
    torch.testing.assert_close(made(x), expected)


def test_a_tensor_that_would_fill_the_memory_is_refused():
    file = archive(torch.jit.script(Spread(1 << 40).eval()))

    with pytest.raises(BadRequest, match="`shift` is far larger than its own memory"):
        load_torchscript(file)
