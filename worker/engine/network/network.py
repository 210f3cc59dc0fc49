"""The lifted network: a pure function of parameters, buffers, input and noise."""

import hashlib
import io
from collections.abc import Callable, Sequence
from typing import Any

import torch

from worker.engine.network.facts import NetworkFacts
from worker.engine.network.initialization import (
    Scheme,
    fills,
    initial_buffers,
    initial_parameters,
)
from worker.engine.network.kernels import Run
from worker.engine.network.machine import Machine
from worker.engine.network.program import Node, Program, text

Tensors = dict[str, torch.Tensor]


class Network:
    """A network that can be run, stacked, re-initialised, changed and written out.

    Immutable. `forward` never writes to what it is given.

    Attributes:
        parameters: as delivered, by name.
        buffers: as delivered, by name.
        facts: what the graph shows.
        structure: digest of programs and parameter shapes; members of equal structure
            may share a stack.
        stackable: `forward` works under `torch.func.vmap`.
        train_program: what runs in training.
        eval_program: what runs at inference; often the same object.
        module: the module as it was loaded, or None for a network of ours.
    """

    def __init__(  # noqa: PLR0913
        self,
        *,
        train_program: Program,
        eval_program: Program,
        parameters: Tensors,
        buffers: Tensors,
        facts: NetworkFacts,
        module: torch.jit.ScriptModule | None = None,
        stackable: bool = True,
    ) -> None:
        self.train_program = train_program
        self.eval_program = eval_program
        self.parameters = parameters
        self.buffers = buffers
        self.facts = facts
        self.module = module
        self.stackable = stackable
        self.structure = self._digest()
        self._train = Machine(train_program)
        self._eval = (
            self._train if eval_program is train_program else Machine(eval_program)
        )
        self._sites: dict[tuple[int, ...], list[tuple[int, ...]]] = {}

    def _digest(self) -> str:
        made = hashlib.sha256()
        made.update(text(self.train_program).encode())
        if self.eval_program is not self.train_program:
            made.update(text(self.eval_program).encode())
        for held in (self.parameters, self.buffers):
            for name in sorted(held):
                shape = tuple(held[name].shape)
                made.update(f"{name} {shape} {held[name].dtype}\n".encode())
        return made.hexdigest()

    @property
    def dtype(self) -> torch.dtype:
        """Type of the parameters."""
        return next(iter(self.parameters.values())).dtype

    def prepared(self, x: torch.Tensor) -> torch.Tensor:
        """Convert an input to the type that the network reads."""
        if self.facts.takes_tokens:
            return x if x.dtype in {torch.int64, torch.int32} else x.long()
        return x if x.dtype == self.dtype else x.to(self.dtype)

    def forward(
        self,
        parameters: Tensors,
        buffers: Tensors,
        x: torch.Tensor,
        *,
        training: bool,
        noise: Sequence[torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, Tensors]:
        """Run once, without side effects.

        Args:
            parameters: by name, as in `self.parameters`.
            buffers: by name, as in `self.buffers`.
            x: (rows, ...), any type; converted to what the network reads.
            training: dropout and batch statistics on.
            noise: for each dropout site, uniform [0, 1) of the shape that
                `noise_shapes` gives; a value is kept where its noise is at least p.
                None in training: drawn from torch's generator.

        Returns:
            What the network returns, and the buffers after the pass.
        """
        run = Run(training=training, buffers=dict(buffers), noise=noise)
        machine = self._train if training else self._eval
        return machine.run(parameters, self.prepared(x), run), run.buffers

    def noise_shapes(self, x: torch.Tensor) -> list[tuple[int, ...]]:
        """List the dropout sites' shapes for this batch, in order of execution."""
        key = tuple(x.shape)
        if key not in self._sites:
            run = Run(training=True, buffers=dict(self.buffers))
            parameters = {n: p.to(x.device) for n, p in self.parameters.items()}
            run.buffers = {n: b.to(x.device) for n, b in run.buffers.items()}
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                self._train.run(parameters, self.prepared(x), run)
            self._sites[key] = run.sites
        return list(self._sites[key])

    def initial(self, seed: int, scheme: Scheme = "default") -> tuple[Tensors, Tensors]:
        """Draw fresh parameters and reset the running statistics.

        Each parameter has its own generator, keyed by seed and name, so that layers
        that a change left alone start equal.

        Args:
            seed: decides every draw.
            scheme: `default`, `he` or `glorot`.
        """
        parameters = initial_parameters(
            self.train_program, self.parameters, seed=seed, scheme=scheme
        )
        return parameters, initial_buffers(self.buffers)

    def untouched(self) -> tuple[str, ...]:
        """Parameters that `initial` leaves as delivered, since nobody says how."""
        known = fills(self.train_program, self.parameters)
        return tuple(name for name in self.parameters if name not in known)

    def activations(
        self, parameters: Tensors, buffers: Tensors, x: torch.Tensor
    ) -> list["Seen"]:
        """Run once at inference and list what each layer made, in order."""
        from worker.engine.network.facts import layers_of  # noqa: PLC0415

        wanted = {
            id(node): layer for node, layer in layers_of(self.eval_program, parameters)
        }
        seen: list[Seen] = []

        def watch(node: Node, result: Any) -> None:  # noqa: ANN401
            layer = wanted.get(id(node))
            if layer is not None and isinstance(result, torch.Tensor):
                seen.append(Seen(layer.name, layer.kind, layer.op, result))

        run = Run(training=False, buffers=dict(buffers))
        Machine(self.eval_program, watch).run(parameters, self.prepared(x), run)
        return seen

    def as_delivered(self, x: torch.Tensor) -> torch.Tensor:
        """Run the module itself, unchanged, in the state it was saved in."""
        if self.module is None:
            return self.forward(self.parameters, self.buffers, x, training=False)[0]
        copy = copied(self.module)  # a traced batch norm would update itself
        with torch.no_grad():
            return copy(self.prepared(x))  # type: ignore[no-any-return]


class Seen:
    """What a layer made in one pass.

    Attributes:
        name: of the layer.
        kind: as in `LayerFacts`.
        op: as in `LayerFacts`.
        value: its output.
    """

    def __init__(self, name: str, kind: str, op: str, value: torch.Tensor) -> None:
        self.name = name
        self.kind = kind
        self.op = op
        self.value = value


def copied(module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """Copy a module with everything it holds."""
    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    buffer.seek(0)
    return torch.jit.load(buffer, map_location="cpu")  # type: ignore[no-any-return]


Build = Callable[[Program, Tensors, Tensors], Network]
