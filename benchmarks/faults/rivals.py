"""Competitors on the same programs: random search and cleanlab."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.faults import figures
from benchmarks.faults.figures import Share
from benchmarks.faults.judge import hidden_score
from benchmarks.faults.program import Case
from benchmarks.faults.runner import program_folder
from benchmarks.faults.table import best_known
from benchmarks.faults.verify import BUILD, read_table


def search_rows(
    cases: Iterable[Case], audits: dict[str, dict[str, Any]], *, seed: int
) -> Iterator[dict[str, Any]]:
    """Give random search the time that each audit took.

    Args:
        cases: to search; those without an audit or a known mend are left out.
        audits: finished rows by case.
        seed: of programs and draws.
    """
    from benchmarks.faults.random_search import random_search  # noqa: PLC0415

    best = best_known(read_table())
    for case in cases:
        audit = audits.get(case.name, {})
        if audit.get("status") != "ok" or case.name not in best or case.is_healthy:
            continue
        folder = program_folder(case, seed)
        scratch = BUILD / "scratch" / f"random-{folder.name}"
        found = random_search(folder, scratch, seconds=audit["seconds"], seed=seed)
        file: Path | None = found.pop("file")
        after = None
        if file is not None:
            after = round(hidden_score(file, folder, found["loss"]), 4)
        yield {
            **{key: audit[key] for key in ("case", "suite", "half", "causes")},
            "hidden_before": audit["hidden_before"],
            "audit_after": audit.get("hidden_after"),
            "hidden_after": after,
            "audit_seconds": audit["seconds"],
            **found,
        }


def search_table(rows: list[dict[str, Any]]) -> str:
    """Compare random search and the audit on the same cases."""
    best = best_known(read_table())
    audits = [{**row, "hidden_after": row["audit_after"]} for row in rows]
    lines = [
        "| same cases and time | ≥ 90 % of the best known gain | mean, ≤ 1 | worst |",
        "| --- | --- | --- | --- |",
    ]
    for name, group in (
        ("audit's remedy", audits),
        ("random search over the same mends", rows),
    ):
        known = [
            figures.recovered_share(row, best[row["case"]])
            for row in group
            if row["case"] in best
        ]
        shares = [share for share in known if share is not None]
        if shares:
            lines.append(
                f"| {name} | {figures.recovery(group, best)} | "
                f"{sum(min(1, s) for s in shares) / len(shares):.3f} | "
                f"{min(shares):.3f} |"
            )
    spent = sum(row["seconds"] for row in rows) / max(
        1e-9, sum(row["audit_seconds"] for row in rows)
    )
    lines.append(f"\nRandom search spent {spent:.2f} of the time that it had.")
    return "\n".join(lines)


def cleanlab_table(cases: Iterable[Case], audits: dict[str, dict[str, Any]]) -> str:
    """Run cleanlab on programs with planted label noise and on controls.

    Args:
        cases: to judge; those with other faults are left out.
        audits: finished rows by case, to stand beside.
    """
    from benchmarks.faults.cleanlab_rival import cleanlab_row  # noqa: PLC0415
    from benchmarks.faults.set_files import SetMissingError  # noqa: PLC0415

    rows = []
    for case in cases:
        if case.causes and "label_noise" not in case.causes:
            continue
        try:
            row = cleanlab_row(case)
        except SetMissingError as missing:
            print(missing)
            continue
        found = audits.get(case.name, {}).get("found")
        row["audit"] = None if found is None else "label_noise" in found
        rows.append(row)
    planted = [row for row in rows if row["planted"]]
    healthy = [row for row in rows if not row["planted"]]
    lines = [
        "| program | half | wrong labels | cleanlab flags | AUROC | the audit |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    words = {None: "-", True: "found", False: "not found"}
    lines += [
        f"| {row['case'].split('/')[-1]} | {row['half'].replace('_', ' ')} | "
        f"{row['wrong']:.3f} | {row['flagged']:.3f} | {row.get('auroc', float('nan'))} "
        f"| {words[row['audit']]} |"
        for row in planted
    ]
    known = [row for row in rows if row["audit"] is not None]
    totals = (
        ("label noise found (cleanlab: > 5 % flagged)", planted, True),
        ("found on controls", healthy, False),
    )
    lines += ["", "| | cleanlab | the audit |", "| --- | --- | --- |"]
    for name, group, is_planted in totals:
        audited = [row for row in known if row["planted"] is is_planted]
        ours = Share(sum(row["audit"] for row in audited), len(audited))
        theirs = Share(sum(row["found"] for row in group), len(group))
        lines.append(f"| {name} | {theirs} | {ours} |")
    return "\n".join(lines)
