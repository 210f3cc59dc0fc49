"""The round `screen`: the baseline and every mend, on few paired seeds."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from service.contract.causes import Cause
from worker.engine.check import Measures, Mend, noise_rate
from worker.engine.choices import any_promising
from worker.engine.combination import compose, everything, with_controls
from worker.engine.lab.experiment import Arm, RecipeChange
from worker.engine.ledger import NOT_REACHED, Round
from worker.engine.planning import in_order, is_costly
from worker.engine.results import BASELINE, Results
from worker.engine.splits import spared_rows
from worker.engine.stats.pairs import (
    UNLIKE_ERRORS,
    Scored,
    between_rows,
    unlikeness,
)
from worker.engine.symptoms import inputs_alike, mix_moved
from worker.engine.trainer import FOLDS, Trainer
from worker.engine.wording import FULL_LENGTH

SHORT_IN_A_SUBSAMPLE = frozenset(
    {
        Cause.INSUFFICIENT_TRAINING,
        Cause.LEARNING_RATE_TOO_LOW,
        Cause.INSUFFICIENT_CAPACITY,  # wide networks need fewer updates
    }
)
FEW_HELD_OUT = 2_000  # rows; from here on they decide alone
DEAR = 0.25  # of what a screen may take, for one arm
DEAR_SHARE = (
    0.6  # of what combinations may take, for dear arms that speak for themselves
)
LEAST_LEFT_OUT = 0.5  # share of the training rows that is left out at some time
HARDLY_AFFECTED = 0.01  # share of the training rows, with which they may decide anyway
AS_AFFECTED = 0.5  # of the training rows' share with odd values
NOTHING_LEFT = "the recipe yields so much that no change can bring a gain that counts"
OF_CHOSEN = 3.0  # standard errors that chance explains of the arm that did best
UNLIKE_DELIVERED = 0.1  # balanced accuracy between a training and what was delivered
NEAR_BEST = 0.1  # balanced accuracy below the best, from where an arm may be the best
LUCKY = "Was that training a lucky one?"
SECOND_LOOK = 3  # seeds
LONG_LOOK = 10  # seeds, of the recipe as it is, where the delivered weights do worse
LOOK_SHARE = 0.2  # of the time for combinations, that these may take
RELAPSED = 0.05  # balanced accuracy above these, up to which a training ended like them
UNSTEADY = 0.03  # balanced accuracy, deviation from seed to seed
MOST_NOISE = 0.7  # of what makes labels worthless; beyond, noisy rows say too little


def at_full_length(
    trainer: Trainer, mends: Mapping[Cause, Sequence[Mend]]
) -> dict[Cause, Sequence[Mend]]:
    """Keep a subsample from looking like too little training.

    Fewer rows make fewer updates at the same number of epochs. What longer or
    faster training brings is therefore compared with as many updates as the whole
    data would have had.
    """
    rows = trainer.subject.data.rows["train"]
    if trainer.rows is None or trainer.rows >= rows:
        return dict(mends)
    epochs = round(trainer.subject.recipe.epochs * rows / trainer.rows)
    control = (RecipeChange(patch={"epochs": epochs}),)

    def compared(mend: Mend) -> Mend:
        if mend.cause not in SHORT_IN_A_SUBSAMPLE or mend.control:
            return mend
        return replace(
            mend, control=control, control_name=FULL_LENGTH, late_control=True
        )

    return {cause: list(map(compared, options)) for cause, options in mends.items()}


def may_borrow(
    trainer: Trainer, mends: Mapping[Cause, Sequence[Mend]], measures: Measures
) -> bool:
    """Whether training rows, left out in turn, may help held-out rows decide.

    Only where those are few, and nothing is known to be wrong with the others that is
    not as wrong with them. Other shares of the classes among like inputs are a sign of
    wrong labels; how many those are, the probe of labels may know.
    """
    rows, labels = trainer.subject.data.rows, trainer.subject.labels
    if trainer.rows is not None or rows["decide"] > FEW_HELD_OUT:
        return False
    if "train" not in labels:
        return False
    if mix_moved(measures) and inputs_alike(measures) and not noise_rate(measures):
        return False
    if mends.get(Cause.CORRUPTED_INPUTS) and not _are_as_affected(measures):
        return False
    spared = sum(len(part) for part in spared_rows(labels["train"], FOLDS))
    return spared >= LEAST_LEFT_OUT * len(labels["train"])


def _are_as_affected(measures: Measures) -> bool:
    """Whether held-out rows hold about as many odd values as training rows.

    Both by the same criterion. Rows that contradict each other are marked as odd, too,
    and single values far out; those there may be anywhere.
    """
    inputs = measures.get("inputs", {})
    train, held_out = inputs.get("plainly_affected"), inputs.get("held_out_affected")
    if not isinstance(train, float) or not isinstance(held_out, float):
        return False
    return train < HARDLY_AFFECTED or held_out >= AS_AFFECTED * train


def screen_mends(
    trainer: Trainer,
    mends: Mapping[Cause, Sequence[Mend]],
    noise: float,
    unlikely: frozenset[Cause] = frozenset(),
    *,
    delivered: float | None = None,
) -> Round[tuple[Results, dict[Cause, str]]]:
    """Train the baseline and as many mends as the budget allows.

    What is kept for confirming goes into looking further as long as there is nothing
    to confirm. Where the recipe yields all but a perfect network, nothing is tried.

    Args:
        trainer: of the audit.
        mends: by cause.
        noise: share of the training labels that is thought to be wrong.
        unlikely: causes to try last, and not at all while others do not fit.
        delivered: balanced accuracy of the delivered model, if known.

    Returns:
        What came out, and why causes were not tried at all.
    """
    wanted = in_order(
        [m for options in mends.values() for m in options],
        trainer.effort.variants,
        unlikely,
    )
    seeds = trainer.screening_seeds
    question = "Which single change helps?"
    arms, skipped = _affordable(trainer, wanted, [Arm(name=BASELINE)], unlikely)
    floors = trainer.floors
    at_first, later = arms, arms[:0]
    if delivered is not None and delivered > 1 - floors.material:
        at_first, later = arms[:1], arms[1:]
    screen = yield from trainer.train("screen", question, at_first, seeds)
    if BASELINE not in screen:
        why = screen.failures.get(BASELINE, "the baseline was not trained")
        return screen, trainer.not_anew(mends, why)
    screen = _compared_with_spared(trainer, screen, noise)
    if later and screen.room(floors.absence_level) < floors.material:
        trainer.limit(f"{NOTHING_LEFT[0].upper()}{NOTHING_LEFT[1:]}; none was tried.")
        return screen, dict.fromkeys((c for c in mends if mends[c]), NOTHING_LEFT)
    if later:
        screen.extend((yield from trainer.train("screen", question, later, seeds)))
    while skipped and not any_promising(screen, mends, trainer.floors):
        further = [m for m in wanted if m.key not in screen and m.cause in skipped]
        arms, now = _affordable(trainer, further, [], unlikely)
        if not arms:
            break
        more = yield from trainer.train("screen", question, arms, seeds)
        screen.extend(more)
        skipped = now
    screen.extend((yield from _dear_but_evident(trainer, wanted, screen, skipped)))
    reached = _reached(wanted, screen.arms)
    return screen, {c: why for c, why in skipped.items() if c not in reached}


def _dear_but_evident(
    trainer: Trainer,
    wanted: Sequence[Mend],
    screen: Results,
    skipped: Mapping[Cause, str],
) -> Round[Results]:
    """Try what speaks for itself from a single seed where more do not fit.

    Another network may cost so much that no place was left for it among many cheap
    arms of which nothing speaks for any.
    """
    seeds = trainer.screening_seeds[:1]
    allowance = trainer.allowance("interact") * DEAR_SHARE
    arms: list[Arm] = []
    reached: set[Cause] = set()
    for mend in wanted:
        arm = Arm(name=mend.key, changes=mend.changes)
        if not mend.evident or mend.cause not in skipped or mend.cause in reached:
            continue
        if mend.key in screen or trainer.cost([*arms, arm], seeds) > allowance:
            continue
        arms.append(arm)
        reached.add(mend.cause)
    if not arms:
        return Results(screen.rows, {})
    question = "Does what speaks for itself help, dear as it is?"
    return (yield from trainer.train("screen", question, arms, seeds))


def look_again(
    trainer: Trainer,
    screen: Results,
    mends: Mapping[Cause, Sequence[Mend]],
    delivered: float | None,
) -> Round[Results]:
    """Train from more seeds where a few may have been lucky ones.

    A recipe that ends now here, now there may have ended well these times, beside which
    no mend shows. From a single seed that may be wherever it ends far from the
    delivered weights; from some, where these do far worse: they may be what the recipe
    yields at other times.

    Args:
        trainer: of the audit.
        screen: what the first seeds showed.
        mends: by cause.
        delivered: balanced accuracy of the delivered model, if known.

    Returns:
        The screen, its likeliest arms with more seeds.
    """
    if delivered is None or BASELINE not in screen:
        return screen
    ahead = screen.accuracy(BASELINE) - delivered
    likely = _likely_arms(screen, mends)
    is_single = len(trainer.screening_seeds) == 1
    if (abs(ahead) if is_single else ahead) < UNLIKE_DELIVERED:
        return screen
    given = _as_given(screen, mends)
    if not is_single:
        return (
            yield from _look_for_relapses(trainer, screen, given, likely, delivered)
        )
    seeds = trainer.seeds("screen", SECOND_LOOK)[1:]
    arms = _fitting(trainer, [*given, *likely], seeds)
    if len(arms) == 1:
        return screen
    more = yield from trainer.train("screen", LUCKY, arms, seeds)
    if BASELINE not in more:
        return screen
    both = screen.joined(more)
    if np.std(both.levels(BASELINE), ddof=1) > UNSTEADY:
        trainer.look_from(SECOND_LOOK)
    return both


def _as_given(screen: Results, mends: Mapping[Cause, Sequence[Mend]]) -> list[Arm]:
    """The recipe as it is and, of a subsample, with as many updates as all rows make.

    The latter, where it was trained, is what the delivered weights are held against.
    """
    longer = {
        m.control_arm: Arm(name=m.control_arm, changes=m.control)
        for options in mends.values()
        for m in options
        if m.control_name == FULL_LENGTH and FULL_LENGTH in screen
    }
    return [Arm(name=BASELINE), *longer.values()]


def _look_for_relapses(
    trainer: Trainer,
    screen: Results,
    arms: list[Arm],
    likely: Sequence[Arm],
    delivered: float,
) -> Round[Results]:
    """Train the recipe from many seeds, and what may mend it where one ends as low."""
    seeds = trainer.seeds("screen", LONG_LOOK)[len(trainer.screening_seeds) :]
    if trainer.cost(arms, seeds) > LOOK_SHARE * trainer.allowance("interact"):
        return screen
    question = "Does the recipe always end so well?"
    more = yield from trainer.train("screen", question, arms, seeds)
    if BASELINE not in more:
        return screen
    screen = screen.joined(more)
    if min(screen.levels(BASELINE)) > delivered + RELAPSED:
        return screen
    arms = _fitting(trainer, list(likely), seeds)
    if not arms:
        return screen
    return screen.joined((yield from trainer.train("screen", LUCKY, arms, seeds)))


def _fitting(trainer: Trainer, arms: list[Arm], seeds: tuple[int, ...]) -> list[Arm]:
    """As many of the first arms as there is time for, one at least."""
    allowance = trainer.allowance("interact")
    while len(arms) > 1 and trainer.cost(arms, seeds) > allowance:
        arms = arms[:-1]
    return arms


def _likely_arms(screen: Results, mends: Mapping[Cause, Sequence[Mend]]) -> list[Arm]:
    """Arms that do about as well as the best, what speaks for itself first."""
    near = [
        m
        for options in mends.values()
        for m in options
        if not m.measuring
        and m.key in screen
        and screen.accuracy(m.key) >= screen.best - NEAR_BEST
    ]
    near.sort(key=lambda m: (not m.evident, -screen.accuracy(m.key)))
    return [*{m.key: Arm(name=m.key, changes=m.changes) for m in near}.values()]


def _affordable(
    trainer: Trainer,
    wanted: Sequence[Mend],
    first: Sequence[Arm],
    unlikely: frozenset[Cause],
) -> tuple[list[Arm], dict[Cause, str]]:
    """Choose arms for the time that a screen may take.

    Args:
        trainer: of the audit.
        wanted: mends, the most wanted first.
        first: arms that are trained whatever they cost.
        unlikely: causes whose arms, however cheap, do not fill what is left where a
            likelier one did not fit.

    Returns:
        The arms, and why causes have none.
    """
    seeds, allowance = trainer.screening_seeds, trainer.allowance("screen")
    arms = list(first)
    spent = trainer.cost(arms, seeds) if arms else 0.0
    skipped: dict[Cause, str] = {}
    full = False
    candidates = list(_candidates(wanted))
    # What alone takes much of the screen waits until the others have had their turn.
    candidates.sort(key=lambda one: trainer.cost([one[0]], seeds) > DEAR * allowance)
    for arm, causes in candidates:
        if arm.name in {known.name for known in arms}:
            continue
        cost = trainer.added_cost(arms, arm, seeds) * (
            1.0 if spent < allowance / 2 else 1.2
        )
        late = bool(causes) and causes <= unlikely
        does_not_fit = spent + cost > allowance and not _is_essential(
            trainer, arm, spent, allowance
        )
        if cost > 0 and ((full and late) or does_not_fit):
            full |= bool(causes) and not late and not is_costly(arm)
            for cause in causes:
                skipped.setdefault(cause, NOT_REACHED)
            continue
        spent += cost
        arms.append(arm)
    arms += _read_off(trainer, arms, wanted, seeds)
    reached = _reached(wanted, {arm.name for arm in arms})
    return arms, {c: why for c, why in skipped.items() if c not in reached}


def _reached(wanted: Iterable[Mend], arms: Container[str]) -> set[Cause]:
    """Causes of which what was trained can tell something.

    A control alone tells nothing, nor does a part of what only tells together.
    """
    parts = [m for m in wanted if m.measuring and not m.by_itself]
    lone = {m.cause for m in wanted if m.key in arms and m not in parts}
    missing = {m.cause for m in parts if m.key not in arms}
    return lone | ({m.cause for m in parts} - missing)


def _read_off(
    trainer: Trainer,
    arms: Sequence[Arm],
    wanted: Sequence[Mend],
    seeds: tuple[int, ...],
) -> list[Arm]:
    """Late controls that lie on another arm's way, so that they cost nothing."""
    chosen = {arm.name for arm in arms}
    found = {
        control.name: control
        for mend in wanted
        if mend.late_control and mend.key in chosen
        for control in with_controls(mend)[1:]
        if control.name not in chosen and trainer.added_cost(arms, control, seeds) <= 0
    }
    return [*found.values()]


def _is_essential(trainer: Trainer, arm: Arm, spent: float, allowance: float) -> bool:
    """Whether an arm is tried even over the allowance: none once it is spent."""
    return spent < 0.2 * allowance and trainer.cost([arm], (0,)) < 0.5 * allowance


def _candidates(wanted: Sequence[Mend]) -> Iterable[tuple[Arm, frozenset[Cause]]]:
    """Arms to screen, with the causes that they serve."""
    by_cause: dict[Cause, list[Mend]] = {}
    for mend in wanted:
        by_cause.setdefault(mend.cause, []).append(mend)
    together = everything(by_cause)
    placed = False
    for mend in wanted:
        if not mend.urgent and not placed and len(together) > 1:
            placed = True
            yield compose(together), frozenset()
        for arm in with_controls(mend)[: 1 if mend.late_control else None]:
            yield arm, frozenset({mend.cause})
    if not placed and len(together) > 1:
        yield compose(together), frozenset()


def _compared_with_spared(trainer: Trainer, screen: Results, noise: float) -> Results:
    """Give up rows left out in turn that are unlike the held-out ones.

    Duplicates, shift or another mix of samples show in how the baseline does on them,
    and, where it does no better than chance on any, in how the best arm does. Wrong
    labels do as well, but what they take from hits may be known.
    """
    if BASELINE not in screen or screen.on_spared() is None:
        return screen
    data = trainer.subject.data
    beside = (
        f"{data.rows['train']} training rows, left out in turn, decide beside the "
        f"{screen.rows.held_out} held-out ones"
    )
    both = _both(screen, BASELINE)
    trainer.better_on_spared = between_rows(*both) if both else None
    unlike = _unlikeness(screen)
    if 0 < noise < MOST_NOISE * (1 - 1 / data.classes):
        corrected = screen.corrected(noise, data.classes)
        if _unlikeness(corrected) < min(unlike, 1.0):
            trainer.noise = noise
            trainer.limit(
                f"{beside}; should {100 * noise:.0f} % of their labels be wrong, that "
                "is allowed for."
            )
            return corrected
    if unlike <= 1:
        trainer.limit(f"{beside}.")
        return screen
    trainer.spared = "ignored"
    return screen.held_out_only()


def _unlikeness(screen: Results) -> float:
    """How differently arms do on rows left out and on held-out ones.

    The baseline, and the arm that does best on held-out rows.
    """
    held_out = screen.held_out_only()
    best = max(screen.arms, key=held_out.accuracy)
    pairs = [(_both(screen, BASELINE), UNLIKE_ERRORS), (_both(screen, best), OF_CHOSEN)]
    found = [unlikeness(*both, errors=errors) for both, errors in pairs if both]
    return max(found, default=np.inf)


def _both(screen: Results, arm: str) -> tuple[Scored, Scored] | None:
    """What an arm does on rows left out, and on held-out ones."""
    spared = screen.on_spared(arm)
    if spared is None:
        return None
    first = screen.rows.held_out
    held_out = screen.arms[arm].correct[:, :first]
    seen = screen.rows_of(len(held_out), arm).seen
    labels = screen.rows.labels
    return (*spared, labels[first:]), (
        held_out,
        None if seen is None else seen[:, :first],
        labels[:first],
    )
