"""What was run, as the report shows it: experiments, arms, timings and limits."""

import re
from collections.abc import Iterable
from typing import Any

from pydantic import JsonValue

from service.contract.causes import Cause
from service.contract.report import ReportArm, ReportExperiment
from worker.engine.check import Mend
from worker.engine.lab.experiment import Measurement, TrainingOutcome
from worker.engine.ledger import Entry, Learned
from worker.engine.results import figures
from worker.engine.wording import arm_words, listed

# As the rounds say it, with names of arms and causes.
_ARM = re.compile(r"(?P<arm>.+) was not reached within the budget\.$")
_LEFT_OUT = re.compile(r"(?P<arm>.+?) was left out: (?P<why>.+)$")
_CONFIRMED = re.compile(
    r"There was no time to confirm more than (?P<kept>.+) of (?P<arm>.+)\.$"
)
_CAUSE = re.compile(rf"(?P<cause>{'|'.join(Cause)}): (?P<why>.+)\.$")
_ROWS = re.compile(r"Trained on (\d+) training rows")
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
    found: list[str] = []
    unreached: dict[str, list[str]] = {}
    for remark in learned.ledger.limits:
        if cause := _CAUSE.match(remark):
            named = cause["cause"].replace("_", " ")
            unreached.setdefault(cause["why"], []).append(named)
        elif remark.startswith(OF_THE_REPAIRED_MODEL) and not has_remedy:
            continue
        elif (rows := _ROWS.match(remark)) and int(rows[1]) == learned.subsample:
            continue  # said of all experiments already
        else:
            found.append(_in_words(remark, texts))
    for why, causes in unreached.items():
        found.append(f"Not tried: {listed(causes)} ({why}).")
    return list(dict.fromkeys(found))


def _in_words(remark: str, texts: dict[str, str]) -> str:
    if part := _CONFIRMED.match(remark):
        return (
            f"Of these changes ({arm_words(part['arm'], texts)}) there was no time to "
            f"confirm more than: {arm_words(part['kept'], texts)}."
        )
    if part := _ARM.match(remark):
        together = " together" if " + " in part["arm"] else ""
        return f"There was no time to try{together}: {arm_words(part['arm'], texts)}."
    if part := _LEFT_OUT.match(remark):
        return f"This was left out ({arm_words(part['arm'], texts)}): {part['why']}"
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
