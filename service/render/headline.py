"""The first screen in words: is it good, why not, what to do, what it brings.

What to do is the primary finding's, and so is what it brings. The repaired model took
its own steps, often others or more; they stand with its own figures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from service.contract.causes import BY_CAUSE, Cause
from service.contract.report import (
    ON_A_PART,
    Finding,
    Gain,
    Interval,
    Remedy,
    Report,
)
from service.render.figures import (
    METRIC_WORDS,
    cause_title,
    cause_words,
    gain,
    share,
    share_interval,
)

FAR_BETTER = 0.1  # balanced accuracy, by which a simple learner beats a model
MOST_UNDECIDED = 0.25  # fraction of the causes tested; beyond, no clean bill


@dataclass(frozen=True)
class Headline:
    """The answers of the first screen.

    Attributes:
        tone: `good`, `bad` or `unsure`; decides the colour and nothing else.
        verdict: a few words.
        score: accuracy and balanced accuracy, with intervals.
        why: the primary cause in plain words.
        remedy: what to do about the primary cause.
        effect: what that alone brings, measured.
        repair: the repaired model, where there is one.
    """

    tone: str
    verdict: str
    score: str
    why: str
    remedy: str
    effect: str
    repair: "Repair | None" = None

    @property
    def answers(self) -> list[tuple[str, str]]:
        """Questions and answers, as forms without pictures show them."""
        why = "Why?" if self.tone == "good" else "Why not?"
        found = [
            ("Is it good?", self.score),
            (why, self.why),
            ("What to do", self.remedy),
            ("What it brings", self.effect),
        ]
        if self.repair is not None:
            found.append(("The repaired model", self.repair.in_one_line))
        return found


@dataclass(frozen=True)
class Repair:
    """The repaired model: what was done to it, and how it does.

    Attributes:
        relation: of its steps to what there is to do.
        steps: imperative sentences.
        scores: its balanced accuracy beside that of the delivered model.
        before: balanced accuracy of the delivered model, where it was measured.
        after: balanced accuracy of the repaired model.
    """

    relation: str
    steps: tuple[str, ...]
    scores: str
    before: Interval | None = None
    after: Interval | None = None

    @property
    def in_one_line(self) -> str:
        """All of it as running text."""
        steps = self.steps
        if len(steps) > 1:
            steps = tuple(f"({n}) {step}" for n, step in enumerate(steps, 1))
        return " ".join(part for part in (self.relation, *steps, self.scores) if part)


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
        effect=_effect(finding),
        repair=_repair(report.remedy, finding),
    )


def _without_cause(report: Report) -> Headline:
    found = with_verdict(report, "found")
    suspected = with_verdict(report, "suspected")
    crashed = [f for f in report.findings if f.check == "crashed"]
    undecided = with_verdict(report, "inconclusive")
    weaker = _than_a_simple_learner(report)
    if found:
        tone, verdict = "bad", f"{len(found)} faults found, none of them primary"
    elif crashed:
        tone, verdict = "unsure", f"Unknown: {len(crashed)} checks crashed"
    elif suspected:
        tone, verdict = "unsure", "Nothing proven, something suspected"
    elif is_mostly_open([finding.verdict for finding in report.findings]):
        tried = len(_mostly_tried(undecided))
        said = f"{tried} gains are too close to call"
        if not tried:
            said = f"{len(undecided)} causes could not be judged"
        tone, verdict = "unsure", f"Undecided: {said}"
    elif weaker and undecided:
        tone, verdict = "unsure", "Undecided: a simple learner does better"
    else:
        tone, verdict = "good", "No fault found"
    named = found or suspected
    if named:
        why = "; ".join(f.summary for f in named[:3])
        if not any(f.gain for f in named):
            why += f" What that costs is not known. {_looked_for(report)}"
        remedy = " ".join(f.recommendation.text for f in named[:3] if f.recommendation)
    else:
        why, remedy = _of_nothing_named(report, tone, weaker)
    if crashed:
        remedy = "Repeat the audit; the crashed checks are listed below."
    return Headline(
        tone=tone,
        verdict=verdict,
        score=_score(report),
        why=why,
        remedy=remedy or "See the findings below.",
        effect=_effect_without_cause(report, tone),
        repair=_repair(report.remedy, named[0] if len(named) == 1 else None),
    )


def _of_nothing_named(report: Report, tone: str, weaker: str) -> tuple[str, str]:
    """Why nothing is named, and what to do."""
    why = f"{weaker} {_looked_for(report)}" if weaker else _looked_for(report)
    if tone == "good":
        return why, "Nothing: keep the model as it is."
    tried = _mostly_tried(with_verdict(report, "inconclusive"))
    if weaker or not tried:
        return why, (
            "Repeat the audit with a larger budget, or mend what kept it from judging: "
            "the limits say which."
        )
    best = max((f.gain for f in tried if f.gain), key=lambda known: known.value)
    return f"{why} The best change tried brings {gain(best)}.", (
        "Nothing that surely helps was found: keep the model as it is, or hold out "
        "more rows, which tell a small gain from none."
    )


def _mostly_tried(undecided: Sequence[Finding]) -> list[Finding]:
    """Undecided causes whose gains were measured, where these are most of them."""
    tried = [finding for finding in undecided if finding.gain is not None]
    return tried if 2 * len(tried) > len(undecided) else []


def _effect_without_cause(report: Report, tone: str) -> str:
    if tone == "good":
        return "Nothing to mend, so nothing to gain."
    if report.remedy is not None:
        return (
            "No single cause is proven; the repaired model brings what is said below."
        )
    return "Not known yet; see the findings."


def _than_a_simple_learner(report: Report) -> str:
    """Say that a simple learner does far better than the model, where one does."""
    for finding in report.findings:
        if finding.cause is not Cause.NO_LEARNABLE_SIGNAL:
            continue
        for evidence in finding.evidence:
            learner, reached = evidence.values.get("best"), _balanced(evidence.values)
            delivered = evidence.values.get("delivered")
            model = _balanced(delivered) if isinstance(delivered, dict) else None
            if reached is None or model is None or reached < model + FAR_BETTER:
                continue
            return (
                f"On the same data {learner} reaches {share(reached)} balanced "
                f"accuracy, the model {share(model)}."
            )
    return ""


def _balanced(values: Mapping[str, JsonValue]) -> float | None:
    score = values.get("balanced_accuracy")
    value = score.get("value") if isinstance(score, dict) else score
    return float(value) if isinstance(value, int | float) else None


def _looked_for(report: Report) -> str:
    """Say of how many causes what is known, where none was found or suspected."""
    counts = [
        (len(with_verdict(report, verdict)), words)
        for verdict, words in (
            ("not_found", "looked for and not found"),
            ("inconclusive", "could not be decided"),
            ("not_applicable", "cannot be judged here"),
        )
    ]
    known = ", ".join(f"{count} {words}" for count, words in counts if count)
    return f"Of {len(report.findings)} causes: {known}."


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


def _effect(finding: Finding) -> str:
    """What the one thing to do brings; never the figures of the repaired model."""
    if finding.gain is None:
        return "Not measurable by retraining."
    known = finding.gain
    return f"{gain(known)} of {METRIC_WORDS[known.metric]}{_how_known(known)}."


def _how_known(known: Gain) -> str:
    """Say what a gain is where it is no plain measurement of the one mend."""
    of_methods = (
        ("within the best combination", " once the other steps are taken"),
        ("extrapolated", ": predicted, not measured"),
        ("training rows that the recipe did not see", " at most: so much it costs"),
    )
    said = next((words for part, words in of_methods if part in known.method), "")
    _, of_a_part, rows = known.method.partition(ON_A_PART)
    return f"{said}, where both train on {rows} only" if of_a_part else said


def _repair(remedy: Remedy | None, finding: Finding | None) -> Repair | None:
    if remedy is None:
        return None
    steps = tuple(remedy.steps)
    before = remedy.before.balanced_accuracy if remedy.before else None
    after = remedy.after.balanced_accuracy if remedy.after else None
    advice = finding.recommendation if finding is not None else None
    return Repair(
        relation=_relation(steps, advice.text if advice else None),
        # What was said a line above need not be said again.
        steps=() if advice is not None and steps == (advice.text,) else steps,
        scores=_scores_of(remedy, before, after),
        before=before,
        after=after,
    )


def _relation(steps: tuple[str, ...], advised: str | None) -> str:
    """Say how the repaired model's steps stand to what there is to do."""
    if advised is None:
        return "It is made by:"
    if steps == (advised,):
        return "It is made by that step."
    if advised not in steps:
        which = "this" if len(steps) == 1 else f"these {len(steps)} steps"
        return f"It is made by {which} instead:"
    others = len(steps) - 1
    which = "another step" if others == 1 else f"{others} other steps"
    return f"It is made by that step and {which}:"


def _scores_of(remedy: Remedy, before: Interval | None, after: Interval | None) -> str:
    if after is None:
        return ""
    text = f"Balanced accuracy {share_interval(after)}"
    if before is not None:
        text = f"Balanced accuracy {share(before.value)} → {share_interval(after)}"
    return text + (f", judged on {remedy.judged_on}." if remedy.judged_on else ".")


def gate_line(report: Report) -> str:
    """Say in a few words how the gate stands, also where faults pass it."""
    if not report.gate.passed:
        return "failed"
    if with_verdict(report, "found"):
        return "passed: no policy that was asked for forbids what was found"
    return "passed"
