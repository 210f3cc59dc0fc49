"""Fresh parameters, by the operation that consumes each.

`default` is what torch's own layers do; `he` and `glorot` are what Keras calls so.
"""

import hashlib
import math
from typing import Literal

import torch

from worker.engine.network.bare import bare_fills
from worker.engine.network.draws import Fill, constant, normal, uniform
from worker.engine.network.facts import (
    all_producers,
    bias_of,
    kind_of,
    weight_of,
)
from worker.engine.network.program import Constant, Node, Parameter, Program, walk
from worker.engine.network.recurrent import RecurrentSettings

Scheme = Literal["default", "he", "glorot"]
Tensors = dict[str, torch.Tensor]


def generator(seed: int, name: str) -> torch.Generator:
    """Make the generator of one parameter; equal names and seeds draw equal values."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    made = torch.Generator()
    made.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return made


def _embedding(deviation: float, padding: int | None) -> Fill:
    draw = normal(deviation)

    def fill(tensor: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        drawn = draw(tensor, rng)
        if padding is not None and padding >= 0:
            drawn[padding] = 0
        return drawn

    return fill


def _fans(shape: torch.Size, *, turned: bool) -> tuple[int, int]:
    """Fan in and fan out, as `torch.nn.init` counts them."""
    if len(shape) < 2:  # noqa: PLR2004
        return max(1, shape.numel()), 1
    field = math.prod(shape[2:])
    ins, outs = shape[1] * field, shape[0] * field
    return (outs, ins) if turned else (max(1, ins), max(1, outs))


def fills(
    program: Program, parameters: Tensors, scheme: Scheme = "default"
) -> dict[str, Fill]:
    """Choose how to fill each parameter.

    Parameters that nobody knows how to draw are absent from the result.
    """
    producers = all_producers(program)
    found: dict[str, Fill] = {}
    for node in walk(program.body):
        for name, fill in _node_fills(node, producers, parameters, scheme).items():
            found.setdefault(name, fill)
    for name, tensor in parameters.items():
        leaf = name.rpartition(".")[2]
        if leaf == "in_proj_weight":  # torch.nn.MultiheadAttention
            ins, outs = _fans(tensor.shape, turned=False)
            found[name] = uniform(math.sqrt(6 / (ins + outs)))
        elif leaf == "in_proj_bias" or name.endswith("self_attn.out_proj.bias"):
            found[name] = constant(0.0)
    bare = [name for name in parameters if name not in found]
    found |= bare_fills(program, parameters, bare)
    return {name: fill for name, fill in found.items() if name in parameters}


# Where an embedding's operators are told the row that pads.
_PADDING = {"aten::embedding": 2, "aten::embedding_bag": 8, "net::embedding_bag": 4}


def _node_fills(
    node: Node, producers: dict[int, Node], parameters: Tensors, scheme: Scheme
) -> dict[str, Fill]:
    kind = kind_of(node, producers)
    weight = weight_of(node, producers)
    if kind in {"linear", "conv"} and weight is not None:
        fan_in, fan_out = _fans(parameters[weight[0].name].shape, turned=weight[1])
        filled = {weight[0].name: _weight_fill(scheme, fan_in, fan_out)}
        bias = bias_of(node)
        if bias is not None:
            default = scheme == "default"
            filled[bias.name] = (
                uniform(1 / math.sqrt(fan_in)) if default else constant(0.0)
            )
        return filled
    if kind == "embedding" and weight is not None:
        place = _PADDING[node.kind]
        padding = node.inputs[place] if len(node.inputs) > place else None
        row = padding.value if isinstance(padding, Constant) else None
        fill = _embedding(1.0, row if isinstance(row, int) else None)
        return {weight[0].name: fill}
    if kind == "norm":
        first, second = (2, 3) if node.kind.startswith("aten") else (1, 2)
        return _named(node, {first: constant(1.0), second: constant(0.0)})
    if node.kind == "aten::prelu":
        return _named(node, {1: constant(0.25)})
    if kind == "recurrent":
        return _recurrent_fills(node, parameters)
    return {}


def _weight_fill(scheme: Scheme, fan_in: int, fan_out: int) -> Fill:
    if scheme == "he":
        return normal(math.sqrt(2 / fan_in))
    if scheme == "glorot":
        return uniform(math.sqrt(6 / (fan_in + fan_out)))
    # kaiming_uniform with a = sqrt(5), as torch.nn.Linear and convolutions do
    return uniform(1 / math.sqrt(fan_in))


def _named(node: Node, chosen: dict[int, Fill]) -> dict[str, Fill]:
    found = {}
    for place, fill in chosen.items():
        operand = node.inputs[place] if place < len(node.inputs) else None
        if isinstance(operand, Parameter):
            found[operand.name] = fill
    return found


def _recurrent_fills(node: Node, parameters: Tensors) -> dict[str, Fill]:
    settings = node.inputs[0]
    if not isinstance(settings, Constant) or not isinstance(
        settings.value, RecurrentSettings
    ):
        return {}
    gates = {"lstm": 4, "gru": 3}.get(settings.value.cell, 1)
    found = {}
    for operand in node.inputs:
        if isinstance(operand, Parameter):
            rows = parameters[operand.name].shape[0]
            hidden = max(1, rows // gates)
            found[operand.name] = uniform(1 / math.sqrt(hidden))
    return found


def initial_parameters(
    program: Program, parameters: Tensors, *, seed: int, scheme: Scheme
) -> Tensors:
    """Draw fresh parameters; those nobody knows to draw keep their delivered values."""
    chosen = fills(program, parameters, scheme)
    made: Tensors = {}
    for name, tensor in parameters.items():
        fill = chosen.get(name)
        if fill is None:
            made[name] = tensor.clone()
            continue
        drawn = fill(tensor, generator(seed, name))
        made[name] = drawn.to(dtype=tensor.dtype, device=tensor.device)
    return made


def initial_buffers(buffers: Tensors) -> Tensors:
    """Reset running statistics; anything else keeps its delivered value."""
    made: Tensors = {}
    for name, tensor in buffers.items():
        leaf = name.rpartition(".")[2]
        if leaf in {"running_mean", "num_batches_tracked"}:
            made[name] = torch.zeros_like(tensor)
        elif leaf == "running_var":
            made[name] = torch.ones_like(tensor)
        else:
            made[name] = tensor.clone()
    return made
