"""The engine without a service: runs `python -m worker.local` and reads its lines.

The service side must not import the worker's, so the two speak through a file with the
JSON request, named by the only argument, and a pipe: JSON lines back, `{"progress": …}`
any number of times, then `{"report": …}` or `{"problem": …}`.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from service.client import ClientError, Refused
from service.contract.errors import ProblemDocument

Progress = Callable[[Mapping[str, Any]], None]


class NoWorker(ClientError):  # noqa: N818 - reads as it is raised
    """The part with torch is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "This needs the worker's libraries: pip install 'model-audit[worker]'."
        )


class EngineDied(ClientError):  # noqa: N818
    """The engine's process ended without an answer."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"The engine's process ended early, with exit code {code}.")


def run_engine(
    module: str, request: Mapping[str, Any], on_progress: Progress
) -> dict[str, Any]:
    """Run a module of the worker and return its last line.

    Args:
        module: `worker.local` or `worker.replay`.
        request: what to do; files are named by absolute paths.
        on_progress: called with the value of every `progress` line.

    Raises:
        Refused: the engine answered with a problem document.
        EngineDied: it ended without an answer.
        NoWorker: torch is not installed.
    """
    if find_spec("torch") is None or find_spec(module.partition(".")[0]) is None:
        raise NoWorker
    with tempfile.TemporaryDirectory(prefix="model-audit-") as folder:
        file = Path(folder) / "request.json"
        file.write_text(json.dumps(request), encoding="utf-8")
        code, last = _run([sys.executable, "-m", module, str(file)], on_progress)
    if "problem" in last:
        raise Refused(ProblemDocument.model_validate(last["problem"]))
    if code != 0 or not last:
        raise EngineDied(code=code)
    return last


def _run(command: list[str], on_progress: Progress) -> tuple[int, dict[str, Any]]:
    """Run to the end; returns the exit code and the last line that was no progress."""
    last: dict[str, Any] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own interpreter and module
        try:
            for line in _lines(process):
                if "progress" in line:
                    on_progress(line["progress"])
                else:
                    last = line
        except BaseException:
            process.terminate()
            raise
    return process.returncode, last


def _lines(process: "subprocess.Popen[str]") -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for text in process.stdout:
        if text.startswith("{"):
            yield json.loads(text)
