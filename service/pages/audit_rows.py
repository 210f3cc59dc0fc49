"""What the lists show of an audit: one row, its verdict read from the report."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from markupsafe import Markup

from service.audits import Audits
from service.contract.causes import Cause
from service.contract.errors import Conflict, NotFound
from service.contract.jobs import AuditBody
from service.keys import Caller
from service.render.charts import Axes, Line, line_chart
from service.render.figures import UNKNOWN, cause_title, plain, share
from service.render.headline import is_mostly_open
from service.uploads import Uploads


@dataclass(frozen=True)
class AuditRow:
    """One audit in a list.

    Attributes:
        tone: class of the badge.
        balanced_accuracy: fraction, for the trend.
        earlier: the audit of the same model before this one, if it has a report.
    """

    id: str
    status: str
    tone: str
    model_id: str
    model: str
    dataset: str
    tags: str
    verdict: str
    accuracy: str
    created_at: datetime
    balanced_accuracy: float | None = None
    earlier: str | None = None


class AuditRows:
    """Reads rows; names of models and datasets are looked up once each."""

    def __init__(self, caller: Caller, audits: Audits, uploads: Uploads) -> None:
        self._caller = caller
        self._audits = audits
        self._uploads = uploads
        self._names: dict[str, str] = {}

    def read(self, bodies: Sequence[AuditBody]) -> list[AuditRow]:
        """Make rows of audits that are sorted newest first."""
        latest: dict[str, str] = {}
        rows: list[AuditRow] = []
        for body in reversed(bodies):
            rows.append(self._row(body, latest.get(body.model_id)))
            if body.status == "succeeded":
                latest[body.model_id] = body.id
        return rows[::-1]

    def name(self, upload_id: str) -> str:
        """Find the name of a model or a dataset."""
        if upload_id not in self._names:
            self._names[upload_id] = self._look_up(upload_id)
        return self._names[upload_id]

    def _look_up(self, upload_id: str) -> str:
        try:
            if upload_id.startswith("mdl_"):
                return plain(self._uploads.model(self._caller, upload_id).name)
            return plain(self._uploads.dataset(self._caller, upload_id).name)
        except NotFound:
            return upload_id

    def _row(self, body: AuditBody, earlier: str | None) -> AuditRow:
        report = self._report(body)
        is_done = body.status == "succeeded"
        return AuditRow(
            id=body.id,
            status=body.status,
            tone=body.status,
            model_id=body.model_id,
            model=self.name(body.model_id),
            dataset=self.name(body.dataset_id),
            tags=", ".join(plain(tag) for tag in body.tags),
            verdict=_verdict(body, report),
            accuracy=share(_score(report, "accuracy")),
            created_at=body.created_at,
            balanced_accuracy=_score(report, "balanced_accuracy"),
            earlier=earlier if is_done else None,
        )

    def _report(self, body: AuditBody) -> dict[str, Any]:
        """Read only what a row needs; the whole report need not be validated."""
        if body.status != "succeeded":
            return {}
        try:
            text = self._audits.report_text(self._caller, body.id)
        except (Conflict, NotFound):
            return {}
        document: dict[str, Any] = json.loads(text)
        return document


def trend_chart(rows: Sequence[AuditRow]) -> Markup:
    """Draw the balanced accuracy from audit to audit, oldest first."""
    scores = [
        row.balanced_accuracy for row in rows if row.balanced_accuracy is not None
    ][::-1]
    if len(scores) < 2:  # noqa: PLR2004 - one point is no trend
        return Markup("")
    numbers = [float(number + 1) for number in range(len(scores))]
    return line_chart(
        Axes(
            title="Balanced accuracy from audit to audit",
            x_label="audit",
            y_label="balanced accuracy",
            y_range=(0.0, 1.0),
        ),
        [Line("", numbers, list(scores), has_dots=True)],
    )


def _verdict(body: AuditBody, report: dict[str, Any]) -> str:
    if body.status in {"queued", "running"}:
        return f"{body.progress.stage}, {100 * body.progress.fraction:.0f} %"
    if body.status == "failed" and body.error is not None:
        return body.error.title
    if not report:
        return UNKNOWN
    cause = report.get("primary_cause")
    if cause is not None:
        return cause_title(Cause(cause))
    return _without_cause([finding["verdict"] for finding in report["findings"]])


def _without_cause(verdicts: list[str]) -> str:
    if "found" in verdicts:
        return "Faults found"
    if "suspected" in verdicts:
        return "Nothing proven, something suspected"
    return "Undecided" if is_mostly_open(verdicts) else "No fault found"


def _score(report: dict[str, Any], name: str) -> float | None:
    performance = report.get("performance") or {}
    scores = performance.get("eval") or performance.get("train") or {}
    value = (scores.get(name) or {}).get("value")
    return float(value) if value is not None else None
