"""What was run, as the report shows it: experiments, arms, timings and limits."""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import JsonValue

from service.contract.causes import Cause
from service.contract.report import ReportArm, ReportExperiment
from worker.engine.check import Mend
from worker.engine.combination import parts_of
from worker.engine.lab.experiment import Measurement, TrainingOutcome
from worker.engine.ledger import (
    NOT_REACHED,
    Entry,
    Learned,
    LeftOut,
    Unconfirmed,
    Untried,
)
from worker.engine.results import figures
from worker.engine.wording import AND, STOPPED, arm_words, cause_words, listed

OF_THE_REPAIRED_MODEL = "The repaired model "


def as_reported(entry: Entry) -> ReportExperiment:
    """Show one experiment."""
    experiment, outcome = entry.experiment, entry.outcome
    if isinstance(experiment, Measurement) or not isinstance(outcome, TrainingOutcome):
        return ReportExperiment(
            id=entry.identity,
            kind="measurement",
            question=experiment.question.replace("_", " "),
            round=experiment.round,
            settings={"name": getattr(experiment, "name", "")},
            seconds=outcome.seconds,
        )
    arms = []
    for arm, ran in zip(experiment.arms, outcome.arms, strict=False):
        arms.append(
            ReportArm(
                name=arm.name,
                changes=[
                    c.model_dump(mode="json", exclude_none=True) for c in arm.changes
                ],
                seeds=list(experiment.seeds),
                metrics={
                    **figures(ran),
                    "parameters": ran.parameters,
                    "balanced_accuracy_by_seed": [
                        round(t.balanced_accuracy, 6) for t in ran.trials
                    ],
                    **({"failure": ran.failure} if ran.failure else {}),
                },
                curves=_curves(ran.trials[0].curve.model_dump()) if ran.trials else {},
            )
        )
    settings: dict[str, JsonValue] = {
        "rows": outcome.rows,
        "split": experiment.split,
        "rows_asked": experiment.rows,
        "folds": experiment.folds,
    }
    return ReportExperiment(
        id=entry.identity,
        kind="training",
        question=experiment.question,
        round=experiment.round,
        settings=settings,
        arms=arms,
        seconds=outcome.seconds,
    )


def timings_of(learned: Learned) -> dict[str, float]:
    """Add up seconds by round, and the steps of all trainings."""
    found: dict[str, float] = {}
    steps = 0
    for entry in learned.ledger.entries:
        stage = entry.experiment.round
        found[stage] = found.get(stage, 0.0) + entry.outcome.seconds
        if isinstance(entry.outcome, TrainingOutcome):
            steps += entry.outcome.member_steps
    return {
        **{k: round(v, 3) for k, v in found.items()},
        "experiments": round(learned.ledger.seconds, 3),
        "training_steps": float(steps),
    }


def limits_of(learned: Learned, *, has_remedy: bool) -> list[str]:
    """Say in words what keeps the audit from saying more.

    Args:
        learned: holds the remarks of the rounds, which name arms and causes as the
            rounds do.
        has_remedy: whether a repaired model is given; else nothing is said of it.
    """
    texts = {mend.key: mend.text for mend in _mends(learned)}
    remarks = list(dict.fromkeys(learned.ledger.limits))
    untried = [remark.arm for remark in remarks if isinstance(remark, Untried)]
    found = [
        _in_words(remark, texts)
        for remark in remarks
        if not isinstance(remark, Untried)
        and (has_remedy or not _is_of_the_repaired_model(remark))
    ]
    found += _untried(untried, texts)
    unreached = [
        cause
        for cause, why in learned.skipped.items()
        if why == NOT_REACHED and not _was_trained(learned, cause)
    ]
    if unreached:
        named = listed([cause_words(cause) for cause in unreached])
        found.append(f"Not tried: {named} ({NOT_REACHED}).")
    return list(dict.fromkeys(_stops_as_one(found)))


def _stops_as_one(said: Sequence[str]) -> list[str]:
    """Say once how far trainings came that the budget stopped."""
    stops = [text for text in said if text.startswith(STOPPED)]
    if len(stops) < 2:  # noqa: PLR2004 - nothing to put together
        return list(said)
    shares = sorted(int(text[len(STOPPED) :].split("%")[0]) for text in stops)
    whole = (
        "Trainings were stopped by the budget, at "
        f"{listed([str(share) for share in shares])} % of their updates."
    )
    return [*(text for text in said if not text.startswith(STOPPED)), whole]


def _was_trained(learned: Learned, cause: Cause) -> bool:
    """Whether a later round had time for what the screen had none for."""
    if learned.confirm is None:
        return False
    keys = {mend.key for mend in learned.mends.get(cause, ())}
    return any(keys & parts_of(arm) for arm in learned.confirm.arms)


def _is_of_the_repaired_model(remark: str | Unconfirmed | LeftOut) -> bool:
    return isinstance(remark, str) and remark.startswith(OF_THE_REPAIRED_MODEL)


def _untried(arms: Sequence[str], texts: dict[str, str]) -> list[str]:
    """Say what there was no time for: changes, then combinations of several."""
    alone = [arm_words(arm, texts) for arm in arms if AND not in arm]
    found = [f"There was no time to try: {'; '.join(alone)}."] if alone else []
    several = [arm for arm in arms if AND in arm]
    if len(several) == 1:
        words = arm_words(several[0], texts)
        found.append(f"There was no time to try together: {words}.")
    elif several:
        parts = dict.fromkeys(part for arm in several for part in arm.split(AND))
        words = "; ".join(arm_words(part, texts) for part in parts)
        found.append(
            f"There was no time to try {len(several)} combinations of these changes: "
            f"{words}."
        )
    return found


def _in_words(remark: str | Unconfirmed | LeftOut, texts: dict[str, str]) -> str:
    match remark:
        case Unconfirmed(arm, kept):
            return (
                f"Of these changes ({arm_words(arm, texts)}) there was no time to "
                f"confirm more than: {arm_words(kept, texts)}."
            )
        case LeftOut(arm, why):
            return f"This was left out ({arm_words(arm, texts)}): {why}."
    first = remark.split(maxsplit=1)[:1]
    is_prose = bool(first) and first[0].isalpha()  # no identifier
    whole = remark[:1].upper() + remark[1:] if is_prose else remark
    return whole if whole.endswith((".", "!", "?")) else f"{whole}."


def _mends(learned: Learned) -> Iterable[Mend]:
    for options in learned.mends.values():
        yield from options
    yield from learned.best.values()
    for several in (learned.together, learned.chosen, learned.repaired):
        yield from several


def _curves(curve: dict[str, Any]) -> dict[str, list[float | None]]:
    return {
        k: [None if v is None else round(v, 5) for v in vs] for k, vs in curve.items()
    }
