"""`model-audit demo`: a really faulty model, audited over HTTP from end to end."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from service.client import Client
from service.commands.audit_command import ask, wait_for_report
from service.commands.connection import DEFAULT_URL, DataDirOption, UrlOption, find_key
from service.commands.exits import BROKEN, answers, stop
from service.commands.local_engine import NoWorker
from service.commands.progress_bar import AuditProgress
from service.contract.report import Report
from service.demo.own_service import own_service
from service.render.headline import headline
from service.render.html import render_html
from service.render.terminal import print_report
from service.settings import Settings

ARTICLE = ("article-1", "article-2", "article-3")
STORIES = {
    "digits": "Handwritten digits, trained with a learning rate that is too high",
    "article-1": "Article, example 1: a net that memorises labels drawn nine to one",
    "article-2": "Article, example 2: “the wrong learning rate”",
    "article-3": "Article, example 3: “too little capacity”",
}


@answers
def demo(
    *,
    article: Annotated[
        bool,
        typer.Option("--article", help="Audit three examples that cannot be mended."),
    ] = False,
    budget: Annotated[
        str, typer.Option(help="quick, standard, thorough.")
    ] = "standard",
    folder: Annotated[
        Path | None,
        typer.Option(help="Where models and pages are written; default: data folder."),
    ] = None,
    url: UrlOption = DEFAULT_URL,
    data_dir: DataDirOption = None,
) -> None:
    """Train a faulty model, audit it over HTTP, and print what is wrong with it."""
    console = Console()
    chosen = data_dir or Settings().data_dir
    target = folder or chosen / "demo"
    names = ARTICLE if article else ("digits",)
    for name in names:
        build_example(name, target / name)
    console.print(f"Data folder: {chosen}", highlight=False, markup=False)
    with own_service(chosen, url=url) as service:
        words = "started" if service.is_started_here else "already running"
        console.print(f"Service {words}: {service.url}", highlight=False)
        with Client(service.url, find_key(data_dir)) as client:
            for name in names:
                console.rule(STORIES[name])
                found = audit_example(client, target / name, budget, console)
                print_report(console, found)
                page = target / name / "report.html"
                page.write_text(
                    render_html(found, docs_base=service.url), encoding="utf-8"
                )
                console.print(f"Verdict: {headline(found).verdict}", style="bold")
                console.print(f"Page: {page}", highlight=False, markup=False)
                address = f"{service.url}/audits/{found.audit_id}"
                if not service.is_started_here:
                    console.print(f"Live: {address}", highlight=False, markup=False)
    if service.is_started_here:
        console.print(
            f"The service has stopped. To see the live pages: model-audit serve "
            f"--data-dir {chosen}",
            highlight=False,
            markup=False,
        )


def build_example(name: str, folder: Path) -> None:
    """Train an example in another process, since this one must not import torch.

    Raises:
        NoWorker: torch is not installed.
    """
    if find_spec("torch") is None:
        raise NoWorker
    made = subprocess.run(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", "worker.demo_models", name, str(folder)], check=False
    )
    if made.returncode != 0:
        stop(f"The example {name} could not be trained.", BROKEN)


def audit_example(
    client: Client, folder: Path, budget: str, console: Console
) -> Report:
    """Upload an example's files, audit them and wait for the report."""
    recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    asked = ask(
        client,
        str(folder / "model.pt"),
        str(folder / "data.npz"),
        spec=None,
        request={"recipe": recipe, "budget": budget, "tags": ["demo"]},
    )
    return wait_for_report(client, asked.id, AuditProgress(console))
