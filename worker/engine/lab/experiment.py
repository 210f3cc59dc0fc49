"""Experiments and what comes out of them, as frozen values that cross processes.

An experiment is hashable by content: `digest()` is the key under which its outcome
is stored, so nothing is trained twice.
"""

import base64
import binascii
import hashlib
import json
import zlib
from collections.abc import Iterable, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def pack_mask(flags: "Sequence[bool] | npt.NDArray[np.bool_]") -> str:
    """Pack one flag a row into text: base64 of zlib of the bits, first row first."""
    import numpy as np  # noqa: PLC0415 - the worker's parent reads outcomes without it

    bits = np.packbits(np.asarray(flags, dtype=np.bool_))
    return base64.b64encode(zlib.compress(bits.tobytes(), 6)).decode()


def unpack_flags(text: str, count: int) -> "npt.NDArray[np.bool_]":
    """Undo `pack_mask` for `count` rows.

    Returns:
        bool, (count,).

    Raises:
        ValueError: the text does not hold that many flags.
    """
    import numpy as np  # noqa: PLC0415 - as above

    size = (count + 7) // 8
    try:
        raw = zlib.decompressobj().decompress(base64.b64decode(text), size + 1)
    except (zlib.error, binascii.Error) as error:
        raise ValueError("the flags are not packed as they should be") from error
    if len(raw) != size:
        raise ValueError(f"expected {size} bytes of flags, got {len(raw)}")
    return np.unpackbits(np.frombuffer(raw, np.uint8), count=count).astype(np.bool_)


def unpack_mask(text: str, count: int) -> list[bool]:
    """As `unpack_flags`, as a list."""
    return [bool(flag) for flag in unpack_flags(text, count)]


class RecipeChange(_Value):
    """Train by another recipe: a JSON merge patch (RFC 7396) on the complete recipe."""

    kind: Literal["recipe"] = "recipe"
    patch: dict[str, Any]


class DataChange(_Value):
    """Train on other data.

    - `subset`: the first `share` of a stratified order of the training rows, the same
      order for all shares of a seed, so that subsets are nested.
    - `drop`: training rows flagged in `mask` are left out.
    - `relabel`: training rows flagged in `mask` get `labels` (in row order).
    - `repair_inputs`: non-finite and sentinel values become the training median of
      their feature; values beyond `limit` robust deviations are clipped. Applied to
      training and held-out data alike, with figures of the training data.
    - `estimate_inputs`: all of these become what the other values of their sample let
      expect, under a Gaussian fitted to the training inputs.
    - `lend`: held-out rows that decide are trained on as well, by turns (see
      `splits.lent_rows`); a seed is scored on those alone that it did not borrow.
    - `permute_features`: one random order of the features (pixels, time steps) for
      training and held-out data alike.
    - `permute_labels`: training labels in random order.
    - `augment`: small random shifts of pictures, or noise on tables.
    - `transform`: a named transformation of the inputs (see `probes/transforms.py`),
      applied to training and held-out data alike.
    - `shown`: the same, but only to what the trained network is scored on.
    """

    kind: Literal["data"] = "data"
    name: Literal[
        "subset",
        "drop",
        "relabel",
        "repair_inputs",
        "estimate_inputs",
        "lend",
        "permute_features",
        "permute_labels",
        "augment",
        "transform",
        "shown",
    ]
    share: float | None = None
    mask: str | None = None
    labels: tuple[int, ...] | None = None
    limit: float | None = None
    transform: str | None = None


class NetworkChange(_Value):
    """Train another network.

    - `activation`: every hidden activation becomes `to`; where consecutive weighted
      layers have none between them, `to` is put there.
    - `output`: the activations after the last weighted layer are removed, so that the
      network returns its raw scores; with `to` = `last` all but the last of them.
    - `width`: hidden channels times `factor`, and no fewer than `least` (1) a layer.
    - `depth`: `factor` 2 repeats each square hidden layer; 0.5 drops every other.
    - `dropout`: existing dropout gets probability `p`; where there is none and p > 0 it
      is put after each hidden activation. p = 0 removes it.
    - `initialization`: `to` is `default` (what torch does), `he`, `glorot` or
      `delivered` (start from the delivered weights).
    - `batch_first`: recurrent layers that take the first axis for time take the second.
    - `reference`: a fresh network of family `to` (`linear`, `dense`, `conv`,
      `recurrent`, `codes`) with about the same number of parameters, and no fewer than
      `least` units a layer; of `codes`, those of each column are counted in `codes`, 0
      being a quantity.
    - `as_delivered`: the delivered weights are scored as they are; nothing is trained.
    - `reorder`: output i becomes the one that stands in `order` at i.
    - `head`: a fresh last layer that returns one raw score a class, where the delivered
      one has another form (one output for two classes, say).
    """

    kind: Literal["network"] = "network"
    name: Literal[
        "activation",
        "output",
        "width",
        "depth",
        "dropout",
        "initialization",
        "batch_first",
        "reference",
        "head",
        "as_delivered",
        "reorder",
    ]
    to: str | None = None
    order: tuple[int, ...] | None = None
    codes: tuple[int, ...] | None = None
    factor: float | None = None
    least: int | None = None
    p: float | None = None


Change = Annotated[
    RecipeChange | DataChange | NetworkChange, Field(discriminator="kind")
]


class Arm(_Value):
    """The subject with zero or more changes, applied in order."""

    name: str
    changes: tuple[Change, ...] = ()


class Training(_Value):
    """Arms trained from paired seeds and scored on held-out data.

    The same seed in two arms means the same initial weights where shapes allow, the
    same order of batches and the same dropout masks.
    """

    kind: Literal["training"] = "training"
    round: str
    question: str
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    rows: int | None = Field(
        default=None, description="Train on a stratified subsample of this many rows."
    )
    split: Literal["decide", "final"] = "decide"
    folds: int | None = Field(
        default=None,
        description="Each seed leaves out one of so many parts of the training rows, "
        "in turn, and is scored on it too.",
    )
    max_seconds: float | None = Field(
        default=None, description="Stop training, at the next check, after this time."
    )
    keep: str | None = Field(
        default=None,
        description="Name of the arm whose best member is written as TorchScript.",
    )

    def digest(self) -> str:
        """SHA-256 of what decides the outcome; wording and deadlines do not."""
        return _digest(self, leave_out={"question", "round", "max_seconds"})


class Measurement(_Value):
    """Something measured without stacked training; `name` is a probe."""

    kind: Literal["measurement"] = "measurement"
    round: str = "inspect"
    question: str
    name: str
    settings: dict[str, JsonValue] = {}

    def digest(self) -> str:
        """SHA-256 of what decides the outcome."""
        return _digest(self, leave_out={"question", "round"})


Experiment = Annotated[Training | Measurement, Field(discriminator="kind")]


def _digest(value: BaseModel, *, leave_out: set[str]) -> str:
    text = json.dumps(value.model_dump(mode="json", exclude=leave_out), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Curve(_Value):
    """What was seen along a training; all lists have one length."""

    epoch: tuple[float, ...] = ()
    train_loss: tuple[float | None, ...] = ()
    train_accuracy: tuple[float | None, ...] = ()
    eval_loss: tuple[float | None, ...] = ()
    eval_balanced_accuracy: tuple[float | None, ...] = ()


UNTOUCHED = "untouched "  # before the name of a layer, in the name of a sign


class TrialOutcome(_Value):
    """One arm trained from one seed."""

    seed: int
    correct: str = Field(description="`pack_mask` of the scored rows hit.")
    spared: str | None = Field(
        default=None,
        description="`pack_mask` of the hits among the training rows left out.",
    )
    accuracy: float
    balanced_accuracy: float
    log_loss: float | None = Field(description="nats, held-out, by the head.")
    train_accuracy: float
    train_balanced_accuracy: float
    train_loss: float | None = Field(description="The recipe's loss; None: not finite.")
    diverged: bool = False
    curve: Curve = Curve()
    signs: dict[str, float | None] = Field(
        default={},
        description="What the training showed: `first_loss`, `oscillation`, "
        "`gradient_ratio` (first layer's gradient norm over the last's), `dead_share`, "
        "`saturated_share`, `update_ratio`, `size_distance` (see `lab/signs.py`); "
        "`untouched NAME`: 1 for layers that look as before the training, told of the "
        "first seed of an arm without changes; "
        "`settled_after`: epochs after which a training longer than the recipe's had "
        "nothing left to learn and was ended; None where it was not.",
    )


class ArmOutcome(_Value):
    """All trials of an arm, in the order of the experiment's seeds."""

    name: str
    trials: tuple[TrialOutcome, ...] = ()
    parameters: int = 0
    failure: str | None = Field(
        default=None,
        description="Why the arm could not be trained, e.g. no such layer.",
    )
    unforeseen: bool = Field(
        default=False,
        description="Whether the network failed, rather than lack what is changed.",
    )


class TrainingOutcome(_Value):
    """What came out of a `Training`."""

    kind: Literal["training"] = "training"
    arms: tuple[ArmOutcome, ...]
    seconds: float
    member_steps: int = Field(description="Optimiser steps, summed over members.")
    rows: int = Field(description="Training rows used.")
    notes: tuple[str, ...] = ()
    file: str | None = Field(
        default=None, description="Name, in the scratch folder, of the kept model."
    )
    kept_seed: int | None = None
    kept_level: float | None = Field(
        default=None, description="Its balanced accuracy on the rows that decide."
    )

    @property
    def was_run(self) -> bool:
        """Whether it was trained at all, and not left out by a cancelled audit."""
        return self.rows > 0


def borrows(changes: Iterable[Change]) -> bool:
    """Whether what is so changed is trained on held-out rows as well."""
    return any(
        isinstance(change, DataChange) and change.name == "lend" for change in changes
    )


def _finite(value: JsonValue) -> JsonValue:
    """Put none in the place of NaN and infinity, which JSON has no word for."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not isfinite(value) else value


class MeasurementOutcome(_Value):
    """What came out of a `Measurement`."""

    kind: Literal["measurement"] = "measurement"
    values: Annotated[dict[str, JsonValue], AfterValidator(_finite)] = Field(
        description="Figures by name; none where one is not finite."
    )
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


Outcome = Annotated[TrainingOutcome | MeasurementOutcome, Field(discriminator="kind")]
