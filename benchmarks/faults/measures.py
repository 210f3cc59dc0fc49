"""What the command measures beside audits: each takes the cases and the arguments."""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.faults.program import Case
from benchmarks.faults.runner import program_folder, read_rows, report_path
from benchmarks.faults.verify import BUILD


def _verify(cases: list[Case], arguments: argparse.Namespace) -> None:
    """Measure the cases themselves, and write `cases.json`."""
    import torch  # noqa: PLC0415 - listing needs no torch

    from benchmarks.faults.set_files import SetMissingError  # noqa: PLC0415
    from benchmarks.faults.verify import save_table, verify  # noqa: PLC0415

    torch.set_num_threads(1)
    for case in cases:
        started = time.perf_counter()
        try:
            row = verify(case, with_menu=arguments.menu)
        except SetMissingError as missing:
            print(f"{case.name:44s} skipped: {missing}")
            continue
        save_table({case.name: row})
        print(
            f"{case.name:44s} {row} {time.perf_counter() - started:.1f} s", flush=True
        )


def _coverage(cases: list[Case], arguments: argparse.Namespace) -> None:
    """Measure reported gains again; what is done stands in `coverage.jsonl`."""
    from benchmarks.faults.coverage import (  # noqa: PLC0415
        TooDearError,
        coverage_table,
        remeasure,
        remedies_table,
    )

    path = arguments.out.with_name("coverage.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    known = _lines(path)
    done = {row["case"] for row in known}
    with path.open("a") as file:
        for case in cases:
            kept = report_path(arguments.reports, case)
            if case.name in done or not kept.exists():
                continue
            folder = program_folder(case, arguments.seed)
            scratch = BUILD / "scratch" / f"coverage-{folder.name}"
            report = json.loads(kept.read_text())
            try:
                for row in remeasure(
                    folder, scratch, report, seconds=arguments.seconds
                ):
                    known.append({"case": case.name, **row})
                    file.write(json.dumps(known[-1]) + "\n")
                    file.flush()
            except TooDearError as dear:
                print(f"{case.name}: left out; {dear}", flush=True)
                continue
            print(f"{case.name}: measured again", flush=True)
    print(coverage_table(known))
    paths = {case.name: report_path(arguments.reports, case) for case in cases}
    reports = {n: json.loads(p.read_text()) for n, p in paths.items() if p.exists()}
    print(f"\n{remedies_table(reports, read_rows(arguments.out))}")


def _lines(path: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def _rivals(cases: list[Case], arguments: argparse.Namespace) -> None:
    """Set competitors on the cases: `--rivals` names one, or all."""
    from benchmarks.faults import rivals  # noqa: PLC0415

    audits = read_rows(arguments.out)
    asked = arguments.rivals
    if asked in {"cleanlab", "all"}:
        print(rivals.cleanlab_table(cases, audits), flush=True)
    if asked in {"deepchecks", "all"}:
        _deepchecks(cases, arguments, audits)
    if asked in {"random", "all"}:
        path = arguments.out.with_name("random-search.jsonl")
        left = _not_in(path, cases)
        for row in _kept(path, rivals.search_rows(left, audits, seed=arguments.seed)):
            print(json.dumps(row), flush=True)
        print(rivals.search_table([*read_rows(path).values()]))


def _not_in(path: Path, cases: list[Case]) -> list[Case]:
    """The cases of which a file holds no row yet."""
    done = read_rows(path)
    return [case for case in cases if case.name not in done]


def _kept(path: Path, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Append each row to a file at once, so that what was cut off goes on there."""
    with path.open("a") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")
            file.flush()
            yield row


def _deepchecks(
    cases: list[Case], arguments: argparse.Namespace, audits: dict[str, dict[str, Any]]
) -> None:
    from benchmarks.faults import deepchecks_rival  # noqa: PLC0415

    path = arguments.out.with_name("deepchecks.jsonl")
    left = _not_in(path, cases)
    found = deepchecks_rival.deepchecks_rows(left, audits, seed=arguments.seed)
    for row in _kept(path, found):
        print(row["case"], row.get("failed", row.get("problem")), flush=True)
    rows = [
        {**row, "audit_found": audits.get(name, row).get("found", row["audit_found"])}
        for name, row in read_rows(path).items()
    ]
    print(deepchecks_rival.deepchecks_table(rows))


def _label_noise(_cases: list[Case], arguments: argparse.Namespace) -> None:
    """Rank and count wrong labels, without any audit around it."""
    from benchmarks.faults import label_noise  # noqa: PLC0415

    path = arguments.out.with_name("label-noise.jsonl")
    for row in label_noise.measure(path, label_noise.SETS, arguments.seeds):
        print(json.dumps(row), flush=True)
    print(label_noise.table(label_noise.read(path)))


MEASURES: dict[str, Callable[[list[Case], argparse.Namespace], None]] = {
    "verify": _verify,
    "coverage": _coverage,
    "label_noise": _label_noise,
    "rivals": _rivals,
}
