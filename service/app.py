"""The application: all routes, pages and error handlers put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from service.api import (
    audit_routes,
    key_routes,
    operation_routes,
    reference_page,
    report_routes,
    schedule_routes,
    upload_routes,
    webhook_routes,
)
from service.api.documented import describe
from service.api.error_handlers import add_error_handlers
from service.api.head_requests import HeadRequests
from service.api.measurements import Clock, Measurements
from service.api.poll_lane import PollLane
from service.api.stopping import Stop, Stoppable
from service.api.waiting import Waiting
from service.desk import Desk
from service.pages.router import router as pages
from service.settings import Settings

_TAGS = [
    {"name": "models", "description": "Trained classifiers, as TorchScript archives."},
    {"name": "datasets", "description": "The data a model is judged on."},
    {"name": "audits", "description": "Why a model misclassifies, proven by trying."},
    {"name": "schedules", "description": "Audits that are repeated."},
    {"name": "webhooks", "description": "Who is told of the end of an audit."},
    {"name": "keys", "description": "Who may do what, in which project."},
    {"name": "causes", "description": "What an audit can name."},
    {"name": "operation", "description": "Health and measurements; no key is needed."},
]


def create_app(settings: Settings | None = None) -> FastAPI:
    """Make the application; the stores are opened and brought up to date.

    Raises:
        Unavailable: database or blob store do not work.
    """
    desk = Desk.open(settings or Settings())

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        desk.close()

    app = FastAPI(
        title="model-audit",
        version=version("model-audit"),
        summary="Why does this classifier misclassify, and what would mend it?",
        description="Upload a trained classifier and its data, ask for an audit, read "
        "a report in which every named cause is backed by an experiment. Errors are "
        "problem documents (RFC 9457). Everything below `/v1` needs a key.",
        openapi_tags=_TAGS,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=life,
    )
    app.state.desk = desk
    app.state.measurements = Measurements(desk.health)
    app.state.waiting = Waiting(
        desk.audits, interval_seconds=desk.settings.poll_interval_seconds
    )
    app.state.stop = Stop(app.state.waiting)
    for router in (
        upload_routes.router,
        audit_routes.router,
        report_routes.router,
        schedule_routes.router,
        webhook_routes.router,
        key_routes.router,
        operation_routes.catalogue,
        operation_routes.router,
        reference_page.router,
    ):
        app.include_router(router)
    app.include_router(pages, include_in_schema=False)
    add_error_handlers(app)
    app.add_middleware(
        PollLane,
        keys=desk.keys,
        waiting=app.state.waiting,
        retry_after_seconds=desk.settings.retry_after_seconds,
    )
    app.add_middleware(HeadRequests)
    app.add_middleware(Stoppable, stop=app.state.stop)
    app.add_middleware(Clock, measurements=app.state.measurements)
    describe(app)
    return app
