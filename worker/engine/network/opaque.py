"""A network that could not be read: the module itself, run as a function.

It trains one member at a time, on the module, and admits no surgery.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import torch

from worker.engine.network.editing import Change, SurgeryImpossible
from worker.engine.network.facts import LayerFacts, LayerKind, NetworkFacts
from worker.engine.network.initialization import Scheme, generator, initial_buffers
from worker.engine.network.network import Network, Tensors, copied
from worker.engine.network.program import Body, Program, Slot

_KINDS: dict[str, LayerKind] = {
    "Linear": "linear",
    "Embedding": "embedding",
    "EmbeddingBag": "embedding",
    "MultiheadAttention": "attention",
    "LSTM": "recurrent",
    "GRU": "recurrent",
    "RNN": "recurrent",
}


_OF_A_NORM = frozenset({"running_mean", "running_var", "num_batches_tracked"})


class OpaqueNetwork(Network):
    """Runs a ScriptModule with parameters and buffers passed in.

    Dropout draws from torch's generator: noise that is given only seeds it.
    """

    def __init__(self, module: torch.jit.ScriptModule, reason: str) -> None:
        """Wrap a module.

        Args:
            module: as loaded.
            reason: why it could not be read.
        """
        nothing = Program(Body((0,), (), (Slot(0),)), 1)
        parameters = {n: p.detach().clone() for n, p in module.named_parameters()}
        super().__init__(
            train_program=nothing,
            eval_program=nothing,
            parameters=parameters,
            buffers={n: b.detach().clone() for n, b in module.named_buffers()},
            facts=_facts(module, parameters, reason),
            module=module,
            stackable=False,
        )
        digest = hashlib.sha256(str(module.inlined_graph).encode())
        self.structure = digest.hexdigest()
        self._delivered = module
        self._worker = copied(module)

    def as_delivered(self, x: torch.Tensor) -> torch.Tensor:
        """Run a copy of the module: nobody knows what it writes to."""
        with torch.no_grad():
            return copied(self._delivered)(self.apart(x))  # type: ignore[no-any-return]

    def writes_to(self, x: torch.Tensor) -> str | None:
        """Name what of itself the module writes to in a call, in evaluation mode.

        Not the statistics of a norm that was left in training mode.
        """
        made = copied(self._delivered)
        made.eval()
        with torch.no_grad():
            made(self.apart(x))
        before = {**self.parameters, **self.buffers}
        for name, value in (*made.named_parameters(), *made.named_buffers()):
            kept = before[name].to(value.device)
            alike = torch.allclose(value, kept, rtol=0, atol=0, equal_nan=True)
            if not alike and name.rpartition(".")[2] not in _OF_A_NORM:
                return name
        return None

    def forward(
        self,
        parameters: Tensors,
        buffers: Tensors,
        x: torch.Tensor,
        *,
        training: bool,
        noise: Sequence[torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, Tensors]:
        """Run the module once with these weights; see `Network.forward`."""
        names = list(self.parameters)
        self._worker.to(x.device)
        self._worker.train(training)
        with torch.no_grad():
            for name, buffer in self._worker.named_buffers():
                buffer.copy_(buffers[name])
        values = [parameters[name] for name in names]
        raw: torch.Tensor = _Through.apply(
            self._worker, names, self.prepared(x), *values
        )  # type: ignore[no-untyped-call]
        after = {n: b.detach().clone() for n, b in self._worker.named_buffers()}
        return raw, after

    def noise_shapes(self, x: torch.Tensor) -> list[tuple[int, ...]]:
        """Nobody can tell: none."""
        return []

    def untouched(self) -> tuple[str, ...]:
        """None: every parameter is drawn, by its name and shape."""
        return ()

    def initial(self, seed: int, scheme: Scheme = "default") -> tuple[Tensors, Tensors]:
        """Draw fresh parameters by name and shape, as torch's layers do."""
        kinds = {
            name: getattr(module, "original_name", "")
            for name, module in self._worker.named_modules()
        }
        made = {}
        for name, tensor in self.parameters.items():
            owner, _, leaf = name.rpartition(".")
            rng = generator(seed, name)
            sibling = self.parameters.get(f"{owner}.weight".lstrip("."), tensor)
            drawn = _drawn(tensor, leaf, kinds.get(owner, ""), sibling, rng)
            made[name] = drawn.to(dtype=tensor.dtype, device=tensor.device)
        return made, initial_buffers(self.buffers)

    def activations(
        self, parameters: Tensors, buffers: Tensors, x: torch.Tensor
    ) -> list[Any]:
        """Nobody can tell: none."""
        return []

    def fitted(self, sample: torch.Tensor) -> Network:
        """Nothing to take out."""
        return self

    def changed(self, change: Change, *, classes: int, sample: torch.Tensor) -> Network:
        """Only a reference network can be made in its place.

        Raises:
            SurgeryImpossible: for any other change.
        """
        if change.name == "reference":
            return super().changed(change, classes=classes, sample=sample)
        raise SurgeryImpossible(f"the network could not be read: {self.facts.notes[0]}")


class _Through(torch.autograd.Function):
    """The module as a differentiable function of its parameters."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        module: torch.jit.ScriptModule,
        names: list[str],
        x: torch.Tensor,
        *values: torch.Tensor,
    ) -> torch.Tensor:
        held = dict(module.named_parameters())
        for name, value in zip(names, values, strict=True):
            held[name].data = value.detach().clone()
        with torch.enable_grad():
            raw: torch.Tensor = module(x.detach().clone())
        ctx.raw, ctx.held = raw, [held[name] for name in names]
        return raw.detach()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:  # noqa: ANN401
        found: tuple[torch.Tensor | None, ...] = (None,) * len(ctx.held)
        if ctx.raw.requires_grad:
            found = torch.autograd.grad(ctx.raw, ctx.held, gradient, allow_unused=True)
        return (
            None,
            None,
            None,
            *[
                torch.zeros_like(held) if one is None else one
                for one, held in zip(found, ctx.held, strict=True)
            ],
        )


def _drawn(
    tensor: torch.Tensor,
    leaf: str,
    kind: str,
    sibling: torch.Tensor,
    rng: torch.Generator,
) -> torch.Tensor:
    if kind == "Embedding":
        return torch.randn(tensor.shape, generator=rng, dtype=torch.float64)
    if sibling.dim() < 2 and leaf in {"weight", "bias"}:  # noqa: PLR2004
        return torch.full(tensor.shape, float(leaf == "weight"), dtype=torch.float64)
    fans = sibling if sibling.dim() > 1 else tensor
    ins = max(1, math.prod(fans.shape[1:]))
    if kind in {"LSTM", "GRU", "RNN"}:
        ins = max(1, tensor.shape[0] // {"LSTM": 4, "GRU": 3}.get(kind, 1))
    uniform = torch.rand(tensor.shape, generator=rng, dtype=torch.float64)
    return (uniform * 2 - 1) / math.sqrt(ins)


def _facts(
    module: torch.jit.ScriptModule, parameters: Tensors, reason: str
) -> NetworkFacts:
    layers = []
    for name, inner in module.named_modules():
        shown = getattr(inner, "original_name", "")
        kind = _KINDS.get(shown)
        if kind is None and shown.startswith("Conv"):
            kind = "conv"
        if kind is not None:
            layers.append(LayerFacts(name=name, kind=kind, op=shown.lower()))
    note = (
        f"The network could not be lifted ({reason}): it is trained one member at a "
        "time on the module itself, and its architecture cannot be changed."
    )
    return NetworkFacts(
        origin="scripted",
        parameters=sum(tensor.numel() for tensor in parameters.values()),
        layers=tuple(layers),
        activations=(),
        output_activation="none",
        takes_tokens=bool(layers) and layers[0].kind == "embedding",
        notes=(note,),
    )
