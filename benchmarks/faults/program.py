"""A program under audit, as a value: data, network, recipe, and what was done to it.

A `Sketch` says everything; `assemble.py` turns it into arrays, a network and a trained
model. A faulty program and its mended twin are two sketches that differ in one field.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Literal

from service.contract.causes import Cause

Half = Literal["tuning", "held_out", "fresh"]
Suite = Literal["open", "seeded", "controls", "drawn"]
Family = Literal["dense", "conv", "series_conv", "gru", "lstm", "tokens"]
Initialization = Literal["torch", "keras", "he"]
Spoil = tuple[str, float]

# Raise this when training or assembling changes, so that stale figures are not reused.
REVISION = 1


@dataclass(frozen=True)
class Sketch:
    """Everything that decides a program.

    Attributes:
        data: name of a set in `real_sets.py` or a generator in `synthetic_sets.py`.
        rows: training rows at most; the rest of the set is left out.
        scale: how inputs are prepared before the network sees them.
        spoils: what was done to the data before training, in order (`data_spoils.py`).
        delivery: what was done to the data after training.
        weights: what was done to the trained weights (`weight_spoils.py`).
        family: kind of network.
        widths: hidden widths (channels for convolutions).
        activation: after each hidden layer.
        output: activation of the last layer.
        single_output: one output for two classes.
        dropout: probability after each hidden activation; negative: active for ever.
        norm: batch normalisation; `frozen_off` uses the batch's statistics for ever.
        initialization: torch's defaults, Keras's Glorot uniform, or He normal.
        alpha: of RMSprop, torch's default; Keras's .9 stands in no recipe.
        traced: traced instead of scripted.
        referee_loss: a loss that the recipe cannot express, used for training here.
        withheld: recipe fields that are not told to the audit.
    """

    data: str
    rows: int = 1200
    scale: Literal["standard", "none", "unit", "byte"] = "standard"
    spoils: tuple[Spoil, ...] = ()
    delivery: tuple[Spoil, ...] = ()
    weights: tuple[Spoil, ...] = ()
    family: Family = "dense"
    widths: tuple[int, ...] = (64,)
    activation: str = "relu"
    output: str = "none"
    single_output: bool = False
    dropout: float = 0.0
    norm: Literal["none", "batch", "frozen_off"] = "none"
    initialization: Initialization = "torch"
    traced: bool = False
    optimizer: str = "adam"
    lr: float = 3e-3
    momentum: float | None = None
    weight_decay: float = 0.0
    eps: float | None = None
    alpha: float = field(default=0.99, repr=False)
    loss: str = "cross_entropy"
    label_smoothing: float = 0.0
    referee_loss: str | None = None
    epochs: int = 40
    batch: int = 32
    sampler: str = "shuffle"
    normalization: str = "none"
    withheld: tuple[str, ...] = ()

    def digest(self) -> str:
        """Name of the sketch's measured figures on disk."""
        text = f"{REVISION}{self!r}"
        if self.optimizer == "rmsprop":
            text += f"/{self.alpha}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Case:
    """A program with what is true of it.

    Attributes:
        name: unique, `suite/…`.
        sketch: the program as delivered.
        mended: programs with the fault mended; the best of them is the best known
            gain. Empty where nothing can be mended, and for controls.
        causes: the faults planted; empty on a healthy program.
        equivalents: causes whose mending is accepted in their place.
        criterion: what keeps a fault in the scored set: `gain` (mending gains on
            hidden data), `inflation` (the delivered score is too high) or `given`
            (true by construction, nothing can be mended).
        singles: where two faults interact, programs with one thing mended; none of
            them recovers much.
        lacking: of programs drawn by chance, those with all mended but one fault.
    """

    name: str
    suite: Suite
    half: Half
    sketch: Sketch
    mended: tuple[Sketch, ...] = ()
    causes: tuple[Cause, ...] = ()
    equivalents: tuple[Cause, ...] = ()
    criterion: Literal["gain", "inflation", "given"] = "gain"
    singles: tuple[Sketch, ...] = ()
    lacking: tuple[tuple[Cause, Sketch], ...] = ()
    source: str = field(default="", compare=False)

    @property
    def is_healthy(self) -> bool:
        """Whether nothing was planted."""
        return not self.causes
