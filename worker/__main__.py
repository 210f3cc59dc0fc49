"""`python -m worker`: one worker, set up by the environment."""

import logging
import sys

from service.settings import Settings
from worker.settings import WorkerSettings
from worker.supervise import run_worker

if __name__ == "__main__":
    settings = Settings()
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    sys.exit(run_worker(settings, WorkerSettings()))
