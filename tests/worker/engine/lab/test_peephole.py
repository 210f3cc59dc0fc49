"""A captured step is left with less to do, and computes the same."""

import torch

from worker.engine.lab.peephole import streamlined
from worker.engine.lab.recording import recorded


def test_a_turned_product_is_computed_as_it_is_wanted():
    def step(rows, x, y):
        turned = torch.bmm(x.transpose(1, 2), y).transpose(1, 2)
        other = torch.bmm(y, rows).transpose(-1, -2)
        return [turned.reshape(2, -1), other.reshape(2, -1), turned.sum()]

    shapes = ((2, 4, 3), (2, 5, 3), (2, 5, 4))
    given = [torch.randn(*shape, dtype=torch.float64) for shape in shapes]
    others = [torch.randn_like(one) for one in given]

    compiled = streamlined(recorded(step, *given), given[0], 2)

    nodes = compiled.step.__self__.graph.nodes
    copied = [n.args[0].target for n in nodes if n.target is torch.reshape]
    assert copied == [torch.bmm, torch.bmm]  # as they are, not turned first
    torch.testing.assert_close(list(compiled(*others)), step(*others))


def test_a_product_that_others_read_stays():
    def step(rows, x):
        product = torch.bmm(x, rows)
        return [product.transpose(1, 2).reshape(2, -1), product]

    given = torch.randn(2, 4, 3), torch.randn(2, 5, 4)

    compiled = streamlined(recorded(step, *given), given[0], 2)

    torch.testing.assert_close(list(compiled(*given)), step(*given))


def test_what_is_run_calls_the_shorter_way():
    def step(rows, x):
        return [torch.relu(torch.bmm(x, rows)).transpose(1, 2)]

    given = torch.randn(2, 4, 3), torch.randn(2, 5, 4)

    compiled = streamlined(recorded(step, *given), given[0], 2)

    assert "aten" not in compiled.step.__code__.co_names
    torch.testing.assert_close(list(compiled(*given)), step(*given))
