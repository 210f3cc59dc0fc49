"""Operators of layers: those that know of training, noise, buffers and weights."""

from typing import Any

import torch

from worker.engine.network import fused
from worker.engine.network.draft import Draft
from worker.engine.network.kernels import DROPOUTS
from worker.engine.network.operators import scalar_type, scalar_type_positions
from worker.engine.network.program import (
    Buffer,
    BufferNames,
    CannotLift,
    Constant,
    Operand,
    Parameter,
    Slot,
)
from worker.engine.network.recurrent import RecurrentSettings
from worker.engine.network.tensor_names import storage_of

DROPOUT_KINDS = frozenset(kind.replace("net::", "aten::") for kind in DROPOUTS)
RECURRENT = {
    "aten::lstm.input": "lstm",
    "aten::gru.input": "gru",
    "aten::rnn_tanh.input": "rnn_tanh",
    "aten::rnn_relu.input": "rnn_relu",
}
_WEIGHT_PLACES: dict[str, tuple[int, ...]] = {
    "aten::linear": (1, 2),
    "aten::addmm": (0, 2),
    "aten::matmul": (1,),
    "aten::conv1d": (1, 2),
    "aten::conv2d": (1, 2),
    "aten::conv3d": (1, 2),
    "aten::_convolution": (1, 2),
    "aten::batch_norm": (1, 2),
    "aten::instance_norm": (1, 2),
    "aten::layer_norm": (2, 3),
    "aten::group_norm": (2, 3),
    "aten::embedding": (0,),
    "aten::prelu": (1,),
}


_SUM, _MEAN = 0, 1  # what a bag makes of its rows


class LayerOperators:
    """Emits operators into a draft, those of layers in the program's own form.

    Attributes:
        momenta: of batch norms, by running mean; inference is read after training and
            takes over what was seen there.
        baked: dropout or batch statistics are on whatever the flag says.
        notes: what a reader of the report should know.
        promoted: constants that stand where weights belong, by their new name.
    """

    def __init__(
        self,
        module: torch.jit.ScriptModule,
        draft: Draft,
        *,
        training: bool,
        traced: bool,
        momenta: dict[str, float | None] | None,
    ) -> None:
        self.draft = draft
        self.training = training
        self.traced = traced
        self.momenta: dict[str, float | None] = {} if momenta is None else momenta
        self.baked = False
        self.notes: list[str] = []
        self.promoted: dict[str, torch.Tensor] = {}
        self.buffers = dict(module.named_buffers())
        self.by_storage = {
            storage_of(tensor): name for name, tensor in module.named_parameters()
        }

    def emit(  # noqa: PLR0911
        self, op: str, inputs: list[Operand], count: int, scope: str
    ) -> tuple[Operand, ...]:
        """Append what an operator of the graph stands for; return its results."""
        kind = op.partition(".")[0]
        if kind in DROPOUT_KINDS:
            return (self._dropout(kind, inputs, scope),)
        if kind == "aten::native_dropout":
            return (self._dropout("aten::dropout", inputs, scope), Constant(None))
        if kind in {"aten::batch_norm", "aten::instance_norm"}:
            return self._norm(kind, inputs, scope)
        if kind == "aten::scaled_dot_product_attention":
            return self.draft.emit("net::attention", inputs[:8], scope=scope)
        if op in RECURRENT:
            return self._recurrent(RECURRENT[op], inputs, count, scope)
        if kind == "aten::embedding_bag" and (bag := _plain_bag(inputs)):
            return self.draft.emit("net::embedding_bag", bag, count, scope)
        if kind in fused.DECOMPOSED:
            return self._decomposed(kind, inputs, count, scope)
        for place in scalar_type_positions(op):
            operand = inputs[place] if place < len(inputs) else None
            if isinstance(operand, Constant):
                inputs[place] = Constant(scalar_type(operand.value))
        inputs = self._promote(kind, inputs)
        return self.draft.emit(op, inputs, count, scope)

    def _decomposed(
        self, kind: str, inputs: list[Operand], count: int, scope: str
    ) -> tuple[Operand, ...]:
        if self.draft.depth == 0:
            self.notes.append(
                "The archive holds a fused transformer operator; it was written out, "
                "without the dropout, which such archives no longer hold."
            )
        try:
            return fused.DECOMPOSED[kind](self.draft.emit, inputs, scope)
        except CannotLift as found:
            if self.draft.depth == 0:
                raise
            # A script's fast path, which is not taken while gradients are wanted.
            self.draft.emit("prim::RaiseException", (Constant(str(found)),), 0)
            return (Constant(None),) * count

    def _dropout(self, kind: str, inputs: list[Operand], scope: str) -> Operand:
        x, p, train = inputs[:3]
        if not isinstance(train, Constant):
            raise CannotLift("dropout under a computed flag")
        if self.training and not train.value and not self.traced:
            return x
        if train.value and not self.training:
            self.baked = True
        [out] = self.draft.emit(kind.replace("aten::", "net::"), (x, p), scope=scope)
        return out

    def _norm(
        self, kind: str, inputs: list[Operand], scope: str
    ) -> tuple[Operand, ...]:
        x, weight, bias, mean, var, train, momentum, eps = inputs[:8]
        weight, bias = self._promote(kind, [x, weight, bias])[1:]
        mean_name = mean.name if isinstance(mean, Buffer) else None
        var_name = var.name if isinstance(var, Buffer) else None
        if isinstance(mean, Constant) and isinstance(mean.value, torch.Tensor):
            raise CannotLift("frozen batch norm")
        count_name = None
        if mean_name is not None:
            sibling = mean_name.rpartition(".")[0]
            candidate = f"{sibling}.num_batches_tracked".lstrip(".")
            count_name = candidate if candidate in self.buffers else None
        on = isinstance(train, Constant) and bool(train.value)
        # One that keeps no statistics takes those of the batch in either mode; an
        # instance norm has nothing to keep.
        if on and not self.training and (mean_name or kind == "aten::batch_norm"):
            self.baked = True
        factor = momentum.value if isinstance(momentum, Constant) else None
        factor = factor or None  # torch passes 0 for a plain average at inference
        if mean_name is not None:
            factor = self.momenta.setdefault(mean_name, factor)
        names = Constant(BufferNames(mean_name, var_name, count_name))
        op = kind.replace("aten::", "net::")
        return self.draft.emit(
            op, (x, weight, bias, names, Constant(factor), eps), scope=scope
        )

    def _recurrent(
        self, cell: str, inputs: list[Operand], count: int, scope: str
    ) -> tuple[Operand, ...]:
        x, start, weights = inputs[:3]
        flags = [o.value if isinstance(o, Constant) else None for o in inputs[3:]]
        states = self._parts(start) if cell == "lstm" else (start,)
        settings = settings_of(cell, flags)
        if flags[3] and not self.training and settings.p and settings.layers > 1:
            self.baked = True
        given = (Constant(settings), x, *states, *self._parts(weights))
        return self.draft.emit("net::recurrent", given, count, scope)

    def _parts(self, operand: Operand) -> tuple[Operand, ...]:
        if isinstance(operand, Constant) and isinstance(operand.value, list):
            found = [self.by_storage.get(storage_of(part)) for part in operand.value]
            known = tuple(Parameter(name) for name in found if name is not None)
            if len(known) == len(found):
                return known
        if isinstance(operand, Slot):
            node = self.draft.producers.get(operand.number)
            if node is not None and node.kind == "prim::ListConstruct":
                return node.inputs
        raise CannotLift("a list of weights that is computed")

    def _promote(self, kind: str, inputs: list[Operand]) -> list[Operand]:
        """Take constant tensors that stand where weights belong for parameters."""
        for place in _WEIGHT_PLACES.get(kind, ()):
            operand = inputs[place] if place < len(inputs) else None
            if (
                isinstance(operand, Constant)
                and isinstance(operand.value, torch.Tensor)
                and operand.value.is_floating_point()
            ):
                name = f"constant_{len(self.promoted)}"
                self.promoted[name] = operand.value.detach().clone()
                inputs[place] = Parameter(name)
        return inputs


def settings_of(cell: str, flags: list[Any]) -> RecurrentSettings:
    """Read a recurrent operator's settings, in the order of its schema.

    Raises:
        CannotLift: one is computed.
    """
    if None in flags:
        raise CannotLift(f"{cell} with computed settings")
    biases, layers, p, _, bidirectional, batch_first = flags
    return RecurrentSettings(
        cell=cell,
        biases=bool(biases),
        layers=int(layers),
        p=float(p),
        bidirectional=bool(bidirectional),
        batch_first=bool(batch_first),
    )


def _plain_bag(inputs: list[Operand]) -> list[Operand]:
    """What a bag is made of; nothing where it is of a kind that is left as it is."""
    weight, indices, offsets, scaled, mode, _, weights, last, *padding = inputs
    flags = [o.value if isinstance(o, Constant) else o for o in (scaled, weights, last)]
    if flags not in ([False, None, False], [False, None, None]):
        return []
    if not isinstance(mode, Constant) or mode.value not in {_SUM, _MEAN}:
        return []
    return [weight, indices, offsets, mode, *(padding or [Constant(None)])]
