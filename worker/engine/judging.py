"""What every check says of its cause, once the rounds have learned what they can."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from graphlib import TopologicalSorter

from service.contract.causes import BY_CAUSE, Cause
from service.contract.report import Finding
from worker.engine.check import (
    Case,
    Check,
    Trial,
    delivered_score,
    not_applicable,
)
from worker.engine.ledger import Learned
from worker.engine.stats.decisions import Floors
from worker.engine.subject import Subject
from worker.engine.verdicts import case_for, weigh
from worker.engine.wording import cause_words

LOGGER = logging.getLogger(__name__)

SHARED = 0.5  # of the smaller of two gains, that the other brings as well


def judge_all(
    subject: Subject, learned: Learned, checks: Sequence[Check]
) -> tuple[list[Finding], dict[Cause, Trial]]:
    """Judge every cause.

    A gain may be proven and its check name no fault: labels that look wrong where
    classes overlap. Such a cause explains no other; these are judged without it.

    Returns:
        The findings, and what trainings say of each cause.
    """
    declined: dict[Cause, Finding] = {}
    while True:
        trials = weigh(learned, Floors(), declined.keys())
        found = {f.cause: f for f in _findings(subject, learned, checks, trials)}
        found |= declined
        lead = next((c for c, t in trials.items() if t.role == "primary"), None)
        if lead is None or lead not in found or not _is_declined(lead, trials, found):
            found = _either_delivery(found, learned)
            return [found[check.cause] for check in checks], trials
        declined[lead] = found[lead]


def _either_delivery(
    found: dict[Cause, Finding], learned: Learned
) -> dict[Cause, Finding]:
    """Name one of two faults of the delivery where mending either leaves no room.

    Where classes differ by what another form exchanges, that form and another order of
    the outputs bring the same, and both together nothing.
    """
    causes = (Cause.PREPROCESSING_MISMATCH, Cause.LABEL_ORDER_MISMATCH)
    named = [found[cause] for cause in causes if cause in found]
    gains = [f.gain.value for f in named if f.verdict == "found" and f.gain]
    delivered = delivered_score(learned.measures, "balanced_accuracy") or 0.0
    if len(gains) < len(causes):
        return found
    if sum(gains) - (1 - delivered) < SHARED * min(gains):
        return found  # there is room for both
    kept, other = sorted(named, key=lambda f: -f.gain.value if f.gain else 0.0)
    summary = (
        f"{other.summary} Mending “{cause_words(kept.cause)}” brings as much, or more, "
        "and both together undo each other: mend one of them."
    )
    update = {"verdict": "suspected", "summary": summary}
    return {**found, other.cause: other.model_copy(update=update)}


def _is_declined(
    lead: Cause, trials: Mapping[Cause, Trial], found: Mapping[Cause, Finding]
) -> bool:
    """Whether the greatest proven gain is no fault, nor is any other named."""
    is_named = any(
        found[cause].verdict == "found"
        for cause, trial in trials.items()
        if trial.role != "none" and cause in found
    )
    if is_named or found[lead].verdict != "suspected":
        return False
    gain = found[lead].gain
    return gain is not None and gain.value >= Floors().fault


def _findings(
    subject: Subject,
    learned: Learned,
    checks: Sequence[Check],
    trials: Mapping[Cause, Trial],
) -> list[Finding]:
    """Judge every cause, each after those whose findings it looks at."""
    delivered = delivered_score(learned.measures, "balanced_accuracy") or 0.0
    findings: dict[Cause, Finding] = {}
    by_cause = {check.cause: check for check in checks}
    order = TopologicalSorter({c.cause: getattr(c, "after", ()) for c in checks})
    for check in (by_cause[c] for c in order.static_order() if c in by_cause):
        finding = _not_judged(check.cause, subject, learned)
        if finding is None:
            case = case_for(check.cause, learned, trials, delivered)
            finding = _judge(check, subject, replace(case, judged=dict(findings)))
        findings[check.cause] = finding
    return [findings[check.cause] for check in checks]


def _not_judged(cause: Cause, subject: Subject, learned: Learned) -> Finding | None:
    """What is said of a cause that cannot be judged; None of one that can."""
    if cause not in subject.wanted:
        return not_applicable(cause, "it was not asked for")
    if cause in learned.obstacles:
        return not_applicable(cause, learned.obstacles[cause])
    if cause in learned.crashed:
        return crashed(cause, learned.crashed[cause])
    return None


def _judge(check: Check, subject: Subject, case: Case) -> Finding:
    try:
        return check.judge(subject, case)
    except Exception as error:  # one check must not take the others along
        LOGGER.exception("check %s crashed while judging", check.cause)
        return crashed(check.cause, f"{type(error).__name__}: {error}")


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
