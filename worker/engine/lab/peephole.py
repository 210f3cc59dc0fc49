"""Leaves out of a captured step what does nothing, and joins what belongs together.

What is recorded is faithful and long: copies that copy nothing, products with one, a
bias added after its matrix product. On small networks those calls are most of the
time. Every rule here keeps the numbers (a fused bias may
round differently in the last place); the equality tests hold the step to that.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from worker.engine.lab import narrow, pictures
from worker.engine.lab.graph_nodes import RESHAPES, reshaped, shape_of
from worker.engine.lab.hoisting import Compiled, hoisted
from worker.engine.lab.rectified import rectify_after_pooling
from worker.engine.network.layout import channels_last

_aten = torch.ops.aten
_COPIES = {_aten.clone.default, _aten.detach.default}
_UNIT_DIMENSIONS = {  # that come and go; no number moves
    _aten.unsqueeze.default,
    _aten.squeeze.default,
    _aten.squeeze.dim,
    _aten.squeeze.dims,
}
_STACKED = {4, 5}  # dimensions of a stack's series and pictures
_SERIES = 3  # dimensions of (rows, channels, steps)
_MATRICES = 3  # and of its matrices

# How many operands lie with the channels last, and what is called instead.
_WITH_CHANNELS: dict[Any, tuple[int, Callable[..., Any]]] = {
    _aten.convolution.default: (2, pictures.convolution),
    _aten.convolution_backward.default: (3, pictures.convolution_backward),
    _aten.native_batch_norm.default: (1, _aten.native_batch_norm.default),
    _aten.native_batch_norm_backward.default: (
        2,
        _aten.native_batch_norm_backward.default,
    ),
}
# Stride, padding, dilation and what a transposed one adds: their place, and the value
# for a height of one.
_SETTINGS: dict[Any, dict[int, int]] = {
    _aten.convolution.default: {3: 1, 4: 0, 5: 1, 7: 0},
    _aten.convolution_backward.default: {4: 1, 5: 0, 6: 1, 8: 0},
}

# The same operators by a shorter way through Python, which saves half of the call.
_DIRECT: dict[Any, Callable[..., Any]] = {
    _aten.add.Tensor: torch.add,
    _aten.baddbmm.default: torch.baddbmm,
    _aten.bmm.default: torch.bmm,
    _aten.cat.default: torch.cat,
    _aten.div.Tensor: torch.div,
    _aten.exp.default: torch.exp,
    _aten.log.default: torch.log,
    _aten.mul.Tensor: torch.mul,
    _aten.neg.default: torch.neg,
    _aten.permute.default: torch.permute,
    _aten.relu.default: torch.relu,
    _aten.relu_.default: torch.relu_,
    _aten.reshape.default: torch.reshape,
    _aten.sigmoid.default: torch.sigmoid,
    _aten.sub.Tensor: torch.sub,
    _aten.sum.dim_IntList: torch.sum,
    _aten.tanh.default: torch.tanh,
    _aten.transpose.int: torch.transpose,
}


def streamlined(module: GraphModule, rows: Tensor, members: int) -> Compiled:
    """Return the captured step with less to do.

    Args:
        module: as `recorded`; it is rewritten.
        rows: an example of its first argument.
        members: of the stack.

    Returns:
        A function of the same arguments and results, but for the views of weights.
    """
    for node in list(module.graph.nodes):
        _simplify(node)
    _sweep(module)
    rectify_after_pooling(module.graph)
    _sweep(module)
    for node in list(module.graph.nodes):
        _lay_out(node, members)
    _sweep(module)
    for node in list(module.graph.nodes):
        _simplify(node)
        _join_bias(node)
        _join_picture_bias(node)
        _narrow(node)
        _divide_first(node)
        _sum_before_spreading(node)
        _lie_alike(node)
    _sweep(module)
    _share(module)
    for node in list(module.graph.nodes):
        _write_in_place(node)
    views = hoisted(module, rows)
    for node in module.graph.nodes:
        if node.target in _DIRECT and not node.kwargs:
            node.target = _DIRECT[node.target]
    module.recompile()  # what was bound before keeps the old code
    return Compiled(views, module.forward)


def _sweep(module: GraphModule) -> None:
    module.graph.eliminate_dead_code()


def _share(module: GraphModule) -> None:
    """Compute once what is computed twice; nothing here writes to its inputs."""
    seen: dict[tuple[Any, ...], Node] = {}
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.kwargs:
            continue
        key = (node.target, repr(node.args))
        if key in seen:
            _replace(node, seen[key])
        else:
            seen[key] = node


def _replace(node: Node, by: Node) -> None:
    node.replace_all_uses_with(by)
    node.graph.erase_node(node)


def _simplify(node: Node) -> None:
    """Drop a node that does nothing; fold reshapes, transpositions and constants."""
    if node.op != "call_function" or not node.args:
        return
    target, source = node.target, node.args[0]
    if not isinstance(source, Node):
        return
    if target in RESHAPES | _UNIT_DIMENSIONS:
        _simplify_reshape(node, source)
    elif target in _COPIES or _keeps_all(node, source):
        _replace(node, source)
    elif target == _aten.transpose.int:
        _simplify_transpose(node, source)
    elif target in {_aten.mul.Scalar, _aten.mul.Tensor}:
        _simplify_product(node)


def _keeps_all(node: Node, source: Node) -> bool:
    """Say whether an expansion expands nothing, or a permutation moves nothing."""
    if node.target == _aten.expand.default:
        return shape_of(node) == shape_of(source)
    if node.target == _aten.permute.default:
        return list(node.args[1]) == list(range(len(shape_of(source) or ())))  # type: ignore[arg-type]
    return False


def _simplify_reshape(node: Node, source: Node) -> None:
    while source.target in RESHAPES and isinstance(source.args[0], Node):
        source = source.args[0]
    if shape_of(source) is not None and shape_of(source) == shape_of(node):
        _replace(node, source)
        return
    # Layouts change under our hands, so that a view may have to become a copy.
    node.target = _aten.reshape.default
    node.args = (source, list(shape_of(node) or ()))


def _simplify_transpose(node: Node, source: Node) -> None:
    if source.target == _aten.bmm.default:
        _turn_product(node, source)
    if source.target != _aten.transpose.int:
        return
    rank = len(shape_of(node) or ())
    dims = [{dim % rank for dim in one.args[1:3]} for one in (node, source)]  # type: ignore[operator]
    if dims[0] == dims[1] and isinstance(source.args[0], Node):
        _replace(node, source.args[0])


def _turn_product(node: Node, product: Node) -> None:
    """Compute (AB)ᵀ as BᵀAᵀ, whose result lies as it is wanted: no copy follows."""
    if len(product.users) != 1 or not _swaps_the_last(node):
        return
    factors = []
    for factor in reversed(product.args):
        assert isinstance(factor, Node)
        if factor.target == _aten.transpose.int and _swaps_the_last(factor):
            factors.append(factor.args[0])
            continue
        shape = shape_of(factor) or ()
        with node.graph.inserting_before(node):
            turned = node.graph.call_function(_aten.transpose.int, (factor, 1, 2))
        turned.meta |= {**factor.meta, "shape": (shape[0], shape[2], shape[1])}
        factors.append(turned)
    node.target, node.args = _aten.bmm.default, tuple(factors)


def _swaps_the_last(node: Node) -> bool:
    """Whether a transposition turns the matrices of a stack."""
    if len(shape_of(node) or ()) != _MATRICES:
        return False
    one, other = (int(dim) % _MATRICES for dim in node.args[1:3])  # type: ignore[arg-type]
    return {one, other} == {1, 2}


def _constant(node: Any) -> float | None:  # noqa: ANN401 - any argument
    """Return the number that fills a tensor, where the graph says so."""
    if isinstance(node, int | float):
        return float(node)
    if not isinstance(node, Node) or not node.args:
        return None
    if node.target == _aten.ones_like.default:
        return 1.0
    if node.target == _aten.neg.default:
        inner = _constant(node.args[0])
        return None if inner is None else -inner
    passing = RESHAPES | {_aten.expand.default}
    return _constant(node.args[0]) if node.target in passing else None


def _simplify_product(node: Node) -> None:
    for one, other in (node.args[:2], node.args[1::-1]):
        factor = _constant(one)
        if not isinstance(other, Node) or shape_of(other) != shape_of(node):
            continue
        if other.meta.get("dtype") != node.meta.get("dtype"):
            continue
        if factor == 1.0:
            _replace(node, other)
            return
        if factor == -1.0:
            node.target, node.args = _aten.neg.default, (other,)
            return


def _join_bias(node: Node) -> None:
    """Turn a matrix product followed by a bias into one operation."""
    if node.target != _aten.add.Tensor or node.kwargs:
        return
    for one, other in (node.args[:2], node.args[1::-1]):
        if (
            isinstance(one, Node)
            and isinstance(other, Node)
            and other.target == _aten.bmm.default
            and len(other.users) == 1
            and shape_of(other) == shape_of(node)
            and len(shape_of(one) or ()) == len(shape_of(node) or ())
        ):
            node.target = _aten.baddbmm.default
            node.args = (one, *other.args)
            return


def _join_picture_bias(node: Node) -> None:
    """Let a convolution add the bias that follows it."""
    if node.target != _aten.add.Tensor or node.kwargs:
        return
    for turned, bias in (node.args[:2], node.args[1::-1]):
        found = _convolution_behind(turned)
        shape = shape_of(bias)
        if found is None or not isinstance(bias, Node) or shape is None:
            continue
        source = bias
        while source.target in RESHAPES:
            source = source.args[0]  # type: ignore[assignment]
        stack = shape_of(node) or ()
        wanted = (stack[0], 1, stack[2], *[1] * (len(stack) - 3))
        fits = shape == wanted and source < found
        if not fits or found.args[2] is not None:
            continue
        with node.graph.inserting_before(found):
            flat = reshaped(source, (stack[0] * stack[2],))
        found.args = (*found.args[:2], flat, *found.args[3:])
        node.replace_all_uses_with(turned)  # type: ignore[arg-type]
        node.graph.erase_node(node)
        return


def _convolution_behind(node: Any) -> Node | None:  # noqa: ANN401 - any argument
    """Find the convolution that a stack of pictures was unfolded from."""
    if not isinstance(node, Node) or len(shape_of(node) or ()) not in _STACKED:
        return None
    while node.target in RESHAPES | {_aten.permute.default}:
        if len(node.users) != 1 or not isinstance(node.args[0], Node):
            return None
        node = node.args[0]
    if node.target != pictures.convolution or len(node.users) != 1:
        return None
    return None if node.args[6] else node  # transposed ones fold otherwise


def _narrow(node: Node) -> None:
    """Use formulas that suit a softmax over few classes."""
    shape = shape_of(node) or ()
    if node.target == _aten._log_softmax.default:  # noqa: SLF001
        if node.args[1] in {-1, len(shape) - 1} and shape[-1] <= narrow.MOST_CLASSES:
            node.target, node.args = narrow.log_softmax, node.args[:1]
    elif (
        node.target == _aten._log_softmax_backward_data.default  # noqa: SLF001
        and node.args[2] in {-1, len(shape) - 1}
        and shape[-1] <= narrow.MOST_CLASSES
    ):
        node.target, node.args = narrow.log_softmax_backward, node.args[:2]


def _lay_out(node: Node, members: int) -> None:
    """Put convolution and pooling of stacks into the layout of `pictures`."""
    if node.target in _WITH_CHANNELS:
        count, target = _WITH_CHANNELS[node.target]
        if len(shape_of(node.args[0]) or ()) == _SERIES:
            _draw(node, count)
        _channels_last(node, count)
        node.target = target
    elif node.target == _aten.max_pool2d_with_indices.default:
        _stack(node, pictures.max_pool, members, stacked=(0,))
    elif node.target == _aten.avg_pool2d.default:
        _stack(node, pictures.average_pool, members, stacked=(0,))
    elif node.target == _aten.avg_pool2d_backward.default:
        _stack(node, pictures.average_pool_backward, members, stacked=(0, 1))
    elif node.target == _aten.max_pool2d_with_indices_backward.default:
        gradient, x, *settings, places = node.args
        node.args = (gradient, x, places, *settings)
        _stack(node, pictures.max_pool_backward, members, stacked=(0, 1, 2))


def _draw(node: Node, count: int) -> None:
    """Let an operator see series as pictures of height one.

    They can lie with their channels last, as nothing of three dimensions can.
    """
    arguments = list(node.args)
    for at in range(count):
        shape = shape_of(arguments[at]) or ()
        with node.graph.inserting_before(node):
            arguments[at] = reshaped(arguments[at], (*shape[:2], 1, *shape[2:]))
    for at, fill in _SETTINGS.get(node.target, {}).items():
        arguments[at] = [fill, *arguments[at]]  # type: ignore[misc]
    node.args = tuple(arguments)
    for result in _results(node):
        shape = shape_of(result) or ()
        if len(shape) == _SERIES:
            _read_as(result, (*shape[:2], 1, *shape[2:]))


def _results(node: Node) -> list[Node]:
    """List what an operator returns, of several the parts that somebody takes."""
    return list(node.users) if shape_of(node) is None else [node]


def _read_as(result: Node, shape: tuple[int, ...]) -> None:
    """Note another shape of a value, and give its readers the one that they knew."""
    known, users = shape_of(result) or (), list(result.users)
    with result.graph.inserting_after(result):
        flat = reshaped(result, known)
    result.meta["shape"] = shape
    for user in users:
        user.replace_input_with(result, flat)


def _channels_last(node: Node, count: int) -> None:
    """Convert operands by nodes of their own, so that both passes share the copy."""
    arguments = list(node.args)
    for at in range(count):
        source = arguments[at]
        if isinstance(source, Node):
            with node.graph.inserting_before(node):
                made = node.graph.call_function(channels_last, (source,))
            made.meta.update(source.meta)
            arguments[at] = made
    node.args = tuple(arguments)


def _stack(
    node: Node, target: Callable[..., Any], members: int, stacked: tuple[int, ...]
) -> None:
    """Call `target` on stacks, and give its users what they had before."""
    arguments = list(node.args)
    for at in stacked:
        source = arguments[at]
        shape = shape_of(source)
        if not isinstance(source, Node) or shape is None or shape[0] % members:
            return
        wanted = (members, shape[0] // members, *shape[1:])
        with node.graph.inserting_before(node):
            arguments[at] = reshaped(source, wanted)
    node.target, node.args = target, tuple(arguments)
    for result in _results(node):
        shape = shape_of(result)
        if shape is not None:
            _read_as(result, (members, shape[0] // members, *shape[1:]))


def _divide_first(node: Node) -> None:
    """Divide before values are spread over a picture, as a mean's gradient is."""
    source = node.args[0] if node.args else None
    if (
        node.target != _aten.div.Scalar
        or not isinstance(source, Node)
        or source.target != _aten.expand.default
        or len(source.users) != 1
    ):
        return
    small, shape = source.args
    with node.graph.inserting_before(node):
        made = node.graph.call_function(_aten.div.Scalar, (small, node.args[1]))
    made.meta.update({**small.meta, "dtype": node.meta.get("dtype")})  # type: ignore[union-attr]
    node.target, node.args = _aten.expand.default, (made, shape)


def _sum_before_spreading(node: Node) -> None:
    """Sum a pooled gradient before it is spread: each of its values goes to one place.

    So that what a bias gets is read off a quarter of the numbers in the usual case.
    """
    if node.target != _aten.sum.dim_IntList:
        return
    source, dims, *_ = node.args
    rank = len(shape_of(source) or ())
    if (
        isinstance(source, Node)
        and source.target == pictures.max_pool_backward
        and {dim % rank for dim in dims} >= {rank - 2, rank - 1}  # type: ignore[union-attr, operator]
    ):
        node.replace_input_with(source, source.args[0])  # type: ignore[arg-type]


def _lie_alike(node: Node) -> None:
    """Let two stacks of pictures that meet lie alike."""
    if node.target not in _MEETING or node.kwargs:
        return
    first, second, *rest = node.args
    shapes = [shape_of(one) for one in (first, second)]
    if shapes[0] != shapes[1] or len(shapes[0] or ()) not in _STACKED:
        return
    with node.graph.inserting_before(node):
        made = node.graph.call_function(pictures.alike, (first, second))
    made.meta.update(first.meta)  # type: ignore[union-attr]
    node.args = (made, second, *rest)


# A gradient, or whatever comes first, and values of the same shape.
_MEETING = {
    _aten.add.Tensor,
    _aten.elu_backward.default,
    _aten.gelu_backward.default,
    _aten.hardtanh_backward.default,
    _aten.hardswish_backward.default,
    _aten.leaky_relu_backward.default,
    _aten.mul.Tensor,
    _aten.sigmoid_backward.default,
    _aten.silu_backward.default,
    _aten.softplus_backward.default,
    _aten.tanh_backward.default,
    _aten.threshold_backward.default,
}
_ELEMENTWISE = {
    _aten.relu.default: _aten.relu_.default,
    _aten.neg.default: _aten.neg_.default,
}


def _write_in_place(node: Node) -> None:
    """Let a one-argument operation overwrite an input that nobody else reads."""
    if node.target not in _ELEMENTWISE:
        return
    [source] = node.args
    fresh = {_aten.baddbmm.default, _aten.bmm.default, _aten.add.Tensor}
    if isinstance(source, Node) and source.target in fresh and len(source.users) == 1:
        node.target = _ELEMENTWISE[node.target]
