"""What the bench works on: the subject's parts in memory."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from worker.engine.data import Dataset, Split
from worker.engine.head import Head
from worker.engine.network.network import Network
from worker.engine.recipe import CompleteRecipe

Clock = Callable[[], float]


@dataclass(frozen=True)
class Material:
    """The subject's parts in memory, shared by bench and probes.

    Attributes:
        network: as delivered.
        train: training rows.
        decide: held-out rows on which decisions are made.
        final: held-out rows that judge the remedy once.
        dataset: names and kinds of what the rows are.
        recipe: how the network was, or is assumed to have been, trained.
        head: how the delivered network's outputs become classes.
        device: where tensors live.
        scratch: folder for a kept model.
        clock: seconds from any beginning; budgets are counted by it.
        look_rows: about how many rows a probe may send through the network.
        row_seconds: what a row takes in the delivered network, 0 if not timed.
        answers: what the delivered network returns for whole splits, once asked.
    """

    network: Network
    train: Split
    decide: Split
    final: Split
    dataset: Dataset
    recipe: CompleteRecipe
    head: Head
    device: torch.device
    scratch: Path = field(default=Path())
    clock: Clock = time.perf_counter
    look_rows: int = 1_000_000
    row_seconds: float = 0.0
    answers: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.dataset.class_names)
