"""Two reports side by side: what appeared, went away, grew or shrank.

What a later audit only suspects, could not decide, since it was cancelled or its budget
was small, or was not asked about, has not gone away.
"""

import math
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from service.contract.causes import Cause
from service.contract.report import Finding, Gain, Interval, Report, Scores, Verdict
from service.contract.request import Severity

Movement = Literal["appeared", "went_away", "grew", "shrank", "unchanged", "undecided"]
METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "ece")


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True)


class FindingChange(_Body):
    """How one cause moved from the earlier report to the later one."""

    cause: Cause
    movement: Movement
    verdict_before: Verdict
    verdict_after: Verdict
    severity_before: Severity
    severity_after: Severity
    gain_before: Gain | None = None
    gain_after: Gain | None = None
    difference: Interval | None = Field(
        default=None, description="Gain after minus gain before, 95 % interval."
    )


class MetricChange(_Body):
    """How one metric moved; the difference is later minus earlier."""

    metric: str
    split: Literal["train", "eval"]
    before: Interval
    after: Interval
    difference: Interval
    beyond_noise: bool = Field(
        description="Whether the 95 % interval of the difference leaves out zero."
    )


class Comparison(_Body):
    """What changed between two audits."""

    earlier: str
    later: str
    same_model: bool
    same_dataset: bool
    primary_cause_before: Cause | None
    primary_cause_after: Cause | None
    appeared: list[FindingChange] = []
    went_away: list[FindingChange] = []
    grew: list[FindingChange] = []
    shrank: list[FindingChange] = []
    unchanged: list[FindingChange] = Field(
        default=[], description="Found in both, no difference beyond noise."
    )
    undecided: list[FindingChange] = Field(
        default=[],
        description="Found before; the later audit neither found it nor ruled it out.",
    )
    metrics: list[MetricChange] = []


def difference(after: Interval, before: Interval) -> Interval:
    """Subtract two independent estimates and carry both intervals over.

    Source: Zou and Donner 2008, Statistics in Medicine 27, the method of variance
    estimates recovery. Two audits of one dataset share their held-out rows, so the
    true interval is narrower: this one errs towards saying "no difference".
    """
    if after.value is None or before.value is None:
        return Interval(value=None, low=None, high=None)
    value = after.value - before.value
    if None in (after.low, after.high, before.low, before.high):
        return Interval(value=value, low=None, high=None)
    return Interval(
        value=value,
        low=value - math.hypot(_below(after), _above(before)),
        high=value + math.hypot(_above(after), _below(before)),
    )


def compare_reports(earlier: Report, later: Report) -> Comparison:
    """Say what changed from the earlier report to the later one."""
    before = {finding.cause: finding for finding in earlier.findings}
    changes: dict[str, list[FindingChange]] = {
        "appeared": [],
        "went_away": [],
        "grew": [],
        "shrank": [],
        "unchanged": [],
        "undecided": [],
    }
    for finding in later.findings:
        earlier_finding = before.get(finding.cause)
        if earlier_finding is None:
            continue
        change = _finding_change(earlier_finding, finding)
        if change is not None:
            changes[change.movement].append(change)
    return Comparison(
        earlier=earlier.audit_id,
        later=later.audit_id,
        same_model=_same(earlier.model, later.model),
        same_dataset=_same(earlier.dataset, later.dataset),
        primary_cause_before=earlier.primary_cause,
        primary_cause_after=later.primary_cause,
        metrics=[
            *_metric_changes("eval", earlier.performance.eval, later.performance.eval),
            *_metric_changes(
                "train", earlier.performance.train, later.performance.train
            ),
        ],
        **changes,
    )


def leaves_out_zero(interval: Interval) -> bool:
    """Tell whether an interval lies wholly on one side of zero."""
    return (interval.low is not None and interval.low > 0) or (
        interval.high is not None and interval.high < 0
    )


def _below(interval: Interval) -> float:
    assert interval.value is not None and interval.low is not None  # noqa: PT018
    return interval.value - interval.low


def _above(interval: Interval) -> float:
    assert interval.value is not None and interval.high is not None  # noqa: PT018
    return interval.high - interval.value


def _finding_change(before: Finding, after: Finding) -> FindingChange | None:
    was, is_now = before.verdict == "found", after.verdict == "found"
    if not was and not is_now:
        return None
    moved = _gain_difference(before.gain, after.gain)
    movement: Movement
    if not was:
        movement = "appeared"
    elif after.verdict == "not_found":
        movement = "went_away"
    elif not is_now:
        movement = "undecided"
    elif moved is not None and leaves_out_zero(moved):
        movement = "grew" if (moved.value or 0.0) > 0 else "shrank"
    else:
        movement = "unchanged"
    return FindingChange(
        cause=after.cause,
        movement=movement,
        verdict_before=before.verdict,
        verdict_after=after.verdict,
        severity_before=before.severity,
        severity_after=after.severity,
        gain_before=before.gain,
        gain_after=after.gain,
        difference=moved,
    )


def _gain_difference(before: Gain | None, after: Gain | None) -> Interval | None:
    if before is None or after is None or before.metric != after.metric:
        return None
    return difference(
        Interval(value=after.value, low=after.low, high=after.high),
        Interval(value=before.value, low=before.low, high=before.high),
    )


def _metric_changes(
    split: Literal["train", "eval"], before: Scores | None, after: Scores | None
) -> list[MetricChange]:
    if before is None or after is None:
        return []
    changes = []
    for metric in METRICS:
        old: Interval = getattr(before, metric)
        new: Interval = getattr(after, metric)
        moved = difference(new, old)
        changes.append(
            MetricChange(
                metric=metric,
                split=split,
                before=old,
                after=new,
                difference=moved,
                beyond_noise=leaves_out_zero(moved),
            )
        )
    return changes


def _same(left: Mapping[str, object], right: Mapping[str, object]) -> bool:
    key = "sha256" if left.get("sha256") and right.get("sha256") else "id"
    return left.get(key) is not None and left.get(key) == right.get(key)
