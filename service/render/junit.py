"""A report as JUnit XML, for the test pages of build servers: one case a cause."""

from xml.etree import ElementTree as ET  # written only, never parsed

from service.contract.report import Finding, Report
from service.render.figures import cause_words, gain, plain


def render_junit(report: Report) -> str:
    """Write a report as one test suite.

    `found` fails and a crashed check is an error; `inconclusive` and `not_applicable`
    are skipped with their reason; `suspected` passes and says so in its output. The
    last case is the gate itself.
    """
    failures = sum(
        f.verdict == "found" and f.check != "crashed" for f in report.findings
    )
    errors = sum(f.check == "crashed" for f in report.findings)
    skipped = sum(_is_skipped(f) for f in report.findings)
    timings = report.timings
    seconds = timings.get("total", timings.get("experiments", 0.0))
    counts = {
        "name": "model-audit",
        "tests": str(len(report.findings) + 1),
        "failures": str(failures + (not report.gate.passed)),
        "errors": str(errors),
        "skipped": str(skipped),
        "time": f"{seconds:.3f}",
    }
    root = ET.Element("testsuites", counts)
    suite = ET.SubElement(root, "testsuite", counts)
    properties = ET.SubElement(suite, "properties")
    for name, value in _properties(report).items():
        ET.SubElement(properties, "property", {"name": name, "value": plain(value)})
    for finding in report.findings:
        _case(suite, finding)
    gate = ET.SubElement(
        suite, "testcase", {"classname": "model-audit", "name": "gate"}
    )
    if not report.gate.passed:
        text = plain("\n".join(report.gate.reasons))
        ET.SubElement(gate, "failure", {"message": "the gate failed"}).text = text
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(
        root, encoding="unicode"
    )


def _properties(report: Report) -> dict[str, object]:
    return {
        "audit_id": report.audit_id,
        "primary_cause": report.primary_cause.value if report.primary_cause else "",
        "engine": report.environment.engine,
        "seed": report.environment.seed,
    }


def _is_skipped(finding: Finding) -> bool:
    return finding.check != "crashed" and finding.verdict in {
        "inconclusive",
        "not_applicable",
    }


def _case(suite: ET.Element, finding: Finding) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        {
            "classname": f"model-audit.{finding.group.value}",
            "name": finding.cause.value,
        },
    )
    summary = plain(finding.summary)
    if finding.check == "crashed":
        message = plain(finding.reason or "the check crashed")
        ET.SubElement(case, "error", {"message": message}).text = summary
    elif finding.verdict == "found":
        text = [summary, *(plain(item.statement) for item in finding.evidence)]
        if finding.recommendation is not None:
            text.append(plain(finding.recommendation.text))
        failure = {"message": summary, "type": finding.severity}
        ET.SubElement(case, "failure", failure).text = "\n".join(text)
    elif _is_skipped(finding):
        message = plain(finding.reason or finding.summary)
        ET.SubElement(case, "skipped", {"message": message})
    else:
        words = f"{cause_words(finding.cause)}: {finding.verdict}, {gain(finding.gain)}"
        ET.SubElement(case, "system-out").text = f"{words}\n{summary}"
