"""`model-audit schedule`: repeat an audit of a deployed model."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from service.commands.audit_command import read_budget, read_recipe
from service.commands.connection import (
    DEFAULT_URL,
    DataDirOption,
    KeyOption,
    UrlOption,
    connect,
)
from service.commands.exits import answers
from service.render.terminal import bare_table, inert

app = typer.Typer(no_args_is_help=True, help="Repeat audits at set times.")


@app.command()
@answers
def create(  # noqa: PLR0913 - one parameter an option
    name: Annotated[str, typer.Argument(help="What the schedule is called.")],
    cron: Annotated[str, typer.Argument(help="Five fields, such as '0 3 * * *'.")],
    model: Annotated[str, typer.Argument(help="The model's id (mdl_…).")],
    data: Annotated[str, typer.Argument(help="The dataset's id (dst_…).")],
    *,
    timezone: Annotated[str, typer.Option(help="Such as Europe/Berlin.")] = "UTC",
    recipe: Annotated[Path | None, typer.Option(help="JSON file.")] = None,
    budget: Annotated[
        str, typer.Option(help="quick, standard, thorough, or seconds.")
    ] = "standard",
    fail_on: Annotated[
        Literal["minor", "major", "critical"] | None, typer.Option()
    ] = None,
    callback: Annotated[
        str | None, typer.Option(metavar="URL", help="Announce each run's end there.")
    ] = None,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Create a schedule."""
    audit = {
        "model_id": model,
        "dataset_id": data,
        "recipe": read_recipe(recipe),
        "budget": read_budget(budget),
        "policy": {"fail_on": fail_on} if fail_on else None,
        "callback": {"url": callback} if callback else None,
    }
    request = {"name": name, "cron": cron, "timezone": timezone, "audit": audit}
    with connect(url, key, data_dir) as client:
        made = client.create_schedule(request)
    told = Console(stderr=True, soft_wrap=True)
    told.print(inert(f"next run: {made.next_run_at}"))
    if made.callback_secret is not None:
        told.print(inert(f"callbacks are signed with {made.callback_secret}"))
    typer.echo(made.id)


@app.command("list")
@answers
def list_schedules(
    *,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """List the schedules."""
    table = bare_table(
        "Id", "Name", "Cron", "Zone", "Enabled", "Next run", "Last audit", "Last result"
    )
    with connect(url, key, data_dir) as client:
        for row in client.schedules():
            due = row.next_run_at
            table.add_row(
                row.id,
                inert(row.name),
                row.cron,
                row.timezone,
                "yes" if row.enabled else "no",
                f"{due:%Y-%m-%d %H:%M} UTC" if due else "",
                row.last_audit_id or "",
                row.last_result or "",
            )
    Console().print(table)


@app.command()
@answers
def pause(
    schedule: Annotated[str, typer.Argument(help="The schedule's id (sch_…).")],
    *,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Stop a schedule until it is resumed."""
    with connect(url, key, data_dir) as client:
        client.change_schedule(schedule, {"enabled": False})


@app.command()
@answers
def resume(
    schedule: Annotated[str, typer.Argument(help="The schedule's id (sch_…).")],
    *,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Let a paused schedule go on."""
    with connect(url, key, data_dir) as client:
        client.change_schedule(schedule, {"enabled": True})


@app.command()
@answers
def delete(
    schedule: Annotated[str, typer.Argument(help="The schedule's id (sch_…).")],
    *,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Delete a schedule; the audits it started stay."""
    with connect(url, key, data_dir) as client:
        client.delete_schedule(schedule)
