"""A report as SARIF 2.1.0, for code-scanning pages.

Source: OASIS, Static Analysis Results Interchange Format 2.1.0, sections 3.27.9 (kind)
and 3.27.10 (level): a level other than `none` goes only with the kind `fail`.
"""

import json
from typing import Any
from urllib.parse import quote

from service.contract.causes import CATALOGUE, CatalogueEntry
from service.contract.report import Finding, Report
from service.render.figures import cause_title, plain

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {"critical": "error", "major": "error", "minor": "warning", "info": "note"}
KINDS = {
    "found": "fail",
    "suspected": "review",
    "not_found": "pass",
    "inconclusive": "open",
    "not_applicable": "notApplicable",
}


def render_sarif(report: Report, *, docs_base: str = "") -> str:
    """Write a report as one run: a rule a cause, a result a finding."""
    crashed = [f for f in report.findings if f.check == "crashed"]
    rules = [entry.cause for entry in CATALOGUE]
    document = {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "model-audit",
                        "semanticVersion": _semantic(report.environment.engine),
                        "rules": [_rule(entry, docs_base) for entry in CATALOGUE],
                    }
                },
                "automationDetails": {"id": f"model-audit/{report.audit_id}"},
                "invocations": [
                    {
                        "executionSuccessful": not crashed,
                        "toolExecutionNotifications": [
                            {
                                "level": "error",
                                "message": {"text": plain(f.reason or f.summary)},
                                "associatedRule": {"id": f.cause.value},
                            }
                            for f in crashed
                        ],
                    }
                ],
                "results": [
                    _result(report, finding, rules.index(finding.cause))
                    for finding in report.findings
                ],
            }
        ],
    }
    return json.dumps(document, ensure_ascii=False, indent=1)


def _semantic(version: str) -> str:
    numbers = [part for part in version.split(".") if part.isdigit()]
    return ".".join([*numbers, "0", "0", "0"][:3])


def _rule(entry: CatalogueEntry, docs_base: str) -> dict[str, Any]:
    rule: dict[str, Any] = {
        "id": entry.cause.value,
        "name": "".join(word.title() for word in entry.cause.value.split("_")),
        "shortDescription": {"text": cause_title(entry.cause)},
        "fullDescription": {"text": entry.says},
        "help": {"text": entry.recommends},
        "properties": {"tags": [entry.group.value]},
    }
    if docs_base:
        rule["helpUri"] = f"{docs_base}{entry.docs}"
    return rule


def _result(report: Report, finding: Finding, rule_index: int) -> dict[str, Any]:
    kind = KINDS[finding.verdict]
    name = report.model.get("name") or report.model.get("id") or "model"
    properties: dict[str, Any] = {
        "verdict": finding.verdict,
        "severity": finding.severity,
        "confidence": finding.confidence,
        "primary": finding.cause == report.primary_cause,
        "check": finding.check,
    }
    if finding.gain is not None:
        properties["gain"] = finding.gain.model_dump()
    if finding.recommendation is not None:
        properties["recommendation"] = finding.recommendation.model_dump()
    return {
        "ruleId": finding.cause.value,
        "ruleIndex": rule_index,
        "kind": kind,
        "level": LEVELS[finding.severity] if kind == "fail" else "none",
        "message": {"text": plain(finding.summary)},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": quote(plain(name), safe="/._-")}
                }
            }
        ],
        "partialFingerprints": {
            "cause/v1": f"{finding.cause.value}:{report.model.get('sha256', name)}"
        },
        "properties": properties,
    }
