"""`python -m benchmarks.faults`: audit programs with known faults, print the table."""

import argparse
import json
import os
import sys
from pathlib import Path

# Before torch is imported: audits of small networks are slower with threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.faults.case_list import SHORT, every_case, wanted
from benchmarks.faults.cases.drawn import drawn_cases
from benchmarks.faults.measures import MEASURES
from benchmarks.faults.program import Case
from benchmarks.faults.runner import How, read_rows, run_cases
from benchmarks.faults.verify import BUILD, read_table


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults", description=__doc__
    )
    add = parser.add_argument
    add("--cases", default="*", help="shell pattern on names, e.g. 'seeded/*noise*'")
    add("--suite", default="all", choices=["open", "seeded", "controls", "all"])
    add("--drawn", help="cases drawn by chance instead: NUMBER:COUNT, e.g. 7:40")
    add("--fresh", action="store_true", help="draw on sets that no engine was run on")
    add("--half", default="both", choices=["tuning", "held_out", "fresh", "both"])
    add("--budget", help="quick (short form), standard, thorough or seconds")
    add("--through", default="engine", choices=["engine", "http"])
    add("--url", default="http://127.0.0.1:8000", help="of the service, for http")
    add("--jobs", type=int, default=1, help="audits at a time")
    add("--seed", type=int, default=0)
    add("--short", action="store_true", help="ten cases, a few minutes")
    add("--out", type=Path, default=BUILD / "results.jsonl")
    add("--reports", type=Path, default=BUILD / "reports", help="full reports' folder")
    add("--again", action="store_true", help="run what the out file already holds")
    add("--part", default="1/1", help="only the k-th of n parts, e.g. 2/7")
    add("--list", action="store_true", help="only list the cases")
    add("--table", action="store_true", help="only print the table of the out file")
    add("--verify", action="store_true", help="measure the cases, write cases.json")
    add("--menu", action="store_true", help="with --verify: controls against a menu")
    add("--coverage", action="store_true", help="re-measure reported gains")
    add("--label-noise", action="store_true", help="rank and count wrong labels")
    add(
        "--rivals",
        nargs="?",
        const="all",
        choices=["cleanlab", "deepchecks", "random", "all"],
        help="competitors on the same cases",
    )
    add("--seconds", type=float, default=90.0, help="with --coverage: most a report")
    add("--seeds", type=int, default=3, help="with --label-noise")
    add("--dropped", action="store_true", help="also cases that --verify dropped")
    return parser.parse_args()


def _print_table(out: Path) -> None:
    from benchmarks.faults import table  # noqa: PLC0415

    rows = [*read_rows(out).values()]
    print(table.summary(rows, read_table()))
    print()
    print(table.by_cause(rows))
    print()
    print(table.calibration_table(rows))


def _audit(cases: list[Case], arguments: argparse.Namespace) -> None:
    from benchmarks.faults import table  # noqa: PLC0415

    budget = arguments.budget or ("quick" if arguments.short else "standard")
    how = How(
        budget={"seconds": int(budget)} if budget.isdigit() else budget,
        through=arguments.through,
        url=arguments.url,
        seed=arguments.seed,
        keep_reports=arguments.reports,
    )
    finished = {} if arguments.again else read_rows(arguments.out)
    left = [
        case
        for case in cases
        if finished.get(case.name, {}).get("status") not in {"ok", "skipped"}
    ]
    best = table.best_known(read_table())
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.out.open("a") as file:
        for row in run_cases(left, how, jobs=arguments.jobs):
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(table.case_line(row, best), flush=True)


def main() -> int:
    """Do what the command line asks; 0 unless an audit failed."""
    arguments = _arguments()
    drawn = arguments.drawn
    cases = wanted(
        drawn_cases(*map(int, drawn.split(":")), fresh=arguments.fresh)
        if drawn
        else every_case(),
        suite=arguments.suite,
        pattern=arguments.cases,
        half=arguments.half,
        dropped=arguments.dropped or arguments.verify,
    )
    part, parts = (int(number) for number in arguments.part.split("/"))
    cases = cases[part - 1 :: parts]
    if arguments.short:
        cases = [case for case in cases if case.name in SHORT]
    if arguments.list:
        for case in cases:
            truth = ", ".join(case.causes) or "healthy"
            print(f"{case.name:44s} {case.half:9s} {truth}")
        return 0
    for name, measure in MEASURES.items():
        if getattr(arguments, name):
            measure(cases, arguments)
            return 0
    if not arguments.table:
        _audit(cases, arguments)
    _print_table(arguments.out)
    failed = [
        row for row in read_rows(arguments.out).values() if row["status"] == "failed"
    ]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
