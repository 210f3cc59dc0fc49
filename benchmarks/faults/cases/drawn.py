"""Programs drawn by chance: sound ones, and ones with one to three faults at once.

The listed cases are known to whoever works on the engine; these can be drawn anew, as
many as wanted, from a number that nobody has looked at. `--verify` says which of the
planted faults matter (`needed`): mending all others without it loses five points.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from benchmarks.faults.cases.bases import half_of_data
from benchmarks.faults.fresh_sets import FRESH_TABLES
from benchmarks.faults.program import Case, Family, Initialization, Sketch
from service.contract.causes import Cause

Random = np.random.Generator

_SOUND_SHARE = 0.25
_MOST_FAULTS = 3
_TRIES = 30
_UPDATES = (800, 2500)  # optimiser steps of a sound program
_TWO_CLASSES = frozenset(
    {"spambase", "twonorm", "sonar", "german", "page_blocks", "breast_cancer", "pima"}
    | {"ionosphere", "phoneme", "magic", "ring", "adult", "circles(800,1)"}
    | {"mc(1000,8)", "mc(1500,30)", "chess", "mushroom", "mammographic", "australian"}
    | {"heart", "wdbc", "wisconsin", "banana", "saheart", "tic_tac_toe", "crx"}
    | {"titanic", "monk_2", "car_vgood", "winequality_red_4", "abalone9_18"}
)
_DENSE = (
    *("digit_table", "wine", "satimage", "spambase", "segment", "vowel", "sonar"),
    *("twonorm", "page_blocks", "german", "breast_cancer", "iris", "letter"),
    *("penbased", "pima", "ionosphere", "vehicle", "phoneme", "texture", "magic"),
    *("ring", "adult", "blobs(600,1)", "circles(800,1)", "mc(1000,8)"),
    *("mc(1500,30)", "mc(1500,20,5)", "digits", "fashion"),
)
_OTHERS: tuple[tuple[str, Family], ...] = (
    ("digits", "conv"),
    ("fashion", "conv"),
    ("digit_rows", "gru"),
    ("digit_rows", "lstm"),
    ("motifs(1200)", "series_conv"),
    ("digit_tokens", "tokens"),
    ("splice", "tokens"),
)
_FRESH_OTHERS: tuple[tuple[str, Family], ...] = (
    ("optdigit_pictures", "conv"),
    ("pen_digits_14", "conv"),
    ("pen_digits_28", "conv"),
    ("power_demand", "gru"),
    ("power_demand", "series_conv"),
    ("spoken_vowels", "gru"),
    ("spoken_vowels", "series_conv"),
    ("leaves", "lstm"),
    ("leaves", "series_conv"),
)
_SLOW = (
    Cause.LEARNING_RATE_TOO_LOW,
    Cause.INSUFFICIENT_TRAINING,
    Cause.UNSUITABLE_OPTIMIZER,
)
_HEAD = (Cause.UNSUITABLE_ACTIVATION, Cause.UNSUITABLE_LOSS)


@dataclass(frozen=True)
class Fault:
    """A fault as drawn.

    Attributes:
        cause: its name.
        equivalents: causes whose mending is accepted in its place.
        changes: fields of the sketch that it alters.
        mend: fields that mending it alters, where leaving `changes` out is not enough.
        spoils: what it does to the data before training.
        left: what stays done to the data once it is mended.
        delivery: what it does to the data after training.
        weights: what it does to the trained weights.
    """

    cause: Cause
    equivalents: tuple[Cause, ...] = ()
    changes: dict[str, Any] = field(default_factory=dict)
    mend: dict[str, Any] = field(default_factory=dict)
    spoils: tuple[tuple[str, float], ...] = ()
    left: tuple[tuple[str, float], ...] = ()
    delivery: tuple[tuple[str, float], ...] = ()
    weights: tuple[tuple[str, float], ...] = ()

    def clashes_with(self, other: "Fault") -> bool:
        """Whether both cannot be planted at once."""
        return (
            self.cause is other.cause
            or bool(set(self.changes) & set(other.changes))
            or bool(self.spoils and other.spoils)
            or (self.is_of_delivery and other.is_of_delivery)
        )

    @property
    def is_of_delivery(self) -> bool:
        """Whether the training is sound and what is delivered is not."""
        return bool(self.delivery or self.weights)


def _chance(rng: Random, probability: float) -> bool:
    return bool(rng.random() < probability)


def _between(rng: Random, low: float, high: float) -> float:
    """Draw evenly on a logarithmic scale; two digits are enough."""
    return float(f"{np.exp(rng.uniform(np.log(low), np.log(high))):.2g}")


def _fast(sound: Sketch, rng: Random) -> Fault:
    low, high = (2.0, 20.0) if sound.optimizer == "sgd" else (0.2, 2.0)
    rate = _between(rng, low, high)
    equivalents = (Cause.UNSUITABLE_OPTIMIZER,)
    return Fault(Cause.LEARNING_RATE_TOO_HIGH, equivalents, {"lr": rate})


def _slow(sound: Sketch, rng: Random) -> Fault:
    rate = sound.lr / _between(rng, 100, 3000)
    return Fault(Cause.LEARNING_RATE_TOO_LOW, _SLOW, {"lr": rate})


def _short(sound: Sketch, rng: Random) -> Fault:
    epochs = max(1, round(sound.epochs / _between(rng, 15, 60)))
    return Fault(Cause.INSUFFICIENT_TRAINING, _SLOW, {"epochs": epochs})


def _optimizer(_sound: Sketch, rng: Random) -> Fault:
    name, rate = [("sgd", 1e-3), ("adadelta", 1e-3), ("adagrad", 1e-3)][rng.integers(3)]
    changes = {"optimizer": name, "lr": rate, "momentum": None}
    return Fault(Cause.UNSUITABLE_OPTIMIZER, _SLOW, changes)


def _linear(_sound: Sketch, _rng: Random) -> Fault:
    others = (Cause.INSUFFICIENT_CAPACITY, Cause.UNSUITABLE_LAYERS)
    return Fault(Cause.UNSUITABLE_ACTIVATION, others, {"activation": "none"})


def _deep_sigmoid(sound: Sketch, rng: Random) -> Fault | None:
    if sound.family != "dense":
        return None
    widths = (sound.widths[0],) * int(rng.integers(4, 9))
    changes = {"activation": "sigmoid", "widths": widths, "norm": "none"}
    others = (Cause.UNSUITABLE_LAYERS, *_SLOW)
    return Fault(Cause.UNSUITABLE_ACTIVATION, others, changes)


def _head(sound: Sketch, rng: Random) -> Fault:
    if sound.single_output:
        output = ["softmax", "relu"][rng.integers(2)]
        changes = {"output": output, "loss": "bce"}
        return Fault(Cause.UNSUITABLE_ACTIVATION, _HEAD, changes)
    output = ["relu", "sigmoid", "tanh"][rng.integers(3)]
    return Fault(Cause.UNSUITABLE_ACTIVATION, _HEAD, {"output": output})


def _loss(sound: Sketch, rng: Random) -> Fault:
    options: list[dict[str, Any]] = [
        {"output": "softmax"},
        {"loss": "nll"},
        {"loss": "mae"},
        {"loss": "mae", "output": "softmax"},
    ]
    if sound.single_output:
        options = [{"output": "sigmoid"}, {"loss": "mae"}]
    changes = options[rng.integers(len(options))]
    return Fault(Cause.UNSUITABLE_LOSS, (*_HEAD, *_SLOW), changes)


def _tight(_sound: Sketch, rng: Random) -> Fault:
    changes: dict[str, Any] = {"dropout": round(float(rng.uniform(0.8, 0.95)), 2)}
    if _chance(rng, 0.5):
        changes = {"weight_decay": _between(rng, 0.05, 0.5)}
    others = (Cause.INSUFFICIENT_CAPACITY, Cause.INSUFFICIENT_TRAINING)
    return Fault(Cause.EXCESS_REGULARIZATION, others, changes)


def _narrow(sound: Sketch, rng: Random) -> Fault:
    first = 1 if sound.family == "tokens" else int(rng.integers(1, 4))
    widths = (first,) * len(sound.widths)
    others = (Cause.UNSUITABLE_LAYERS, Cause.UNSUITABLE_ACTIVATION)
    return Fault(Cause.INSUFFICIENT_CAPACITY, others, {"widths": widths})


def _scale(_sound: Sketch, rng: Random) -> Fault:
    spoils = [
        ("times", _between(rng, 50, 2000)),
        ("times", 1 / _between(rng, 200, 2000)),
        ("offset", _between(rng, 30, 300)),
        ("mixed_units", _between(rng, 1e3, 1e6)),
    ]
    others = (Cause.CORRUPTED_INPUTS, Cause.LEARNING_RATE_TOO_HIGH, *_SLOW)
    return Fault(
        Cause.UNSCALED_INPUTS, others, spoils=(spoils[rng.integers(len(spoils))],)
    )


def _noise(_sound: Sketch, rng: Random) -> Fault:
    kind = ["label_noise", "label_noise_everywhere", "label_flip_to_next"]
    spoils = ((kind[rng.integers(3)], round(float(rng.uniform(0.2, 0.4)), 2)),)
    others = (Cause.INSUFFICIENT_REGULARIZATION, Cause.EXCESS_CAPACITY)
    return Fault(Cause.LABEL_NOISE, others, spoils=spoils)


def _unequal(_sound: Sketch, rng: Random) -> Fault:
    spoils = (("imbalance", _between(rng, 25, 80)),)
    others = (Cause.INSUFFICIENT_DATA, Cause.INSUFFICIENT_REGULARIZATION)
    mend = {"sampler": "balanced"}
    return Fault(Cause.CLASS_IMBALANCE, others, mend=mend, spoils=spoils, left=spoils)


def _corrupted(_sound: Sketch, rng: Random) -> Fault:
    kind = ["sentinels", "missing", "outliers"][rng.integers(3)]
    spoils = ((kind, round(float(rng.uniform(0.05, 0.3)), 2)),)
    return Fault(
        Cause.CORRUPTED_INPUTS,
        (Cause.UNSCALED_INPUTS,),
        spoils=spoils,
        left=(*spoils, ("repaired_by_median", 0.0)),
    )


def _few(_sound: Sketch, rng: Random) -> Fault:
    changes = {"rows": int(rng.integers(40, 120))}
    # As many epochs of few rows are few updates.
    others = (Cause.INSUFFICIENT_REGULARIZATION, Cause.EXCESS_CAPACITY, *_SLOW)
    return Fault(Cause.INSUFFICIENT_DATA, others, changes)


def _order(_sound: Sketch, rng: Random) -> Fault:
    spoils = [("label_shift", 1.0), ("label_swap", 1.0)]
    return Fault(Cause.LABEL_ORDER_MISMATCH, delivery=(spoils[rng.integers(2)],))


def _preparation(_sound: Sketch, rng: Random) -> Fault:
    spoils = [
        ("times", _between(rng, 20, 300)),
        ("times", 1 / _between(rng, 20, 300)),
        ("offset", _between(rng, 3, 30)),
    ]
    return Fault(Cause.PREPROCESSING_MISMATCH, delivery=(spoils[rng.integers(3)],))


def _weights(_sound: Sketch, rng: Random) -> Fault:
    spoils = [("nan_entries", 0.2), ("zero_layer", 0.0), ("forgotten_head", 1.0)]
    return Fault(
        Cause.DEGENERATE_WEIGHTS,
        weights=(spoils[rng.integers(3)],),
    )


_FAULTS: tuple[Callable[[Sketch, Random], Fault | None], ...] = (
    *(_fast, _fast, _slow, _slow, _short, _short, _optimizer, _linear, _deep_sigmoid),
    *(_head, _head, _loss, _loss, _tight, _narrow, _scale, _scale, _noise, _unequal),
    *(_corrupted, _few, _order, _preparation, _weights),
)
_OF_NUMBERS = {_scale, _corrupted, _preparation}  # which token ids are not


def _training(sketch: Sketch, rng: Random) -> Sketch:
    """Draw a sound recipe and the small choices around it."""
    optimizer = ["adam", "adam", "adamw", "nadam", "rmsprop", "sgd"][rng.integers(6)]
    rate = [1e-3, 2e-3, 3e-3][rng.integers(3)]
    if sketch.family in {"gru", "lstm", "series_conv"}:
        optimizer, rate = "adam", 5e-3
    batch = [16, 32, 64][rng.integers(3)]
    updates = int(rng.integers(*_UPDATES))
    schemes: tuple[Initialization, ...] = ("torch", "torch", "keras", "he")
    activations = ["relu", "relu", "relu", "tanh", "gelu", "elu", "leaky_relu"]
    return replace(
        sketch,
        optimizer=optimizer,
        lr=0.05 if optimizer == "sgd" else rate,
        momentum=0.9 if optimizer == "sgd" else None,
        batch=batch,
        epochs=int(np.clip(updates * batch // sketch.rows, 8, 60)),
        activation=activations[rng.integers(len(activations))],
        initialization=schemes[rng.integers(len(schemes))],
        traced=_chance(rng, 0.2),
    )


def _sound(rng: Random, *, fresh: bool) -> Sketch:
    """Draw a program with nothing wrong, as far as one can tell without training."""
    tables, others = (FRESH_TABLES, _FRESH_OTHERS) if fresh else (_DENSE, _OTHERS)
    rows = int(rng.choice([300, 600, 1200, 2000]))
    if _chance(rng, 0.75):
        data = str(rng.choice(tables))
        depth, width = int(rng.integers(1, 4)), int(rng.choice([32, 48, 64, 128]))
        single = data in _TWO_CLASSES and _chance(rng, 0.5)
        sketch = Sketch(
            data=data,
            rows=rows,
            widths=(width,) * depth,
            norm="batch" if _chance(rng, 0.2) else "none",
            dropout=0.2 if _chance(rng, 0.2) else 0.0,
            single_output=single,
            loss="bce_with_logits" if single else "cross_entropy",
        )
        return _training(sketch, rng)
    data, family = others[rng.integers(len(others))]
    widths = {"conv": (16, 32, 64), "tokens": (8, 64)}.get(family, (48,))
    sketch = Sketch(data=data, family=family, rows=min(rows, 1200), widths=widths)
    return _training(sketch, rng)


def _planted(sound: Sketch, faults: list[Fault], mended: list[Fault]) -> Sketch:
    """Plant faults; of what can be mended nothing but the consequences is left."""
    changes: dict[str, Any] = {}
    spoils: list[tuple[str, float]] = []
    delivery: list[tuple[str, float]] = []
    weights: list[tuple[str, float]] = []
    for fault in faults:
        if fault in mended:
            spoils += fault.left
            changes |= fault.mend
            continue
        changes |= fault.changes
        spoils += fault.spoils
        delivery += fault.delivery
        weights += fault.weights
    return replace(
        sound,
        **changes,
        spoils=tuple(spoils),
        delivery=tuple(delivery),
        weights=tuple(weights),
    )


def _faults(sound: Sketch, rng: Random) -> list[Fault]:
    if _chance(rng, _SOUND_SHARE):
        return []
    wanted = int(rng.integers(1, _MOST_FAULTS + 1))
    faults: list[Fault] = []
    for _ in range(_TRIES):
        draw = _FAULTS[rng.integers(len(_FAULTS))]
        if sound.family == "tokens" and draw in _OF_NUMBERS:
            continue
        fault = draw(sound, rng)
        if fault is None or any(fault.clashes_with(other) for other in faults):
            continue
        faults.append(fault)
        if len(faults) == wanted:
            break
    return faults


def drawn_case(number: int, index: int, *, fresh: bool = False) -> Case:
    """Draw one program; the same for the same numbers.

    Args:
        number: of the draw.
        index: of the program within it.
        fresh: on the sets of `fresh_sets.py` instead of the others.
    """
    rng = np.random.default_rng([number, index])
    sound = _sound(rng, fresh=fresh)
    faults = _faults(sound, rng)
    causes = tuple(fault.cause for fault in faults)
    equivalents = {other for fault in faults for other in fault.equivalents}
    return Case(
        name=f"drawn/{'fresh-' if fresh else ''}{number}/{index:03d}",
        suite="drawn",
        half=half_of_data(sound.data),
        sketch=_planted(sound, faults, mended=[]),
        mended=(_planted(sound, faults, mended=faults),) if faults else (),
        causes=causes,
        equivalents=tuple(sorted(equivalents - set(causes))),
        lacking=tuple(
            (f.cause, _planted(sound, faults, mended=[o for o in faults if o != f]))
            for f in faults
        ),
    )


def drawn_cases(number: int, count: int, *, fresh: bool = False) -> list[Case]:
    """Draw programs."""
    return [drawn_case(number, index, fresh=fresh) for index in range(count)]
