"""Parameters that belong to no layer begin as custom has it, not as delivered."""

import pytest
import torch
from torch import nn

from tests.worker.engine.network.network_models import lifted


class Patches(nn.Module):
    """A small vision transformer's odds and ends, on pictures of 8 by 8."""

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 16, 4, 4)
        self.token = nn.Parameter(torch.full((1, 1, 16), 0.3))
        self.position = nn.Parameter(deviation * torch.randn(1, 9, 16))
        self.gain = nn.Parameter(1 + 0.1 * torch.randn(16))
        self.mix = nn.Parameter(torch.randn(2, 16, 8))
        self.bias = nn.Parameter(torch.randn(8))
        self.head = nn.Linear(8, 3)
        self.temperature = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), 1)
        x = (x + self.position[:, : x.size(1)]) * self.gain
        x = torch.einsum("bnd,kde->bnke", x, self.mix).mean(2) + self.bias
        return self.head(x.mean(1)) * self.temperature.exp()


@pytest.mark.parametrize("how", ["scripted", "traced"])
@pytest.mark.parametrize(("delivered", "fresh"), [(0.3, 0.02), (1.0, 1.0)])
def test_each_begins_as_what_is_done_with_it_suggests(how, delivered, fresh):
    torch.manual_seed(0)
    network = lifted(Patches(delivered), torch.randn(2, 1, 8, 8), how)

    drawn, _ = network.initial(1)

    assert drawn["position"].std() == pytest.approx(fresh, rel=0.2)
    assert drawn["token"].std() == pytest.approx(0.02, rel=0.5)
    assert torch.equal(drawn["gain"], torch.ones(16))
    assert torch.equal(drawn["bias"], torch.zeros(8))
    assert drawn["mix"].abs().max() <= 1 / 4
    assert drawn["mix"].std() == pytest.approx(1 / 4 / 3**0.5, rel=0.1)
    assert network.untouched() == ("temperature",)
    assert drawn["temperature"] == 2
