"""What the screen's results speak for: which mends gain, and which look worth more."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from service.contract.causes import Cause
from worker.engine.check import Measures, Mend
from worker.engine.combination import first_to_name, name
from worker.engine.results import BASELINE, Results, against_delivered
from worker.engine.stats.decisions import Floors
from worker.engine.stats.pairs import PairedGain
from worker.engine.subject import Subject

SURE_SIGNAL = 0.01  # p value at which some reference certainly learns


def gain_of(results: Results, mend: Mend) -> PairedGain:
    """A mend's gain over the best of the baseline and its controls."""
    return results.gain_over_best(mend.key, mend.controls)


def value_of(results: Results, mends: Sequence[Mend]) -> float:
    """A combination's gain over the baseline; -1 where it was not trained."""
    if not mends:
        return 0.0
    key = name(mends)
    return results.gain(key).value if key in results else -1.0


def is_promising(screen: Results, mend: Mend, floors: Floors) -> bool:
    """Whether a mend may bring a gain that counts."""
    gain = gain_of(screen, mend)
    return (
        gain.value >= 0.8 * floors.material
        and gain.value + gain.error > floors.material
    )


def any_promising(
    screen: Results, mends: Mapping[Cause, Sequence[Mend]], floors: Floors
) -> bool:
    """Whether anything that was tried may bring a gain that counts."""
    return any(
        is_promising(screen, m, floors)
        for options in mends.values()
        for m in options
        if m.key in screen and not m.measuring
    )


def best_of_each(
    screen: Results, mends: Mapping[Cause, Sequence[Mend]]
) -> dict[Cause, Mend]:
    """The mend of each cause that the screen liked best."""
    found: dict[Cause, Mend] = {}
    for cause, options in mends.items():
        tried = [m for m in options if m.key in screen and not m.measuring]
        if tried:
            found[cause] = max(tried, key=lambda m: gain_of(screen, m).value)
    return found


def best_single(
    results: Results, best: Mapping[Cause, Mend], floors: Floors
) -> tuple[Mend, ...]:
    """The one mend to name were there only one; none where none is promising."""
    promising = [m for m in best.values() if is_promising(results, m, floors)]
    if not promising:
        return ()
    return (first_to_name([(m, gain_of(results, m).value) for m in promising]),)


def against_own_rate(
    screen: Results, mends: Mapping[Cause, Sequence[Mend]]
) -> dict[Cause, Sequence[Mend]]:
    """Have other optimisers compete with the given one at its own best rate."""
    swept = [
        m
        for cause in (Cause.LEARNING_RATE_TOO_HIGH, Cause.LEARNING_RATE_TOO_LOW)
        for m in mends.get(cause, ())
        if m.key in screen
    ]
    found = dict(mends)
    if not swept:
        return found
    own = max(swept, key=lambda m: gain_of(screen, m).value)
    if gain_of(screen, own).value > 0:
        found[Cause.UNSUITABLE_OPTIMIZER] = [
            m if m.evident else replace(m, rival=own)
            for m in mends.get(Cause.UNSUITABLE_OPTIMIZER, ())
        ]
    return found


def has_signal(subject: Subject, measures: Measures, screen: Results) -> bool:
    """Whether anything, reference or arm, predicts held-out labels."""
    signal = measures.get("signal", {})
    delivered = signal.get("delivered")
    p_values = [signal.get("p_value")]
    if isinstance(delivered, dict):
        p_values.append(delivered.get("p_value"))
    known = [p for p in p_values if isinstance(p, int | float)]
    if not known or min(known) <= SURE_SIGNAL:
        return True
    _, rows = np.unique(subject.labels["decide"], return_counts=True)
    chance = 1 / len(rows)
    error = float(np.sqrt((chance * (1 - chance) / rows).sum())) / len(rows)
    # The best of some sixty arms lies about three errors above chance by itself.
    return bool(screen.best > chance + max(4 * error, 0.02))


def retraining_helps(measures: Measures, screen: Results, floors: Floors) -> bool:
    """Whether training anew by the same recipe repairs the delivered weights."""
    masks = measures.get("delivered", {}).get("correct")
    if BASELINE not in screen or not isinstance(masks, dict):
        return False
    gain = against_delivered(screen, str(masks["decide"]))
    return gain.value >= floors.material and gain.low > floors.proven
