"""From what an audit learned to its report."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import JsonValue

from service.contract.causes import BY_CAUSE, CATALOGUE, Cause
from service.contract.recipe import Recipe
from service.contract.report import (
    Environment,
    Finding,
    Gain,
    Gate,
    Performance,
    RecipeUsed,
    Remedy,
    RemedyScores,
    Report,
    ReportArm,
    ReportExperiment,
    Scores,
    Segment,
)
from worker.engine.catalog import CATALOG
from worker.engine.check import Case, Check, Trial, not_applicable
from worker.engine.lab.experiment import (
    Measurement,
    RecipeChange,
    TrainingOutcome,
    unpack_flags,
)
from worker.engine.ledger import Entry, Learned
from worker.engine.recipe import merge_patch
from worker.engine.results import figures
from worker.engine.stats.decisions import Floors
from worker.engine.stats.intervals import (
    balanced_accuracy,
    paired_balanced_accuracy,
    wilson,
)
from worker.engine.subject import Subject
from worker.engine.verdicts import case_for, weigh
from worker.engine.version import ENGINE

LOGGER = logging.getLogger(__name__)
VERDICT_ORDER = ("found", "suspected", "inconclusive", "not_found", "not_applicable")
BROKEN_DELIVERY = (
    Cause.DEGENERATE_WEIGHTS,
    Cause.LABEL_ORDER_MISMATCH,
    Cause.PREPROCESSING_MISMATCH,
    Cause.TRAINING_MODE_LEFT_ON,
)


def conclude(
    subject: Subject,
    learned: Learned,
    header: Mapping[str, Any],
    checks: Sequence[Check] = CATALOG,
) -> Report:
    """Let every check judge, and write the report."""
    trials = weigh(learned, Floors())
    remedy = _remedy(subject, learned)
    delivered = _number(learned.measures.get("delivered", {}), "balanced_accuracy")
    judged = [_judge(check, subject, learned, trials, delivered) for check in checks]
    if learned.subsample is not None and not _bears_out(remedy):
        judged = [_doubted(f, learned.subsample, trials) for f in judged]
    findings = sorted(judged, key=_order)
    primary = _primary(findings, trials)
    equivalent = [c for c, t in trials.items() if t.role == "equivalent"]
    explained = {c: t.explained_by for c, t in trials.items() if t.explained_by}
    limits = [*subject.notes, *learned.ledger.limits]
    if remedy is not None and not _is_worth_giving(remedy, findings, primary):
        remedy = None
        limits.append(
            "A repaired model was trained, but nothing proven stands behind it or it "
            "does no better than the delivered one; it is not given."
        )
    return Report(
        audit_id=header["audit_id"],
        model=header["model"],
        dataset={**header["dataset"], "rows": dict(subject.data.rows)},
        recipe=RecipeUsed(given=subject.given, assumed=subject.assumed),
        environment=Environment(
            engine=ENGINE,
            torch=header["torch"],
            device=header["device"],
            seed=header["seed"],
            sandbox=header.get("sandbox", "unknown"),
        ),
        performance=_performance(learned),
        findings=findings,
        primary_cause=primary,
        equivalent=equivalent if primary in trials else [],
        explained_by=explained if primary in trials else {},
        remedy=remedy,
        experiments=[_experiment(entry) for entry in learned.ledger.entries],
        gate=Gate(passed=True),
        timings=_timings(learned),
        limits=limits,
    )


def _judge(
    check: Check,
    subject: Subject,
    learned: Learned,
    trials: Mapping[Cause, Trial],
    delivered: float,
) -> Finding:
    cause = check.cause
    if cause not in subject.wanted:
        return not_applicable(cause, "it was not asked for")
    if cause in learned.obstacles:
        return not_applicable(cause, learned.obstacles[cause])
    if cause in learned.crashed:
        return crashed(cause, learned.crashed[cause])
    case: Case = case_for(cause, learned, trials, delivered)
    try:
        return check.judge(subject, case)
    except Exception as error:  # one check must not take the others along
        LOGGER.exception("check %s crashed while judging", cause)
        return crashed(cause, f"{type(error).__name__}: {error}")


def crashed(cause: Cause, why: str) -> Finding:
    """A check that failed; never a clean bill."""
    entry = BY_CAUSE[cause]
    return Finding(
        cause=cause,
        group=entry.group,
        verdict="inconclusive",
        summary="The check crashed; this is a defect in model-audit.",
        reason=why[:500],
        check="crashed",
        docs=entry.docs,
    )


def _is_worth_giving(
    remedy: Remedy, findings: Sequence[Finding], primary: Cause | None
) -> bool:
    """Whether a found fault stands behind the repaired model, and it does better."""
    proven = {f.cause for f in findings if f.verdict in ("found", "suspected")}
    better = remedy.gain is None or remedy.gain.value > 0
    return bool(proven) and better and primary is not Cause.NO_LEARNABLE_SIGNAL


def _bears_out(remedy: Remedy | None) -> bool:
    """Whether the repaired model, trained on all rows, does better than delivered."""
    floors = Floors()
    gain = remedy.gain if remedy is not None else None
    if gain is None or gain.low is None:
        return False
    return gain.value >= floors.material / 2 and gain.low > -floors.proven


def _doubted(finding: Finding, rows: int, trials: Mapping[Cause, Trial]) -> Finding:
    """Take back a `found` that only a part of the rows showed.

    What helps on a few rows, such as decay or a smaller network, need not on all.
    """
    trial = trials.get(finding.cause)
    if finding.verdict != "found" or trial is None or trial.role == "none":
        return finding
    more = (
        f" That holds for {rows} training rows; the repaired model, trained on all, "
        "does not bear it out."
    )
    return finding.model_copy(
        update={"verdict": "suspected", "summary": finding.summary + more}
    )


def _order(finding: Finding) -> tuple[int, float, int]:
    gain = finding.gain.value if finding.gain else -1.0
    place = [entry.cause for entry in CATALOGUE].index(finding.cause)
    return VERDICT_ORDER.index(finding.verdict), -gain, place


def _primary(
    findings: Sequence[Finding], trials: Mapping[Cause, Trial]
) -> Cause | None:
    """The cause to name first.

    What is broken in the delivered file comes first where it costs most; then what
    retraining showed; then what no retraining can mend.
    """
    found = {f.cause: f for f in findings if f.verdict == "found"}
    if not found:
        return None
    if Cause.NO_LEARNABLE_SIGNAL in found:
        return Cause.NO_LEARNABLE_SIGNAL
    trained = next((c for c, t in trials.items() if t.role == "primary"), None)
    trained_gain = _gain(found.get(trained)) if trained else -1.0
    broken = [c for c in BROKEN_DELIVERY if c in found]
    if broken:
        worst = max(broken, key=lambda c: _gain(found[c]))
        if _gain(found[worst]) >= trained_gain:
            return worst
    if trained in found:
        data = found.get(Cause.INSUFFICIENT_DATA)
        more_data_is_worth_more = data is not None and _gain(data) > trained_gain
        return Cause.INSUFFICIENT_DATA if more_data_is_worth_more else trained
    return max(found, key=lambda c: _gain(found[c]))


def _gain(finding: Finding | None) -> float:
    return finding.gain.value if finding and finding.gain else 0.0


def _performance(learned: Learned) -> Performance:
    scores = learned.measures.get("delivered", {}).get("scores")
    if not isinstance(scores, dict):
        return Performance(train=None, eval=None)
    held = Scores.model_validate(scores["held_out"])
    segments = learned.measures.get("segments", {}).get("segments")
    if isinstance(segments, list):
        held = held.model_copy(
            update={"segments": [Segment.model_validate(s) for s in segments]}
        )
    return Performance(train=Scores.model_validate(scores["train"]), eval=held)


def _remedy(subject: Subject, learned: Learned) -> Remedy | None:
    entry = learned.remedy
    if entry is None or not isinstance(entry.outcome, TrainingOutcome):
        return None
    labels = subject.labels["final"]
    [arm] = entry.outcome.arms
    kept = next(
        (t for t in arm.trials if t.seed == entry.outcome.kept_seed), arm.trials[0]
    )
    after = unpack_flags(kept.correct, len(labels))
    masks = learned.measures.get("delivered", {}).get("correct")
    before = after
    if isinstance(masks, dict) and isinstance(masks.get("final"), str):
        before = unpack_flags(str(masks["final"]), len(labels))
    pair = paired_balanced_accuracy(before, after, labels)
    patch: dict[str, Any] = {}
    changes = []
    for mend in learned.chosen:
        for change in mend.changes:
            changes.append(change.model_dump(mode="json", exclude_none=True))
            if isinstance(change, RecipeChange):
                patch = merge_patch(patch, change.patch)
    recipe = merge_patch(
        subject.given.model_dump(mode="json", exclude_none=True), patch
    )
    gain = Gain(
        value=pair.value,
        low=pair.low,
        high=pair.high,
        seeds=0,
        method="repaired against delivered model, paired over rows",
    )
    steps = [f"{mend.text}." for mend in learned.chosen] or [
        "Train anew by the same recipe and export those weights."
    ]
    return Remedy(
        recipe=Recipe.model_validate(recipe),
        steps=steps,
        changes=changes,
        before=_scores(before, labels),
        after=_scores(after, labels),
        gain=gain,
        judged_on=f"{len(labels)} held-out rows that no decision looked at",
        model="pending" if entry.outcome.file else None,
    )


def _scores(
    correct: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]
) -> RemedyScores:
    return RemedyScores(
        accuracy=wilson(int(correct.sum()), len(correct)),
        balanced_accuracy=balanced_accuracy(correct, labels),
    )


def _experiment(entry: Entry) -> ReportExperiment:
    experiment, outcome = entry.experiment, entry.outcome
    if isinstance(experiment, Measurement) or not isinstance(outcome, TrainingOutcome):
        return ReportExperiment(
            id=entry.identity,
            kind="measurement",
            question=experiment.question,
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


def _curves(curve: dict[str, Any]) -> dict[str, list[float | None]]:
    return {
        k: [None if v is None else round(v, 5) for v in vs] for k, vs in curve.items()
    }


def _timings(learned: Learned) -> dict[str, float]:
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


def _number(values: Mapping[str, JsonValue], key: str) -> float:
    value = values.get(key)
    return float(value) if isinstance(value, int | float) else 0.0
