"""`model-audit audit`: upload, audit, wait, print, and exit as the gate says."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from service.client import Client
from service.commands.connection import (
    DEFAULT_URL,
    DataDirOption,
    KeyOption,
    UrlOption,
    connect,
)
from service.commands.exits import (
    BAD_INPUT,
    BROKEN,
    answers,
    errors,
    gate_code,
    stop,
)
from service.commands.json_files import read_json
from service.commands.local_engine import run_engine
from service.commands.progress_bar import AuditProgress
from service.contract.causes import Cause
from service.contract.jobs import NewAuditBody
from service.contract.recipe import Recipe
from service.contract.report import Report
from service.contract.request import DatasetSpec, Policy
from service.render.html import render_html
from service.render.terminal import inert, print_report

FailOn = Literal["minor", "major", "critical", "never"]


@answers
def audit(  # noqa: PLR0913 - one parameter an option
    model: Annotated[str, typer.Argument(help="A model's file, or its id (mdl_…).")],
    data: Annotated[str, typer.Argument(help="A dataset's file, or its id (dst_…).")],
    *,
    recipe: Annotated[
        Path | None,
        typer.Option(help="JSON file: how the model was trained; `-` reads stdin."),
    ] = None,
    spec: Annotated[
        Path | None, typer.Option(help="JSON file: how the dataset is to be read.")
    ] = None,
    check: Annotated[
        list[Cause] | None,
        typer.Option(metavar="CAUSE", help="Judge only this cause; may be repeated."),
    ] = None,
    budget: Annotated[
        str, typer.Option(help="quick, standard, thorough, or seconds.")
    ] = "standard",
    seed: Annotated[int, typer.Option(min=0, help="Governs all randomness.")] = 0,
    fail_on: Annotated[
        FailOn, typer.Option(help="Least severity of a fault that fails the gate.")
    ] = "minor",
    min_accuracy: Annotated[float | None, typer.Option(min=0, max=1)] = None,
    min_balanced_accuracy: Annotated[float | None, typer.Option(min=0, max=1)] = None,
    max_ece: Annotated[float | None, typer.Option(min=0, max=1)] = None,
    max_regression_from: Annotated[
        str | None, typer.Option(help="Fail if worse than in this audit (aud_…).")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="May be repeated.")] = None,
    callback: Annotated[
        str | None, typer.Option(metavar="URL", help="Announce the audit's end there.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Print progress even without a terminal.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Print the audit's id and do not wait.")
    ] = False,
    local: Annotated[
        bool, typer.Option("--local", help="Run the engine here, without a service.")
    ] = False,
    show_all: Annotated[
        bool, typer.Option("--all", help="List the cleared causes, too.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as JSON instead.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(help="Also write the report as a page here.")
    ] = None,
    repaired: Annotated[
        Path | None, typer.Option(help="Write the repaired model here.")
    ] = None,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Audit a model on a dataset: why does it misclassify, and what would mend it?

    Exit codes: 0 the gate passed, 1 it did not (a fault was found, or a check crashed),
    2 the input is not valid, 3 the audit failed or the service does not answer.
    """
    check_targets(html, repaired)
    request: dict[str, Any] = {
        "recipe": read_recipe(recipe),
        "budget": read_budget(budget),
        "seed": seed,
        "callback": {"url": callback} if callback else None,
        "policy": Policy(
            fail_on=None if fail_on == "never" else fail_on,
            min_accuracy=min_accuracy,
            min_balanced_accuracy=min_balanced_accuracy,
            max_ece=max_ece,
            max_regression_from=max_regression_from,
        ).model_dump(exclude_none=True),
    }
    if check:
        request["checks"] = [cause.value for cause in check]
    if tag:
        request["tags"] = tag
    given_spec = read_spec(spec)
    console = Console()
    progress = AuditProgress(Console(stderr=True), prints_lines=watch)
    if local:
        found = _audit_locally(
            model, data, given_spec, request, progress=progress, repaired=repaired
        )
    else:
        with connect(url, key, data_dir) as client:
            asked = ask(client, model, data, spec=given_spec, request=request)
            if detach:
                console.print(asked.id, highlight=False)
                return
            found = wait_for_report(client, asked.id, progress)
            if repaired is not None and _is_repaired(found):
                client.repaired_model(asked.id, repaired)
    if repaired is not None and not _is_repaired(found):
        errors.print("The audit made no repaired model; none is written.")
    if html is not None:
        docs_base = "" if local else url.rstrip("/")
        html.write_text(render_html(found, docs_base=docs_base), encoding="utf-8")
    if as_json:
        sys.stdout.write(found.model_dump_json(indent=2) + "\n")
    else:
        print_report(console, found, shows_all=show_all)
        if not local:
            console.print(f"{url.rstrip('/')}/audits/{found.audit_id}", highlight=False)
    raise typer.Exit(gate_code(found))


def ask(
    client: Client,
    model: str,
    data: str,
    *,
    spec: dict[str, Any] | None,
    request: dict[str, Any],
) -> NewAuditBody:
    """Upload what is a file, and ask for the audit; say how callbacks are signed."""
    model_id = model
    if not model.startswith("mdl_"):
        model_id = client.upload_model(Path(model)).id
    dataset_id = data
    if not data.startswith("dst_"):
        dataset_id = client.upload_dataset(Path(data), spec=spec).id
    asked = client.audit(model_id, dataset_id, **request)
    if asked.webhook is not None:
        told = f"callback {asked.webhook.id}, signed with {asked.webhook.secret}"
        Console(stderr=True, soft_wrap=True).print(inert(told))
    return asked


def wait_for_report(client: Client, audit_id: str, progress: AuditProgress) -> Report:
    """Wait for the end, and leave with code 3 where there is no report."""
    with progress:
        ended = client.wait(audit_id, on_change=progress.show_audit)
    if ended.status != "succeeded":
        why = f": {ended.error.title}. {ended.error.detail}" if ended.error else ""
        stop(f"The audit {audit_id} {ended.status}{why}", BROKEN)
    return client.report(audit_id)


def _is_repaired(report: Report) -> bool:
    return report.remedy is not None and report.remedy.model is not None


def check_targets(*paths: Path | None) -> None:
    """Leave where a file cannot be written for want of its folder."""
    for path in paths:
        if path is not None and not path.absolute().parent.is_dir():
            stop(f"{path}: there is no such folder to write to.", BAD_INPUT)


def read_recipe(path: Path | None) -> dict[str, Any]:
    """Read and check a recipe before anything is uploaded."""
    if path is None:
        return {}
    recipe = Recipe.model_validate(read_json(path))
    return recipe.model_dump(mode="json", exclude_none=True)


def read_spec(path: Path | None) -> dict[str, Any] | None:
    """Read and check a dataset's spec before anything is uploaded."""
    if path is None:
        return None
    spec = DatasetSpec.model_validate(read_json(path))
    return spec.model_dump(mode="json", exclude_none=True)


def read_budget(text: str) -> str | dict[str, int]:
    """Read a budget: a name, or a number of seconds."""
    if text in {"quick", "standard", "thorough"}:
        return text
    if not (text.isascii() and text.isdigit()):
        stop(f"The budget {text!r} is neither a name nor whole seconds.", BAD_INPUT)
    return {"seconds": int(text)}


def _audit_locally(
    model: str,
    data: str,
    spec: dict[str, Any] | None,
    request: dict[str, Any],
    *,
    progress: AuditProgress,
    repaired: Path | None,
) -> Report:
    if request["callback"] is not None:
        stop("--callback needs a service; --local has none.", BAD_INPUT)
    for path in (model, data):
        if not Path(path).is_file():
            stop(f"{path}: no such file (--local takes files, not ids).", BAD_INPUT)
    with progress:
        answer = run_engine(
            "worker.local",
            {
                "model": str(Path(model).resolve()),
                "dataset": str(Path(data).resolve()),
                "spec": spec or {},
                "audit": request,
                "remedy": str(repaired.resolve()) if repaired else None,
            },
            progress.show,
        )
    return Report.model_validate(answer["report"])
