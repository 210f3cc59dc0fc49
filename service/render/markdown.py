"""A report as Markdown, for a pull request or a chat."""

import json
import re

from service.contract.report import Finding, Report
from service.render import figures
from service.render.headline import gate_line, headline

_SPECIAL = re.compile(r"([\\`*\[\]<>#|~]|(?<!\w)_|_(?!\w))")


def render_markdown(report: Report) -> str:
    """Write a report as GitHub-flavoured Markdown."""
    head = headline(report)
    acting = [f for f in report.findings if f.verdict in {"found", "suspected"}]
    lines = [
        f"# {inert(head.verdict)}",
        "",
        *(f"- **{_asked(name)}** {inert(answer)}" for name, answer in head.answers),
        f"- **Gate:** {gate_line(report)}",
        *(f"  - {inert(reason)}" for reason in report.gate.reasons),
        "",
        "| Verdict | Cause | Severity | Gain | Confidence |",
        "| --- | --- | --- | --- | --- |",
        *(_row(finding) for finding in report.findings),
        "",
    ]
    for finding in acting:
        lines += _details(finding)
    if report.recipe.assumed:
        lines += ["## Assumed", ""]
        lines += [
            f"- {inert(name)}: {inert(json.dumps(value))}"
            for name, value in report.recipe.assumed.items()
        ]
        lines.append("")
    if report.limits:
        lines += ["## Limits", "", *(f"- {inert(x)}" for x in report.limits), ""]
    return "\n".join(lines)


def _asked(name: str) -> str:
    return name if name.endswith("?") else f"{name}:"


def inert(text: object) -> str:
    """Escape a text so that it can be neither markup nor a second line."""
    return _SPECIAL.sub(r"\\\1", " ".join(figures.plain(text).split()))


def _row(finding: Finding) -> str:
    acts = finding.verdict in {"found", "suspected"}
    cells = (
        figures.VERDICT_WORDS[finding.verdict]
        + (" (check crashed)" if finding.check == "crashed" else ""),
        figures.cause_words(finding.cause),
        finding.severity if acts else "",
        inert(figures.gain(finding.gain)),
        figures.share(finding.confidence)
        if finding.verdict != "not_applicable"
        else figures.UNKNOWN,
    )
    return "| " + " | ".join(cells) + " |"


def _details(finding: Finding) -> list[str]:
    lines = [
        f"## {figures.cause_title(finding.cause)}",
        "",
        inert(finding.summary),
        "",
        *(f"- {inert(item.statement)}" for item in finding.evidence),
    ]
    if finding.recommendation is not None:
        lines += ["", f"**Do:** {inert(finding.recommendation.text)}"]
        if finding.recommendation.recipe_patch is not None:
            patch = json.dumps(finding.recommendation.recipe_patch)
            lines += ["", "```json", figures.plain(patch), "```"]
    lines.append("")
    return lines
