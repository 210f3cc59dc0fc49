"""A progress bar for an audit: a live bar in a terminal, plain lines elsewhere."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from service.contract.jobs import AuditBody
from service.render.figures import duration, plain


class AuditProgress:
    """Shows how far an audit is; without a terminal, one line whenever it changes."""

    def __init__(self, console: Console, *, prints_lines: bool = False) -> None:
        self._console = console
        self._prints_lines = prints_lines and not console.is_terminal
        self._last = ""
        self._bar = Progress(
            TextColumn("{task.fields[stage]}", style="bold", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}", style="dim", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=1.0, stage="queued", detail="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def show_audit(self, audit: AuditBody) -> None:
        """Show the state of an audit of the service."""
        self.show(audit.progress.model_dump())

    def show(self, progress: Mapping[str, Any]) -> None:
        """Show a progress document: `fraction`, `stage`, `detail`, `eta_seconds`."""
        stage = plain(progress.get("stage", ""))
        detail = plain(progress.get("detail", ""))
        left = progress.get("eta_seconds")
        if left is not None:
            detail += f" (about {duration(left)} left)"
        fraction = float(progress.get("fraction", 0.0))
        self._bar.update(self._task, completed=fraction, stage=stage, detail=detail)
        line = f"{100 * fraction:3.0f} %  {stage}: {detail}"
        if self._prints_lines and line != self._last:
            self._console.print(line, markup=False, highlight=False)
        self._last = line
