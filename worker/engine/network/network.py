"""The lifted network: a pure function of parameters, buffers, input and noise."""

import hashlib
import io
from collections.abc import Callable, Sequence
from copy import copy
from functools import cached_property
from typing import Any, BinaryIO

import torch

from worker.engine.network.batch_size import baked_sizes, freed, takes
from worker.engine.network.dropouts import Run, is_batched
from worker.engine.network.editing import Change, Edited, SurgeryImpossible
from worker.engine.network.facts import NetworkFacts, facts_of
from worker.engine.network.families import LEAST_WIDTH, reference_module
from worker.engine.network.flatten import flattened
from worker.engine.network.initialization import (
    Scheme,
    fills,
    initial_buffers,
    initial_parameters,
)
from worker.engine.network.kernels import DROPOUTS
from worker.engine.network.layout import channels_last
from worker.engine.network.lowering import Lifted, lift
from worker.engine.network.machine import Machine
from worker.engine.network.program import (
    CannotLift,
    Constant,
    Node,
    Parameter,
    Program,
    names,
    text,
    walk,
)
from worker.engine.network.recurrent import RecurrentSettings
from worker.engine.network.scripting import CannotScript, scripted
from worker.engine.network.surgery import SURGEONS

Tensors = dict[str, torch.Tensor]
# Rows, and noise in deviations of the sample, with which a reading is checked.
_COMPARED = ((5, 0.0), (3, 2.0))
_MOST_SPREAD = 1 << 28  # numbers that may stand in less memory than they take
_TOLERANCE = 1e-3  # of the largest output; fused kernels round otherwise
_NOT_STACKED = "The network cannot be stacked: its members are trained one by one."


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
        stacked: whether members share a stack: that is possible, and pays.
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

    @property
    def stacked(self) -> bool:
        """Whether members share a stack: that is possible, and pays.

        Of an LSTM torch does all steps in one kernel; written out, as in a stack, they
        take 2 to 6 times as long.
        """
        is_fused = "lstm" in self.cells and self.dtype == torch.float32
        return self.stackable and not is_fused

    @cached_property
    def cells(self) -> frozenset[str]:
        """Kinds of recurrent layers that it has, as `RecurrentSettings` names them."""
        return frozenset(
            operand.value.cell
            for node in walk(self.train_program.body)
            for operand in node.inputs[:1]
            if isinstance(operand, Constant)
            and isinstance(operand.value, RecurrentSettings)
        )

    @classmethod
    def from_lifted(
        cls, lifted: Lifted, module: torch.jit.ScriptModule | None
    ) -> "Network":
        """Make a network of what reading a module gave."""
        facts = facts_of(
            lifted.train,
            lifted.parameters,
            origin=lifted.origin,
            baked_training=lifted.baked_training,
            notes=tuple(lifted.notes),
        )
        return cls(
            train_program=lifted.train,
            eval_program=lifted.evaluate,
            parameters=lifted.parameters,
            buffers=lifted.buffers,
            facts=facts,
            module=module,
        )

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

    def apart(self, x: torch.Tensor) -> torch.Tensor:
        """The same in memory of its own, for a module that may write to it."""
        given = self.prepared(x)
        return given.clone() if given is x else given

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
        given = self.prepared(x)
        if training:
            return self._train.run(parameters, given, run), run.buffers
        laid = _laid_out(given, parameters)
        return self._eval.run(parameters, laid, run), run.buffers

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
        given = _laid_out(self.prepared(x), parameters)
        Machine(self.eval_program, watch).run(parameters, given, run)
        return seen

    def changed(
        self, change: Change, *, classes: int, sample: torch.Tensor
    ) -> "Network":
        """Make another network by surgery.

        Args:
            change: `NetworkChange` of the lab, `initialization` excepted.
            classes: number of classes, for `head` and `reference`.
            sample: (at least one row, *sample shape), as the network takes it.

        Raises:
            SurgeryImpossible: with the reason.
        """
        if change.name == "reference":
            return self._reference(change, classes, sample)
        surgeon = SURGEONS.get(change.name)
        if surgeon is None:
            raise SurgeryImpossible(f"no change of a network is called `{change.name}`")
        return self._closed(surgeon(self._opened(sample), change, classes), sample)

    def fitted(self, sample: torch.Tensor) -> "Network":
        """Adapt the network to samples of this shape, once it is known.

        Branches and loops are taken out, so that the facts show only the layers that
        do run; a batch size baked in by tracing is freed; stacking is tried. A network
        that admits none of it comes back as it is; one that turns out to be misread, as
        the module itself.

        Args:
            sample: (at least one row, *sample shape), as the network takes it.
        """
        if not self._does_as_module(sample):
            return self._unread()
        network = self._any_batch(sample)
        try:
            edited = network._opened(sample)  # noqa: SLF001
        except SurgeryImpossible:
            edited = None
        if edited is not None:
            network = network._made(edited, network.module)  # noqa: SLF001
        if network.stackable and not network._stacks(sample):  # noqa: SLF001
            network = copy(network)
            network.stackable = False
            network.facts = network.facts.model_copy(
                update={"notes": (*network.facts.notes, _NOT_STACKED)}
            )
        return network

    def _does_as_module(self, sample: torch.Tensor) -> bool:
        """Whether what was read computes what the module computes at inference."""
        if self.module is None:
            return True
        noise = torch.Generator().manual_seed(0)
        for rows, strength in _COMPARED:
            x = self.prepared(sample.cpu()[torch.arange(rows) % len(sample)])
            if strength and not self.facts.takes_tokens:
                drawn = torch.randn(x.shape, generator=noise).to(x.dtype)
                x = x + strength * x.std() * drawn
            try:
                first, again = (self._at_inference(x) for _ in range(2))
            except (RuntimeError, ValueError):
                continue  # a batch size baked in, say
            if not _alike(first, again):
                return True  # it draws: nobody can tell
            try:
                with torch.no_grad():
                    own = self.forward(
                        self.parameters, self.buffers, x, training=False
                    )[0]
            except (RuntimeError, ValueError, TypeError, IndexError, KeyError):
                return False
            if not _alike(own, first):
                return False
        return True

    def _unread(self) -> "Network":
        """Give up what was read."""
        from worker.engine.network.opaque import OpaqueNetwork  # noqa: PLC0415

        assert self.module is not None
        return OpaqueNetwork(self.module, "what was read of it does otherwise")

    def _any_batch(self, sample: torch.Tensor) -> "Network":
        """Free the batch size, if one is baked in and that can be done surely."""
        x = sample.cpu()

        def run(network: Network, rows: int) -> torch.Tensor | None:
            def forward(batch: torch.Tensor) -> torch.Tensor:
                given = (network.parameters, network.buffers, batch)
                with torch.no_grad():
                    return network.forward(*given, training=False)[0]

            return takes(forward, x, rows)

        if run(self, 3) is not None and run(self, 2) is not None:
            return self
        if self.eval_program is not self.train_program:
            return self
        for baked in baked_sizes(self.train_program):
            expected = run(self, baked)
            if expected is None:
                continue
            program = freed(self.train_program, baked)
            edited = Edited(program, self.parameters, self.buffers)
            network = self._made(edited, None)
            note = (
                f"The traced model only took batches of {baked}; it was freed of that."
            )
            network.facts = network.facts.model_copy(
                update={"notes": (*network.facts.notes, note)}
            )
            fewer = run(network, 2)
            if fewer is not None and torch.allclose(
                fewer, expected[:2], rtol=1e-4, atol=1e-5, equal_nan=True
            ):
                return network
        return self

    def _stacks(self, sample: torch.Tensor) -> bool:
        """Try two members in one stack, as training and scoring will run them."""
        parameters, buffers = (
            {name: torch.stack([tensor, tensor]) for name, tensor in tensors.items()}
            for tensors in (self.parameters, self.buffers)
        )
        x = sample.cpu()[torch.arange(3) % len(sample)]

        def learn(
            parameters: Tensors,
            buffers: Tensors,
            x: torch.Tensor,
            noise: list[torch.Tensor],
        ) -> torch.Tensor:
            raw, _ = self.forward(parameters, buffers, x, training=True, noise=noise)
            return raw.sum()

        def look(parameters: Tensors, buffers: Tensors) -> torch.Tensor:
            return self.forward(parameters, buffers, x, training=False)[0]

        try:
            with torch.random.fork_rng(devices=[]):
                noise = [torch.rand(2, *shape) for shape in self.noise_shapes(x)]
                both = torch.stack([x, x])
                with torch.enable_grad():
                    leaves = [
                        one.requires_grad_()
                        for one in parameters.values()
                        if one.is_floating_point()
                    ]
                    reached = torch.func.vmap(learn)(parameters, buffers, both, noise)
                    if reached.requires_grad:
                        torch.autograd.grad(reached.sum(), leaves, allow_unused=True)
                with torch.no_grad():
                    torch.func.vmap(look)(parameters, buffers)
        except (RuntimeError, ValueError, NotImplementedError, TypeError, IndexError):
            return False
        return True

    def _opened(self, sample: torch.Tensor) -> Edited:
        """Lay the program out straight."""
        x = self.prepared(sample.cpu())
        batches = tuple(x[torch.arange(rows) % len(x)] for rows in (3, 5))
        held = (self.parameters, self.buffers, (batches[0], batches[1]))
        same = True
        try:
            flat = flattened(self.train_program, *held, training=True)
            if self.eval_program is not self.train_program:
                other = flattened(self.eval_program, *held, training=False)
                drop = frozenset(DROPOUTS)
                same = text(flat.program, drop=drop) == text(other.program, drop=drop)
        except (CannotLift, RuntimeError, ValueError, TypeError, IndexError) as error:
            raise SurgeryImpossible(str(error).partition("\n")[0][:300]) from error
        if not same:
            raise SurgeryImpossible(
                "the network does other work in training than at inference"
            )
        return Edited(flat.program, self.parameters, self.buffers, flat.shapes)

    def _closed(self, edited: Edited, sample: torch.Tensor) -> "Network":
        """Make a network of what surgery left, once it was seen to run."""
        read = set(names(edited.program, Parameter))
        edited.parameters = {n: p for n, p in edited.parameters.items() if n in read}
        if not edited.parameters:
            raise SurgeryImpossible("no parameters would be left")
        made = self._made(edited, None)
        x = sample.cpu()
        for rows in (2, 3):
            try:
                raw, _ = made.forward(
                    made.parameters,
                    made.buffers,
                    x[torch.arange(rows) % len(x)],
                    training=False,
                )
            except (RuntimeError, ValueError, TypeError, IndexError) as error:
                reason = str(error).partition("\n")[0][:300]
                raise SurgeryImpossible(f"the result does not run: {reason}") from error
            if raw.dim() == 0 or raw.shape[0] != rows:
                raise SurgeryImpossible("the result does not keep rows apart")
        return made

    def _made(self, edited: Edited, module: torch.jit.ScriptModule | None) -> "Network":
        facts = facts_of(
            edited.program,
            edited.parameters,
            origin=self.facts.origin,
            baked_training=self.facts.baked_training,
            notes=self.facts.notes,
        )
        return Network(
            train_program=edited.program,
            eval_program=edited.program,
            parameters=edited.parameters,
            buffers=edited.buffers,
            facts=facts,
            module=module,
            stackable=self.stackable,
        )

    def _reference(
        self, change: Change, classes: int, sample: torch.Tensor
    ) -> "Network":
        vocabulary = None
        if self.facts.takes_tokens:
            sizes = [one.detail.get("in") for one in self.facts.layers[:1]]
            vocabulary = int(str(sizes[0])) if sizes and sizes[0] else None
        module = reference_module(
            change.to or "",
            sample_shape=tuple(sample.shape[1:]),
            classes=classes,
            parameters=self.facts.parameters,
            vocabulary=vocabulary,
            codes=change.codes,
            least=change.least or LEAST_WIDTH,
        )
        lifted = lift(module)
        lifted.origin = "made"
        made = Network.from_lifted(lifted, module)
        fresh, buffers = made.initial(0)
        made.parameters, made.buffers = fresh, buffers
        return made

    def script(
        self,
        parameters: Tensors,
        buffers: Tensors,
        *,
        input_shift: torch.Tensor | None = None,
        input_scale: torch.Tensor | None = None,
    ) -> torch.jit.ScriptModule:
        """Write the network out with these weights, as at inference.

        The module loads with plain `torch.jit.load`.

        Args:
            parameters: by name.
            buffers: by name.
            input_shift: subtracted from the input first, broadcast over rows.
            input_scale: what is left is divided by it.

        Raises:
            SurgeryImpossible: a changed network that has no TorchScript form.
        """
        module = None
        if self.module is not None and not self.facts.baked_training:
            module = _with_weights(self.module, parameters, buffers)
        if module is None:
            try:
                module = scripted(self.eval_program, parameters, buffers)
            except (CannotScript, RuntimeError) as error:
                raise SurgeryImpossible(
                    f"no TorchScript form: {str(error).strip()[:300]}"
                ) from error
        if input_shift is None and input_scale is None:
            return module
        dtype = self.dtype
        shift = torch.zeros(()) if input_shift is None else input_shift
        scale = torch.ones(()) if input_scale is None else input_scale
        wrapped = Shifted(module, shift.to(dtype).cpu(), scale.to(dtype).cpu())
        return torch.jit.script(wrapped.eval())

    def writes_to(self, x: torch.Tensor) -> str | None:
        """Name what of itself the module writes to in a call: nothing, once read."""
        return None

    def as_delivered(self, x: torch.Tensor) -> torch.Tensor:
        """Run the module itself, unchanged, in the state it was saved in."""
        if self.module is None:
            return self.forward(self.parameters, self.buffers, x, training=False)[0]
        return self._run_module(x)

    def _at_inference(self, x: torch.Tensor) -> torch.Tensor:
        """Run the module itself in evaluation mode, whatever it was saved in."""
        assert self.module is not None
        # A frozen archive has no mode.
        modes = [
            (m, m.training) for m in self.module.modules() if hasattr(m, "training")
        ]
        self.module.eval()
        try:
            return self._run_module(x)
        finally:
            for one, mode in modes:
                one.training = mode

    def _run_module(self, x: torch.Tensor) -> torch.Tensor:
        assert self.module is not None
        # A traced batch norm updates itself. Whatever could be read writes to nothing
        # but its buffers, so that these are put back rather than all of it copied.
        buffers = [(one, one.clone()) for one in self.module.buffers()]
        with torch.no_grad():
            try:
                return self.module(self.apart(x))  # type: ignore[no-any-return]
            finally:
                for written, before in buffers:
                    written.copy_(before)


class Shifted(torch.nn.Module):
    """A network behind a fixed shift and scale of its input."""

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self, network: torch.nn.Module, shift: torch.Tensor, scale: torch.Tensor
    ) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shift, scale and classify. `x`: (rows, *sample shape)."""
        out: torch.Tensor = self.network((x - self.shift) / self.scale)
        return out


def _with_weights(
    module: torch.jit.ScriptModule, parameters: Tensors, buffers: Tensors
) -> torch.jit.ScriptModule | None:
    """Copy a module and write weights into it; None where it is frozen, without any."""
    if not parameters.keys() <= dict(module.named_parameters()).keys():
        return None
    made = copied(module)
    with torch.no_grad():
        for held, given in (
            (made.named_parameters(), parameters),
            (made.named_buffers(), buffers),
        ):
            for name, tensor in held:
                if name in given:
                    tensor.copy_(given[name])  # in place: views of it must follow
    made.eval()
    return made


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


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two outputs are equal but for rounding."""
    if one.shape != other.shape:
        return False
    one, other = one.double(), other.double()
    finite = other[other.isfinite()].abs()
    scale = float(finite.max()) if len(finite) else 0.0
    return torch.allclose(
        one, other, rtol=_TOLERANCE, atol=_TOLERANCE * scale + 1e-9, equal_nan=True
    )


def loaded(file: BinaryIO) -> torch.jit.ScriptModule:
    """Load an archive onto the CPU.

    Raises:
        RuntimeError, OSError: it is none.
        ValueError: a tensor of it is far larger than its own memory.
    """
    load: Callable[..., torch.jit.ScriptModule] = torch.jit.load
    module = load(file, map_location="cpu")
    held = [*module.named_parameters(), *module.named_buffers()]
    # One number that stands for many cannot be written to, as weights are.
    spread = {name: tensor for name, tensor in held if _is_spread(tensor)}
    if sum(tensor.numel() for tensor in spread.values()) > _MOST_SPREAD:
        largest = max(spread, key=lambda name: spread[name].numel())
        raise ValueError(f"`{largest}` is far larger than its own memory")
    for tensor in spread.values():
        tensor.data = tensor.data.contiguous()
    return module


def _is_spread(tensor: torch.Tensor) -> bool:
    if tensor.layout != torch.strided:
        return False
    sides = zip(tensor.stride(), tensor.shape, strict=True)
    return any(step == 0 and size > 1 for step, size in sides)


def copied(module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """Copy a module with everything it holds."""
    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    buffer.seek(0)
    return loaded(buffer)


def _laid_out(x: torch.Tensor, parameters: Tensors) -> torch.Tensor:
    """Lay pictures out as they are convolved fastest.

    Under `vmap` they stay as they are: some operators ask how they lie, which it
    cannot tell of the members of a stack.
    """
    is_one = not is_batched(x, *parameters.values())
    return channels_last(x) if is_one and x.device.type == "cpu" else x
