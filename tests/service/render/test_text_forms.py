import io
import json
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from service.contract.causes import Cause
from service.contract.comparison import compare_reports
from service.contract.report import Gain, Gate, Recommendation, Remedy, Report
from service.render.figures import gain
from service.render.headline import headline
from service.render.html import render_html
from service.render.junit import render_junit
from service.render.markdown import render_markdown
from service.render.sarif import render_sarif
from service.render.terminal import print_comparison, print_report
from tests.builders_report import (
    make_finding,
    make_healthy_report,
    make_rate_finding,
    make_remedy,
    make_report,
)

CRASHED = make_finding(
    Cause.SPLIT_LEAKAGE,
    verdict="inconclusive",
    check="crashed",
    reason="boom",
    gain=None,
)


def printed(report: Report, *, shows_all: bool = False) -> str:
    out = io.StringIO()
    print_report(Console(file=out, width=160), report, shows_all=shows_all)
    return out.getvalue()


def test_junit_has_a_case_a_cause_and_one_for_the_gate() -> None:
    suite = ET.fromstring(render_junit(make_report()))[0]  # noqa: S314 - our own text

    cases = suite.findall("testcase")
    assert len(cases) == len(Cause) + 1
    assert suite.get("tests") == str(len(cases))
    assert suite.get("failures") == str(len(suite.findall("testcase/failure")))
    assert suite.get("skipped") == str(len(suite.findall("testcase/skipped")))


def test_junit_reports_a_crash_as_an_error() -> None:
    suite = ET.fromstring(render_junit(make_report(findings=[CRASHED])))[0]  # noqa: S314

    assert suite.get("errors") == "1"
    assert suite.find("testcase/error").get("message") == "boom"


def test_junit_survives_characters_that_xml_forbids() -> None:
    finding = make_rate_finding(summary="a\x00\x1b<b>&")

    suite = ET.fromstring(render_junit(make_report(findings=[finding])))[0]  # noqa: S314

    assert "<b>&" in suite.find("testcase/failure").get("message")


def test_sarif_levels_go_only_with_failures() -> None:
    run = json.loads(render_sarif(make_report()))["runs"][0]

    assert len(run["tool"]["driver"]["rules"]) == len(Cause)
    for result in run["results"]:
        rule = run["tool"]["driver"]["rules"][result["ruleIndex"]]
        assert rule["id"] == result["ruleId"]
        assert (result["kind"] == "fail") == (result["level"] != "none")


def test_sarif_says_that_a_check_crashed() -> None:
    run = json.loads(render_sarif(make_report(findings=[CRASHED])))["runs"][0]

    [invocation] = run["invocations"]
    assert invocation["executionSuccessful"] is False
    assert invocation["toolExecutionNotifications"][0]["message"]["text"] == "boom"


def test_markdown_cannot_be_broken_out_of() -> None:
    finding = make_rate_finding(summary="a | b\n# c <script> [x](http://y)")

    text = render_markdown(make_report(findings=[finding]))

    assert "<script>" not in text.replace("\\<script\\>", "")
    assert "\n# c" not in text
    assert "[x]" not in text.replace("\\[x\\]", "")


def test_markdown_shows_the_patch() -> None:
    text = render_markdown(make_report())

    assert '{"optimizer": {"lr": 0.05}}' in text
    assert "| found | learning rate too high |" in text


def test_the_terminal_shows_the_figures_of_the_page() -> None:
    report = make_report()
    unsettled = {"found", "suspected", "inconclusive"}
    others = sum(finding.verdict not in unsettled for finding in report.findings)

    text = printed(report)

    assert "63.0 % (58.3 to 67.7) accuracy" in text
    assert gain(make_rate_finding().gain).replace(" points", "") in text
    assert f"{others} more causes" in text
    assert "Gate failed" in text


def test_the_terminal_lists_every_cause_on_demand() -> None:
    text = printed(make_report(), shows_all=True)

    for cause in Cause:
        assert cause.value.replace("_", " ") in text


def test_a_name_cannot_steer_the_terminal() -> None:
    report = make_report(limits=["\x1b[2J\x07[red]x[/red]\u202e"])

    text = printed(report)

    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[red]x[/red]" in text


def test_the_terminal_never_hides_a_crash() -> None:
    assert "crashed" in printed(make_healthy_report(findings=[CRASHED]))


def test_a_comparison_names_what_went_away() -> None:
    out = io.StringIO()
    comparison = compare_reports(make_report(), make_healthy_report())

    print_comparison(Console(file=out, width=160), comparison)

    assert "Went away: learning rate too high" in out.getvalue()
    assert "beyond noise" in out.getvalue()


def test_a_gate_that_nobody_closed_does_not_read_like_a_clean_bill() -> None:
    faulty = make_report(gate=Gate(passed=True))
    failed = make_report(gate=Gate(passed=False, reasons=["too bad"]))

    for render in (printed, render_markdown):
        assert "no policy that was asked for forbids what was found" in render(faulty)
        assert "no policy" not in render(make_healthy_report())
        assert "no policy" not in render(failed)


def test_what_a_repaired_model_brings_is_not_called_unknown() -> None:
    """Where nothing is proven of any cause alone."""
    only_suspected = make_report(
        primary_cause=None, findings=[make_rate_finding(verdict="suspected")]
    )
    without = only_suspected.model_copy(update={"remedy": None})

    said, unknown = (
        dict(headline(report).answers)["What it brings"]
        for report in (only_suspected, without)
    )

    assert "repaired model brings what is said below" in said
    assert "Not known yet" in unknown


def test_what_to_do_stands_with_its_own_gain_and_the_repair_with_its_steps() -> None:
    swap = make_rate_finding(
        recommendation=Recommendation(text="Swap the channels."),
        gain=Gain(value=0.443, low=0.42, high=0.467, seeds=0),
    )
    report = make_report(findings=[swap])

    answers = dict(headline(report).answers)

    assert answers["What to do"].startswith("Swap the channels.")
    assert answers["What it brings"] == (
        "+44.3 points (+42.0 to +46.7) of balanced accuracy."
    )
    assert answers["The repaired model"] == (
        "It is made by these 2 steps instead: (1) Lower the learning rate from 0.5 to "
        "0.05. (2) Drop 78 suspected labels. Balanced accuracy 61.2 % → 97.1 % (96.1 "
        "to 98.1), judged on 180 samples that no decision had looked at."
    )


def test_the_repaired_model_is_said_to_have_taken_the_step_or_more() -> None:
    advised = "Lower the learning rate from 0.5 to 0.05."

    def relation(*steps: str) -> str:
        remedy = make_remedy().model_copy(update={"steps": list(steps)})
        repair = headline(make_report(remedy=remedy)).repair
        assert repair is not None
        return repair.relation

    assert relation(advised) == "It is made by that step."
    assert (
        relation(advised, "Drop rows.") == "It is made by that step and another step:"
    )
    assert relation("Drop rows.") == "It is made by this instead:"


def test_a_predicted_gain_is_not_passed_off_as_measured() -> None:
    method = "learning curve extrapolated to twice the data"
    more = Gain(value=0.1, low=0.05, high=0.12, seeds=6, method=method)

    found = headline(make_report(findings=[make_rate_finding(gain=more)]))

    assert found.effect.endswith("of balanced accuracy: predicted, not measured.")


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("paired retraining", ""),
        (
            "paired retraining, both on 752 training rows",
            ", where both train on 752 training rows only",
        ),
        (
            "paired retraining within the best combination, both on 752 training rows",
            (
                " once the other steps are taken, where both train on 752 training "
                "rows only"
            ),
        ),
    ],
)
def test_a_gain_of_a_part_of_the_rows_says_so(method: str, said: str) -> None:
    brings = Gain(value=0.1, low=0.05, high=0.12, seeds=6, method=method)

    found = headline(make_report(findings=[make_rate_finding(gain=brings)]))

    assert found.effect.endswith(f"of balanced accuracy{said}.")


def test_every_form_shows_the_repaired_model_apart_from_what_to_do() -> None:
    report = make_report()

    for text in (printed(report), render_markdown(report), render_html(report)):
        whole = " ".join(text.replace("│", " ").split())
        assert "What it brings" in whole
        assert "+35.2 points (+31.1 to +39.1) of balanced accuracy." in whole
        assert "The repaired model" in whole
        assert "It is made by that step and another step" in whole


def test_a_repair_without_scores_is_shown_by_its_steps() -> None:
    bare = Remedy(recipe=make_remedy().recipe, steps=["Drop rows."])

    repair = headline(make_report(remedy=bare)).repair

    assert repair is not None
    assert repair.in_one_line == "It is made by this instead: Drop rows."
