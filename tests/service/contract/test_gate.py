import pytest

from service.contract.causes import Cause
from service.contract.gate import judge_gate
from service.contract.report import Interval, Performance
from service.contract.request import Policy
from tests.builders_report import make_finding, make_rate_finding, make_scores

PERFORMANCE = Performance(train=None, eval=make_scores(accuracy=0.9))
NONE = Performance(train=None, eval=None)


def test_without_a_policy_found_faults_pass() -> None:
    gate = judge_gate(None, findings=[make_rate_finding()], performance=PERFORMANCE)

    assert gate.passed


def test_a_crashed_check_fails_even_without_a_policy() -> None:
    crashed = make_finding(verdict="inconclusive", check="crashed")

    gate = judge_gate(None, findings=[crashed], performance=PERFORMANCE)

    assert not gate.passed
    assert "label_noise crashed" in gate.reasons[0]


def test_a_cancelled_audit_fails_even_without_a_policy() -> None:
    gate = judge_gate(None, findings=[], performance=PERFORMANCE, is_cancelled=True)

    assert not gate.passed
    assert "was cancelled" in gate.reasons[0]


@pytest.mark.parametrize(
    ("severity", "fail_on", "passes"),
    [
        ("minor", "minor", False),
        ("minor", "major", True),
        ("critical", "major", False),
        ("info", "minor", True),
    ],
)
def test_faults_fail_from_the_asked_severity_on(
    severity: str, fail_on: str, *, passes: bool
) -> None:
    finding = make_rate_finding(severity=severity)
    policy = Policy.model_validate({"fail_on": fail_on})

    gate = judge_gate(policy, findings=[finding], performance=PERFORMANCE)

    assert gate.passed is passes


@pytest.mark.parametrize(("undecided", "passes"), [(2, True), (3, False)])
def test_a_report_that_left_most_open_does_not_meet_a_policy_on_faults(
    undecided: int, *, passes: bool
) -> None:
    findings = [make_finding(verdict="not_found")] * 2
    findings += [make_finding(verdict="inconclusive")] * undecided

    asked = judge_gate(
        Policy(fail_on="critical"), findings=findings, performance=PERFORMANCE
    )
    not_asked = judge_gate(
        Policy(min_accuracy=0.5), findings=findings, performance=PERFORMANCE
    )

    assert asked.passed is passes
    assert not_asked.passed


def test_what_is_only_suspected_does_not_fail() -> None:
    suspected = make_rate_finding(verdict="suspected")

    gate = judge_gate(
        Policy(fail_on="minor"), findings=[suspected], performance=PERFORMANCE
    )

    assert gate.passed


@pytest.mark.parametrize(
    ("policy", "passes"),
    [
        (Policy(min_accuracy=0.9), True),
        (Policy(min_accuracy=0.91), False),
        (Policy(min_balanced_accuracy=0.95), False),
        (Policy(max_ece=0.1), False),
        (Policy(max_ece=0.12), True),
    ],
)
def test_scores_are_held_against_their_bounds(policy: Policy, *, passes: bool) -> None:
    gate = judge_gate(policy, findings=[], performance=PERFORMANCE)

    assert gate.passed is passes


def test_a_score_that_was_not_measured_fails_the_bound_on_it() -> None:
    gate = judge_gate(Policy(min_accuracy=0.1), findings=[], performance=NONE)

    assert not gate.passed


@pytest.mark.parametrize(("before", "passes"), [(0.92, True), (0.99, False)])
def test_a_regression_counts_only_beyond_its_interval(
    before: float, *, passes: bool
) -> None:
    earlier = Performance(train=None, eval=make_scores(accuracy=before))

    gate = judge_gate(
        Policy(max_regression_from="aud_x"),
        findings=[],
        performance=PERFORMANCE,
        earlier=earlier,
    )

    assert gate.passed is passes


def test_a_regression_that_cannot_be_judged_fails() -> None:
    policy = Policy(max_regression_from="aud_x")

    gate = judge_gate(policy, findings=[], performance=PERFORMANCE)

    assert not gate.passed


def test_an_interval_without_ends_is_shown_without_them() -> None:
    bare = make_scores().model_copy(
        update={"accuracy": Interval(value=0.5, low=None, high=None)}
    )

    gate = judge_gate(
        Policy(min_accuracy=0.9),
        findings=[],
        performance=Performance(train=None, eval=bare),
    )

    assert "0.500;" in gate.reasons[0]


def test_every_cause_can_fail_the_gate() -> None:
    findings = [
        make_finding(cause, verdict="found", severity="major") for cause in Cause
    ]

    gate = judge_gate(
        Policy(fail_on="major"), findings=findings, performance=PERFORMANCE
    )

    assert len(gate.reasons) == len(Cause)
