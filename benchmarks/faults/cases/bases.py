"""Sound programs into which faults are planted, on several sets and architectures."""

from dataclasses import replace
from typing import Literal

from benchmarks.faults.program import Case, Half, Sketch
from benchmarks.faults.real_sets import SETS
from service.contract.causes import Cause

DIGIT_TABLE = Sketch(data="digit_table", epochs=30)
SATIMAGE = Sketch(data="satimage", epochs=30)
SEGMENT = Sketch(data="segment", epochs=50, lr=5e-3)
VOWEL = Sketch(data="vowel", widths=(96, 96), epochs=60)
WINE = Sketch(data="wine", epochs=40)
SPAMBASE = Sketch(data="spambase", epochs=12, lr=2e-3)
TWONORM = Sketch(data="twonorm", epochs=10, lr=1e-3)
PAGE_BLOCKS = Sketch(data="page_blocks", epochs=40, lr=5e-3)
PAGE_BALANCED = replace(PAGE_BLOCKS, sampler="balanced")
SONAR = Sketch(data="sonar", widths=(48,), epochs=60)
DIGITS_CONV = Sketch(data="digits", family="conv", widths=(16, 32, 64), epochs=12)
DIGIT_ROWS = Sketch(data="digit_rows", family="gru", widths=(48,), epochs=20, lr=5e-3)
DIGIT_TOKENS = Sketch(data="digit_tokens", family="tokens", widths=(8, 64), epochs=15)
MOTIFS = Sketch(data="motifs(1200)", family="series_conv", widths=(32,), epochs=15)

BREAST_CANCER = Sketch(data="breast_cancer", epochs=30)
IRIS = Sketch(data="iris", epochs=60, lr=1e-2)
LETTER = Sketch(data="letter", rows=3000, widths=(128, 128), epochs=30)
PENBASED = Sketch(data="penbased", epochs=40, lr=5e-3)
TEXTURE = Sketch(data="texture", epochs=30)
VEHICLE = Sketch(data="vehicle", epochs=60, lr=5e-3)
PIMA = Sketch(data="pima", epochs=10)
PHONEME = Sketch(data="phoneme", widths=(96, 96), epochs=50)
RING = Sketch(data="ring", widths=(64, 64), epochs=15)
MAGIC = Sketch(data="magic", epochs=25)
IONOSPHERE = Sketch(data="ionosphere", widths=(32,), epochs=40)
YEAST = Sketch(data="yeast", widths=(32,), epochs=10)
FASHION_CONV = Sketch(
    data="fashion", family="conv", widths=(16, 32, 64), rows=1500, epochs=14
)
FASHION_DENSE = Sketch(data="fashion", rows=1500, widths=(128,), epochs=12, lr=1e-3)
SPLICE = Sketch(data="splice", family="tokens", widths=(4, 32), epochs=5, rows=1500)


def half_of_data(data: str) -> Half:
    """Half of a set; what generators make is for tuning."""
    return SETS[data][0] if data in SETS else "tuning"


def planted(
    name: str,
    causes: Cause | tuple[Cause, ...],
    faulty: Sketch,
    mended: Sketch | tuple[Sketch, ...] = (),
    equivalents: tuple[Cause, ...] = (),
    criterion: Literal["gain", "inflation", "given"] = "gain",
) -> Case:
    """Make a seeded case, named after its first cause."""
    several = causes if isinstance(causes, tuple) else (causes,)
    return Case(
        name=f"seeded/{several[0]}/{name}",
        suite="seeded",
        half=half_of_data(faulty.data),
        sketch=faulty,
        mended=mended if isinstance(mended, tuple) else (mended,),
        causes=several,
        equivalents=equivalents,
        criterion=criterion,
    )
