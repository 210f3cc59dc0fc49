"""A report as one self-contained page: inline style and charts, no requests."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import JsonValue

from service.contract.report import Evidence, Finding, Report, ReportArm, Scores
from service.render import figures, plots
from service.render.charts import effect_chart
from service.render.headline import headline

MOST_TABLE_ROWS = 50
MOST_COLUMNS = 8
MOST_EXPERIMENTS = 60
LONGEST_CELL = 160
MOST_IN_A_CELL = 8
MATRIX_CLASSES = 20


@dataclass(frozen=True)
class Rows:
    """A table found among the values of an evidence."""

    names: list[str]
    rows: list[list[str]]
    left_out: int


@dataclass(frozen=True)
class Cell:
    """One cell of the confusion matrix; heat from 0 to 6."""

    count: int
    tone: str
    heat: int


@dataclass(frozen=True)
class MatrixRow:
    """One row of the confusion matrix."""

    name: str
    cells: list[Cell]


@dataclass(frozen=True)
class Matrix:
    """The confusion matrix, ready to be shown."""

    names: list[str]
    rows: list[MatrixRow]


def render_html(
    report: Report,
    *,
    title: str | None = None,
    links: Mapping[str, str] | None = None,
    docs_base: str = "",
) -> str:
    """Write a report as one page that also works from a file.

    Args:
        report: the report.
        title: of the browser's tab; default: verdict and model.
        links: name to address, shown at the top; `Repaired model` is also offered
            beside the repair.
        docs_base: put before the addresses of documentation (`http://host:port`), so
            that they work from a file.
    """
    head = headline(report)
    model_name = _name(report.model, "the model")
    return (
        environment()
        .get_template("report.html")
        .render(
            **_first_screen(report),
            **_plots(report),
            **_background(report),
            report=report,
            head=head,
            title=title or f"{head.verdict}: {model_name}",
            links=dict(links or {}),
            docs_base=docs_base,
            style=Markup(style()),  # noqa: S704 - our own file
            policy=content_policy(),
            model_name=model_name,
            dataset_name=_name(report.dataset, "the dataset"),
        )
    )


@cache
def style() -> str:
    """Read the one style sheet that report and pages share."""
    folder = resources.files("service.render").joinpath("templates")
    return folder.joinpath("style.css").read_text(encoding="utf-8")


@cache
def style_hash() -> str:
    """Name the style sheet as a content security policy does."""
    digest = hashlib.sha256(style().encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def content_policy() -> str:
    """Allow our style sheet and nothing else: no script, no request anywhere."""
    return (
        f"default-src 'none'; style-src {style_hash()}; base-uri 'none'; "
        "form-action 'none'"
    )


@cache
def environment() -> Environment:
    """Make the template environment; everything is escaped unless it is `Markup`."""
    made = Environment(
        loader=PackageLoader("service.render"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=without_controls,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        {
            "arm": figures.arm_words,
            "cause": figures.cause_title,
            "gain": figures.gain,
            "share": figures.share,
            "interval": figures.share_interval,
            "metric": figures.metric,
            "duration": figures.duration,
            "number": figures.number,
            "plain": figures.plain,
            "words": lambda name: name.replace("_", " "),
            "json": show_json,
            "brief": _brief,
            "anchor": lambda text: quote(figures.plain(text), safe="_-"),
            "docs": _docs,
            "tables": _tables,
            "score": _arm_score,
            "in_one_line": plots.experiment_line,
        }
    )
    return made


# As `indent` writes it; no text holds a line's end.
_ROW_OF_NUMBERS = re.compile(r"\[(?:\n *-?[0-9.e+-]+,?)+\n *\]")


def without_controls(value: object) -> object:
    """Clean every text that a template shows, whoever wrote it."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return figures.plain(value)
    return value


def show_json(value: object) -> str:
    """Write JSON for people, one line where it is short, and one a row of numbers."""
    text = figures.plain(json.dumps(value, ensure_ascii=False))
    if len(text) <= 70:  # noqa: PLR2004 - fits one line of the page
        return text
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return figures.plain(
        _ROW_OF_NUMBERS.sub(lambda row: json.dumps(json.loads(row[0])), text)
    )


def _first_screen(report: Report) -> dict[str, Any]:
    acting = [f for f in report.findings if _acts(f)]
    others = [f for f in report.findings if not _acts(f)]
    return {
        "effect": _effect(report),
        "gains": plots.gains_chart(report),
        "acting": acting,
        "others": others,
        "others_line": _count_verdicts(others),
        "verdict_words": figures.VERDICT_WORDS,
    }


def _effect(report: Report) -> Markup:
    repair = headline(report).repair
    if repair is None or repair.before is None or repair.after is None:
        return Markup("")
    before, after = repair.before.value, repair.after.value
    if before is None or after is None:
        return Markup("")
    return effect_chart(before, after, figures.share)


def _acts(finding: Finding) -> bool:
    return finding.verdict in {"found", "suspected"} or finding.check == "crashed"


def _count_verdicts(findings: Sequence[Finding]) -> str:
    counts = {
        words: sum(f.verdict == verdict for f in findings)
        for verdict, words in figures.VERDICT_WORDS.items()
    }
    return ", ".join(f"{count} {words}" for words, count in counts.items() if count)


def _plots(report: Report) -> dict[str, Any]:
    scores = report.performance.eval or report.performance.train
    return {
        "rate_sweep": plots.rate_sweep_chart(report),
        "learning_curve": plots.learning_curve_chart(report),
        "training": plots.training_charts(report),
        "scores": scores,
        "splits": [
            split
            for split in (report.performance.eval, report.performance.train)
            if split is not None
        ],
        "metric_words": figures.METRIC_WORDS,
        "matrix": None if scores is None else _matrix(scores),
        "recall": "" if scores is None else plots.recall_chart(scores),
        "calibration": "" if scores is None else plots.calibration_chart(scores),
        "remedy_recipe": report.remedy.recipe.model_dump(mode="json", exclude_none=True)
        if report.remedy
        else {},
    }


def _background(report: Report) -> dict[str, Any]:
    return {
        "given_recipe": report.recipe.given.model_dump(mode="json", exclude_none=True),
        "experiments": report.experiments[:MOST_EXPERIMENTS],
        "environment": report.environment.model_dump(),
        "subject_facts": [
            (f"{part} {key.replace('_', ' ')}", _cell(value))
            for part, facts in (("model", report.model), ("dataset", report.dataset))
            for key, value in facts.items()
            if isinstance(value, str | int | float) and not isinstance(value, bool)
        ],
    }


def _matrix(scores: Scores) -> Matrix | None:
    if not scores.confusion or len(scores.confusion) > MATRIX_CLASSES + 1:
        return None
    names = [_short(figures.plain(name)) for name in scores.confusion_classes]
    names += [str(index) for index in range(len(names), len(scores.confusion))]
    rows = []
    for index, counts in enumerate(scores.confusion):
        total = max(1, sum(counts))
        cells = [
            Cell(
                count=count,
                tone="hit" if column == index else "miss",
                heat=min(6, -(-6 * count // total)),
            )
            for column, count in enumerate(counts)
        ]
        rows.append(MatrixRow(name=names[index], cells=cells))
    return Matrix(names=names, rows=rows)


def _tables(evidence: Evidence) -> list[tuple[str, Rows]]:
    """Find what can be shown as a table: lists of objects, such as suspected labels."""
    found = []
    for name, value in evidence.values.items():
        if not isinstance(value, list) or not value:
            continue
        if not all(isinstance(row, dict) for row in value):
            continue
        rows = [row for row in value if isinstance(row, dict)]
        names = list(dict.fromkeys(key for row in rows for key in row))[:MOST_COLUMNS]
        cells = [
            [_cell(row.get(column)) for column in names]
            for row in rows[:MOST_TABLE_ROWS]
        ]
        shown = [figures.plain(column).replace("_", " ") for column in names]
        left_out = max(0, len(rows) - MOST_TABLE_ROWS)
        title = figures.plain(name).replace("_", " ")
        found.append((title[0].upper() + title[1:], Rows(shown, cells, left_out)))
    return found


def _cell(value: JsonValue) -> str:
    if value is None:
        return figures.UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return figures.number(value)
    return _short(figures.plain(_nested(value)), LONGEST_CELL)


def _nested(value: str | Sequence[JsonValue] | Mapping[str, JsonValue]) -> str:
    """Write what lies within a cell as a person would, the first of many."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return ", ".join(
            f"{key.replace('_', ' ')} {_cell(part)}" for key, part in value.items()
        )
    parts = [_cell(part) for part in value[:MOST_IN_A_CELL]]
    more = len(value) - len(parts)
    joint = "; " if any(isinstance(part, Mapping) for part in value) else ", "
    return (joint.join(parts) or "none") + (f", and {more} more" if more else "")


def _short(text: str, longest: int = 24) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _brief(changes: Sequence[Mapping[str, object]]) -> str:
    shown = []
    for change in changes:
        kept = {k: v for k, v in change.items() if v is not None and k != "kind"}
        kept.pop("mask", None)  # one flag a row: long, and nothing to read
        kept.pop("labels", None)
        shown.append(json.dumps(kept.get("patch", kept), ensure_ascii=False))
    return _short(figures.plain(" + ".join(shown)), LONGEST_CELL)


def _arm_score(arm: ReportArm) -> str:
    value = plots.figure_of(arm.metrics.get("balanced_accuracy"))
    return figures.share(value)


def _docs(address: str, base: str) -> str:
    """Refuse anything but our own documentation, so no report can link elsewhere."""
    return base + address if address.startswith("/docs/causes/") else "#findings"


def _name(facts: Mapping[str, JsonValue], otherwise: str) -> str:
    name = facts.get("name") or facts.get("id")
    return figures.plain(name) if isinstance(name, str) else otherwise
