"""Compile a program to a list of closures and run it."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from worker.engine.network.dropouts import Run
from worker.engine.network.kernels import KERNELS
from worker.engine.network.operators import function
from worker.engine.network.program import (
    Body,
    Buffer,
    CannotLift,
    Constant,
    Node,
    Operand,
    Parameter,
    Program,
    Slot,
    reads,
    walk,
)

Registers = list[Any]
Step = Callable[[Registers, Run], None]
Watch = Callable[[Node, Any], None]


class Machine:
    """Runs one program, any number of times; holds no state of its own."""

    def __init__(self, program: Program, watch: Watch | None = None) -> None:
        """Compile.

        Args:
            program: what to run.
            watch: called with each top-level node and its result.

        Raises:
            CannotLift: an operator is not known to torch.
        """
        self._program = program
        self._watch = watch
        self._template: Registers = [None] * program.size
        self._parameters: dict[str, int] = {}
        self._buffers: dict[str, int] = {}
        self._constants: dict[int, int] = {}
        self._tensors: list[int] = []
        self._moved: dict[torch.device, Registers] = {}
        self._steps = self._compile(program.body, free=True)
        self._output = self._register(program.body.outputs[0])

    def run(
        self, parameters: Mapping[str, torch.Tensor], x: torch.Tensor, run: Run
    ) -> Any:  # noqa: ANN401
        """Run once. The buffers of `run` are those to start from."""
        registers = self._on(x.device).copy()
        registers[0] = x
        for name, place in self._parameters.items():
            registers[place] = parameters[name]
        for name, place in self._buffers.items():
            registers[place] = run.buffers[name]
        for step in self._steps:
            step(registers, run)
        return registers[self._output]

    def _on(self, device: torch.device) -> Registers:
        """Return the starting registers with constant tensors on a device."""
        if not self._tensors:
            return self._template
        if device not in self._moved:
            moved = self._template.copy()
            for place in self._tensors:
                moved[place] = moved[place].to(device)
            self._moved[device] = moved
        return self._moved[device]

    def _register(self, operand: Operand) -> int:
        match operand:
            case Slot(number):
                return number
            case Parameter(name):
                return self._place(self._parameters, name)
            case Buffer(name):
                return self._place(self._buffers, name)
            case Constant(value):
                place = self._constants.get(id(operand))
                if place is None:
                    place = self._constants[id(operand)] = len(self._template)
                    self._template.append(value)
                    if isinstance(value, torch.Tensor):
                        self._tensors.append(place)
                return place

    def _place(self, places: dict[str, int], name: str) -> int:
        if name not in places:
            places[name] = len(self._template)
            self._template.append(None)
        return places[name]

    def _compile(self, body: Body, *, free: bool = False) -> list[Step]:
        last: dict[int, int] = {}
        if free:  # let go of results after their last use
            for place, node in enumerate(body.nodes):
                for slot in reads(node):
                    last[slot] = place
            for operand in body.outputs:
                if isinstance(operand, Slot):
                    last.pop(operand.number, None)
        ending: dict[int, list[int]] = {}
        for slot, place in last.items():
            ending.setdefault(place, []).append(slot)
        steps: list[Step] = []
        for place, node in enumerate(body.nodes):
            steps.append(self._step(node))
            if free and self._watch is not None:
                steps.append(self._watching(node))
            if place in ending:
                steps.append(_letting_go(tuple(ending[place])))
        return steps

    def _step(self, node: Node) -> Step:
        if node.kind == "prim::If":
            return self._choice(node)
        if node.kind == "prim::Loop":
            return self._loop(node)
        places = tuple(self._register(operand) for operand in node.inputs)
        if node.kind in KERNELS:
            return _kernel(KERNELS[node.kind], places, node.outputs)
        try:
            target = function(node.op)
        except LookupError as error:
            raise CannotLift(f"operator {node.op} is not known") from error
        return _call(target, places, node.outputs, spread=_spreads(node))

    def _watching(self, node: Node) -> Step:
        watch, outputs = self._watch, node.outputs

        def step(registers: Registers, _run: Run) -> None:
            if watch is not None and outputs:
                watch(node, registers[outputs[0]])

        return step

    def _choice(self, node: Node) -> Step:
        condition = self._register(node.inputs[0])
        then, otherwise = (self._compile(body) for body in node.bodies)
        then_out, else_out = (
            tuple(self._register(operand) for operand in body.outputs)
            for body in node.bodies
        )
        outputs = node.outputs

        def step(registers: Registers, run: Run) -> None:
            chosen = bool(registers[condition])
            for inner in then if chosen else otherwise:
                inner(registers, run)
            results = [registers[i] for i in (then_out if chosen else else_out)]
            for slot, result in zip(outputs, results, strict=True):
                registers[slot] = result

        return step

    def _loop(self, node: Node) -> Step:
        trips, condition, *carried = (self._register(o) for o in node.inputs)
        [body] = node.bodies
        steps = self._compile(body)
        going, *returned = (self._register(operand) for operand in body.outputs)
        counter, *entering = body.inputs
        outputs = node.outputs

        def step(registers: Registers, run: Run) -> None:
            values = [registers[place] for place in carried]
            left, goes_on, turn = registers[trips], registers[condition], 0
            while turn < left and goes_on:
                registers[counter] = turn
                for slot, value in zip(entering, values, strict=True):
                    registers[slot] = value
                for inner in steps:
                    inner(registers, run)
                goes_on = bool(registers[going])
                values = [registers[place] for place in returned]
                turn += 1
            for slot, value in zip(outputs, values, strict=True):
                registers[slot] = value

        return step


def _spreads(node: Node) -> bool:
    """Tell whether the outputs are the parts of one result."""
    return len(node.outputs) > 1 or node.kind in {
        "prim::ListUnpack",
        "prim::TupleUnpack",
    }


def _letting_go(slots: tuple[int, ...]) -> Step:
    def step(registers: Registers, _run: Run) -> None:
        for slot in slots:
            registers[slot] = None

    return step


def _kernel(
    kernel: Callable[..., Any], places: tuple[int, ...], outputs: tuple[int, ...]
) -> Step:
    if len(outputs) == 1:
        [out] = outputs

        def single(registers: Registers, run: Run) -> None:
            registers[out] = kernel(run, *[registers[i] for i in places])

        return single

    def several(registers: Registers, run: Run) -> None:
        results = kernel(run, *[registers[i] for i in places])
        for slot, result in zip(outputs, results, strict=True):
            registers[slot] = result

    return several


def _call(
    target: Callable[..., Any],
    places: tuple[int, ...],
    outputs: tuple[int, ...],
    *,
    spread: bool,
) -> Step:
    if spread:

        def several(registers: Registers, _run: Run) -> None:
            results = target(*[registers[i] for i in places])
            for slot, result in zip(outputs, results, strict=True):
                registers[slot] = result

        return several
    if not outputs:

        def effect(registers: Registers, _run: Run) -> None:
            target(*[registers[i] for i in places])

        return effect
    [out] = outputs

    def single(registers: Registers, _run: Run) -> None:
        registers[out] = target(*[registers[i] for i in places])

    return single


def check_operators(program: Program) -> None:
    """Look every operator up once.

    Raises:
        CannotLift: one is not known.
    """
    for node in walk(program.body):
        if node.kind in {"prim::If", "prim::Loop"} or node.kind in KERNELS:
            continue
        try:
            function(node.op)
        except LookupError as error:
            raise CannotLift(f"operator {node.op} is not known") from error
