"""The gate: whether a report meets a policy, and if not, why not.

Four rules that users of such gates asked for:

- a check that crashed fails the gate, whatever the policy: silence is no clean bill;
  so does an audit that was cancelled;
- a policy on faults is not met by a report that left most of them undecided;
- a score that the policy bounds but that could not be measured fails the gate;
- minimum scores are compared with the measured value itself, not with the end of its
  interval, and the reason says so and shows the interval.
"""

from collections.abc import Sequence

from service.contract.comparison import difference
from service.contract.report import Finding, Gate, Interval, Performance
from service.contract.request import Policy

RANK: dict[str, int] = {"info": 0, "minor": 1, "major": 2, "critical": 3}


def judge_gate(
    policy: Policy | None,
    *,
    findings: Sequence[Finding],
    performance: Performance,
    earlier: Performance | None = None,
    is_cancelled: bool = False,
) -> Gate:
    """Hold a report against a policy.

    Args:
        policy: what the caller asked for; `None` asks only that every check ran.
        findings: the report's findings.
        performance: the report's scores of the delivered model.
        earlier: the scores in the report that `max_regression_from` names.
        is_cancelled: the audit was cancelled, so its report is not whole.

    Returns:
        The gate; `reasons` is empty exactly where it passed.
    """
    reasons = [
        f"The check for {finding.cause.value} crashed, so it is not known whether "
        "this fault is there."
        for finding in findings
        if finding.check == "crashed"
    ]
    if is_cancelled:
        reasons.insert(0, "The audit was cancelled before everything had been judged.")
    if policy is not None:
        reasons += _faults(policy, findings)
        reasons += _bounds(policy, performance)
        reasons += _regression(policy, performance, earlier)
    return Gate(passed=not reasons, reasons=reasons)


def _faults(policy: Policy, findings: Sequence[Finding]) -> list[str]:
    if policy.fail_on is None:
        return []
    limit = RANK[policy.fail_on]
    verdicts = [finding.verdict for finding in findings]
    open_ones = verdicts.count("inconclusive")
    reasons = []
    if open_ones > verdicts.count("not_found"):
        reasons.append(
            f"{open_ones} of {len(findings)} causes could not be judged, so it is not "
            f"known whether the model is free of {policy.fail_on} faults."
        )
    return reasons + [
        f"{finding.cause.value} was found ({finding.severity}); the policy fails on "
        f"{policy.fail_on} and above."
        for finding in findings
        if finding.verdict == "found" and RANK[finding.severity] >= limit
    ]


def _bounds(policy: Policy, performance: Performance) -> list[str]:
    asked = (
        ("accuracy", "accuracy", policy.min_accuracy, "at least"),
        (
            "balanced accuracy",
            "balanced_accuracy",
            policy.min_balanced_accuracy,
            "at least",
        ),
        ("calibration error", "ece", policy.max_ece, "at most"),
    )
    reasons = []
    for words, name, bound, direction in asked:
        if bound is None:
            continue
        interval = _metric(performance, name)
        if interval is None or interval.value is None:
            reasons.append(f"The {words} could not be measured; the policy bounds it.")
            continue
        value = interval.value
        fails = value < bound if direction == "at least" else value > bound
        if fails:
            reasons.append(
                f"The {words} is {_show(interval)}; the policy asks for {direction} "
                f"{bound:.3f} (the value itself is compared, not its interval)."
            )
    return reasons


def _regression(
    policy: Policy, performance: Performance, earlier: Performance | None
) -> list[str]:
    if policy.max_regression_from is None:
        return []
    now = _metric(performance, "balanced_accuracy")
    then = None if earlier is None else _metric(earlier, "balanced_accuracy")
    if now is None or then is None or now.value is None or then.value is None:
        other = policy.max_regression_from
        return [f"The policy asks to compare with {other}, which has no such score."]
    moved = difference(now, then)
    if moved.high is None or moved.high >= 0:
        return []
    fall = f"fell from {_show(then)} in {policy.max_regression_from} to {_show(now)}"
    return [f"The balanced accuracy {fall}, more than noise explains."]


def _metric(performance: Performance, name: str) -> Interval | None:
    if performance.eval is None:
        return None
    interval: Interval = getattr(performance.eval, name)
    return interval


def _show(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return f"{interval.value:.3f}"
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"
