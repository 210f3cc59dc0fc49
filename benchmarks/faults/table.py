"""Rows in, markdown out."""

from collections.abc import Callable, Sequence
from statistics import median, quantiles
from typing import Any

from benchmarks.faults import figures
from benchmarks.faults.figures import Row, Share

_FIGURES: tuple[tuple[str, str, Callable[[Sequence[Row]], Share]], ...] = (
    ("faulty programs with anything found", "", figures.detection),
    ("primary cause right, strict", "", figures.primary),
    (
        "primary cause right, equivalents accepted",
        "≥ .90",
        figures.primary_with_equivalents,
    ),
    ("recall over all causes, strict", "≥ .75", figures.recall),
    ("precision over all causes, strict", "≥ .75", figures.precision),
    ("recall, with equivalents", "≥ .90", figures.recall_with_equivalents),
    ("precision, with equivalents", "≥ .90", figures.precision_with_equivalents),
)


def _groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    groups = {"all": list(rows)}
    for name, key in (
        ("tuning", "half"),
        ("held_out", "half"),
        ("open", "suite"),
        ("seeded", "suite"),
    ):
        chosen = [row for row in rows if row[key] == name]
        if chosen:
            groups[name.replace("_", " ")] = chosen
    return groups


def summary(rows: Sequence[Row], table: dict[str, dict[str, Any]]) -> str:
    """Make the table of figures, a column a group of cases.

    Args:
        rows: of audits.
        table: of `cases.json`.
    """
    best = best_known(table)
    confirmed = {name: row.get("confirmed", []) for name, row in table.items()}
    groups = _groups([row for row in rows if row["status"] == "ok"] + _misses(rows))
    lines = [
        "| figure | target | " + " | ".join(groups) + " |",
        "| --- | --- |" + " --- |" * len(groups),
    ]

    def add(name: str, target: str, cells: list[str]) -> None:
        lines.append(f"| {name} | {target} | " + " | ".join(cells) + " |")

    for name, target, figure in _FIGURES:
        add(
            name,
            target,
            [
                str(figure([row for row in group if row["causes"]]))
                for group in groups.values()
            ],
        )
    add(
        "the same, and what the referee confirmed",
        "",
        [
            str(
                figures.precision_confirmed(
                    [row for row in group if row["causes"]], confirmed
                )
            )
            for group in groups.values()
        ],
    )
    add(
        "healthy audits with any `found`",
        "≤ .05",
        [
            str(figures.false_alarms([row for row in group if not row["causes"]]))
            for group in groups.values()
        ],
    )
    add(
        "the same, less what the referee confirmed",
        "",
        [
            str(
                figures.unconfirmed_alarms(
                    [row for row in group if not row["causes"]], confirmed
                )
            )
            for group in groups.values()
        ],
    )
    add(
        "≥ 90 % of the best known gain recovered, hidden rows",
        "≥ .90",
        [
            str(figures.recovery([row for row in group if row["causes"]], best))
            for group in groups.values()
        ],
    )
    for name, key in (("audit", "seconds"), ("first round", "seconds_inspected")):
        add(
            f"seconds, {name}: median / 95th / most",
            "",
            [
                _times([row[key] for row in group if key in row])
                for group in groups.values()
            ],
        )
    return "\n".join([*lines, "", _tally(rows)])


def _misses(rows: Sequence[Row]) -> list[Row]:
    """A failed audit of a faulty program has found nothing, and that counts."""
    nothing: Row = {
        "primary": None,
        "found": [],
        "equivalent": [],
        "explained_by": {},
        "findings": {},
    }
    return [
        {**nothing, **row}
        for row in rows
        if row["status"] == "failed" and row["causes"]
    ]


def _times(seconds: list[float]) -> str:
    if not seconds:
        return "-"
    late = quantiles(seconds, n=20)[-1] if len(seconds) > 1 else seconds[0]
    return f"{median(seconds):.1f} / {late:.1f} / {max(seconds):.1f}"


def _tally(rows: Sequence[Row]) -> str:
    counts = {
        status: sum(row["status"] == status for row in rows)
        for status in ("ok", "failed", "skipped")
    }
    crashed = sum(
        finding["check"] == "crashed"
        for row in rows
        if row["status"] == "ok"
        for finding in row["findings"].values()
    )
    return (
        f"{counts['ok']} audits, {counts['failed']} failed, "
        f"{counts['skipped']} skipped for want of data; {crashed} crashed checks."
    )


def calibration_table(rows: Sequence[Row]) -> str:
    """Make the table of reported confidence against how often it was right."""
    finished = [row for row in rows if row["status"] == "ok"]
    lines = [
        "| verdict | confidence | mean | verdicts | right | exact 95 % interval |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for verdict in figures.BINS:
        bins = figures.calibration(finished, verdict)
        for part in bins:
            low, high = part.right.interval()
            lines.append(
                f"| {verdict.replace('_', ' ')} | {part.low:g} to {part.high:g} | "
                f"{part.mean:.4f} | {part.right.of} | "
                f"{part.right.hits / part.right.of:.3f} | {low:.3f} to {high:.3f} |"
            )
        together = Share(
            sum(part.right.hits for part in bins), sum(part.right.of for part in bins)
        )
        if together.of:
            low, high = together.interval()
            mean = sum(part.mean * part.right.of for part in bins) / together.of
            lines.append(
                f"| {verdict.replace('_', ' ')} | all | {mean:.4f} | {together.of} | "
                f"{together.hits / together.of:.3f} | {low:.3f} to {high:.3f} |"
            )
    return "\n".join(lines)


def by_cause(rows: Sequence[Row]) -> str:
    """Make the table of every cause: planted, found, found without being planted."""
    finished = [row for row in rows if row["status"] == "ok"]
    causes = sorted({cause for row in finished for cause in row["findings"]})
    lines = [
        "| cause | planted | found | covered | primary | found elsewhere | healthy |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for cause in causes:
        planted = [row for row in finished if cause in row["causes"]]
        alone = [{**row, "causes": [cause]} for row in planted]
        elsewhere = sum(
            cause in row["found"]
            and bool(row["causes"])
            and cause not in figures.accepted(row)
            for row in finished
        )
        healthy = sum(cause in row["found"] and not row["causes"] for row in finished)
        lines.append(
            f"| {cause} | {len(planted)} | {figures.recall(alone).hits} | "
            f"{figures.recall_with_equivalents(alone).hits} | "
            f"{sum(row['primary'] == cause for row in planted)} | "
            f"{elsewhere} | {healthy} |"
        )
    return "\n".join(lines)


def case_line(row: Row, best: dict[str, float]) -> str:
    """Say in one line what became of a case, for the terminal."""
    if row["status"] != "ok":
        return f"{row['case']:44s} {row['status']}: {row.get('problem', '')}"
    truth = ",".join(row["causes"]) or "healthy"
    right = (
        not row["found"]
        if not row["causes"]
        else row["primary"] in figures.accepted(row)
        or bool(set(row["equivalent"]) & set(row["causes"]))
    )
    share = figures.recovered_share(row, best.get(row["case"], 0.0))
    recovered = "" if share is None else f" recovered {share:.2f}"
    return (
        f"{'✓' if right else '✗'} {row['case']:42s} {row['seconds']:6.1f} s  "
        f"truth {truth}; primary {row['primary']}; found {','.join(row['found'])}"
        f"{recovered}"
    )


def best_known(table: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Best mended score of each case that has one."""
    return {name: row["mended"] for name, row in table.items() if "mended" in row}
