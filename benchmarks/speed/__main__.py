"""Print, in one run, how fast stacks and whole audits are, as ratios.

Both sides run in turns and each counts its fastest turn by processor time, so that a
busy machine slows neither more than the other. The plain loop is what a user would
write: the ScriptModule, `torch.optim.Adam`, shuffled batches by index, members in turn.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed import growth, kinds, rivals, together, whole
from benchmarks.speed.subjects import CASES, Case, material, scripted
from worker.engine.lab.bench import Bench
from worker.engine.lab.experiment import Arm, Training
from worker.engine.lab.members import stacks
from worker.engine.lab.stack import Stack

PARTS = ("stacks", "audits", "growth", "kinds", "workers", "rivals")
_FIRST = 1000  # a step well past those whose gradients are looked at


def plain(case: Case) -> Callable[[int], None]:
    """Return a function that makes steps of one member."""
    subject = material(case)
    x, y = torch.from_numpy(subject.train.x), torch.from_numpy(subject.train.y)
    module = scripted(case).train()
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)
    order = torch.randperm(len(y))

    def steps(count: int) -> None:
        for step in range(count):
            at = step * case.batch % (len(y) - case.batch)
            rows = order[at : at + case.batch]
            optimizer.zero_grad()
            loss = F.cross_entropy(module(x[rows]), y[rows])
            torch.autograd.backward(loss)
            optimizer.step()

    return steps


def stacked(case: Case, members: int) -> tuple[Stack, float]:
    """Return a stack, its step captured, and the seconds that took."""
    bench = Bench(material(case))
    training = Training(
        round="speed",
        question="",
        arms=(Arm(name="baseline"),),
        seeds=tuple(range(members)),
    )
    run = bench._prepared(training)  # noqa: SLF001 - steps are timed, not trainings
    [group] = stacks(run.members)
    stack = bench._stack(group, training, run)  # noqa: SLF001
    stack.gradients.capture = True
    started = time.process_time()
    stack.advance(_FIRST, 1)
    return stack, time.process_time() - started


def timed(work: Callable[[int], object], steps: int) -> float:
    """Return seconds a step."""
    started = time.process_time()
    work(steps)
    return (time.process_time() - started) / steps


@dataclass(frozen=True)
class Comparison:
    """Seconds a step of all members.

    Attributes:
        plain: one after the other in the plain loop.
        stacked: together.
        capture: once, to trace the step.
        floor: of the arithmetic alone: operations over measured matrix throughput.
    """

    plain: float
    stacked: float
    capture: float
    floor: float


def floor_seconds(case: Case, members: int) -> float:
    """Return how long a step's operations take at the speed of a large product."""
    # In double precision no layer is one kernel, whose products would not be counted.
    x = torch.zeros(case.batch, *case.shape, dtype=torch.float64)
    network = case.make().double()
    with FlopCounterMode(display=False) as counter:
        torch.autograd.backward(network(x).sum())
    operations = counter.get_total_flops() * members
    side = 512
    left, right = torch.ones(side, side), torch.ones(side, side)
    best = min(timed(lambda _: left @ right, 1) for _ in range(20))
    return float(operations * best / (2 * side**3))


def compare(case: Case, members: int, seconds: float, turns: int = 5) -> Comparison:
    """Time both sides in turns; each counts its fastest."""
    loop = plain(case)
    stack, capture = stacked(case, members)

    def advance(steps: int) -> None:
        done = 0
        while done < steps:
            ahead = min(stack.most_steps, steps - done)
            stack.advance(_FIRST + done, ahead)
            done += ahead

    loop(5)
    advance(5)
    per_loop = max(5, int(seconds / turns / 2 / timed(loop, 5)))
    per_stack = max(5, int(seconds / turns / 2 / timed(advance, 5)))
    best_loop = best_stack = float("inf")
    for _ in range(turns):
        best_loop = min(best_loop, timed(loop, per_loop))
        best_stack = min(best_stack, timed(advance, per_stack))
    return Comparison(
        best_loop * members, best_stack, capture, floor_seconds(case, members)
    )


def print_stacks(members: int, seconds: float) -> None:
    """Print the table of stacks, and how far they are from the arithmetic."""
    print(
        "| network | plain loop, ms a step of all | stack, ms | ratio "
        "| arithmetic floor, ms | stack over floor | capture, s |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for case in CASES:
        seen = compare(case, members, seconds)
        print(
            f"| {case.name} | {seen.plain * 1e3:.2f} | {seen.stacked * 1e3:.2f} "
            f"| {seen.plain / seen.stacked:.1f} | {seen.floor * 1e3:.2f} "
            f"| {seen.stacked / seen.floor:.1f} | {seen.capture:.2f} |",
            flush=True,
        )


def main() -> None:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=16)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=5.0, help="a row")
    parser.add_argument("--budget", default="standard", help="of whole audits")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    parts: dict[str, Callable[[], None]] = {
        "stacks": lambda: print_stacks(given.members, given.seconds),
        "audits": lambda: whole.main(given.budget),
        "growth": growth.main,
        "kinds": kinds.main,
        "workers": lambda: together.main(given.budget),
        "rivals": rivals.main,
    }
    print(
        f"{given.members} members, {given.threads} threads, torch {torch.__version__}"
    )
    for part in given.only:
        print(f"\n{part}", flush=True)
        parts[part]()


if __name__ == "__main__":
    main()
