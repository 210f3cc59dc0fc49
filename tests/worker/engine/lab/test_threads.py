"""Large operators get all threads, small ones a single one."""

import lab_material as lab
import pytest
import torch
from torch import nn

from worker.engine.lab import threads
from worker.engine.lab.bench import Bench
from worker.engine.lab.optimizers import StackedOptimizer
from worker.engine.lab.threads import Work, work_a_row


class Plain:
    """What `work_a_row` asks of a network."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.parameters = dict(module.named_parameters())
        self.buffers: dict[str, torch.Tensor] = {}

    def forward(self, parameters, buffers, x, *, training):
        return torch.func.functional_call(self.module, parameters, (x,)), buffers


def test_work_is_counted_a_row():
    dense = Plain(nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)))
    conv = Plain(nn.Conv2d(3, 8, 3, padding=1))

    assert work_a_row(dense, torch.zeros(5, 64)) == Work(2.0 * (64 * 32 + 32 * 10), 2)
    assert work_a_row(conv, torch.zeros(5, 3, 8, 8)) == Work(2.0 * 27 * 8 * 64, 1)
    assert work_a_row(conv, torch.zeros(1, 3, 8, 8)).calls == 1


def test_what_cannot_be_counted_is_judged_by_its_weights():
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(7))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.scale

    assert work_a_row(Plain(Scaled()), torch.zeros(3, 7)).operations == 14.0


@pytest.fixture
def four(monkeypatch):
    monkeypatch.setattr(threads, "MOST", 4)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("four")
def test_only_large_operators_get_more_than_one_thread():
    small, large = Work(2e5, 2), Work(1e9, 2)

    assert (small.threads(), large.threads()) == (1, 4)
    assert small.threads(times=1000) == 4
    with threads.threads(large.threads()):
        assert torch.get_num_threads() == 4
    assert torch.get_num_threads() == 1


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize(("enough", "used"), [(1.0, 4), (1e12, 1)])
def test_a_stack_trains_with_the_threads_that_pay(monkeypatch, enough, used):
    monkeypatch.setattr(threads, "ENOUGH", enough)
    seen, step = [], StackedOptimizer.step

    def noted(self, *given):
        seen.append(torch.get_num_threads())
        return step(self, *given)

    monkeypatch.setattr(StackedOptimizer, "step", noted)
    module = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, lab.CLASSES))
    recipe = lab.make_recipe(epochs=40)

    Bench(lab.make_material(module, (5,), recipe=recipe)).run(lab.make_training())

    assert seen[0] == 1  # nobody knows before the first step
    assert seen[-1] == used
