"""The rounds of an audit: outcomes so far -> next experiments, or what was learned.

`advance` is pure. It replays the rounds, which are written straight down as one
generator, against the outcomes at hand, and stops at the first experiment that is
missing. So an audit can stop, move to another machine and go on.

    inspect   measurements of weights, data and the delivered model
    screen    the baseline and every mend, few paired seeds
    interact  which mends are needed together, by adding to and taking from the best
    confirm   survivors on fresh seeds, corrected for all that was tried
    remedy    the best combination, judged once on rows no decision looked at
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from service.contract.causes import Cause
from worker.engine.catalog import CATALOG
from worker.engine.check import Check, Measures, Mend, delivered_score, noise_rate
from worker.engine.choices import (
    best_of_each,
    has_signal,
    retraining_helps,
    trained_alone,
    with_rivals,
)
from worker.engine.confirmation import Confirmation
from worker.engine.doubted_labels import SECOND_LOOK
from worker.engine.inspection import inspect, weigh_networks
from worker.engine.interaction import Interaction
from worker.engine.judging import judge_all
from worker.engine.lab.experiment import (
    ArmOutcome,
    Experiment,
    Measurement,
    MeasurementOutcome,
    Outcome,
    TrainingOutcome,
)
from worker.engine.leaked_rows import on_these_rows, rows_that_count, said_of
from worker.engine.ledger import Ask, Learned, Round, Step, side_by_side
from worker.engine.mended_delivery import mend_the_delivery
from worker.engine.other_form import show_in_other_form
from worker.engine.refinement import refine
from worker.engine.repair import repair
from worker.engine.reproduction import reproduce
from worker.engine.results import BASELINE
from worker.engine.screening import (
    at_full_length,
    look_again,
    may_borrow,
    screen_mends,
)
from worker.engine.second_look import look_at_labels_again
from worker.engine.shown import OTHER_FORM
from worker.engine.subject import Subject
from worker.engine.symptoms import missing_by_far, unlikely_causes
from worker.engine.trainer import Trainer

LOGGER = logging.getLogger(__name__)

FRACTIONS: dict[str, float] = {
    "inspect": 0.02,
    "screen": 0.15,
    "interact": 0.5,
    "confirm": 0.65,
    "remedy": 0.88,
    "report": 0.97,
}
NOT_RUN = "the audit was cancelled before"
CANCELLED = (
    "The audit was cancelled: this report says what the experiments show that were "
    "done by then, and nothing was trained afterwards."
)


def advance(
    subject: Subject,
    outcomes: Mapping[str, Outcome],
    checks: Sequence[Check] = CATALOG,
    *,
    is_cancelled: bool = False,
) -> Step:
    """Say what is needed next.

    Args:
        subject: what is audited.
        outcomes: by the experiments' digests.
        checks: the causes to judge.
        is_cancelled: ask for nothing; say what was learned from the outcomes at hand.
    """
    rounds = audit(subject, checks)
    try:
        ask = next(rounds)
        while True:
            asked = {e.digest(): e for e in ask.experiments}
            missing = [e for digest, e in asked.items() if digest not in outcomes]
            if missing and not is_cancelled:
                return _what_is_missing(ask, missing)
            ask = rounds.send(
                {
                    digest: outcomes[digest] if digest in outcomes else _not_run(e)
                    for digest, e in asked.items()
                }
            )
    except StopIteration as end_of_rounds:
        learned: Learned = end_of_rounds.value
        if is_cancelled:
            learned.ledger.entries = [
                e
                for e in learned.ledger.entries
                if any(d in outcomes for d in e.digests)
            ]
            learned.ledger.limits.insert(0, CANCELLED)
        return Step(
            stage="report",
            fraction=FRACTIONS["report"],
            detail="writing the report",
            learned=learned,
        )


def _what_is_missing(ask: Ask, missing: Sequence[Experiment]) -> Step:
    share = 1 - len(missing) / max(1, len(ask.experiments))
    order = list(FRACTIONS)
    begin = FRACTIONS[ask.stage]
    end = FRACTIONS[order[order.index(ask.stage) + 1]]
    return Step(
        stage=ask.stage,
        fraction=begin + share * (end - begin),
        detail=ask.detail,
        experiments=tuple(missing),
    )


def _not_run(experiment: Experiment) -> Outcome:
    """Stand in for an outcome that a cancelled audit never had: nothing came out."""
    if isinstance(experiment, Measurement):
        return MeasurementOutcome(values={})
    arms = [ArmOutcome(name=arm.name, failure=NOT_RUN) for arm in experiment.arms]
    return TrainingOutcome(arms=tuple(arms), seconds=0.0, member_steps=0, rows=0)


def audit(subject: Subject, checks: Sequence[Check] = CATALOG) -> Round[Learned]:
    """Run the rounds; yields what to do, returns what was learned."""
    trainer = Trainer(subject)
    checks = [check for check in checks if check.cause in subject.wanted]
    learned = yield from _train(trainer, checks)
    findings, _ = judge_all(subject, learned, checks)
    mended = yield from mend_the_delivery(trainer, findings, learned.measures)
    return replace(learned, mended=mended)


def _train(trainer: Trainer, checks: Sequence[Check]) -> Round[Learned]:
    """Run all rounds that look for faults of data, network and training."""
    subject = trainer.subject
    measures = yield from inspect(trainer)
    trainer.counted = counted = rows_that_count(subject, measures)
    if counted:
        trainer.limit(said_of(counted))
    measures = on_these_rows(subject, measures, counted)
    obstacles = obstacles_of(subject, checks)
    able = [check for check in checks if check.cause not in obstacles]
    mends, crashed = propose(subject, able, measures)
    learned = Learned(
        measures=measures,
        counted=counted,
        obstacles=obstacles,
        mends=mends,
        ledger=trainer.ledger,
        signal=has_signal(subject, measures, None),
        crashed=crashed,
    )
    if subject.untrainable is not None:
        return replace(learned, skipped=trainer.not_anew(mends, subject.untrainable))
    trainer.arms = 1 + sum(len(options) for options in mends.values())
    trainer.missing = missing_by_far(measures)
    if (why := trainer.too_slow) is not None:
        return replace(learned, skipped=trainer.not_anew(mends, why))

    _, retrained = yield from side_by_side(
        weigh_networks(trainer, mends), reproduce(trainer, measures)
    )
    if form := (yield from show_in_other_form(trainer, measures, retrained)):
        measures = {**measures, OTHER_FORM: form}
        learned = replace(learned, measures=measures)
    trainer.limit_effort()
    mends = at_full_length(trainer, mends)
    if may_borrow(trainer, mends, measures):
        trainer.spared = "decide"
    noise = noise_rate(measures) if mends.get(Cause.LABEL_NOISE) else 0.0
    unlikely = unlikely_causes(measures, retrained)
    delivered = delivered_score(measures, "balanced_accuracy")
    screen, skipped = yield from screen_mends(
        trainer, mends, noise, unlikely, delivered=delivered
    )

    if BASELINE not in screen:
        return replace(learned, mends=mends, subsample=trainer.rows, skipped=skipped)

    screen = yield from look_again(trainer, screen, mends, delivered)
    interaction = Interaction(trainer, screen)
    yield from interaction.follow(mends)
    mends = with_rivals(screen, mends)
    best = best_of_each(screen, mends)
    hoped = yield from interaction.combine(mends, best)

    confirmation = Confirmation(trainer, screen, mends)
    together = confirmation.affordable(hoped)
    # What the combination uses of a cause stands for it, if not the best alone.
    liked, best = best, {**best, **{mend.cause: mend for mend in together}}
    confirm = yield from confirmation.confirm(together, best)
    confirm, narrowed = yield from confirmation.narrow(confirm, together, best)
    chosen = confirmation.settle(confirm, narrowed, best)
    yield from confirmation.measure_alone(confirm, together, chosen)

    repaired = confirmation.enriched(confirm, together, chosen, best)
    repaired = confirmation.as_hoped(hoped, repaired)
    anew = retraining_helps(measures, confirm or screen, trainer.floors)
    again = yield from look_at_labels_again(trainer, repaired, measures)
    if again.answers:
        measures = {**measures, SECOND_LOOK: again.values}
    repaired = yield from refine(
        trainer, repaired, mends, screen, anew=anew, more=again.answers
    )
    remedy = yield from repair(trainer, repaired, anew=anew)
    return replace(
        learned,
        measures=measures,
        mends=mends,
        screen=screen,
        confirm=confirm,
        together=together,
        narrowed=narrowed,
        chosen=chosen,
        repaired=repaired,
        best=trained_alone(best, liked, (screen, confirm)),
        remedy=remedy,
        signal=has_signal(subject, measures, screen),
        subsample=trainer.rows,
        skipped=skipped,
        better_on_spared=trainer.better_on_spared,
        room=screen.room(trainer.floors.absence_level),
    )


def obstacles_of(subject: Subject, checks: Sequence[Check]) -> dict[Cause, str]:
    """Causes that cannot be judged, and why."""
    found = {}
    for check in checks:
        why = check.obstacle(subject)
        if why is not None:
            found[check.cause] = why
    return found


def propose(
    subject: Subject, checks: Sequence[Check], measures: Measures
) -> tuple[dict[Cause, Sequence[Mend]], dict[Cause, str]]:
    """Gather what the checks want tried.

    Returns:
        Their mends, and how those crashed that did, both by cause.
    """
    mends: dict[Cause, Sequence[Mend]] = {}
    crashed: dict[Cause, str] = {}
    for check in checks:
        try:
            mends[check.cause] = check.mends(subject, measures)
        except Exception as error:  # one check must not take the others along
            LOGGER.exception("check %s crashed while planning", check.cause)
            crashed[check.cause] = f"{type(error).__name__}: {error}"
    return mends, crashed
