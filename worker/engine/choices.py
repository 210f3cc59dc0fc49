"""What the screen's results speak for: which mends gain, and which look worth more."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from service.contract.causes import Cause
from worker.engine.check import Measures, Mend, delivered_hits
from worker.engine.combination import EVIDENT_SHARE, first_to_name, name
from worker.engine.results import BASELINE, Results, against_delivered
from worker.engine.stats.decisions import Floors
from worker.engine.stats.pairs import PairedGain
from worker.engine.subject import Subject

SURE_SIGNAL = 0.01  # p value at which some reference certainly learns
RATES = (Cause.LEARNING_RATE_TOO_HIGH, Cause.LEARNING_RATE_TOO_LOW)  # low to high
# What is changed at more cost, and what may do as well.
RIVALS = {
    Cause.UNSUITABLE_OPTIMIZER: RATES,
    Cause.UNSUITABLE_LAYERS: (Cause.INSUFFICIENT_CAPACITY,),
}
MOST_BETWEEN = 3  # rates between the given and the chosen one
WEIGHT_OF_EVIDENT = 5.0  # times the error that other causes are allowed
ABOUT = 0.05  # of a rate's gain, that a steadier one may bring less


def gain_of(results: Results, mend: Mend) -> PairedGain:
    """A mend's gain over the best of the baseline and its controls."""
    return results.gain_over_best(mend.key, mend.controls)


def shares_of_error(
    mends: Mapping[Cause, Sequence[Mend]], tested: Iterable[Cause]
) -> dict[Cause, float]:
    """Share out the error that an audit may make among the causes tested.

    Network, data or recipe speak for evident ones before anything is trained.
    """
    weights = {
        cause: WEIGHT_OF_EVIDENT
        if any(mend.evident for mend in mends.get(cause, ()))
        else 1.0
        for cause in tested
    }
    whole = sum(weights.values())
    return {cause: weight / whole for cause, weight in weights.items()}


def value_of(results: Results, mends: Sequence[Mend]) -> float:
    """A combination's gain over the baseline; -1 where it was not trained."""
    if not mends:
        return 0.0
    key = name(mends)
    return results.gain(key).value if key in results else -1.0


def is_promising(screen: Results, mend: Mend, floors: Floors) -> bool:
    """Whether a mend may bring a gain that counts; not where it was not trained."""
    if mend.key not in screen:
        return False
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
            found[cause] = _best_answer(screen, tried)
    for cause, row in _sweeps(screen, mends).items():
        if cause in found:
            found[cause] = _steadiest(screen, row, found[cause])
    return found


def trained_alone(
    best: Mapping[Cause, Mend],
    otherwise: Mapping[Cause, Mend],
    rounds: Iterable[Results | None],
) -> dict[Cause, Mend]:
    """Keep what can be weighed: mends that some round trained alone.

    A combination may hold what there was no time to try by itself.

    Args:
        best: by cause.
        otherwise: what stands in for those that were not.
        rounds: in which they may have been.
    """
    known = {key for results in rounds if results for key in results.arms}
    found = {c: m for c, m in otherwise.items() if m.key in known}
    return found | {c: m for c, m in best.items() if m.key in known}


def _best_answer(screen: Results, tried: Sequence[Mend]) -> Mend:
    """The mend of one cause to take: the best, or an evident one nearly as good.

    What the graph or the data speak for is not to lose by a hair to what they do not.
    """
    gains = {m.key: gain_of(screen, m).value for m in tried}
    best = max(tried, key=lambda m: gains[m.key])
    evident = [m for m in tried if m.evident]
    likely = max(evident, key=lambda m: gains[m.key], default=best)
    enough = EVIDENT_SHARE * max(0.0, gains[best.key])
    return likely if gains[likely.key] >= enough else best


def _sweeps(
    screen: Results, mends: Mapping[Cause, Sequence[Mend]]
) -> dict[Cause, list[Mend | None]]:
    """Put what was tried of a sweep in order; None stands for what is given."""

    def tried(cause: Cause) -> list[Mend]:
        return [m for m in mends.get(cause, ()) if m.key in screen]

    # The given rate lies between the lower and the higher ones, and gains nothing.
    lower, higher = (
        sorted(filter(_is_rate, tried(cause)), key=_rate) for cause in RATES
    )
    rates = [*lower, None, *higher]
    lengths = [None, *sorted(tried(Cause.INSUFFICIENT_TRAINING), key=_epochs)]
    return {**dict.fromkeys(RATES, rates), Cause.INSUFFICIENT_TRAINING: lengths}


def _steadiest(screen: Results, row: Sequence[Mend | None], best: Mend) -> Mend:
    """Of the values that do as well as the best, the one whose neighbours do, too.

    Few seeds cannot tell a rate at the edge of what the network bears from one in the
    middle, nor a length that is just enough from one that is not; those beside can.
    Beyond the last rate that was tried any may fail. The longest training has none
    beyond it, and costs the most: the one before it is taken where that does as well.
    """
    if best not in row:  # it sets no value of the sweep
        return best
    gains = {m.key: gain_of(screen, m) for m in row if m}
    top = gains[best.key]
    values = [gains[m.key].value if m else 0.0 for m in row]

    def worst_beside(mend: Mend) -> float:
        at = row.index(mend)
        beside = values[max(0, at - 1) : at] + values[at + 1 : at + 2]
        is_last = mend.cause in RATES and at in {0, len(row) - 1}
        return min([*beside, 0.0] if is_last else beside)

    least = top.value - min(top.error, ABOUT * max(0.0, top.value) + 0.01)
    equal = [
        m for m in row if m and m.cause is best.cause and gains[m.key].value >= least
    ]
    steadier = max(equal, key=worst_beside)
    taken = steadier if worst_beside(steadier) > worst_beside(best) else best
    is_longest = taken.cause is Cause.INSUFFICIENT_TRAINING and taken == row[-1]
    shorter = row[-2] if is_longest else None
    return shorter if shorter in equal else taken


def between(options: Sequence[Mend], chosen: Mend) -> list[Mend]:
    """List up to three rates between the given one and the one that was chosen.

    Args:
        options: the rates on the chosen one's side of the given one.
        chosen: one of them.
    """
    if not _is_rate(chosen):
        return []
    too_high = chosen.cause is RATES[0]
    nearest_first = sorted(filter(_is_rate, options), key=_rate, reverse=too_high)
    short_of = [m for m in nearest_first if (_rate(m) > _rate(chosen)) == too_high]
    short_of = [m for m in short_of if m.key != chosen.key]
    return short_of[:: max(1, -(-len(short_of) // MOST_BETWEEN))]


def _is_rate(mend: Mend) -> bool:
    """Whether a mend sets the rate, rather than what a schedule leaves of it."""
    return "lr" in (mend.patch or {}).get("optimizer", {})


def _rate(mend: Mend) -> float:
    return float((mend.patch or {})["optimizer"]["lr"])


def _epochs(mend: Mend) -> int:
    return int((mend.patch or {})["epochs"])


def best_single(
    results: Results, best: Mapping[Cause, Mend], floors: Floors
) -> tuple[Mend, ...]:
    """The one mend to name were there only one; none where none is promising."""
    promising = [m for m in best.values() if is_promising(results, m, floors)]
    if not promising:
        return ()
    return (first_to_name([(m, gain_of(results, m).value) for m in promising]),)


def with_rivals(
    screen: Results, mends: Mapping[Cause, Sequence[Mend]]
) -> dict[Cause, Sequence[Mend]]:
    """Have mends compete with cheaper ones of other causes, at the best of these.

    Other optimisers with the given one at its own best rate, layers of another shape
    with more of the given ones; where something speaks for them they need not.
    """
    found = dict(mends)
    for cause, cheaper in RIVALS.items():
        options = [m for c in cheaper for m in mends.get(c, ()) if m.key in screen]
        own = max(options, key=lambda m: gain_of(screen, m).value, default=None)
        if own is not None and gain_of(screen, own).value > 0:
            found[cause] = [
                m if m.evident else replace(m, rival=own) for m in mends.get(cause, ())
            ]
    return found


def has_signal(subject: Subject, measures: Measures, screen: Results | None) -> bool:
    """Whether anything, reference or arm, predicts held-out labels."""
    signal = measures.get("signal", {})
    delivered = signal.get("delivered")
    p_values = [signal.get("p_value")]
    if isinstance(delivered, dict):
        p_values.append(delivered.get("p_value"))
    known = [p for p in p_values if isinstance(p, int | float)]
    if not known or min(known) <= SURE_SIGNAL:
        return True
    if screen is None:
        return False
    _, rows = np.unique(subject.labels["decide"], return_counts=True)
    chance = 1 / len(rows)
    error = float(np.sqrt((chance * (1 - chance) / rows).sum())) / len(rows)
    # The best of some sixty arms lies about three errors above chance by itself.
    return bool(screen.best > chance + max(4 * error, 0.02))


def retraining_helps(measures: Measures, results: Results, floors: Floors) -> bool:
    """Whether training anew by the same recipe repairs the delivered weights."""
    mask = delivered_hits(measures)
    if BASELINE not in results or mask is None:
        return False
    gain = against_delivered(results, mask)
    return gain.value >= floors.material and gain.low > floors.proven
