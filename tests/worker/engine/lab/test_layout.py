"""A member's parameters in one row."""

import torch

from worker.engine.lab.gradients import Layout


def test_parameters_of_several_types_get_their_own_back():
    parameters = {
        "a": torch.ones(2, 3, dtype=torch.float64),
        "b": torch.zeros(4),
        "c": torch.full((1,), 0.5, dtype=torch.float16),
    }
    layout = Layout.of(parameters)

    back = layout.parameters(layout.row(parameters))

    assert {n: (p.dtype, p.shape) for n, p in back.items()} == {
        n: (p.dtype, p.shape) for n, p in parameters.items()
    }
    assert all(torch.equal(back[n], parameters[n]) for n in parameters)


def test_a_row_of_another_type_keeps_it_where_all_parameters_are_of_one():
    parameters = {"a": torch.ones(2, 3), "b": torch.zeros(4)}
    layout = Layout.of(parameters)

    back = layout.parameters(layout.row(parameters).double())

    assert {p.dtype for p in back.values()} == {torch.float64}
