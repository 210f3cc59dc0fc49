"""Runs a network on a few rows, to learn what its outputs are and whether it learns."""

import time
from collections.abc import Callable
from typing import TypeVar

import torch

from service.contract.errors import UnusableModel
from worker.engine.data import Split
from worker.engine.fitting import as_tensor
from worker.engine.lab.experiment import NetworkChange
from worker.engine.lab.materials import Clock
from worker.engine.memory import is_out_of_memory
from worker.engine.network.editing import SurgeryImpossible
from worker.engine.network.facts import NetworkFacts
from worker.engine.network.network import Network
from worker.engine.network.own_code import (
    FAILURES,
    check_answer,
    on_samples,
    own_code,
)
from worker.engine.network.reach import learns
from worker.engine.recipe import CompleteRecipe

Answer = TypeVar("Answer")
SETTLED_AT_HALF = 0.04  # mean distance of the outputs from one half
A_FEW, A_SLOW_FEW = 64, 16  # rows with which the network is tried out
A_PAIR = 2
A_SLOW_PAIR = 0.05  # seconds
A_BATCH = 16  # rows with which it is tried whether it can be trained


def with_enough_rows(answer: Callable[[int], Answer], clock: Clock) -> Answer:
    """Have two rows answered, then a few more; not as many where two take long."""
    begin = clock()
    answer(A_PAIR)
    return answer(A_SLOW_FEW if clock() - begin > A_SLOW_PAIR else A_FEW)


def try_out(
    network: Network,
    split: Split,
    device: torch.device,
    clock: Clock = time.perf_counter,
) -> torch.Tensor:
    """Run the network on a few rows, on fewer where two of them take long.

    Raises:
        UnusableModel: it fails on them, or does not answer each.
    """
    parameters = {k: v.to(device) for k, v in network.parameters.items()}
    buffers = {k: v.to(device) for k, v in network.buffers.items()}

    def answer(rows: int) -> torch.Tensor:
        x = as_tensor(split.x[:rows], device)
        with torch.no_grad(), own_code(on_samples(x)):
            raw, _ = network.forward(parameters, buffers, x, training=False)
        check_answer(raw, x)
        return raw

    raw = with_enough_rows(answer, clock)
    x = as_tensor(split.x[:1], torch.device("cpu"))
    with own_code(on_samples(x)):
        written = network.writes_to(x)
    if written is not None:
        raise UnusableModel(
            f"The model keeps state between calls: it writes to `{written}`."
        )
    return raw


def as_trained(
    network: Network, recipe: CompleteRecipe, train: Split
) -> tuple[CompleteRecipe, tuple[str, ...]]:
    """Find out whether integer labels were broadcast over several outputs.

    A network with softmax outputs that each had to match the label's number settles at
    one half for every sample. No other training does that, so it tells the case apart.
    """
    elementwise = recipe.loss.name in ("bce", "bce_with_logits")
    if not elementwise or network.facts.outputs <= 1:
        return recipe, ()
    raw = try_out(network, train, torch.device("cpu")).double()
    shares = raw if recipe.loss.name == "bce" else raw.sigmoid()
    if float((shares - 0.5).abs().mean()) > SETTLED_AT_HALF:
        return recipe, ()
    changed = recipe.loss.model_copy(update={"targets": "index"})
    note = (
        "The delivered outputs all sit at one half, as if integer labels had been "
        "compared with every output; the recipe is reproduced that way."
    )
    return recipe.model_copy(update={"loss": changed}), (note,)


def why_untrainable(network: Network, split: Split, classes: int) -> str | None:
    """Say why no training can move the network; None where it can, or fails aloud.

    A softmax over one output, say, stops every gradient too, but can be taken off.
    """
    x = as_tensor(split.x[:A_BATCH], torch.device("cpu"))
    try:
        if learns(network, x):
            return None
        raw = network.changed(NetworkChange(name="output"), classes=classes, sample=x)
        if learns(raw, x):
            return None
    except SurgeryImpossible:
        pass
    except FAILURES as error:
        if is_out_of_memory(error):
            raise
        return None
    return (
        "no gradient of what it returns reaches its weights, as where outputs are "
        "rounded, turned into decisions or detached inside the model; export it "
        "without that step"
    )


def facts_as_seen(network: Network, raw: torch.Tensor) -> NetworkFacts:
    """Correct the number of outputs, which not every graph shows, by real ones."""
    seen = 1 if raw.dim() == 1 else int(raw.shape[-1])
    return network.facts.model_copy(update={"outputs": seen})
