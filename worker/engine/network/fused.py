"""Fused transformer operators, written out as the ordinary ones they stand for.

Modules traced under `no_grad` in inference mode hold these; they have no gradient.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from worker.engine.network.program import CannotLift, Constant, Operand, Slot


class Emit(Protocol):
    """Appends a node and returns its outputs."""

    def __call__(
        self, op: str, inputs: Iterable[Operand], count: int = 1, scope: str = ""
    ) -> tuple[Slot, ...]:
        """Append a node with this operator and these inputs."""


_NONE = Constant(None)


def _value(operand: Operand) -> object:
    return operand.value if isinstance(operand, Constant) else None


def _unmasked(mask: list[Operand]) -> None:
    """Refuse a mask, whose meaning varies between versions."""
    if mask and not (isinstance(mask[0], Constant) and mask[0].value is None):
        raise CannotLift("a fused transformer operator with a mask")


def _self_attention(
    emit: Emit,
    x: Operand,
    width: int,
    heads: int,
    weights: list[Operand],
    scope: str,
) -> Operand:
    """Multi-head self-attention on (rows, steps, width)."""
    in_weight, in_bias, out_weight, out_bias = weights
    [packed] = emit("aten::linear", (x, in_weight, in_bias), scope=scope)
    split = Constant([3, heads, width // heads])
    [parted] = emit("aten::unflatten.int", (packed, Constant(-1), split))
    [turned] = emit("aten::permute", (parted, Constant([2, 0, 3, 1, 4])))
    parts = [
        emit("aten::select.int", (turned, Constant(0), Constant(which)))[0]
        for which in range(3)
    ]
    off = Constant(value=False)
    [mixed] = emit(
        "net::attention", (*parts, _NONE, Constant(0.0), off, _NONE, off), scope=scope
    )
    [back] = emit("aten::transpose.int", (mixed, Constant(1), Constant(2)))
    [flat] = emit("aten::flatten.using_ints", (back, Constant(2), Constant(-1)))
    [out] = emit("aten::linear", (flat, out_weight, out_bias), scope=scope)
    return out


def _encoder_layer(
    emit: Emit, inputs: list[Operand], scope: str
) -> tuple[Operand, ...]:
    """`_transformer_encoder_layer_fwd`, both orders of norm, relu and gelu."""
    x = inputs[0]
    width, heads = int(str(_value(inputs[1]))), int(str(_value(inputs[2])))
    use_gelu, norm_first, eps = (_value(operand) for operand in inputs[7:10])
    norm1, norm2 = inputs[10:12], inputs[12:14]
    up_weight, up_bias, down_weight, down_bias = inputs[14:18]
    shape = Constant([width])

    def norm(value: Operand, weights: list[Operand]) -> Operand:
        given = (value, shape, *weights, Constant(eps), Constant(value=False))
        return emit("aten::layer_norm", given, scope=scope)[0]

    def add(left: Operand, right: Operand) -> Operand:
        return emit("aten::add.Tensor", (left, right, Constant(1)))[0]

    def attend(value: Operand) -> Operand:
        return _self_attention(emit, value, width, heads, inputs[3:7], scope)

    def feed(value: Operand) -> Operand:
        [up] = emit("aten::linear", (value, up_weight, up_bias), scope=scope)
        if use_gelu:
            [bent] = emit("aten::gelu", (up, Constant("none")))
        else:
            [bent] = emit("aten::relu", (up,))
        return emit("aten::linear", (bent, down_weight, down_bias), scope=scope)[0]

    _unmasked(inputs[18:19])
    if norm_first:
        middle = add(x, attend(norm(x, norm1)))
        return (add(middle, feed(norm(middle, norm2))),)
    middle = norm(add(x, attend(x)), norm1)
    return (norm(add(middle, feed(middle)), norm2),)


def _native_attention(
    emit: Emit, inputs: list[Operand], scope: str
) -> tuple[Operand, ...]:
    """`_native_multi_head_attention` where query, key and value are one."""
    width, heads = int(str(_value(inputs[3]))), int(str(_value(inputs[4])))
    _unmasked(inputs[9:10])
    if inputs[0] != inputs[1] or inputs[0] != inputs[2]:
        raise CannotLift("fused attention between different sequences")
    out = _self_attention(emit, inputs[0], width, heads, inputs[5:9], scope)
    return (out, _NONE)


Decomposition = Callable[[Emit, list[Operand], str], tuple[Operand, ...]]
DECOMPOSED: dict[str, Decomposition] = {
    "aten::_transformer_encoder_layer_fwd": _encoder_layer,
    "aten::_native_multi_head_attention": _native_attention,
}
