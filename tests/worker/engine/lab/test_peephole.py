"""A captured step is left with less to do, and computes the same."""

import torch

from worker.engine.lab import pictures
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


def lying(*shape: int, last: bool) -> torch.Tensor:
    """A stack of pictures, as a convolution leaves it or as it comes from a matrix."""
    members, rows, channels, height, width = shape
    folded = torch.randn(rows, members * channels, height, width)
    if last:
        folded = folded.contiguous(memory_format=torch.channels_last)
    return folded.view(rows, members, channels, height, width).transpose(0, 1)


def test_values_that_meet_lie_alike():
    shape = (2, 4, 3, 5, 6)
    x, other = lying(*shape, last=True), lying(*shape, last=False)

    assert pictures.alike(x, x) is x
    spread = torch.ones(2, 4, 3, 1, 1).expand(shape)
    assert pictures.alike(spread, x) is spread  # it lies anywhere
    laid = pictures.alike(other, x)
    assert laid.stride() == x.stride()
    assert torch.equal(laid, other)


def test_the_gradient_of_a_mean_is_divided_once_and_meets_what_lies_alike():
    def step(rows, x, flat):
        active = torch.relu(x)
        mean = torch.ops.aten.div.Scalar(rows[:, :, :, None, None].expand_as(x), 30)
        backward = torch.ops.aten.threshold_backward
        both = backward(mean, active, 0) + backward(flat.view(x.shape), active, 0)
        return [both.sum((1, 3, 4))]

    shape = (2, 4, 3, 5, 6)
    given = torch.randn(shape[:3]), lying(*shape, last=True), torch.randn(2, 4, 90)

    compiled = streamlined(recorded(step, *given), given[0], 2)

    nodes = compiled.step.__self__.graph.nodes
    divided = [n for n in nodes if n.target is torch.ops.aten.div.Scalar]
    assert [n.meta["shape"] for n in divided] == [(2, 4, 3, 1, 1)]
    targets = [n.target for n in nodes]
    assert pictures.alike in targets
    torch.testing.assert_close(list(compiled(*given)), step(*given))


def test_what_a_bias_gets_is_summed_before_it_is_spread():
    """Each pooled gradient goes to one place, so that the sums are the same."""
    members, rows, channels = 2, 4, 3
    pool = torch.ops.aten.max_pool2d_with_indices
    settings = [2, 2], [2, 2], [0, 0], [1, 1], False

    def step(x, gradient):
        out, places = pool(x, *settings)
        back = torch.ops.aten.max_pool2d_with_indices_backward(
            gradient * out, x, *settings, places
        )
        stack = back.view(members, rows, channels, 6, 6)
        return [stack.sum((1, 3, 4)), stack.sum(1), stack * 2]

    x = torch.randn(members * rows, channels, 6, 6)
    gradient = torch.randn(members * rows, channels, 3, 3)

    compiled = streamlined(recorded(step, x, gradient), x, members)

    nodes = compiled.step.__self__.graph.nodes
    summed = [n.args[0].meta["shape"] for n in nodes if n.target is torch.sum]
    assert summed == [(members, rows, channels, 3, 3), (members, rows, channels, 6, 6)]
    torch.testing.assert_close(list(compiled(x, gradient)), step(x, gradient))
