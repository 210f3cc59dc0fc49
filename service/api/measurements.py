"""What Prometheus reads, and the clock around every request."""

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.contract.errors import Unavailable
from service.health import Health

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)


class Measurements:
    """The measurements of one application."""

    def __init__(self, health: Health) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_LoadCollector(health))
        ProcessCollector(registry=self.registry)
        self.requests = Histogram(
            "model_audit_request_seconds",
            "Time until an answer was sent, by method, route and status.",
            ["method", "route", "status"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.uploaded_bytes = Counter(
            "model_audit_uploaded_bytes",
            "Bytes of accepted uploads.",
            ["kind"],
            registry=self.registry,
        )

    def text(self) -> bytes:
        """Write all measurements in Prometheus' text format."""
        return generate_latest(self.registry)


class _LoadCollector(Collector):
    """Reads the database when it is asked, so that every process says the same."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> Iterator[Metric]:
        try:
            load = self._health.load()
        except Unavailable:
            return
        audits = GaugeMetricFamily(
            "model_audit_audits", "Audits by status.", labels=["status"]
        )
        for status in ("queued", "running", "succeeded", "failed", "cancelled"):
            audits.add_metric([status], load.audits.get(status, 0))
        yield audits
        yield GaugeMetricFamily(
            "model_audit_queue_depth",
            "Pieces of work that nobody works on yet.",
            value=load.ready_pieces,
        )
        yield GaugeMetricFamily(
            "model_audit_unsent_invitations",
            "Invitations that have not reached the broker.",
            value=load.unsent_invitations,
        )
        workers = GaugeMetricFamily(
            "model_audit_workers_alive", "Workers alive by device.", labels=["device"]
        )
        for device, count in load.workers.items():
            workers.add_metric([device], count)
        if not load.workers:
            workers.add_metric(["none"], 0)
        yield workers

    def describe(self) -> Iterator[Metric]:
        """Nothing is read when the collector is registered."""
        return iter(())


class Clock:
    """ASGI middleware that times each request under its route, never its address."""

    def __init__(self, app: ASGIApp, measurements: Measurements) -> None:
        self._app = app
        self._requests = measurements.requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and note when its answer began."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("route")
                # Methods and addresses that we do not know are the caller's choice
                # and would grow the table without end.
                template = getattr(route, "path", "none")
                method = scope["method"] if route is not None else "none"
                self._requests.labels(method, template, message["status"]).observe(
                    time.perf_counter() - began
                )
            await send(message)

        await self._app(scope, receive, noting)
