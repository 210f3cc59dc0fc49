"""`model-audit serve`, `worker` and `scheduler`: run the service, or join one."""

import gc
import logging
import os
import sys
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from typing import Annotated

import typer
from rich.console import Console

from service.commands.connection import DataDirOption
from service.commands.exits import BROKEN, answers, stop
from service.settings import Settings


@answers
def serve(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    data_dir: DataDirOption = None,
    no_worker: Annotated[
        bool, typer.Option("--no-worker", help="Leave the worker out.")
    ] = False,
    no_scheduler: Annotated[
        bool,
        typer.Option(
            "--no-scheduler",
            help="Leave the scheduler out; `model-audit scheduler` runs elsewhere.",
        ),
    ] = False,
) -> None:
    """Run API, worker and scheduler on this machine; Ctrl-C stops all."""
    gc.disable()  # until it has started, see there
    from service import embedded  # noqa: PLC0415 - the other commands need none of it

    settings = make_settings(data_dir)
    with_worker = not no_worker and find_spec("torch") is not None
    if not no_worker and not with_worker:
        Console(stderr=True).print(
            "No worker: its libraries are not installed (pip install "
            "'model-audit[worker]').",
            markup=False,
        )
    Console(stderr=True).print(f"Data folder: {settings.data_dir}", markup=False)
    raise typer.Exit(
        embedded.serve(
            settings,
            host,
            port,
            with_worker=with_worker,
            with_scheduler=not no_scheduler,
        )
    )


@answers
def worker(*, data_dir: DataDirOption = None) -> None:
    """Run one worker for one device; it joins the audits of the service it is set to.

    Set MODEL_AUDIT_DATABASE_URL, MODEL_AUDIT_REDIS_URL, MODEL_AUDIT_BLOB_URL and
    MODEL_AUDIT_DEVICE as for the service.
    """
    if find_spec("torch") is None:
        stop("This needs: pip install 'model-audit[worker]'", BROKEN)
    if data_dir is not None:
        os.environ["MODEL_AUDIT_DATA_DIR"] = str(data_dir.resolve())
    # The process becomes the worker, so that signals reach it and nothing lies between.
    os.execv(sys.executable, [sys.executable, "-m", "worker"])  # noqa: S606


@answers
def scheduler() -> None:
    """Run the scheduler alone: it sends invitations, saves lost work, runs schedules.

    Set MODEL_AUDIT_DATABASE_URL and MODEL_AUDIT_REDIS_URL as for the service. Several
    may run at once.
    """
    from service.scheduler import run_scheduler  # noqa: PLC0415 - as for serve

    settings = Settings()
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    raise typer.Exit(run_scheduler(settings))


def version() -> None:
    """Print the installed version."""
    typer.echo(installed_version("model-audit"))


def make_settings(data_dir: DataDirOption) -> Settings:
    """Read the settings; an option goes before the environment."""
    return Settings() if data_dir is None else Settings(data_dir=data_dir.resolve())
