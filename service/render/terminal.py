"""A report in a terminal: the same answers and figures as the page, through rich."""

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from service.contract.comparison import Comparison, FindingChange
from service.contract.report import Report
from service.render import figures
from service.render.headline import gate_line, headline

COLOURS = {"good": "green", "bad": "red", "unsure": "yellow"}
VERDICT_COLOURS = {
    "found": "bold red",
    "suspected": "yellow",
    "inconclusive": "yellow",
    "not_found": "green",
    "not_applicable": "dim",
}


def print_report(console: Console, report: Report, *, shows_all: bool = False) -> None:
    """Print the first screen, the findings and the gate.

    Args:
        console: where to.
        report: what.
        shows_all: also list the causes that were cleared or not judged.
    """
    head = headline(report)
    answers = Table.grid(padding=(0, 2))
    answers.add_column(style="dim", no_wrap=True)
    answers.add_column()
    for question, answer in head.answers:
        answers.add_row(question, inert(answer))
    colour = COLOURS[head.tone]
    title = inert(head.verdict, f"bold {colour}")
    console.print(Panel(Group(title, Text(), answers), border_style=colour))
    console.print(findings_table(report, shows_all=shows_all))
    for limit in report.limits:
        console.print(inert(f"Limit: {limit}", "dim"))
    print_gate(console, report)


def print_gate(console: Console, report: Report) -> None:
    """Print whether the gate passed, and why not."""
    line = gate_line(report)
    colours = {"passed": "bold green", "failed": "bold red"}
    console.print(Text(f"Gate {line}", colours.get(line, "yellow")))
    for reason in report.gate.reasons:
        console.print(inert(f"  {reason}"))


def findings_table(report: Report, *, shows_all: bool = False) -> Table:
    """List the findings in the report's order."""
    columns = ("Verdict", "Cause", "Severity", "Gain, points (95 %)", "Sure")
    table = bare_table(*columns, no_wrap=True)
    quiet = {"not_found", "not_applicable"}
    left_out = 0
    for finding in report.findings:
        crashed = finding.check == "crashed"
        if finding.verdict in quiet and not crashed and not shows_all:
            left_out += 1
            continue
        acts = finding.verdict in {"found", "suspected"}
        words = figures.VERDICT_WORDS[finding.verdict]
        colour = VERDICT_COLOURS[finding.verdict]
        table.add_row(
            Text("crashed", "bold red") if crashed else Text(words, colour),
            Text(
                figures.cause_words(finding.cause)
                + (" (primary)" if finding.cause == report.primary_cause else "")
            ),
            Text(finding.severity if acts else ""),
            Text(figures.gain(finding.gain).replace(" points", "", 1)),
            Text(
                figures.share(finding.confidence)
                if finding.verdict != "not_applicable"
                else figures.UNKNOWN
            ),
        )
    if left_out:
        table.caption = f"{left_out} more causes: not found or not applicable"
        table.caption_justify = "left"
    return table


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print what changed between two audits."""
    table = bare_table("Score", "Before", "After", "Difference (95 %)", "")
    for change in comparison.metrics:
        table.add_row(
            Text(f"{figures.METRIC_WORDS[change.metric]}, {change.split}"),
            Text(figures.metric(change.metric, change.before)),
            Text(figures.metric(change.metric, change.after)),
            Text(figures.metric(change.metric, change.difference)),
            Text("beyond noise" if change.beyond_noise else "within noise"),
        )
    for words, changes in (
        ("Appeared", comparison.appeared),
        ("Went away", comparison.went_away),
        ("Grew", comparison.grew),
        ("Shrank", comparison.shrank),
        ("Unchanged", comparison.unchanged),
        ("Undecided", comparison.undecided),
    ):
        for moved in changes:
            console.print(Text(f"{words}: {_change_words(moved)}"))
    console.print(table)


def bare_table(*columns: str, no_wrap: bool = False) -> Table:
    """Make a table of columns without lines."""
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name, no_wrap=no_wrap)
    return table


def inert(text: object, style: str = "") -> Text:
    """Make a text that can neither be markup nor steer the terminal."""
    return Text(figures.plain(text), style)


def _change_words(change: FindingChange) -> str:
    return (
        f"{figures.cause_words(change.cause)} "
        f"({figures.gain(change.gain_before)} → {figures.gain(change.gain_after)})"
    )
