"""Print, in one run, how much faster a stack trains than the plain loop.

Both sides run in turns and each counts its fastest turn, so that a busy machine slows
neither more than the other. The plain loop is what a user would write: the
ScriptModule, `torch.optim.Adam`, shuffled batches by index, members in turn.
"""

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from benchmarks.speed.subjects import CASES, Case, material, scripted
from worker.engine.lab.bench import Bench
from worker.engine.lab.experiment import Arm, Training
from worker.engine.lab.members import stacks
from worker.engine.lab.stack import Stack

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
    started = time.perf_counter()
    stack.advance(_FIRST, 1)
    return stack, time.perf_counter() - started


def timed(work: Callable[[int], object], steps: int) -> float:
    """Return seconds a step."""
    started = time.perf_counter()
    work(steps)
    return (time.perf_counter() - started) / steps


def compare(case: Case, members: int, seconds: float) -> str:
    """Time both sides in turns; returns a row of the table."""
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
    turns = 5
    per_loop = max(5, int(seconds / turns / 2 / timed(loop, 5)))
    per_stack = max(5, int(seconds / turns / 2 / timed(advance, 5)))
    best_loop = best_stack = float("inf")
    for _ in range(turns):
        best_loop = min(best_loop, timed(loop, per_loop))
        best_stack = min(best_stack, timed(advance, per_stack))
    alone = best_loop * members
    return (
        f"| {case.name} | {alone * 1e3:.2f} | {best_stack * 1e3:.2f} "
        f"| {alone / best_stack:.1f} | {capture:.2f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=16)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=5.0, help="a row")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(
        f"{given.members} members, {given.threads} threads, torch {torch.__version__}"
    )
    print("| network | plain loop, ms a step of all | stack, ms | ratio | capture, s |")
    print("| --- | --- | --- | --- | --- |")
    for case in CASES:
        print(compare(case, given.members, given.seconds), flush=True)


if __name__ == "__main__":
    main()
