"""What a program shows of itself: its layers, activations and output."""

from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, JsonValue

from worker.engine.network.kernels import DROPOUTS
from worker.engine.network.program import (
    Buffer,
    BufferNames,
    Constant,
    Node,
    Operand,
    Parameter,
    Program,
    Slot,
    walk,
)
from worker.engine.network.recurrent import RecurrentSettings

LayerKind = Literal[
    "linear",
    "conv",
    "norm",
    "dropout",
    "activation",
    "embedding",
    "recurrent",
    "pool",
    "attention",
    "other",
]
Tensors = dict[str, torch.Tensor]


class LayerFacts(BaseModel):
    """One layer."""

    model_config = ConfigDict(frozen=True)

    name: str
    kind: LayerKind
    op: str
    detail: dict[str, JsonValue] = {}


class NetworkFacts(BaseModel):
    """What a network shows before it has seen any data.

    Attributes:
        origin: `traced`, `scripted`, `exported` or `made` (a network of ours).
        parameters: number of trainable values.
        layers: in order of execution.
        activations: hidden ones, in order.
        output_activation: what follows the last weighted layer; `none` for scores.
        before_output: another activation between that layer and it, or `none`.
        missing_activations: weighted layers that feed the next one without any
            non-linearity between.
        linear_stack: there is such a layer.
        has_dropout: also between the layers of a recurrent one.
        dropout_p: the largest probability.
        has_norm: batch, layer, group or instance norm.
        has_batch_norm: with statistics over the batch.
        has_attention: as a layer, or written out: a softmax that weighs values.
        baked_training: dropout or batch statistics are on whatever the training flag
            says.
        outputs: width of the last weighted layer; 0 where it cannot be told.
        takes_tokens: the input is looked up in an embedding.
        input_shape: of a batch, None where it cannot be told from the graph.
        input_rank: number of dimensions of a batch, where it can be told.
        notes: what a reader of the report should know.
    """

    model_config = ConfigDict(frozen=True)

    origin: Literal["traced", "scripted", "exported", "made"]
    parameters: int
    layers: tuple[LayerFacts, ...]
    activations: tuple[str, ...]
    output_activation: str
    before_output: str = "none"
    missing_activations: tuple[str, ...] = ()
    linear_stack: bool = False
    has_dropout: bool = False
    dropout_p: float = 0.0
    has_norm: bool = False
    has_batch_norm: bool = False
    has_attention: bool = False
    baked_training: bool = False
    outputs: int = 0
    takes_tokens: bool = False
    input_shape: tuple[int | None, ...] | None = None
    input_rank: int | None = None
    notes: tuple[str, ...] = ()


ACTIVATIONS: dict[str, str] = {
    f"aten::{name}": shown
    for name, shown in {
        "relu": "relu",
        "relu6": "relu6",
        "leaky_relu": "leaky_relu",
        "rrelu": "rrelu",
        "prelu": "prelu",
        "threshold": "threshold",
        "tanh": "tanh",
        "sigmoid": "sigmoid",
        "gelu": "gelu",
        "elu": "elu",
        "selu": "selu",
        "celu": "celu",
        "silu": "silu",
        "mish": "mish",
        "softplus": "softplus",
        "softsign": "softsign",
        "hardtanh": "hardtanh",
        "hardswish": "hardswish",
        "hardsigmoid": "hardsigmoid",
        "log_sigmoid": "log_sigmoid",
        "softmax": "softmax",
        "_softmax": "softmax",
        "log_softmax": "log_softmax",
        "_log_softmax": "log_softmax",
        "exp": "exponential",
        "glu": "glu",
        "clamp": "clamp",
        "clamp_min": "clamp",
        "sin": "sine",
    }.items()
}
_CONVOLUTIONS = frozenset(
    f"aten::{name}"
    for name in (
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_transpose1d",
        "conv_transpose2d",
        "conv_transpose3d",
        "_convolution",
        "convolution",
    )
)
_PRODUCTS = frozenset({"aten::matmul", "aten::mm", "aten::addmm"})
_NORMS = frozenset(
    {
        "net::batch_norm",
        "net::instance_norm",
        "aten::layer_norm",
        "aten::native_layer_norm",
        "aten::group_norm",
        "aten::rms_norm",
    }
)
_TURNS = frozenset({"aten::t", "aten::transpose", "aten::permute", "aten::numpy_T"})


def kind_of(node: Node, producers: dict[int, Node]) -> LayerKind | None:
    """Classify a node; None for what is no layer (sizes, lists, arithmetic)."""
    kind = node.kind
    if kind == "aten::linear" or (
        kind in _PRODUCTS and weight_of(node, producers) is not None
    ):
        return "linear"
    if is_activation(node):
        return "activation"
    for kinds, shown in _KINDS:
        if kind in kinds:
            return shown
    return "pool" if "_pool" in kind else None


_TABLES = frozenset({"aten::embedding", "aten::embedding_bag", "net::embedding_bag"})
_KINDS: tuple[tuple[frozenset[str], LayerKind], ...] = (
    (_CONVOLUTIONS, "conv"),
    (_NORMS, "norm"),
    (DROPOUTS, "dropout"),
    (_TABLES, "embedding"),
    (frozenset({"net::recurrent"}), "recurrent"),
    (frozenset({"net::attention"}), "attention"),
)
WEIGHTED: frozenset[LayerKind] = frozenset({"linear", "conv", "recurrent"})


def weight_of(node: Node, producers: dict[int, Node]) -> tuple[Parameter, bool] | None:
    """Find the weight of a linear or convolutional node.

    Returns:
        The parameter, and whether it stands as (inputs, outputs) rather than torch's
        customary (outputs, inputs); None where the node has no weight of its own.
    """
    kind = node.kind
    if kind in _CONVOLUTIONS or kind == "aten::linear":
        return _traced_to_parameter(node.inputs[1], producers, turned=False)
    if kind == "aten::addmm":
        return _traced_to_parameter(node.inputs[2], producers, turned=True)
    if kind in _PRODUCTS:
        return _traced_to_parameter(node.inputs[1], producers, turned=True)
    if kind in _TABLES:
        return _traced_to_parameter(node.inputs[0], producers, turned=False)
    return None


def _traced_to_parameter(
    operand: Operand, producers: dict[int, Node], *, turned: bool
) -> tuple[Parameter, bool] | None:
    while isinstance(operand, Slot) and operand.number in producers:
        node = producers[operand.number]
        if node.kind not in _TURNS:
            return None
        operand, turned = node.inputs[0], not turned
    return (operand, turned) if isinstance(operand, Parameter) else None


def bias_of(node: Node) -> Parameter | None:
    """Find the bias of a linear or convolutional node."""
    place = {"aten::addmm": 0}.get(node.kind, 2)
    if node.kind in {"aten::matmul", "aten::mm"} or len(node.inputs) <= place:
        return None
    operand = node.inputs[place]
    return operand if isinstance(operand, Parameter) else None


def all_producers(program: Program) -> dict[int, Node]:
    """Slot number to its node, those inside bodies included."""
    return {slot: node for node in walk(program.body) for slot in node.outputs}


def layer_name(node: Node) -> str:
    """Name a layer after its first parameter, else its scope, else its operator."""
    for operand in node.inputs:
        if isinstance(operand, Parameter | Buffer):
            return operand.name.rpartition(".")[0] or operand.name
        if isinstance(operand, Constant) and isinstance(operand.value, BufferNames):
            return (operand.value.mean or "norm").rpartition(".")[0]
    return node.scope or node.kind.partition("::")[2]


def layers_of(program: Program, parameters: Tensors) -> list[tuple[Node, LayerFacts]]:
    """List the layers with their nodes, in order of execution."""
    producers = all_producers(program)
    found: list[tuple[Node, LayerFacts]] = []
    for node in walk(program.body):
        kind = kind_of(node, producers)
        if kind is None:
            continue
        detail = _detail(node, kind, producers, parameters)
        facts = LayerFacts(
            name=layer_name(node),
            kind=kind,
            op=node.kind.partition("::")[2],
            detail=detail,
        )
        found.append((node, facts))
    return found


def is_activation(node: Node) -> bool:
    """Tell whether a node is an activation.

    A lower bound other than 0 alone is none: it keeps a divisor or a logarithm sound.
    """
    if ACTIVATIONS.get(node.kind) != "clamp":
        return node.kind in ACTIVATIONS
    return _constant(node, 2) is not None or _constant(node, 1) == 0


def _constant(node: Node, place: int) -> Any:  # noqa: ANN401
    if place >= len(node.inputs):
        return None
    operand = node.inputs[place]
    return operand.value if isinstance(operand, Constant) else None


def _detail(  # noqa: PLR0911
    node: Node, kind: LayerKind, producers: dict[int, Node], parameters: Tensors
) -> dict[str, JsonValue]:
    found = weight_of(node, producers)
    if found is not None and found[0].name in parameters:
        shape = tuple(parameters[found[0].name].shape)
        if kind == "linear" and len(shape) == 2:  # noqa: PLR2004
            outs, ins = shape[::-1] if found[1] else shape
            return {"in": ins, "out": outs, "bias": bias_of(node) is not None}
        if kind == "embedding":
            return {"in": shape[0], "out": shape[1]}
        if kind == "conv":
            return _convolution_detail(node, shape)
    if kind == "dropout":
        return {"p": _constant(node, 1)}
    if kind == "attention":
        return {"p": _constant(node, 4)}
    if kind == "activation":
        return {"activation": ACTIVATIONS[node.kind]}
    if kind == "recurrent" and isinstance(_constant(node, 0), RecurrentSettings):
        settings: RecurrentSettings = _constant(node, 0)
        states = 2 if settings.cell == "lstm" else 1
        weight, hidden = node.inputs[2 + states : 4 + states]
        sizes: dict[str, JsonValue] = {"p": settings.p, "layers": settings.layers}
        if isinstance(weight, Parameter) and isinstance(hidden, Parameter):
            sizes["in"] = parameters[weight.name].shape[1]
            sizes["out"] = parameters[hidden.name].shape[1]
        return {"cell": settings.cell, **sizes}
    return {}


def _convolution_detail(node: Node, shape: tuple[int, ...]) -> dict[str, JsonValue]:
    groups_place = {"aten::_convolution": 8, "aten::convolution": 8}.get(node.kind, 6)
    transposed = "transpose" in node.kind or (
        groups_place == 8 and bool(_constant(node, 6))  # noqa: PLR2004
    )
    if transposed and groups_place == 6:  # noqa: PLR2004
        groups_place = 6
    groups = _constant(node, groups_place)
    groups = groups if isinstance(groups, int) and groups > 0 else 1
    ins, outs = shape[1] * groups, shape[0]
    if transposed:
        ins, outs = shape[0], shape[1] * groups
    return {"in": ins, "out": outs, "kernel": list(shape[2:]), "groups": groups}


def is_attention_softmax(node: Node, readers: dict[int, list[Node]]) -> bool:
    """Tell whether a softmax weighs values (attention) rather than being an output."""
    if ACTIVATIONS.get(node.kind) != "softmax":
        return False
    found = [reader for slot in node.outputs for reader in readers.get(slot, [])]
    found += [
        far
        for reader in found
        if reader.kind in DROPOUTS
        for slot in reader.outputs
        for far in readers.get(slot, [])
    ]
    return any(reader.kind in {"aten::matmul", "aten::bmm"} for reader in found)


# What a linear map stays linear through.
_LINEAR_PASS = frozenset(
    {
        "net::batch_norm",
        "aten::flatten",
        "aten::view",
        "aten::reshape",
        "aten::permute",
        "aten::transpose",
        "aten::squeeze",
        "aten::unsqueeze",
        "aten::contiguous",
        "aten::avg_pool1d",
        "aten::avg_pool2d",
        "aten::adaptive_avg_pool1d",
        "aten::adaptive_avg_pool2d",
        "aten::mean",
    }
    | DROPOUTS
)


def missing_activations(program: Program) -> list[Node]:
    """Find linear and convolutional nodes that feed another such node as they are."""
    producers = program.producers()
    found: dict[int, Node] = {}
    for node in program.body.nodes:
        if kind_of(node, producers) not in {"linear", "conv"}:
            continue
        source = node.inputs[1 if node.kind == "aten::addmm" else 0]
        while isinstance(source, Slot) and source.number in producers:
            before = producers[source.number]
            if kind_of(before, producers) in {"linear", "conv"}:
                found[before.outputs[0]] = before
                break
            if before.kind not in _LINEAR_PASS:
                break
            source = before.inputs[0]
    return [
        node
        for node in program.body.nodes
        if node.outputs[:1] and node.outputs[0] in found
    ]


def feeds_attention(
    node: Node, producers: dict[int, Node], readers: dict[int, list[Node]]
) -> bool:
    """Tell whether a layer's result reaches attention before any other activation."""
    ahead, seen = [node], set()
    while ahead:
        for reader in readers.get(ahead.pop().outputs[0], []):
            if id(reader) in seen:
                continue
            seen.add(id(reader))
            if reader.kind in {"net::attention", "aten::bmm", "aten::baddbmm"} or (
                reader.kind == "aten::matmul" and weight_of(reader, producers) is None
            ):
                return True
            if reader.kind not in ACTIVATIONS and reader.outputs:
                ahead.append(reader)
    return False


def facts_of(
    program: Program,
    parameters: Tensors,
    *,
    origin: Literal["traced", "scripted", "exported", "made"],
    baked_training: bool = False,
    notes: tuple[str, ...] = (),
) -> NetworkFacts:
    """Read a program."""
    found = layers_of(program, parameters)
    readers = program.readers()
    kinds = [layer.kind for _, layer in found]
    last = max((i for i, kind in enumerate(kinds) if kind in WEIGHTED), default=-1)
    hidden: list[str] = []
    output: list[str] = []
    for place, (node, layer) in enumerate(found):
        if layer.kind != "activation" or is_attention_softmax(node, readers):
            continue
        (output if place > last else hidden).append(ACTIVATIONS[node.kind])
    producers = program.producers()
    missing = [
        node
        for node in missing_activations(program)
        if not feeds_attention(node, producers, readers)
    ]
    drops = [_largest(layer.detail.get("p")) for _, layer in found]
    first = next((layer for _, layer in found if layer.detail.get("in")), None)
    final = found[last][1].detail if last >= 0 else {}
    shape = _input_shape(program, found[0][1] if found else None)
    return NetworkFacts(
        origin=origin,
        parameters=sum(tensor.numel() for tensor in parameters.values()),
        layers=tuple(layer for _, layer in found),
        activations=tuple(hidden),
        output_activation=_output_name(output),
        before_output=output[0] if output[1:] else "none",
        missing_activations=tuple(layer_name(node) for node in missing),
        linear_stack=bool(missing),
        has_dropout=any(p > 0 for p in drops),
        dropout_p=max(drops, default=0.0),
        has_norm="norm" in kinds,
        has_batch_norm=any(node.kind == "net::batch_norm" for node, _ in found),
        has_attention="attention" in kinds
        or any(is_attention_softmax(node, readers) for node, _ in found),
        baked_training=baked_training,
        outputs=int(str(final.get("out") or 0)),
        takes_tokens=first is not None and first.kind == "embedding",
        input_shape=shape,
        input_rank=None if shape is None else len(shape),
        notes=notes,
    )


def _output_name(after: list[str]) -> str:
    """Name the output's activation: of several, the one that decides what it is."""
    for decisive in ("log_softmax", "softmax", "sigmoid", "log_sigmoid"):
        if decisive in after[-1:]:
            return decisive
    return after[-1] if after else "none"


def _largest(p: JsonValue) -> float:
    return float(p) if isinstance(p, int | float) else 0.0


def _input_shape(
    program: Program, first: LayerFacts | None
) -> tuple[int | None, ...] | None:
    """Guess the shape of a batch from the node that reads the input, if it tells."""
    if first is None:
        return None
    direct = {
        layer_name(node)
        for node in program.body.nodes
        if Slot(0) in node.inputs and not node.kind.startswith("prim::")
    }
    if first.name not in direct or "in" not in first.detail:
        return None
    ins = first.detail["in"]
    width = ins if isinstance(ins, int) else None
    kernel = first.detail.get("kernel")
    if first.kind == "conv" and isinstance(kernel, list):
        return (None, width, *[None] * len(kernel))
    if first.kind == "recurrent":
        return (None, None, width)
    return (None, width) if first.kind == "linear" else None
