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
    return "\n".join(
        [
            "| ≥ 90 % of the best known gain recovered, same time | share |",
            "| --- | --- |",
            f"| audit's remedy | {figures.recovery(audits, best)} |",
            f"| random search over the same mends | {figures.recovery(rows, best)} |",
        ]
    )


def cleanlab_table(cases: Iterable[Case]) -> str:
    """Run cleanlab on programs with planted label noise and on controls."""
    from benchmarks.faults.cleanlab_rival import cleanlab_row  # noqa: PLC0415
    from benchmarks.faults.real_sets import SetMissingError  # noqa: PLC0415

    rows = []
    for case in cases:
        if case.causes and "label_noise" not in case.causes:
            continue
        try:
            rows.append(cleanlab_row(case))
        except SetMissingError as missing:
            print(missing)
    planted = [row for row in rows if row["planted"]]
    healthy = [row for row in rows if not row["planted"]]
    found = Share(sum(row["found"] for row in planted), len(planted))
    alarms = Share(sum(row["found"] for row in healthy), len(healthy))
    aurocs = [row["auroc"] for row in planted if "auroc" in row]
    average = sum(aurocs) / len(aurocs) if aurocs else float("nan")
    return "\n".join(
        [
            "| cleanlab on logistic regression, out of fold | |",
            "| --- | --- |",
            f"| label noise found (> 5 % flagged) | {found} |",
            f"| controls flagged | {alarms} |",
            f"| mean AUROC of its ranking | {average:.3f} |",
        ]
    )
