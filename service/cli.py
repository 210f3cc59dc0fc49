"""The command line of model-audit: one app, a module of `commands` each command."""

import typer

from service.commands import key_command, schedule_command, webhook_command
from service.commands.audit_command import audit
from service.commands.demo_command import demo
from service.commands.health_command import health
from service.commands.report_command import compare, replay, report
from service.commands.serve_command import scheduler, serve, version, worker

app = typer.Typer(
    name="model-audit",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Why does this classifier misclassify, and what would mend it?",
)
for command in (
    serve,
    worker,
    scheduler,
    health,
    demo,
    audit,
    report,
    compare,
    replay,
    version,
):
    app.command()(command)
app.add_typer(key_command.app, name="key")
app.add_typer(schedule_command.app, name="schedule")
app.add_typer(webhook_command.app, name="webhook")

if __name__ == "__main__":
    app()
