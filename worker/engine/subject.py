"""The subject of an audit: what is known of network, data, recipe and head.

Plain values, so that checks and auditor stay free of torch and can be tested by hand.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from service.contract.causes import Cause
from service.contract.recipe import Recipe
from service.contract.request import DatasetSpec
from worker.engine.data import Kind
from worker.engine.recipe import CompleteRecipe
from worker.engine.splits import lent_share

GOOD_ACTIVATIONS = frozenset(
    {
        "relu",
        "leaky_relu",
        "gelu",
        "elu",
        "silu",
        "selu",
        "celu",
        "prelu",
        "mish",
        "hardswish",
        "softplus",
        "relu6",
    }
)
RAW_OUTPUTS = frozenset({"none", "identity"})


@dataclass(frozen=True)
class NetworkShape:
    """What the graph shows.

    Attributes:
        parameters: number of trainable values.
        layer_kinds: kind of each layer in order: linear, conv, norm, dropout, …
        activations: hidden activations in order.
        output_activation: what follows the last weighted layer, or `none`.
        before_output: another activation between that layer and it, or `none`.
        outputs: values returned for one sample.
        dropout: the largest dropout probability, 0 where there is none.
        linear_stack: two weighted layers follow each other without an activation.
        smallest_width: the narrowest hidden layer, None where there is none.
        usual_width: the median of the hidden layers, likewise.
    """

    parameters: int
    layer_kinds: tuple[str, ...]
    activations: tuple[str, ...]
    output_activation: str
    outputs: int
    dropout: float = 0.0
    linear_stack: bool = False
    smallest_width: int | None = None
    usual_width: int | None = None
    before_output: str = "none"

    def has(self, *kinds: str) -> bool:
        """Whether any layer is of one of these kinds."""
        return any(kind in kinds for kind in self.layer_kinds)

    @property
    def weighted_layers(self) -> int:
        """Number of layers that carry a weight matrix."""
        return sum(
            kind in {"linear", "conv", "recurrent", "embedding", "attention"}
            for kind in self.layer_kinds
        )


@dataclass(frozen=True)
class DataShape:
    """What the dataset shows.

    Attributes:
        rows: rows by split: train, decide, final.
        class_counts: training rows a class.
        held_out_given: whether the dataset came with a held-out split.
        layout: where channels stand, None where that is known from the kind.
    """

    kind: Kind
    sample_shape: tuple[int, ...]
    dtype: str
    rows: dict[str, int]
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    feature_names: tuple[str, ...] = ()
    held_out_given: bool = True
    layout: str | None = None

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def lent(self) -> int:
        """Held-out rows that a training may borrow."""
        train = self.rows["train"]
        return round(lent_share(train, self.rows.get("decide", 0)) * train)

    @property
    def imbalance(self) -> float:
        """Largest class over smallest, of those present in training."""
        present = [count for count in self.class_counts if count > 0]
        return max(present) / min(present)


@dataclass(frozen=True)
class Subject:
    """Network, data, recipe and head under audit, and what was asked for.

    Attributes:
        labels: int64, (rows,), of the splits `decide` and `final`, and of `train` where
            its rows may decide as well, left out in turn.
        wanted: the causes to judge.
        budget_seconds: what the audit may take.
        budget: its name, `quick`, `standard`, `thorough` or `seconds`.
        untrainable: why no training can move the network; None where it can.
    """

    network: NetworkShape
    data: DataShape
    given: Recipe
    recipe: CompleteRecipe
    assumed: dict[str, JsonValue]
    head_kind: Literal["logits", "log_probabilities", "probabilities", "scores"]
    fitting_loss: str
    labels: dict[str, npt.NDArray[np.int64]]
    wanted: frozenset[Cause]
    seed: int
    budget: str
    budget_seconds: float
    spec: DatasetSpec = DatasetSpec()
    notes: tuple[str, ...] = ()
    facts: dict[str, JsonValue] = field(default_factory=dict)
    untrainable: str | None = None

    @property
    def steps_an_epoch(self) -> int:
        """Optimiser steps in one epoch."""
        return -(-self.data.rows["train"] // self.recipe.batch_size)

    @property
    def updates(self) -> int:
        """Optimiser steps of the whole recipe."""
        return self.steps_an_epoch * self.recipe.epochs

    def was_given(self, field_name: str) -> bool:
        """Whether a dotted recipe field came from the caller."""
        return field_name not in self.assumed
