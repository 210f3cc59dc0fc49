"""What is no classifier is refused with what was found and what is expected."""

import io

import pytest
import torch
from network_models import archive
from torch import nn

from service.contract.errors import BadRequest, UnusableModel
from worker.engine.network.torchscript import load_torchscript

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


class Ruled(nn.Module):
    def forward(self, x):
        return torch.stack([x[:, 0], -x[:, 0]], 1)


@pytest.mark.parametrize(
    ("module", "found"),
    [
        (Counting(), "keeps state between calls: it writes to its buffer `calls`"),
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
