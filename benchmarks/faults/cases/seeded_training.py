"""Faults of the recipe, planted at several strengths."""

from dataclasses import replace
from typing import Any

from benchmarks.faults.cases import bases
from benchmarks.faults.cases.bases import planted
from benchmarks.faults.program import Case, Sketch
from service.contract.causes import Cause

_SLOW = (
    Cause.LEARNING_RATE_TOO_LOW,
    Cause.INSUFFICIENT_TRAINING,
    Cause.UNSUITABLE_OPTIMIZER,
)
Planned = tuple[Sketch, dict[str, Any], str]


def _cases(
    cause: Cause, equivalents: tuple[Cause, ...], planned: tuple[Planned, ...]
) -> list[Case]:
    return [
        planted(
            f"{sound.data.split('(')[0]}_{name}",
            cause,
            replace(sound, **fault),
            sound,
            tuple(other for other in equivalents if other is not cause),
        )
        for sound, fault, name in planned
    ]


_SGD_SATIMAGE = replace(bases.SATIMAGE, optimizer="sgd", lr=0.05, momentum=0.9)
_SGD_PENBASED = replace(bases.PENBASED, optimizer="sgd", lr=0.05, momentum=0.9)


def _too_high() -> list[Case]:
    return _cases(
        Cause.LEARNING_RATE_TOO_HIGH,
        (Cause.UNSUITABLE_OPTIMIZER,),
        (
            (bases.DIGIT_TABLE, {"lr": 1.0}, "adam_1"),
            (bases.SATIMAGE, {"lr": 0.5}, "adam_half"),
            (_SGD_SATIMAGE, {"lr": 3.0}, "sgd_3"),
            (bases.DIGITS_CONV, {"lr": 0.1}, "conv_adam_tenth"),
            (bases.LETTER, {"lr": 0.1}, "adam_tenth"),
            (bases.VEHICLE, {"lr": 1.0}, "adam_1"),
            (_SGD_PENBASED, {"lr": 5.0}, "sgd_5"),
            (bases.FASHION_CONV, {"lr": 0.1, "norm": "none"}, "conv_adam_tenth"),
            (bases.DIGIT_ROWS, {"lr": 1.0}, "gru_adam_1"),
            (bases.SPLICE, {"lr": 1.0}, "tokens_adam_1"),
        ),
    )


def _too_low() -> list[Case]:
    return _cases(
        Cause.LEARNING_RATE_TOO_LOW,
        _SLOW,
        (
            (bases.DIGIT_TABLE, {"lr": 1e-5}, "adam"),
            (_SGD_SATIMAGE, {"lr": 3e-5}, "sgd"),
            (bases.VOWEL, {"lr": 3e-5}, "adam"),
            (bases.DIGITS_CONV, {"lr": 2e-5, "norm": "batch"}, "conv_norm"),
            (bases.LETTER, {"lr": 3e-5}, "adam"),
            (_SGD_PENBASED, {"lr": 1e-4}, "sgd"),
            (bases.TEXTURE, {"lr": 2e-5, "traced": True}, "traced"),
            (bases.FASHION_CONV, {"lr": 1e-5}, "conv"),
            (bases.DIGIT_ROWS, {"lr": 5e-5}, "gru"),
            (bases.SPLICE, {"lr": 5e-5}, "tokens"),
        ),
    )


def _too_short() -> list[Case]:
    return _cases(
        Cause.INSUFFICIENT_TRAINING,
        _SLOW,
        (
            (replace(bases.DIGIT_TABLE, lr=1e-3), {"epochs": 1}, "1"),
            (replace(bases.VOWEL, lr=1e-3), {"epochs": 4}, "4"),
            (replace(bases.SEGMENT, lr=1e-3), {"epochs": 2}, "2"),
            (replace(bases.LETTER, lr=1e-3), {"epochs": 2}, "2"),
            (replace(bases.PENBASED, lr=1e-3), {"epochs": 1}, "1"),
            (replace(bases.VEHICLE, lr=1e-3, epochs=150), {"epochs": 6}, "6"),
            (replace(bases.DIGITS_CONV, lr=1e-3), {"epochs": 1}, "conv_1"),
            (bases.FASHION_CONV, {"epochs": 1}, "conv_1"),
            (replace(bases.DIGIT_ROWS, lr=2e-3, epochs=30), {"epochs": 3}, "gru_3"),
        ),
    )


def _loss() -> list[Case]:
    return _cases(
        Cause.UNSUITABLE_LOSS,
        (Cause.UNSUITABLE_ACTIVATION, *_SLOW),
        (
            (
                replace(bases.VOWEL, epochs=30),
                {"output": "softmax"},
                "softmax_twice",
            ),
            (
                replace(bases.LETTER, epochs=10),
                {"output": "softmax"},
                "softmax_twice",
            ),
            (
                replace(bases.DIGITS_CONV, optimizer="sgd", lr=0.05),
                {"output": "softmax"},
                "conv_softmax_twice",
            ),
            (bases.LETTER, {"loss": "mae"}, "mae"),
            (bases.SATIMAGE, {"loss": "nll"}, "nll_on_scores"),
            (bases.VOWEL, {"loss": "mae"}, "mae"),
            (
                replace(bases.LETTER, optimizer="sgd", lr=0.1, momentum=0.9),
                {"loss": "mse", "output": "softmax"},
                "mse_on_softmax",
            ),
            (bases.TEXTURE, {"loss": "nll"}, "nll_on_scores"),
            (bases.FASHION_CONV, {"output": "softmax", "lr": 0.01}, "softmax_twice"),
            (bases.PENBASED, {"loss": "mae", "output": "softmax"}, "mae_on_softmax"),
        ),
    )


def _optimizer() -> list[Case]:
    return _cases(
        Cause.UNSUITABLE_OPTIMIZER,
        _SLOW,
        (
            (bases.VOWEL, {"optimizer": "sgd", "lr": 1e-3}, "sgd"),
            (bases.DIGIT_TABLE, {"optimizer": "adadelta", "lr": 1e-3}, "adadelta"),
            (bases.SATIMAGE, {"eps": 100.0}, "eps"),
            (bases.DIGIT_TABLE, {"eps": 100.0}, "eps"),
            (bases.SEGMENT, {"batch": 1155, "epochs": 20}, "full_batch"),
            (bases.LETTER, {"optimizer": "adagrad", "lr": 1e-3}, "adagrad"),
            (bases.PENBASED, {"optimizer": "sgd", "lr": 1e-3}, "sgd"),
            (bases.TEXTURE, {"batch": 1200, "epochs": 15}, "full_batch"),
            (bases.FASHION_CONV, {"optimizer": "sgd", "lr": 1e-3}, "conv_sgd"),
            (bases.DIGIT_ROWS, {"optimizer": "sgd", "lr": 5e-3}, "gru_sgd"),
            (bases.SPLICE, {"optimizer": "adadelta", "lr": 1e-2}, "tokens"),
        ),
    )


def _too_loose() -> list[Case]:
    few = (
        (Sketch(data="spambase", rows=120, widths=(256, 256), epochs=150), "rows"),
        (Sketch(data="splice", family="tokens", rows=300, widths=(16, 128), epochs=60),
         "tokens"),
        (Sketch(data="twonorm", rows=50, widths=(128, 128), epochs=200), "rows"),
        (Sketch(data="magic", rows=200, widths=(256, 256), epochs=150), "rows"),
        (Sketch(data="fashion", family="conv", rows=100, widths=(16, 32, 256),
                epochs=80), "conv"),
        (Sketch(data="digit_rows", family="lstm", rows=100, widths=(96,), epochs=100),
         "lstm"),
        (Sketch(data="digit_tokens", family="tokens", rows=150, widths=(16, 128),
                epochs=60), "tokens"),
        (Sketch(data="breast_cancer", rows=80, widths=(256, 256), epochs=150,
                spoils=(("label_noise", 0.1),)), "noisy"),
        (Sketch(data="bag_of_words(400)", rows=400, scale="none", widths=(256,),
                epochs=60), "words"),
    )  # fmt: skip
    return [
        planted(
            f"{sketch.data.split('(')[0]}_{name}",
            Cause.INSUFFICIENT_REGULARIZATION,
            sketch,
            (
                replace(sketch, optimizer="adamw", weight_decay=1.0),
                replace(sketch, weight_decay=3e-2),
                replace(sketch, dropout=0.6),
                replace(sketch, dropout=0.6, weight_decay=1e-2),
                replace(sketch, epochs=max(2, sketch.epochs // 20)),
            ),
            (Cause.EXCESS_CAPACITY, Cause.INSUFFICIENT_DATA, Cause.LABEL_NOISE),
        )
        for sketch, name in few
    ]


def _too_tight() -> list[Case]:
    return _cases(
        Cause.EXCESS_REGULARIZATION,
        (Cause.INSUFFICIENT_CAPACITY, Cause.INSUFFICIENT_TRAINING),
        (
            (bases.DIGIT_TABLE, {"dropout": 0.95}, "dropout"),
            (bases.SATIMAGE, {"weight_decay": 0.3}, "decay"),
            (bases.VOWEL, {"dropout": 0.8}, "dropout"),
            (bases.VOWEL, {"weight_decay": 0.1}, "decay"),
            (bases.LETTER, {"dropout": 0.85}, "dropout"),
            (bases.PENBASED, {"weight_decay": 0.5}, "decay"),
            (bases.VEHICLE, {"weight_decay": 0.2}, "decay"),
            (bases.DIGITS_CONV, {"dropout": 0.97}, "conv_dropout"),
            (bases.FASHION_CONV, {"weight_decay": 0.2}, "conv_decay"),
            (
                replace(bases.TEXTURE, optimizer="adamw", weight_decay=1e-2),
                {"weight_decay": 100.0},
                "adamw_decay",
            ),
        ),
    )


def training_cases() -> list[Case]:
    """List the cases of this group."""
    return [
        *_too_high(),
        *_too_low(),
        *_too_short(),
        *_loss(),
        *_optimizer(),
        *_too_loose(),
        *_too_tight(),
    ]
