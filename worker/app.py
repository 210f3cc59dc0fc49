"""The Celery app of a worker: takes invitations, keeps no results.

The database is the only truth; a message that is lost, or that comes twice, does no
harm. So nothing here retries, and nothing depends on what the broker remembers.
"""

from celery import Celery

from worker.acknowledging import install
from worker.settings import WorkerSettings

BROKER_TIMEOUT_SECONDS = 5.0
RECONNECT_SECONDS = 2.0
HEALTH_SECONDS = 15.0


def broker_address(url: str) -> str:
    """Write a broker's URL as Celery wants it: `unix:///path` is `redis+socket://`."""
    if url.startswith("unix://"):
        return url.replace("unix://", "redis+socket://", 1)
    return url


def make_app(redis_url: str, settings: WorkerSettings) -> Celery:
    """Make the app for a broker.

    Args:
        redis_url: `redis://…`, `rediss://…` or `unix:///path`.
        settings: gives the hard limit of a task.
    """
    install()
    hard_limit = settings.hard_limit_seconds
    app = Celery("model_audit", broker=broker_address(redis_url), set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        # A task whose process was killed is acknowledged: the reaper brings the work
        # back, and counts. Rejecting would run a deadly upload again and again.
        task_reject_on_worker_lost=False,
        task_time_limit=hard_limit,
        worker_prefetch_multiplier=1,
        worker_concurrency=1,
        worker_pool="prefork",
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            # A message comes again only after every task must have ended.
            "visibility_timeout": int(hard_limit + 600),
            "socket_timeout": BROKER_TIMEOUT_SECONDS,
            "socket_connect_timeout": BROKER_TIMEOUT_SECONDS,
            "socket_keepalive": True,
            "health_check_interval": HEALTH_SECONDS,
        },
    )
    return app
