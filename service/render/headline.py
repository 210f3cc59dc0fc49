"""The first screen in words: is it good, why not, what to do, what it brings."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.contract.causes import BY_CAUSE, Cause
from service.contract.report import Finding, Interval, Report
from service.render.figures import (
    cause_title,
    cause_words,
    gain,
    share,
    share_interval,
)

MOST_UNDECIDED = 0.25  # fraction of the causes tested; beyond, no clean bill


@dataclass(frozen=True)
class Headline:
    """The four answers of the first screen.

    Attributes:
        tone: `good`, `bad` or `unsure`; decides the colour and nothing else.
        verdict: a few words.
        score: accuracy and balanced accuracy, with intervals.
        why: the primary cause in plain words.
        remedy: what to do.
        effect: what it brings, measured.
        before: balanced accuracy before mending, where it was measured.
        after: balanced accuracy after mending, where it was measured.
    """

    tone: str
    verdict: str
    score: str
    why: str
    remedy: str
    effect: str
    before: Interval | None = None
    after: Interval | None = None


def primary_finding(report: Report) -> Finding | None:
    """Find the finding of the primary cause."""
    for finding in report.findings:
        if finding.cause == report.primary_cause:
            return finding
    return None


def with_verdict(report: Report, verdict: str) -> list[Finding]:
    """List the findings that have a verdict, in the report's order."""
    return [finding for finding in report.findings if finding.verdict == verdict]


def is_mostly_open(verdicts: Sequence[str]) -> bool:
    """Tell whether too much was left undecided to speak of a healthy model."""
    undecided = verdicts.count("inconclusive")
    return undecided > MOST_UNDECIDED * (undecided + verdicts.count("not_found"))


def headline(report: Report) -> Headline:
    """Put a report into four answers."""
    finding = primary_finding(report)
    if finding is None:
        return _without_cause(report)
    before, after = _before_and_after(report)
    found = with_verdict(report, "found")
    others = len(found) - 1
    verdict = cause_title(finding.cause)
    if others > 0:
        verdict += f", and {others} more fault{'s' if others > 1 else ''}"
    return Headline(
        tone="bad" if finding.verdict == "found" else "unsure",
        verdict=verdict,
        score=_score(report),
        why=_why(report, finding),
        remedy=_remedy(report, finding),
        effect=_effect(report, finding, before, after),
        before=before,
        after=after,
    )


def _without_cause(report: Report) -> Headline:
    found = with_verdict(report, "found")
    suspected = with_verdict(report, "suspected")
    crashed = [f for f in report.findings if f.check == "crashed"]
    undecided = with_verdict(report, "inconclusive")
    judged = sum(f.verdict == "not_found" for f in report.findings)
    if found:
        tone, verdict = "bad", f"{len(found)} faults found, none of them primary"
    elif crashed:
        tone, verdict = "unsure", f"Unknown: {len(crashed)} checks crashed"
    elif suspected:
        tone, verdict = "unsure", "Nothing proven, something suspected"
    elif is_mostly_open([finding.verdict for finding in report.findings]):
        tone = "unsure"
        verdict = f"Undecided: {len(undecided)} causes could not be judged"
    else:
        tone, verdict = "good", "No fault found"
    named = found or suspected
    if named:
        why = "; ".join(f.summary for f in named[:3])
        remedy = " ".join(f.recommendation.text for f in named[:3] if f.recommendation)
    else:
        judged = sum(f.verdict == "not_found" for f in report.findings)
        why = f"{judged} causes were tested and none of them costs accuracy" + (
            f"; {len(undecided)} could not be decided." if undecided else "."
        )
        remedy = (
            "Nothing: keep the model as it is."
            if tone == "good"
            else "Repeat the audit with a larger budget, or mend what kept it from "
            "judging: the limits say which."
        )
    if crashed:
        remedy = "Repeat the audit; the crashed checks are listed below."
    return Headline(
        tone=tone,
        verdict=verdict,
        score=_score(report),
        why=why,
        remedy=remedy or "See the findings below.",
        effect="Nothing to mend, so nothing to gain."
        if tone == "good"
        else "Not known yet; see the findings.",
    )


def _score(report: Report) -> str:
    scores = report.performance.eval or report.performance.train
    if scores is None:
        return "The delivered model could not be scored."
    return (
        f"{share_interval(scores.accuracy)} accuracy, "
        f"{share_interval(scores.balanced_accuracy)} balanced, on {scores.n:,} "
        f"{'held-out' if report.performance.eval else 'training'} samples"
    )


def _why(report: Report, finding: Finding) -> str:
    text = finding.summary or BY_CAUSE[finding.cause].says
    explained = [
        cause_words(cause)
        for cause, by in report.explained_by.items()
        if by == finding.cause
    ]
    if explained:
        text += f" It also explains: {', '.join(explained)}."
    return text


def _remedy(report: Report, finding: Finding) -> str:
    text = (
        finding.recommendation.text
        if finding.recommendation
        else BY_CAUSE[finding.cause].recommends
    )
    if report.equivalent:
        text += f" Mending {_either(report.equivalent)} instead does as well."
    return text


def _either(causes: list[Cause]) -> str:
    return " or ".join(f"“{cause_words(cause)}”" for cause in causes)


def _before_and_after(report: Report) -> tuple[Interval | None, Interval | None]:
    remedy = report.remedy
    if remedy is None or remedy.before is None or remedy.after is None:
        return None, None
    return remedy.before.balanced_accuracy, remedy.after.balanced_accuracy


def _effect(
    report: Report, finding: Finding, before: Interval | None, after: Interval | None
) -> str:
    if before is not None and after is not None:
        where = report.remedy.judged_on if report.remedy else ""
        return f"Balanced accuracy {share(before.value)} → {share(after.value)}" + (
            f", judged on {where}" if where else ""
        )
    if finding.gain is not None:
        return f"{gain(finding.gain)} of {finding.gain.metric.replace('_', ' ')}"
    return "Not measurable by retraining."


def gate_line(report: Report) -> str:
    """Say in a few words how the gate stands, also where faults pass it."""
    if not report.gate.passed:
        return "failed"
    if with_verdict(report, "found"):
        return "passed: no policy that was asked for forbids what was found"
    return "passed"
