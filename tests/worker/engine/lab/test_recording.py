"""What runs once is written down as it ran, and works for other numbers."""

import pytest
import torch
import torch.nn.functional as F

from worker.engine.lab.recording import DependsOnValuesError, recorded


def same(function, *examples):
    """Record with some numbers, and compare on others of the same shapes."""
    graph = recorded(function, *examples)
    others = [torch.randn_like(one) for one in examples]
    expected = function(*(one.clone() for one in others))
    found = graph(*(one.clone() for one in others))
    torch.testing.assert_close(list(found), list(expected), rtol=0, atol=0)
    return graph


def test_gradients_of_a_stack():
    target = torch.tensor([0, 2, 1, 1])

    def loss(w, x):
        return F.cross_entropy(torch.relu(x @ w), target)

    def step(w, x):
        return [*torch.func.vmap(torch.func.grad_and_value(loss))(w, x)]

    same(step, torch.randn(3, 5, 3), torch.randn(3, 4, 5))


def test_parts_of_one_operator_constants_and_what_is_written_in_place():
    constant = torch.arange(6.0)

    def function(x):
        first, second = torch.split(x + constant, [2, 4])
        made = torch.zeros(4)
        made.copy_(second)
        made[1:3].add_(first)
        return [made * 2, torch.tensor([1.0, 2.0]) + first]

    same(function, torch.randn(6))


def test_a_result_that_is_an_input_or_does_not_depend_on_one():
    same(lambda x: [x, torch.ones(2)], torch.randn(2))


def test_every_node_knows_its_shape():
    graph = same(lambda x: [x.T.reshape(2, 3).half()], torch.randn(2, 3))

    [result] = graph.graph.output_node().args[0]
    assert result.meta["shape"] == (2, 3)
    assert result.meta["dtype"] == torch.float16


def test_a_way_that_depends_on_the_numbers_is_refused():
    def function(x):
        return [x * 2 if x.sum() > 0 else x]

    with pytest.raises(DependsOnValuesError):
        recorded(function, torch.ones(2))


def test_a_way_that_depends_on_constants_is_not():
    def function(x):
        return [x * 2 if torch.ones(2).sum() > 0 else x]

    same(function, torch.ones(2))
