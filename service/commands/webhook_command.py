"""`model-audit webhook`: what came of a callback, and trying it again."""

from typing import Annotated

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
from service.contract.jobs import WebhookBody
from service.render.terminal import bare_table, inert

app = typer.Typer(no_args_is_help=True, help="Look after the callbacks of audits.")
WebhookArgument = Annotated[str, typer.Argument(help="The webhook's id (whk_…).")]


@app.command()
@answers
def show(
    webhook: WebhookArgument,
    *,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Print a callback's deliveries."""
    with connect(url, key, data_dir) as client:
        _print(client.webhook(webhook))


@app.command()
@answers
def redeliver(
    webhook: WebhookArgument,
    *,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Deliver again, at once."""
    with connect(url, key, data_dir) as client:
        _print(client.redeliver(webhook))


def _print(found: WebhookBody) -> None:
    table = bare_table("At", "Status", "Seconds", "Error")
    for attempt in found.attempts:
        table.add_row(
            f"{attempt.at:%Y-%m-%d %H:%M:%S}",
            str(attempt.status_code or "–"),
            f"{attempt.seconds:.1f}",
            inert(attempt.error or ""),
        )
    due = found.next_attempt_at
    next_try = f", next try {due:%Y-%m-%d %H:%M:%S} UTC" if due else ""
    console = Console()
    console.print(inert(f"{found.audit_id} to {found.url}"), soft_wrap=True)
    console.print(inert(f"{found.status}{next_try}"))
    if found.attempts:
        console.print(table)
