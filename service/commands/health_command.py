"""`model-audit health`: is the part that runs here well? Asked by its container."""

import http.client
import socket
from datetime import timedelta
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated

import typer

from service.commands.exits import BROKEN, answers, stop
from service.settings import Settings

ANSWER_SECONDS = 3.0


class Part(StrEnum):
    """What can run on a machine of its own."""

    SERVICE = "service"
    SCHEDULER = "scheduler"
    WORKER = "worker"


@answers
def health(
    part: Annotated[Part, typer.Argument(help="Which part to ask after.")],
    *,
    port: Annotated[int, typer.Option(help="Port of the service.")] = 8000,
) -> None:
    """Say whether a part that runs on this machine is well; if not, exit with 3.

    The service must answer; the scheduler needs database and broker; a worker of this
    machine must have been seen in the database lately.
    """
    if part is Part.SERVICE:
        trouble = _service_trouble(port)
    elif part is Part.SCHEDULER:
        trouble = _scheduler_trouble(Settings())
    else:
        trouble = _worker_trouble(Settings())
    if trouble is not None:
        stop(trouble, BROKEN)


def _service_trouble(port: int) -> str | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/livez")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"the service does not answer: {error}"
    finally:
        connection.close()
    return None if status == HTTPStatus.OK else f"the service answers {status}"


def _scheduler_trouble(settings: Settings) -> str | None:
    from service.broker_state import broker_answers  # noqa: PLC0415 - as for serve
    from service.contract.errors import Unavailable  # noqa: PLC0415
    from service.store.database import Database  # noqa: PLC0415

    try:
        Database(settings.database_address).ping()
    except Unavailable as error:
        return error.detail
    if settings.redis_url is None:
        return "MODEL_AUDIT_REDIS_URL is not set."
    if not broker_answers(settings.redis_url, timeout_seconds=ANSWER_SECONDS):
        return "The broker does not answer."
    return None


def _worker_trouble(settings: Settings) -> str | None:
    from service.contract.errors import Unavailable  # noqa: PLC0415 - as for serve
    from service.store import workers  # noqa: PLC0415
    from service.store.database import Database, database_time  # noqa: PLC0415

    host = socket.gethostname()
    within = timedelta(seconds=settings.worker_alive_seconds)
    try:
        with Database(settings.database_address).reading() as session:
            seen = workers.alive(session, database_time(session), within=within)
    except Unavailable as error:
        return error.detail
    if not any(worker.host == host for worker in seen):
        return f"No worker of {host} was seen in the last {within.seconds} seconds."
    return None
