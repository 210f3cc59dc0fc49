"""Waits for a template."""

import time

from worker.template import Template


def ready(template: Template) -> Template:
    """Wait until children can be forked from it."""
    deadline = time.monotonic() + 60
    while not template.is_ready and time.monotonic() < deadline:
        time.sleep(0.01)
    assert template.is_ready
    return template
