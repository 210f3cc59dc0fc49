"""Faults of the architecture, planted at several strengths."""

from dataclasses import replace

from benchmarks.faults.cases import bases
from benchmarks.faults.cases.bases import planted
from benchmarks.faults.program import Case, Sketch
from service.contract.causes import Cause


def _capacity() -> list[Case]:
    narrow = (
        (bases.DIGIT_TABLE, (2,)),
        (bases.DIGIT_TABLE, (3, 3)),
        (bases.SEGMENT, (1,)),
        (bases.VOWEL, (3,)),
        (bases.LETTER, (4,)),
        (bases.PENBASED, (2,)),
        (bases.TEXTURE, (2, 2)),
        (bases.DIGITS_CONV, (1, 2, 4)),
        (bases.FASHION_CONV, (1, 1, 3)),
        (bases.DIGIT_ROWS, (3,)),
        (bases.RING, (2,)),
        (bases.SPLICE, (1, 1)),
    )
    return [
        planted(
            f"{sound.data}_{'_'.join(map(str, widths))}",
            Cause.INSUFFICIENT_CAPACITY,
            replace(sound, widths=widths, epochs=max(sound.epochs, 20)),
            replace(sound, epochs=max(sound.epochs, 20)),
            (Cause.UNSUITABLE_LAYERS, Cause.UNSUITABLE_ACTIVATION),
        )
        for sound, widths in narrow
    ]


def _excess_capacity() -> list[Case]:
    """Wide and deep networks on few, noisy rows; a narrow one generalises better."""
    noise = ("label_noise", 0.2)
    planned = (
        (Sketch(data="twonorm", rows=200, epochs=100, spoils=(noise,)), (256, 256), ()),
        (
            Sketch(data="spambase", rows=400, epochs=100, spoils=(noise,)),
            (256, 256),
            (),
        ),
        (Sketch(data="german", epochs=100), (512, 512), ()),
        (Sketch(data="pima", epochs=200), (512, 512), ()),
        (
            Sketch(
                data="breast_cancer",
                rows=100,
                epochs=150,
                spoils=(("label_noise", 0.15),),
            ),
            (512, 512),
            (2,),
        ),
        (
            Sketch(data="breast_cancer", rows=200, epochs=150, spoils=(noise,)),
            (256, 256, 256),
            (2,),
        ),
        (Sketch(data="iris", rows=80, epochs=300, spoils=(noise,)), (256, 256), (3,)),
        (
            Sketch(data="splice", family="tokens", rows=200, epochs=60),
            (64, 512, 512),
            (2,),
        ),
    )
    return [
        planted(
            f"{base.data.split('(')[0]}_{len(wide)}_layers",
            Cause.EXCESS_CAPACITY,
            replace(base, widths=wide),
            (
                replace(base, widths=small),
                replace(base, widths=tuple(max(2, width // 32) for width in wide)),
                replace(base, widths=tuple(max(2, width // 8) for width in wide)),
            ),
            (
                Cause.INSUFFICIENT_REGULARIZATION,
                Cause.INSUFFICIENT_DATA,
                Cause.LABEL_NOISE,
            ),
        )
        for base, wide, small in planned
    ]


def _activation() -> list[Case]:
    deep = (48,) * 8
    planned = (
        (bases.DIGIT_TABLE, {"activation": "sigmoid", "widths": deep}, "deep_sigmoid"),
        (bases.VOWEL, {"activation": "none"}, "linear_stack"),
        (bases.SEGMENT, {"activation": "softmax"}, "softmax_inside"),
        (bases.SATIMAGE, {"activation": "sigmoid", "widths": deep}, "deep_sigmoid"),
        (bases.RING, {"activation": "none"}, "linear_stack"),
        (bases.PHONEME, {"activation": "none"}, "linear_stack"),
        (bases.LETTER, {"activation": "none"}, "linear_stack"),
        (bases.PENBASED, {"activation": "sigmoid", "widths": deep}, "deep_sigmoid"),
        (bases.TEXTURE, {"activation": "hard_sigmoid", "widths": deep}, "deep_hard"),
        (bases.PENBASED, {"output": "relu"}, "relu_at_the_end"),
        (bases.DIGITS_CONV, {"activation": "sigmoid", "epochs": 6}, "sigmoid_conv"),
        (bases.FASHION_CONV, {"output": "relu", "lr": 1e-2}, "relu_at_the_end"),
        (bases.VEHICLE, {"output": "tanh"}, "tanh_at_the_end"),
    )
    return [
        planted(
            f"{sound.data}_{name}",
            Cause.UNSUITABLE_ACTIVATION,
            replace(sound, **fault),
            (
                replace(
                    sound,
                    **{  # type: ignore[arg-type]
                        key: value
                        for key, value in fault.items()
                        if key not in {"activation", "output"}
                    },
                ),
            ),
            (
                Cause.UNSUITABLE_LOSS,
                Cause.INSUFFICIENT_CAPACITY,
                Cause.UNSUITABLE_LAYERS,
                *(
                    (
                        Cause.INSUFFICIENT_TRAINING,
                        Cause.LEARNING_RATE_TOO_LOW,
                        Cause.UNSUITABLE_OPTIMIZER,
                    )
                    if "sigmoid" in str(fault) or "softmax" in str(fault)
                    else ()
                ),
            ),
        )
        for sound, fault, name in planned
    ]


def _layers() -> list[Case]:
    conv = Sketch(
        data="wandering_digits", family="conv", widths=(16, 32, 48), epochs=20
    )
    fashion = replace(conv, data="wandering_fashion", rows=1500)
    series = replace(bases.MOTIFS, epochs=20)
    planned = (
        (conv, {"family": "dense", "widths": (128,)}, "dense"),
        (conv, {"family": "dense", "widths": (96, 96), "dropout": 0.2}, "deep_dense"),
        (fashion, {"family": "dense", "widths": (128,)}, "dense"),
        (fashion, {"family": "dense", "widths": (64, 64), "traced": True}, "traced"),
        (series, {"family": "dense", "widths": (64,)}, "dense"),
        (series, {"family": "dense", "widths": (128, 64), "norm": "batch"}, "norm"),
    )
    return [
        planted(
            f"{sound.data.split('(')[0]}_{name}",
            Cause.UNSUITABLE_LAYERS,
            replace(sound, **fault),
            sound,
            (
                Cause.INSUFFICIENT_DATA,
                Cause.INSUFFICIENT_REGULARIZATION,
                Cause.INSUFFICIENT_CAPACITY,
            ),
        )
        for sound, fault, name in planned
    ]


def architecture_cases() -> list[Case]:
    """List the cases of this group."""
    return [*_capacity(), *_excess_capacity(), *_activation(), *_layers()]
