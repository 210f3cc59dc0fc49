"""From what the rounds yielded to one trial a cause: gain, decision and role."""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from service.contract.causes import Cause
from worker.engine.check import Case, Mend, Trial, delivered_hits
from worker.engine.choices import shares_of_error
from worker.engine.combination import NEAR_SHARE, compatible, first_to_name, name
from worker.engine.ledger import Learned
from worker.engine.results import (
    BASELINE,
    Results,
    TrainedAnew,
    against_delivered,
    seen_to_relapse,
    share_of_relapses,
)
from worker.engine.stats.decisions import LOOKS, Floors, decide, holm
from worker.engine.stats.pairs import PairedGain
from worker.engine.wording import FULL_LENGTH


@dataclass(frozen=True)
class Weighed:
    """One cause's figures before the roles are given out."""

    mend: Mend
    gain: PairedGain
    over: str
    confirmed: bool
    on_top: PairedGain | None


def weigh(
    learned: Learned, floors: Floors, declined: AbstractSet[Cause] = frozenset()
) -> dict[Cause, Trial]:
    """Decide on every cause that was tried, and give each its role.

    Args:
        learned: what the rounds yielded.
        floors: of gains.
        declined: causes that get no role, since their checks do not name them.
    """
    if learned.screen is None:
        return {}
    weighed = {cause: _weigh_one(learned, mend) for cause, mend in learned.best.items()}
    raw = {
        cause: _p_value(w, floors.proven)
        for cause, w in weighed.items()
        if w.confirmed or w.on_top is not None
    }
    shares = shares_of_error(learned.mends, weighed)
    adjusted = holm(raw, shares)
    trials = {
        cause: _trial(
            learned, w, adjusted.get(cause, 1.0), floors, weight=shares[cause]
        )
        for cause, w in weighed.items()
    }
    return _with_roles(learned, trials, floors, declined)


def _weigh_one(learned: Learned, mend: Mend) -> Weighed:
    assert learned.screen is not None
    confirm = learned.confirm
    confirmed = confirm is not None and mend.key in confirm
    results = confirm if confirmed and confirm is not None else learned.screen
    over = results.best_of(mend.controls)
    gain = results.gain(mend.key, over=over)
    return Weighed(mend, gain, over, confirmed, _on_top(learned, mend))


def _on_top(learned: Learned, mend: Mend) -> PairedGain | None:
    """What the mend is worth in the best combination, all else mended.

    In as small a one as was taken apart with it.
    """
    gains = (_within(learned, mend, c) for c in (learned.narrowed, learned.together))
    return next((gain for gain in gains if gain is not None), None)


def _within(
    learned: Learned, mend: Mend, combination: Sequence[Mend]
) -> PairedGain | None:
    confirm = learned.confirm
    if confirm is None:
        return None
    rest = [
        m
        for m in combination
        if m.cause != mend.cause and not (m.rival and m.rival.key == mend.key)
    ]
    if not rest:
        return None
    whole, without = name([*rest, mend]), name(rest)
    if whole not in confirm or without not in confirm:
        return None
    rivals = [name([*rest, mend.rival])] if mend.rival else []
    return confirm.gain_over_best(whole, rivals, over=without)


def _gap(results: Results) -> float:
    return results.best - results.accuracy(BASELINE) if BASELINE in results else 0.0


def _p_value(weighed: Weighed, floor: float) -> float:
    alone = weighed.gain.p_above(floor)
    if weighed.on_top is None:
        return alone
    if not weighed.confirmed:  # only the screening seeds saw it alone
        return weighed.on_top.p_above(floor)
    return min(1.0, LOOKS * min(alone, weighed.on_top.p_above(floor)))


def _trial(
    learned: Learned,
    weighed: Weighed,
    adjusted_p: float,
    floors: Floors,
    *,
    weight: float,
) -> Trial:
    stronger = weighed.gain
    if weighed.on_top is not None and weighed.on_top.value > stronger.value:
        stronger = weighed.on_top
    decision = decide(stronger, adjusted_p=adjusted_p, floors=floors)
    assert learned.screen is not None
    tried = [
        (m.key, learned.screen.gain_over_best(m.key, m.controls))
        for m in learned.mends.get(weighed.mend.cause, ())
        if m.key in learned.screen
    ]
    return Trial(
        mend=weighed.mend,
        gain=weighed.gain,
        over=weighed.over,
        confirmed=weighed.confirmed,
        decision=decision,
        adjusted_p=adjusted_p,
        weight=weight,
        on_top=weighed.on_top,
        arms=tuple(tried),
        experiments=_experiments(learned, weighed.mend),
    )


def _experiments(learned: Learned, mend: Mend) -> tuple[str, ...]:
    found = [
        results.arms[key].experiment
        for results in (learned.screen, learned.confirm)
        if results is not None
        for key in (
            BASELINE,
            mend.key,
            *mend.controls,
            name(learned.together),
            name([*learned.together, mend]),
            name(learned.narrowed),
            name([*learned.narrowed, mend]),
            name([m for m in learned.narrowed if m.cause != mend.cause]),
        )
        if key in results
    ]
    return tuple(dict.fromkeys(found))


def _with_roles(
    learned: Learned,
    trials: dict[Cause, Trial],
    floors: Floors,
    declined: AbstractSet[Cause],
) -> dict[Cause, Trial]:
    found = {
        c: t for c, t in trials.items() if t.decision == "found" and c not in declined
    }
    if not found:
        return trials
    gap = max([0.0, *(_gap(r) for r in (learned.screen, learned.confirm) if r)])
    chosen = {
        m.cause
        for m in learned.chosen
        if m.cause in found
        and _worth(found[m.cause]) >= _least_beside_others(m, gap, floors)
    }
    if not chosen:
        chosen = {max(found, key=lambda c: found[c].gain.value)}
    for cause, trial in found.items():
        extra = trial.on_top
        if cause in chosen or extra is None:
            continue
        least = _least_beside_others(trial.mend, gap, floors)
        if extra.value >= least and extra.low > floors.proven:
            chosen.add(cause)
    primary = lead_of({c: found[c] for c in chosen}, floors)
    # What the others make good is no fault beside them, whatever it gains alone.
    chosen -= {
        cause
        for cause in chosen - {primary}
        if (extra := found[cause].on_top) is not None
        and extra.value < _least_beside_others(found[cause].mend, gap, floors)
    }
    near = NEAR_SHARE * _worth(found[primary])
    roles = dict(trials)
    for cause, trial in found.items():
        if cause == primary:
            roles[cause] = replace(trial, role="primary")
        elif cause in chosen:
            roles[cause] = replace(trial, role="component")
        else:
            roles[cause] = replace(
                trial,
                role="equivalent" if trial.gain.value >= near else "explained",
                explained_by=primary,
                instead=not compatible(trial.mend, found[primary].mend),
            )
    return roles | _idle_beside(primary, trials, floors)


def _least_beside_others(mend: Mend, gap: float, floors: Floors) -> float:
    """What a mend must gain for its cause to be named beside a greater one.

    Of a broken program a hundred changes gain a little; for the causes named something
    else must speak, or a good part of what is missing.
    """
    share = floors.share_of_gap * gap
    return max(floors.material, min(share, floors.fault) if mend.evident else share)


def _idle_beside(
    primary: Cause, trials: Mapping[Cause, Trial], floors: Floors
) -> dict[Cause, Trial]:
    """Causes left open alone whose mending adds nothing to the best combination."""
    return {
        cause: replace(trial, decision="not_found", explained_by=primary)
        for cause, trial in trials.items()
        if trial.decision == "inconclusive"
        and trial.on_top is not None
        and trial.on_top.p_below(floors.material) <= 1 - floors.absence_level
    }


def _worth(trial: Trial) -> float:
    """The more that a mend brings: alone, or within the best combination."""
    return max(trial.gain.value, trial.on_top.value if trial.on_top else -1.0)


def lead_of(found: Mapping[Cause, Trial], floors: Floors) -> Cause:
    """The cause to name first, of those that together are named.

    What the others make good comes after what is missed in their company.
    """
    missed = {
        cause: trial
        for cause, trial in found.items()
        if trial.on_top is None or trial.on_top.low > floors.proven
    }
    trials = (missed or found).values()
    gains = [(t.mend, t.gain.value) for t in trials]
    return first_to_name(gains, [t.gain.error for t in trials]).cause


def case_for(
    cause: Cause, learned: Learned, trials: Mapping[Cause, Trial], delivered: float
) -> Case:
    """Gather what a check may look at."""
    screen = learned.screen
    arms = {k: r.figures for k, r in screen.arms.items()} if screen else {}
    mends = learned.mends.get(cause, ())
    gaps = {
        m.key: screen.failures[m.key]
        for m in mends
        if screen is not None and m.key in screen.failures
    }
    if cause in learned.skipped:
        gaps.setdefault("budget", learned.skipped[cause])
    results = _latest(learned, [m.key for m in mends])
    on_top = _gains_on_top(learned, mends)
    is_known_alone = results is not None and all(key in results for key in on_top)
    if is_known_alone and not learned.chosen:
        on_top = {}  # the combination was not borne out
    return Case(
        measures=learned.measures,
        gains=_gains_alone(learned, mends, results),
        gains_on_top=on_top,
        level=_level(learned, results, name(learned.together) if on_top else BASELINE),
        room=learned.room,
        subsample=learned.subsample,
        mended=tuple(m.key for m in learned.together)
        if on_top or any(t.role in ("primary", "component") for t in trials.values())
        else (),
        experiments=tuple(
            dict.fromkeys(e for m in mends for e in _experiments(learned, m))
        ),
        retrained=retrained(learned),
        relapses=relapses(learned),
        better_on_spared=learned.better_on_spared,
        trial=trials.get(cause),
        baseline=arms.get(BASELINE, {}),
        arms=arms,
        gaps=gaps,
        signal=learned.signal,
        delivered=delivered,
        trials=dict(trials),
    )


def _gains_alone(
    learned: Learned, mends: Sequence[Mend], results: Results | None
) -> dict[str, PairedGain]:
    """What arms show over the baseline, those of a curve from the same seeds."""
    found = {}
    for mend in mends:
        known = _latest(learned, [mend.key]) if mend.by_itself else results
        if known is not None and mend.key in known:
            found[mend.key] = known.gain(mend.key)
    return found


def _gains_on_top(learned: Learned, mends: Sequence[Mend]) -> dict[str, PairedGain]:
    """What measuring arms show within the best combination."""
    confirm, whole = learned.confirm, name(learned.together)
    if confirm is None or not learned.together or whole not in confirm:
        return {}
    measuring = [m for m in mends if m.measuring]
    arms = {m.key: name([*learned.together, m]) for m in measuring}
    if not learned.chosen and all(key in confirm for key in arms):
        return {}  # the combination did not hold, and they were measured without it
    others = [arms[m.key] for m in measuring if not m.by_itself]
    told = all(arm in confirm for arm in others)
    return {
        m.key: confirm.gain(arms[m.key], over=whole)
        for m in measuring
        if arms[m.key] in confirm and (told or m.by_itself)
    }


def _level(learned: Learned, results: Results | None, arm: str) -> float:
    for found in (learned.confirm, results):
        if found is not None and arm in found:
            return found.accuracy(arm)
    return 0.0


def _latest(learned: Learned, keys: list[str]) -> Results | None:
    """The round with the freshest seeds that holds these arms."""
    for results in (learned.confirm, learned.screen):
        if results is not None and keys and all(k in results for k in keys):
            return results
    return learned.screen


def retrained(learned: Learned) -> PairedGain | None:
    """The same recipe trained anew against the delivered weights, on the same rows."""
    known = _trained_anew(learned)
    return against_delivered(*known[0]) if known else None


def relapses(learned: Learned) -> Callable[[float], float]:
    """Tell how many trainings by the recipe end as badly as what was given.

    Returns:
        From the balanced accuracy that the delivered weights would gain without the
        other faults of the delivery to the share of the trainings.
    """
    known = _trained_anew(learned)

    def share(regained: float) -> float:
        within = Floors().proven + regained
        if not known:
            return 0.0
        freshest = share_of_relapses(*known[0], within=within)
        return max(freshest, seen_to_relapse(known, within=within))

    return share


def _trained_anew(learned: Learned) -> list[TrainedAnew]:
    """Of each round the arm that is the recipe as it was, the freshest seeds first.

    On a subsample it is the recipe for as many updates as all rows make, where that was
    trained: fewer make less of any recipe.
    """
    mask = delivered_hits(learned.measures)
    rounds = [results for results in (learned.confirm, learned.screen) if results]
    if mask is None:
        return []
    arms = [BASELINE]
    if learned.subsample is not None and any(FULL_LENGTH in r for r in rounds):
        arms = [FULL_LENGTH]
    return [(r, mask, arm) for r in rounds for arm in arms if arm in r]
