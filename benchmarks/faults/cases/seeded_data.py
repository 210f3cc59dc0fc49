"""Faults of the data, planted at several strengths."""

from dataclasses import replace

from benchmarks.faults.cases import bases
from benchmarks.faults.cases.bases import planted
from benchmarks.faults.program import Case
from service.contract.causes import Cause

_SGD_CONV = replace(
    bases.DIGITS_CONV, optimizer="sgd", lr=0.1, initialization="he", epochs=15
)
_OVERFIT = (
    Cause.INSUFFICIENT_REGULARIZATION,
    Cause.EXCESS_CAPACITY,
    Cause.INSUFFICIENT_DATA,
)


def _label_noise() -> list[Case]:
    long = {
        "digit_table": replace(bases.DIGIT_TABLE, widths=(256,), epochs=60),
        "satimage": replace(bases.SATIMAGE, widths=(256, 128), epochs=50),
        "penbased": replace(bases.PENBASED, widths=(256,), epochs=60),
        "texture": replace(bases.TEXTURE, widths=(256,), epochs=60),
        "digits_conv": replace(bases.DIGITS_CONV, epochs=25),
        "fashion_conv": bases.FASHION_CONV,
        "breast_cancer": replace(bases.BREAST_CANCER, widths=(128,), epochs=80),
    }
    planned = (
        ("digit_table", "label_noise", 0.2),
        ("digit_table", "label_noise_everywhere", 0.3),
        ("digits_conv", "label_noise", 0.4),
        ("satimage", "label_flip_to_next", 0.3),
        ("penbased", "label_noise", 0.2),
        ("penbased", "label_noise", 0.4),
        ("texture", "label_noise_everywhere", 0.4),
        ("breast_cancer", "label_noise", 0.2),
        ("fashion_conv", "label_noise", 0.5),
        ("texture", "label_flip_to_next", 0.35),
    )
    return [
        planted(
            f"{name}_{kind.removeprefix('label_')}_{round(share * 100)}",
            Cause.LABEL_NOISE,
            replace(long[name], spoils=((kind, share),)),
            long[name],
            _OVERFIT,
        )
        for name, kind, share in planned
    ]


def _imbalance() -> list[Case]:
    unequal = [
        (bases.SATIMAGE, 100.0),
        (bases.SPAMBASE, 60.0),
        (bases.TWONORM, 60.0),
        (replace(bases.SEGMENT, epochs=10), 40.0),
        (bases.MAGIC, 30.0),
        (bases.PIMA, 15.0),
        (replace(bases.BREAST_CANCER, epochs=10), 50.0),
        (replace(bases.LETTER, rows=4000, epochs=8), 40.0),
        (bases.FASHION_DENSE, 40.0),
        (bases.PHONEME, 40.0),
    ]
    cases = []
    for sound, ratio in unequal:
        spoiled = replace(sound, spoils=(("imbalance", ratio),), epochs=sound.epochs)
        cases.append(
            planted(
                f"{sound.data}_{ratio:.0f}",
                Cause.CLASS_IMBALANCE,
                spoiled,
                (
                    replace(spoiled, sampler="balanced"),
                    replace(spoiled, sampler="balanced", weight_decay=1e-2),
                ),
                (Cause.INSUFFICIENT_DATA, *_OVERFIT[:1]),
            )
        )
    natural = [
        (bases.YEAST, "yeast_natural"),
        (replace(bases.PAGE_BLOCKS, epochs=5, lr=1e-3), "page_blocks_natural"),
    ]
    cases += [
        planted(
            name,
            Cause.CLASS_IMBALANCE,
            sketch,
            replace(sketch, sampler="balanced"),
            (Cause.INSUFFICIENT_TRAINING, Cause.LEARNING_RATE_TOO_LOW),
        )
        for sketch, name in natural
    ]
    return cases


def _corrupted() -> list[Case]:
    planned = (
        (bases.DIGIT_TABLE, "sentinels", 0.1),
        (bases.SATIMAGE, "sentinels", 0.3),
        (bases.SPAMBASE, "sentinels", 0.05),
        (bases.SEGMENT, "outliers", 0.2),
        (bases.WINE, "missing", 0.2),
        (bases.DIGITS_CONV, "sentinels", 0.2),
        (bases.MOTIFS, "sentinels", 0.1),
        (bases.BREAST_CANCER, "missing", 0.1),
        (bases.PENBASED, "sentinels", 0.2),
        (bases.TEXTURE, "outliers", 0.3),
        (bases.VEHICLE, "missing", 0.3),
        (bases.FASHION_CONV, "sentinels", 0.2),
        (bases.SEGMENT, "filled_gaps", 0.3),
        (bases.VEHICLE, "filled_gaps", 0.3),
    )
    cases = []
    for sound, kind, share in planned:
        # What mending can reach without the lost values: they become the average.
        lost = ("marked_gaps" if kind == "filled_gaps" else kind, share)
        repaired = replace(sound, spoils=(lost, ("repaired_by_median", 0.0)))
        cases.append(
            planted(
                f"{sound.data}_{kind}_{round(share * 100)}",
                Cause.CORRUPTED_INPUTS,
                replace(sound, spoils=((kind, share),)),
                repaired,
                (Cause.UNSCALED_INPUTS,),
            )
        )
    return cases


def _unscaled() -> list[Case]:
    planned = (
        (bases.WINE, "none", (), "raw"),
        (bases.BREAST_CANCER, "none", (), "raw"),
        (
            replace(bases.SEGMENT, optimizer="sgd", lr=0.05),
            "none",
            (),
            "raw_sgd",
        ),
        (replace(bases.SATIMAGE, optimizer="sgd", lr=0.05), "none", (), "raw_sgd"),
        (bases.SPAMBASE, "standard", (("mixed_units", 1e4),), "units"),
        (bases.VEHICLE, "none", (), "raw"),
        (bases.TEXTURE, "standard", (("mixed_units", 1e5),), "units"),
        (_SGD_CONV, "byte", (), "byte"),
        (
            replace(bases.FASHION_CONV, optimizer="sgd", lr=0.02, momentum=0.9),
            "byte",
            (),
            "byte",
        ),
        (bases.MAGIC, "none", (), "raw"),
        (bases.PENBASED, "standard", (("times", 1e-3),), "tiny"),
        (replace(bases.DIGIT_ROWS, lr=1e-2), "none", (("offset", 50.0),), "offset"),
    )
    return [
        planted(
            f"{sound.data}_{name}",
            Cause.UNSCALED_INPUTS,
            replace(sound, scale=scale, spoils=spoils),  # type: ignore[arg-type]
            sound,
            (
                Cause.LEARNING_RATE_TOO_HIGH,
                Cause.LEARNING_RATE_TOO_LOW,
                Cause.INSUFFICIENT_TRAINING,
                Cause.UNSUITABLE_OPTIMIZER,
                Cause.CORRUPTED_INPUTS,
            ),
        )
        for sound, scale, spoils, name in planned
    ]


def _few_rows() -> list[Case]:
    planned = (
        (bases.DIGIT_TABLE, 60),
        (bases.LETTER, 400),
        (bases.VOWEL, 120),
        (bases.PENBASED, 60),
        (bases.DIGITS_CONV, 60),
        (bases.FASHION_CONV, 100),
        (bases.SEGMENT, 50),
        (bases.TEXTURE, 60),
        (replace(bases.DIGIT_ROWS, epochs=15), 100),
        (bases.SPLICE, 120),
    )
    return [
        planted(
            f"{sound.data}_{rows}",
            Cause.INSUFFICIENT_DATA,
            replace(
                sound,
                rows=rows,
                # as many updates as with all rows, at least in order of magnitude
                epochs=min(400, sound.epochs * 5),
            ),
            sound,
            (Cause.INSUFFICIENT_REGULARIZATION, Cause.EXCESS_CAPACITY),
        )
        for sound, rows in planned
    ]


def data_cases() -> list[Case]:
    """List the cases of this group."""
    return [
        *_label_noise(),
        *_imbalance(),
        *_corrupted(),
        *_unscaled(),
        *_few_rows(),
    ]
