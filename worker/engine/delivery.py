"""Whether an archive runs as it was delivered, before anything is measured on it."""

import re
from dataclasses import replace

import torch

from service.contract.errors import UnusableModel
from worker.engine.lab.materials import Material
from worker.engine.network.network import Network
from worker.engine.network.opaque import OpaqueNetwork
from worker.engine.network.own_code import check_answer, on_samples, own_code
from worker.engine.probes.inputs_as_trained import AsTrained, outputs
from worker.engine.probes.material import choose, sample_places
from worker.engine.splits import Parts
from worker.engine.trying import A_FEW, A_SLOW_FEW, with_enough_rows

SHARE_OF_A_LOOK = 0.03  # of the budget, that a probe may spend in the network
LEAST_HELD_OUT = 300  # rows that are scored, however long they take
A_SLOW_LOOK = 0.2  # seconds, beside which what only the first look needs is little
_ELSEWHERE = re.compile(r"\b(cuda|hip|mps|xpu)\b", re.IGNORECASE)


def as_it_runs(material: Material) -> Material:
    """See the archive answer batches of more than one size.

    One that makes tensors on a device that is not here, as a traced one does, is run
    as it was read: that makes them where the samples are.

    Raises:
        UnusableModel: it fails, or does not answer each sample.
    """
    try:
        _check_batches(material)
    except UnusableModel as problem:
        network = material.network
        if isinstance(network, OpaqueNetwork) or not _ELSEWHERE.search(problem.detail):
            raise
        return replace(material, network=_as_read(network, problem.detail))
    return material


def _check_batches(material: Material) -> None:
    """A single sample is left to the probe: to need company is a finding of its own."""
    prepare = AsTrained(material)

    def answer(rows: int) -> None:
        x = prepare(material.decide.x[:rows]).cpu()  # where the archive was loaded
        with (
            torch.no_grad(),
            torch.random.fork_rng(devices=[]),
            own_code(on_samples(x)),
        ):
            raw = material.network.as_delivered(x)
        check_answer(raw, x, material.head.outputs)

    with_enough_rows(answer, material.clock)


def within(material: Material, parts: Parts, seconds: float) -> tuple[Material, Parts]:
    """Fit what is looked at to what a sample takes, so that looking is not the audit.

    Args:
        material: the subject.
        parts: its splits.
        seconds: of the whole audit.

    Returns:
        The material with the rows that a probe may look at, and held-out rows given up
        where there are more than can be scored again and again.
    """
    row_seconds = _seconds_a_row(material)
    looks = max(1, int(SHARE_OF_A_LOOK * seconds / row_seconds))
    most = max(LEAST_HELD_OUT, looks)
    held, notes = {"decide": parts.decide, "final": parts.final}, [*parts.notes]
    for name, part in held.items():
        if len(part) > most:
            held[name] = choose(part, sample_places(part.y, most))
            notes.append(
                f"{most} held-out rows are scored to {name}, to keep the budget."
            )
    decide, final = held["decide"], held["final"]
    return (
        replace(
            material,
            decide=decide,
            final=final,
            look_rows=looks,
            row_seconds=row_seconds,
        ),
        replace(parts, decide=decide, final=final, notes=tuple(notes)),
    )


def _seconds_a_row(material: Material) -> float:
    """Time a batch; a first look at few rows gets memory, and is enough if slow."""
    took, rows = 0.0, 0
    for most in (A_SLOW_FEW, A_FEW):
        x = material.decide.x[:most]
        begin = material.clock()
        outputs(material, x)
        took, rows = material.clock() - begin, len(x)
        if took > A_SLOW_LOOK:
            break
    return max(took, 1e-9) / rows


class _AsRead(Network):
    """Runs the program in place of the module, which still is what is written out."""

    def as_delivered(self, x: torch.Tensor) -> torch.Tensor:
        """Run the program that was read from the archive."""
        return self.forward(self.parameters, self.buffers, x, training=False)[0]


def _as_read(network: Network, why: str) -> Network:
    note = f"The archive itself does not run here; it was audited as read. {why}"
    return _AsRead(
        train_program=network.train_program,
        eval_program=network.eval_program,
        parameters=network.parameters,
        buffers=network.buffers,
        facts=network.facts.model_copy(update={"notes": (*network.facts.notes, note)}),
        module=network.module,
        stackable=network.stackable,
    )
