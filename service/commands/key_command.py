"""`model-audit key`: make, list and revoke API keys."""

from typing import Annotated, Literal

import typer
from rich.console import Console

from service.commands.connection import (
    DEFAULT_URL,
    DataDirOption,
    KeyOption,
    UrlOption,
    connect,
)
from service.commands.exits import answers
from service.render.terminal import bare_table, inert

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys.")


@app.command()
@answers
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    *,
    role: Annotated[
        Literal["viewer", "submitter", "admin"],
        typer.Option(help="viewer reads; submitter uploads and audits; admin: all."),
    ] = "submitter",
    project: Annotated[
        str | None,
        typer.Option(help="What the key can see; default: as the key that asks."),
    ] = None,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Make a key; it is shown this once and kept only as a hash."""
    with connect(url, key, data_dir) as client:
        made = client.create_key(name=name, role=role, project=project)
    Console(stderr=True).print(inert(f"{made.id}: {role} of project {made.project}"))
    typer.echo(made.key)


@app.command("list")
@answers
def list_keys(
    *,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """List the keys."""
    table = bare_table("Id", "Name", "Role", "Project", "Made", "Last used")
    with connect(url, key, data_dir) as client:
        for row in client.api_keys():
            used = row.last_used_at
            table.add_row(
                row.id,
                inert(row.name),
                row.role,
                inert(row.project),
                f"{row.created_at:%Y-%m-%d %H:%M}",
                f"{used:%Y-%m-%d %H:%M}" if used else "never",
            )
    Console().print(table)


@app.command()
@answers
def revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id (key_…).")],
    *,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Revoke a key."""
    with connect(url, key, data_dir) as client:
        client.revoke_key(key_id)
