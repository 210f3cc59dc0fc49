import json
import re
from html.parser import HTMLParser

import pytest

from service.contract.causes import CATALOGUE, Cause
from service.contract.report import Evidence, Gain, Report, ReportArm, ReportExperiment
from service.render.figures import cause_title, gain, share
from service.render.html import content_policy, render_html, show_json, style
from tests.builders_report import (
    make_finding,
    make_healthy_report,
    make_rate_finding,
    make_report,
)

HOSTILE = "<script>alert(1)</script>\"'&\x1b[31m\u202e"
VOID = {"meta", "input", "br", "line", "circle", "rect", "polyline", "polygon", "link"}


class Page(HTMLParser):
    """Collects tags and attributes, and checks that tags close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def make_hostile_report() -> Report:
    finding = make_rate_finding(
        summary=HOSTILE,
        reason=HOSTILE,
        docs="javascript:alert(1)",
        experiments=[HOSTILE],
        evidence=[
            Evidence(
                kind=HOSTILE, statement=HOSTILE, values={HOSTILE: [{HOSTILE: HOSTILE}]}
            )
        ],
    )
    return make_report(
        model={"name": HOSTILE, "sha256": HOSTILE},
        dataset={"name": HOSTILE},
        findings=[finding, make_finding()],
        limits=[HOSTILE],
        experiments=[
            ReportExperiment(
                id=HOSTILE,
                kind="training",
                question=HOSTILE,
                arms=[ReportArm(name=HOSTILE, changes=[{"to": HOSTILE}], seeds=[1])],
            )
        ],
    )


@pytest.mark.parametrize(
    "report", [make_report(), make_healthy_report(), make_hostile_report()]
)
def test_the_page_is_well_formed_and_asks_nobody_for_anything(report: Report) -> None:
    text = render_html(report, links={"JSON": "/x"})

    page = Page(text)
    assert not page.open
    assert not [
        tag for tag, _ in page.tags if tag in {"script", "img", "link", "iframe"}
    ]
    for _, attributes in page.tags:
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        assert "src" not in attributes
        assert not (attributes.get("href") or "").startswith(("javascript:", "http"))
    assert "url(" not in style()
    assert "@import" not in style()


def test_what_callers_named_stays_text() -> None:
    text = render_html(make_hostile_report())

    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_the_first_screen_gives_the_four_answers() -> None:
    report = make_report()
    first_screen = render_html(report).split('id="gains"')[0]

    assert "Learning rate too high, and 1 more fault" in first_screen
    assert "63.0 % (58.3 to 67.7) accuracy" in first_screen
    assert "Lower the learning rate from 0.5 to 0.05." in first_screen
    assert "61.2 % → 97.1 %" in first_screen


def test_a_healthy_model_is_told_so() -> None:
    text = render_html(make_healthy_report())

    assert '<h1 id="verdict">No fault found</h1>' in text
    assert "keep the model as it is" in text


@pytest.mark.parametrize(
    ("model", "verdict"),
    [(0.08, "Undecided: a simple learner does better"), (0.55, "No fault found")],
)
def test_a_model_that_a_simple_learner_beats_gets_no_clean_bill(
    model: float, verdict: str
) -> None:
    evidence = Evidence(
        kind="permutation_test",
        statement="",
        values={
            "best": "logistic regression",
            "balanced_accuracy": {"value": 0.57},
            "delivered": {"p_value": 0.001, "balanced_accuracy": model},
        },
    )
    healthy = make_healthy_report()
    changed = {
        Cause.NO_LEARNABLE_SIGNAL: {"evidence": [evidence]},
        Cause.INSUFFICIENT_CAPACITY: {"verdict": "inconclusive"},
    }
    findings = [
        finding.model_copy(update=changed.get(finding.cause, {}))
        for finding in healthy.findings
    ]

    text = render_html(healthy.model_copy(update={"findings": findings}))

    assert f'<h1 id="verdict">{verdict}</h1>' in text
    is_beaten = model < 0.5
    assert ("logistic regression reaches 57.0 %" in text) is is_beaten
    assert ("keep the model as it is" in text) is not is_beaten


def test_every_cause_is_listed_once_with_its_page() -> None:
    text = render_html(make_report(), docs_base="http://host:1")

    for entry in CATALOGUE:
        assert text.count(f'class="finding" id="{entry.cause.value}"') == 1
        assert f'href="http://host:1{entry.docs}"' in text


def test_a_crashed_check_does_not_look_like_a_clean_bill() -> None:
    crashed = make_finding(verdict="inconclusive", check="crashed", gain=None)
    report = make_healthy_report(findings=[crashed])

    text = render_html(report)

    assert "1 checks crashed" in text
    assert "check crashed" in text.split("more causes")[0]


@pytest.mark.parametrize("tried", [False, True])
def test_what_was_not_decided_is_no_clean_bill(*, tried: bool) -> None:
    """Nor is it a want of budget where small gains were measured on few rows."""
    small = Gain(value=0.017, low=-0.038, high=0.072, seeds=8)
    findings = [
        make_finding(
            cause,
            verdict="inconclusive" if number % 2 else "not_found",
            gain=small if tried else None,
        )
        for number, cause in enumerate(Cause)
    ]

    text = render_html(make_healthy_report(findings=findings))

    count = len(Cause) // 2
    told = "gains are too close to call" if tried else "causes could not be judged"
    assert f"Undecided: {count} {told}" in text
    assert ("hold out more rows" in text) is tried
    assert ("larger budget" in text) is not tried


def test_all_pictures_are_drawn() -> None:
    text = render_html(make_report())

    for title in (
        "What mending each cause brings",
        "Score over the learning rate",
        "Learning curve",
        "Training loss by epoch",
        "Held-out balanced accuracy by epoch",
        "Recall of each class",
        "Calibration",
    ):
        assert re.search(f'aria-label="{title}', text), title
    assert "<h3>Confusion</h3>" in text
    assert "pixel_4_3 &lt; 2.0" in text


def test_the_page_shows_evidence_and_never_the_data_set() -> None:
    rows = [{"index": k, "given": "a", "suggested": "b"} for k in range(100_000)]
    finding = make_finding(
        Cause.LABEL_NOISE,
        verdict="found",
        evidence=[Evidence(kind="suspects", statement="Many.", values={"rows": rows})],
    )

    text = render_html(make_report(findings=[finding]))

    assert len(text) < 600_000
    assert "99950 more in the JSON report" in text


def test_figures_are_the_same_in_text_and_table() -> None:
    finding = make_rate_finding()
    text = render_html(make_report(findings=[finding]))

    assert text.count(gain(finding.gain)) >= 1
    assert cause_title(finding.cause) in text
    assert share(finding.confidence) in text


def test_the_policy_names_the_style_and_allows_nothing_else() -> None:
    text = render_html(make_report())

    assert "default-src &#39;none&#39;; style-src &#39;sha256-" in text
    assert "unsafe" not in content_policy()


def test_a_report_without_scores_and_experiments_still_renders() -> None:
    bare = make_report(
        performance={"train": None, "eval": None},
        experiments=[],
        remedy=None,
        timings={},
    )

    assert "could not be scored" in render_html(
        Report.model_validate(bare.model_dump())
    )


def test_a_matrix_stands_a_row_a_line():
    shown = show_json(
        {
            "loss": {"transition_matrix": [[0.75, 0.25], [1e-05, 1.0]]},
            "why": "[\n 1]" * 9,
        }
    )

    lines = [line.strip() for line in shown.splitlines()]
    assert "[0.75, 0.25]," in lines
    assert "[1e-05, 1.0]" in lines
    assert json.loads(shown)["why"] == "[\n 1]" * 9


def test_nested_values_of_a_table_are_no_json() -> None:
    column = {
        "name": "f1",
        "sentinels": [{"value": -999.0, "kind": "code", "count": 532}],
        "extreme": None,
        "rows": list(range(20)),
        "far": [],
    }
    evidence = Evidence(kind="odd", statement="Odd.", values={"columns": [column]})
    finding = make_finding(Cause.CORRUPTED_INPUTS, verdict="found", evidence=[evidence])

    text = render_html(make_report(findings=[finding]))

    assert "<td>value -999, kind code, count 532</td>" in text
    assert "<td>0, 1, 2, 3, 4, 5, 6, 7, and 12 more</td>" in text
    assert "<td>none</td>" in text
    assert "{&#34;value" not in text


def test_no_identifier_of_a_control_reaches_the_page() -> None:
    arms = [
        ReportArm(name=name, changes=[], seeds=[1])
        for name in ("full length|control", "width×4, lr÷3|control")
    ]
    experiment = ReportExperiment(id="exp_1", kind="training", question="?", arms=arms)

    text = render_html(make_report(experiments=[experiment]))

    assert "|control" not in text
    assert "control: full length" in text


def test_a_clean_bill_claims_no_more_than_was_looked_for() -> None:
    verdicts = ["not_found"] * 20 + ["inconclusive"] * 2 + ["not_applicable"]
    findings = [
        make_finding(cause, verdict=verdict)
        for cause, verdict in zip(Cause, verdicts, strict=True)
    ]

    text = render_html(make_healthy_report(findings=findings))

    assert (
        "Of 23 causes: 20 looked for and not found, 2 could not be decided, 1 cannot "
        "be judged here."
    ) in text
