"""`model-audit report`, `compare` and `replay`: read what audits found."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.commands.connection import (
    DEFAULT_URL,
    DataDirOption,
    KeyOption,
    UrlOption,
    connect,
)
from service.commands.exits import GATE_FAILED, PASSED, answers, gate_code
from service.commands.json_files import read_json
from service.commands.local_engine import run_engine
from service.commands.progress_bar import AuditProgress
from service.contract.report import Report
from service.render.figures import plain, points, share
from service.render.html import render_html
from service.render.junit import render_junit
from service.render.markdown import render_markdown
from service.render.sarif import render_sarif
from service.render.terminal import (
    bare_table,
    inert,
    print_comparison,
    print_report,
)


class Form(StrEnum):
    """In which form a report is printed."""

    TERMINAL = "terminal"
    JSON = "json"
    HTML = "html"
    MARKDOWN = "markdown"
    JUNIT = "junit"
    SARIF = "sarif"


@answers
def report(  # noqa: PLR0913 - one parameter an option
    audit: Annotated[str, typer.Argument(help="An audit's id, or a report.json.")],
    *,
    form: Annotated[Form, typer.Option("--format")] = Form.TERMINAL,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write it here.")
    ] = None,
    show_all: Annotated[
        bool, typer.Option("--all", help="List the cleared causes, too.")
    ] = False,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Print a finished audit's report; exits as its gate says."""
    found = read_report(audit, url=url, key=key, data_dir=data_dir)
    if form is Form.TERMINAL and output is None:
        print_report(Console(), found, shows_all=show_all)
    else:
        text = write_as(found, form, docs_base=url.rstrip("/"))
        if output is None:
            sys.stdout.write(text + "\n")
        else:
            output.write_text(text, encoding="utf-8")
    raise typer.Exit(gate_code(found))


def write_as(found: Report, form: Form, *, docs_base: str) -> str:
    """Render a report; what was made for a terminal becomes Markdown in a file."""
    match form:
        case Form.JSON:
            return found.model_dump_json(indent=2)
        case Form.HTML:
            return render_html(found, docs_base=docs_base)
        case Form.JUNIT:
            return render_junit(found)
        case Form.SARIF:
            return render_sarif(found, docs_base=docs_base)
        case Form.MARKDOWN | Form.TERMINAL:
            return render_markdown(found)


@answers
def compare(
    earlier: Annotated[str, typer.Argument(help="The earlier audit's id.")],
    later: Annotated[str, typer.Argument(help="The later audit's id.")],
    *,
    as_json: Annotated[bool, typer.Option("--json")] = False,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Say what changed between two audits; exit code 1 where a fault appeared."""
    with connect(url, key, data_dir) as client:
        comparison = client.compare(earlier, later)
    if as_json:
        sys.stdout.write(comparison.model_dump_json(indent=2) + "\n")
    else:
        print_comparison(Console(), comparison)
    worse = bool(comparison.appeared or comparison.grew)
    raise typer.Exit(GATE_FAILED if worse else PASSED)


@answers
def replay(  # noqa: PLR0913 - one parameter an option
    audit: Annotated[str, typer.Argument(help="An audit's id, or a report.json.")],
    experiment: Annotated[str, typer.Argument(help="The experiment's id (exp_…).")],
    *,
    model: Annotated[Path, typer.Option(help="The model's file.", exists=True)],
    data: Annotated[Path, typer.Option(help="The dataset's file.", exists=True)],
    spec: Annotated[Path | None, typer.Option(help="The dataset's spec, JSON.")] = None,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Retrain an experiment's arms here and compare with the report.

    Exit code 1 where an arm comes out otherwise.
    """
    found = read_report(audit, url=url, key=key, data_dir=data_dir)
    progress = AuditProgress(Console(stderr=True))
    with progress:
        answer = run_engine(
            "worker.replay",
            {
                "report": found.model_dump(mode="json"),
                "experiment": experiment,
                "model": str(model.resolve()),
                "dataset": str(data.resolve()),
                "spec": read_json(spec) if spec else {},
            },
            progress.show,
        )
    arms: list[dict[str, Any]] = answer["replay"]["arms"]
    Console().print(_replay_table(arms))
    same = all(arm["same"] for arm in arms)
    raise typer.Exit(PASSED if same else GATE_FAILED)


def _replay_table(arms: list[dict[str, Any]]) -> Table:
    table = bare_table("Arm", "Reported", "Replayed", "Difference", "")
    for arm in arms:
        reported, replayed = arm["reported"], arm["replayed"]
        is_known = reported is not None and replayed is not None
        table.add_row(
            inert(plain(arm["name"])),
            Text(share(reported)),
            Text(share(replayed)),
            Text(points(replayed - reported) if is_known else ""),
            Text("same" if arm["same"] else "differs"),
        )
    return table


def read_report(
    audit: str, *, url: str, key: str | None, data_dir: Path | None
) -> Report:
    """Read a report from the service, or from a file where one has that name."""
    if not audit.startswith("aud_"):
        return Report.model_validate(read_json(Path(audit)))
    with connect(url, key, data_dir) as client:
        return client.report(audit)
