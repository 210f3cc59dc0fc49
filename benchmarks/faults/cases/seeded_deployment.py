"""Faults between training and use: in the data's way, the labels, the weights."""

from dataclasses import replace

from benchmarks.faults.cases import bases
from benchmarks.faults.cases.bases import planted
from benchmarks.faults.program import Case, Sketch
from service.contract.causes import Cause


def _no_signal() -> list[Case]:
    planned = (
        (bases.DIGIT_TABLE, "random_labels"),
        (bases.SPAMBASE, "random_labels"),
        (bases.WINE, "noise_features"),
        (bases.DIGITS_CONV, "random_labels"),
        (bases.BREAST_CANCER, "random_labels"),
        (bases.VEHICLE, "random_labels"),
        (bases.PENBASED, "noise_features"),
        (bases.FASHION_CONV, "random_labels"),
        (replace(bases.SPLICE, rows=1000), "random_labels"),
        (replace(bases.YEAST, epochs=20), "random_labels"),
    )
    return [
        planted(
            f"{sound.data}_{kind}",
            Cause.NO_LEARNABLE_SIGNAL,
            replace(sound, spoils=((kind, 1.0),)),
            equivalents=(Cause.LABEL_NOISE, Cause.CLASS_IMBALANCE),
            criterion="given",
        )
        for sound, kind in planned
    ]


def _label_order() -> list[Case]:
    planned = (
        (bases.DIGIT_TABLE, "label_shift", 1.0),
        (bases.WINE, "label_swap", 0.0),
        (bases.SPAMBASE, "label_swap", 0.0),
        (replace(bases.DIGITS_CONV, traced=True), "label_shift", 3.0),
        (bases.BREAST_CANCER, "label_swap", 0.0),
        (bases.VEHICLE, "label_shift", 1.0),
        (bases.LETTER, "label_shift", 7.0),
        (bases.FASHION_CONV, "label_swap", 0.0),
    )
    return [
        planted(
            f"{sound.data}_{kind.removeprefix('label_')}",
            Cause.LABEL_ORDER_MISMATCH,
            replace(sound, delivery=((kind, step),)),
            sound,
            (Cause.DEGENERATE_WEIGHTS,),
        )
        for sound, kind, step in planned
    ]


def _preprocessing() -> list[Case]:
    planned = (
        (bases.DIGITS_CONV, "times", 255.0),
        (bases.DIGITS_CONV, "inverted", 0.0),
        (replace(bases.DIGIT_TABLE, norm="batch"), "times", 0.01),
        (bases.SATIMAGE, "offset", 5.0),
        (bases.FASHION_CONV, "inverted", 0.0),
        (bases.FASHION_CONV, "times", 1 / 255),
        (bases.PENBASED, "times", 100.0),
        (replace(bases.TEXTURE, norm="batch"), "offset", 8.0),
        (bases.DIGIT_ROWS, "times", 255.0),
    )
    return [
        planted(
            f"{sound.data}_{kind}_{strength:.3g}",
            Cause.PREPROCESSING_MISMATCH,
            replace(sound, delivery=((kind, strength),)),
            sound,
            (Cause.UNSCALED_INPUTS,),
        )
        for sound, kind, strength in planned
    ]


def _training_mode() -> list[Case]:
    planned = (
        (replace(bases.DIGIT_TABLE, widths=(32, 32)), 0.6),
        (bases.VOWEL, 0.5),
        (replace(bases.SATIMAGE, widths=(12, 12)), 0.7),
        (replace(bases.DIGITS_CONV, widths=(16, 32, 16)), 0.7),
        (replace(bases.LETTER, rows=2000), 0.5),
        (replace(bases.VEHICLE, widths=(32, 32), traced=True), 0.6),
        (replace(bases.PENBASED, widths=(16, 16)), 0.6),
        (replace(bases.FASHION_CONV, widths=(16, 32, 16)), 0.8),
    )
    return [
        planted(
            f"{sound.data}_{p}",
            Cause.TRAINING_MODE_LEFT_ON,
            replace(sound, dropout=-p),
            replace(sound, dropout=p),
            (Cause.EXCESS_REGULARIZATION,),
        )
        for sound, p in planned
    ]


def _leakage() -> list[Case]:
    """Networks that know their training rows by heart, on rows that overlap."""
    heart = (
        Sketch(data="german", widths=(128, 128), epochs=80),
        Sketch(data="pima", widths=(128, 128), epochs=200, lr=5e-3),
        Sketch(data="magic", rows=800, widths=(128, 128), epochs=120),
        Sketch(data="vowel", widths=(64, 64), epochs=60, rows=250),
        Sketch(data="adult", rows=800, widths=(128, 128), epochs=80),
        Sketch(data="vehicle", widths=(128, 128), epochs=100),
        Sketch(
            data="breast_cancer",
            rows=150,
            widths=(256, 256),
            epochs=150,
            spoils=(("label_noise_everywhere", 0.15),),
        ),
        Sketch(data="fashion", rows=600, widths=(128,), epochs=30, lr=1e-3),
    )
    return [
        planted(
            f"{sketch.data}_{round(share * 100)}",
            Cause.SPLIT_LEAKAGE,
            replace(sketch, delivery=(("leak", share),)),
            equivalents=(
                Cause.INSUFFICIENT_REGULARIZATION,
                Cause.EXCESS_CAPACITY,
                Cause.INSUFFICIENT_DATA,
                Cause.LABEL_NOISE,
            ),
            criterion="inflation",
        )
        for sketch, share in zip(
            heart, (0.5, 0.4, 0.8, 0.6, 0.5, 0.7, 0.6, 0.6), strict=True
        )
    ]


def _shift() -> list[Case]:
    planned = (
        (bases.DIGIT_TABLE, "drift", 0.7),
        (bases.SATIMAGE, "drift", 0.5),
        (bases.DIGITS_CONV, "blur_noise", 1.0),
        (bases.SEGMENT, "blur_noise", 0.5),
        (bases.PENBASED, "drift", 0.8),
        (bases.TEXTURE, "drift", 0.3),
        (bases.VEHICLE, "blur_noise", 0.8),
        (bases.FASHION_CONV, "blur_noise", 1.0),
        (bases.MAGIC, "drift", 1.5),
    )
    return [
        planted(
            f"{sound.data}_{kind}_{strength}",
            Cause.DISTRIBUTION_SHIFT,
            replace(sound, delivery=((kind, strength),)),
            sound,
            (Cause.PREPROCESSING_MISMATCH, Cause.CORRUPTED_INPUTS),
        )
        for sound, kind, strength in planned
    ]


def _weights() -> list[Case]:
    planned = (
        (bases.DIGIT_TABLE, "nan_entries", 0.1),
        (bases.SATIMAGE, "zero_units", 0.7),
        (bases.DIGITS_CONV, "forgotten_head", 0.0),
        (bases.VOWEL, "zero_layer", 1.0),
        (bases.BREAST_CANCER, "forgotten_all", 0.0),
        (bases.LETTER, "zero_units", 0.5),
        (bases.FASHION_CONV, "forgotten_head", 0.0),
        (replace(bases.TEXTURE, traced=True), "nan_entries", 0.5),
        (bases.VEHICLE, "zero_layer", 0.0),
        (bases.DIGIT_ROWS, "forgotten_head", 0.0),
    )
    return [
        planted(
            f"{sound.data}_{kind}",
            Cause.DEGENERATE_WEIGHTS,
            replace(sound, weights=((kind, strength),)),
            sound,
        )
        for sound, kind, strength in planned
    ]


def deployment_cases() -> list[Case]:
    """List the cases of this group."""
    return [
        *_no_signal(),
        *_label_order(),
        *_preprocessing(),
        *_training_mode(),
        *_leakage(),
        *_shift(),
        *_weights(),
    ]
