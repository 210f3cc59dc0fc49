"""Two faults that only mending both mends: each alone leaves the program bad.

The kind of StackOverflow 48385830, where the best single change reaches .629 and the
right pair .96. `--verify` trains every single mend, and other values of what is wrong,
and keeps a case where none of them recovers half of what the pair does.
"""

from dataclasses import replace
from typing import Any

from benchmarks.faults.cases import bases
from benchmarks.faults.cases.bases import half_of_data
from benchmarks.faults.program import Case, Sketch
from service.contract.causes import Cause

Fault = tuple[Cause, dict[str, Any]]
HIGH = 0.02  # learning rate above which only lower ones are tried

_DEEP = (48,) * 6
_SCORES = {
    "bce": "bce_with_logits",  # the loss for an output without its activation
}

_SOFTMAX_OF_ONE: Fault = (
    Cause.UNSUITABLE_ACTIVATION,
    {"output": "softmax", "loss": "bce"},
)
_LINEAR: Fault = (Cause.UNSUITABLE_ACTIVATION, {"activation": "none"})
_SIGMOID: Fault = (Cause.UNSUITABLE_ACTIVATION, {"activation": "sigmoid"})


def _fast(lr: float) -> Fault:
    return Cause.LEARNING_RATE_TOO_HIGH, {"lr": lr}


def _slow(lr: float) -> Fault:
    return Cause.LEARNING_RATE_TOO_LOW, {"lr": lr}


def _narrow(*widths: int) -> Fault:
    return Cause.INSUFFICIENT_CAPACITY, {"widths": widths}


def _decay(strength: float) -> Fault:
    return Cause.EXCESS_REGULARIZATION, {"weight_decay": strength}


def _one_score(sound: Sketch, **changes: Any) -> Sketch:  # noqa: ANN401
    return replace(sound, single_output=True, loss="bce_with_logits", **changes)


_EQUIVALENTS: dict[Cause, tuple[Cause, ...]] = {
    Cause.UNSUITABLE_ACTIVATION: (Cause.UNSUITABLE_LOSS,),
    Cause.LEARNING_RATE_TOO_HIGH: (Cause.UNSUITABLE_OPTIMIZER,),
    Cause.LEARNING_RATE_TOO_LOW: (
        Cause.INSUFFICIENT_TRAINING,
        Cause.UNSUITABLE_OPTIMIZER,
    ),
    Cause.INSUFFICIENT_CAPACITY: (Cause.UNSUITABLE_LAYERS,),
    Cause.EXCESS_REGULARIZATION: (),
}


def _singles(sound: Sketch, first: Fault, second: Fault) -> tuple[Sketch, ...]:
    """Mend one thing: each fault, another rate, or more epochs."""
    faulty = replace(sound, **first[1], **second[1])
    steps = (1e-1, 1e-2, 1e-3) if faulty.lr > HIGH else (10.0, 100.0, 1000.0)
    singles = [
        replace(sound, **second[1]),
        replace(sound, **first[1]),
        *(replace(faulty, lr=faulty.lr * step) for step in steps),
        replace(faulty, epochs=faulty.epochs * 4),
        replace(faulty, output="none", loss=_SCORES.get(faulty.loss, faulty.loss)),
        replace(faulty, activation="relu"),
    ]
    return tuple(dict.fromkeys(s for s in singles if s != faulty))


def pair_cases() -> list[Case]:
    """List the cases of this group."""
    classes_of_two = Sketch(data="mc(1000,20)", widths=(64, 64), epochs=25)
    planned: tuple[tuple[Sketch, Fault, Fault, str], ...] = (
        (_one_score(classes_of_two), _SOFTMAX_OF_ONE, _fast(1.0), "softmax_fast"),
        (
            _one_score(bases.SPAMBASE, widths=(64, 64)),
            _SOFTMAX_OF_ONE,
            _fast(3.0),
            "softmax_fast",
        ),
        (bases.VOWEL, _LINEAR, _slow(5e-5), "linear_slow"),
        (bases.VOWEL, _LINEAR, _decay(0.1), "linear_decay"),
        (bases.VOWEL, _narrow(3, 3), _slow(5e-5), "narrow_slow"),
        (
            replace(bases.DIGIT_TABLE, epochs=20, widths=_DEEP),
            _SIGMOID,
            _slow(1e-5),
            "sigmoid_slow",
        ),
        (_one_score(bases.RING), _SOFTMAX_OF_ONE, _fast(1.0), "softmax_fast"),
        (
            _one_score(bases.PHONEME, epochs=25),
            _SOFTMAX_OF_ONE,
            _fast(1.0),
            "softmax_fast",
        ),
        (bases.RING, _LINEAR, _slow(1e-5), "linear_slow"),
        (replace(bases.LETTER, epochs=12), _narrow(4), _decay(0.05), "narrow_decay"),
        (replace(bases.PENBASED, epochs=20), _narrow(2), _decay(0.3), "narrow_decay"),
    )
    return [
        Case(
            name=f"seeded/interaction/{sound.data.split('(')[0]}_{name}",
            suite="seeded",
            half=half_of_data(sound.data),
            sketch=replace(sound, **first[1], **second[1]),
            mended=(sound,),
            causes=(first[0], second[0]),
            equivalents=tuple(
                other
                for cause in (first[0], second[0])
                for other in _EQUIVALENTS[cause]
            ),
            singles=_singles(sound, first, second),
        )
        for sound, first, second, name in planned
    ]
