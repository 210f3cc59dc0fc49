"""Whether an archive runs as it was delivered, before anything is measured on it."""

import re
from dataclasses import replace

import torch

from service.contract.errors import UnusableModel
from worker.engine.lab.materials import Material
from worker.engine.network.network import Network
from worker.engine.network.opaque import OpaqueNetwork
from worker.engine.network.own_code import check_answer, on_samples, own_code
from worker.engine.probes.inputs_as_trained import AsTrained

BATCHES = (64, 2)  # rows with which the archive is tried out
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
    for rows in BATCHES:
        x = prepare(material.decide.x[:rows]).cpu()  # where the archive was loaded
        with (
            torch.no_grad(),
            torch.random.fork_rng(devices=[]),
            own_code(on_samples(x)),
        ):
            raw = material.network.as_delivered(x)
        check_answer(raw, x, material.head.outputs)


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
