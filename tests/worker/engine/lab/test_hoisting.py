"""Views of the weights are made once, and see what is written into the weights."""

import torch

from worker.engine.lab.hoisting import Compiled, hoisted
from worker.engine.lab.recording import recorded


def captured(step, *examples: torch.Tensor):
    return compiled_from(recorded(step, *examples), examples[0])


def compiled_from(module, rows) -> Compiled:
    views = hoisted(module, rows)
    module.recompile()
    return Compiled(views, module.forward)


def names(compiled) -> str:
    return compiled.step.__self__.code.split("def forward")[1].split(":", 1)[1]


def test_views_of_the_weights_leave_the_step_and_follow_the_weights():
    def step(rows, x):
        first, second = torch.split(rows, [6, 2], 1)
        product = torch.bmm(x, first.reshape(2, 2, 3).transpose(1, 2))
        return [product + second.reshape(2, 1, 2)]

    rows, x = torch.randn(2, 8), torch.randn(2, 4, 3)
    compiled = captured(step, rows, x)
    views = compiled.views(rows)
    rows.mul_(2)

    assert "aten.split" not in names(compiled)
    assert "aten.transpose" not in names(compiled)
    torch.testing.assert_close(compiled.step(rows, x, *views), step(rows, x))
    torch.testing.assert_close(list(compiled(rows, x)), step(rows, x))


def test_what_copies_the_weights_stays_in_the_step():
    def step(rows, x):
        turned = rows.reshape(2, 2, 2).transpose(1, 2)
        return [x * turned.reshape(2, 4)]

    rows, x = torch.randn(2, 4), torch.randn(2, 4)
    module = recorded(step, rows, x)
    for node in list(module.graph.nodes):  # as the peephole rules leave them
        if node.target == torch.ops.aten.clone.default:
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
        elif node.target == torch.ops.aten._unsafe_view.default:
            node.target = torch.ops.aten.reshape.default
    compiled = compiled_from(module, rows)
    views = compiled.views(rows)
    rows.add_(1)

    assert "reshape" in names(compiled)
    assert "aten.transpose" not in names(compiled)
    torch.testing.assert_close(compiled.step(rows, x, *views), step(rows, x))
