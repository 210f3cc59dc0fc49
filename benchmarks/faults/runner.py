"""Run cases, each in a process of its own, and append a JSON line for each."""

import json
import multiprocessing
import os
import time
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.faults.program import Case
from benchmarks.faults.verify import BUILD, read_table

MOST_SEEDS = 8


@dataclass(frozen=True)
class How:
    """How audits are run.

    Attributes:
        budget: as in the contract's request.
        through: `engine` in this process, or `http` against a running service.
        url: of the service.
        seed: of the audits and of the delivered weights.
        keep_reports: folder for the reports in full, or None.
    """

    budget: Any = "standard"
    through: str = "engine"
    url: str = "http://127.0.0.1:8000"
    seed: int = 0
    keep_reports: Path | None = None


def _seed_that_shows(case: Case, seed: int) -> int:
    """Choose a training seed from which the planted fault did its harm.

    An unstable fault, such as a rate at the edge, spares some seeds; a program that
    came out well is no faulty program.
    """
    from benchmarks.faults.verify import LEAST_GAIN, measured  # noqa: PLC0415

    best = read_table().get(case.name, {}).get("mended")
    if case.criterion != "gain" or best is None:
        return seed
    for other in range(seed, seed + MOST_SEEDS):
        if measured(case.sketch, other) <= best - LEAST_GAIN:
            return other
    return seed


def program_folder(case: Case, seed: int) -> Path:
    """Build the program unless it lies there already.

    Raises:
        SetMissingError: the package that carries its data is not installed.
    """
    from benchmarks.faults.assemble import write  # noqa: PLC0415 - imports torch

    seed = _seed_that_shows(case, seed)
    folder = BUILD / "programs" / f"{case.sketch.digest()}-{seed}"
    if not (folder / "sketch.txt").exists():  # written last
        write(case.sketch, folder, seed=seed)
    return folder


def report_path(folder: Path, case: Case) -> Path:
    """Where a case's report is kept."""
    return folder / f"{case.name.replace('/', '-')}.json"


def _run_one(case: Case, how: How) -> dict[str, Any]:
    from benchmarks.faults.set_files import SetMissingError  # noqa: PLC0415

    head = {
        "case": case.name,
        "suite": case.suite,
        "half": case.half,
        "causes": [cause.value for cause in case.causes],
        "equivalents": [cause.value for cause in case.equivalents],
        "criterion": case.criterion,
        "budget": how.budget,
    }
    started = time.perf_counter()
    try:
        import torch  # noqa: PLC0415 - the parent process stays light

        from benchmarks.faults.judge import row_of  # noqa: PLC0415

        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        folder = program_folder(case, how.seed)
        run = _audit(folder, how)
        if how.keep_reports is not None:
            path = report_path(how.keep_reports, case)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(run.report, indent=1))
        return {**head, "status": "ok", **row_of(case, run, folder)}
    except SetMissingError as missing:
        return {**head, "status": "skipped", "problem": str(missing)}
    except Exception as error:  # noqa: BLE001 - one case's failure is a row
        return {
            **head,
            "status": "failed",
            "problem": f"{type(error).__name__}: {error}"[:500],
            "trace": traceback.format_exc()[-3000:],
            "seconds": round(time.perf_counter() - started, 2),
        }


def _audit(folder: Path, how: How) -> Any:  # noqa: ANN401 - AuditRun, imported late
    if how.through == "http":
        from benchmarks.faults.drive_http import audit_there  # noqa: PLC0415

        return audit_there(folder, url=how.url, budget=how.budget, seed=how.seed)
    from benchmarks.faults.drive import audit_here  # noqa: PLC0415

    scratch = BUILD / "scratch" / folder.name
    return audit_here(folder, scratch, budget=how.budget, seed=how.seed)


def run_cases(
    cases: Iterable[Case], how: How, *, jobs: int
) -> Iterator[dict[str, Any]]:
    """Run cases, yielding rows as they come.

    A case that takes its process down is a row too; the others go on.
    """
    waiting = list(cases)
    context = multiprocessing.get_context("spawn")
    while waiting:
        with ProcessPoolExecutor(
            jobs, mp_context=context, max_tasks_per_child=10
        ) as pool:
            asked: dict[Future[dict[str, Any]], Case] = {}
            # Few at a time, so that a broken pool blames few cases.
            for case in waiting[: jobs * 10]:
                asked[pool.submit(_run_one, case, how)] = case
            broken: list[Case] = []
            for future in as_completed(asked):
                case = asked[future]
                try:
                    row = future.result()
                except BrokenProcessPool:
                    broken.append(case)
                    continue
                waiting.remove(case)
                yield row
        if broken and jobs * len(broken) > 0:
            guilty = broken[0]
            waiting.remove(guilty)
            yield {
                "case": guilty.name,
                "suite": guilty.suite,
                "half": guilty.half,
                "causes": [cause.value for cause in guilty.causes],
                "equivalents": [cause.value for cause in guilty.equivalents],
                "status": "failed",
                "problem": "the process died",
            }


def read_rows(path: Path) -> dict[str, dict[str, Any]]:
    """Read finished rows, the last of each case."""
    if not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text().splitlines() if line]
    return {row["case"]: row for row in rows}
