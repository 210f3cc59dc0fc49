"""Which charts a report yields, read from its experiments and scores."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup
from pydantic import JsonValue

from service.contract.causes import Cause
from service.contract.report import Report, ReportArm, ReportExperiment, Scores
from service.render.charts import Axes, Bar, Line, interval_chart, line_chart
from service.render.figures import (
    arm_words,
    cause_title,
    duration,
    number,
    plain,
    points,
    share,
)
from service.render.headline import primary_finding

TONES = {"found": "bad", "suspected": "unsure", "inconclusive": "unsure"}
MOST_CLASSES = 30
MOST_CURVE_POINTS = 200


def gains_chart(report: Report) -> Markup:
    """Draw the picture of the audit: what mending each cause brings."""
    bars = [
        Bar(
            label=cause_title(finding.cause),
            value=finding.gain.value,
            low=finding.gain.low,
            high=finding.gain.high,
            tone=TONES.get(finding.verdict, "muted"),
            note=f"{points(finding.gain.value)} ({points(finding.gain.low)} to "
            f"{points(finding.gain.high)})",
        )
        for finding in report.findings
        if finding.gain is not None and finding.gain.metric != "log_loss"
    ]
    return interval_chart(
        "What mending each cause brings, in points of balanced accuracy",
        bars,
        show=points,
        unit="gain on held-out data, points of balanced accuracy, 95 % interval",
    )


def rate_sweep_chart(report: Report) -> Markup:
    """Draw held-out and training score over the learning rate."""
    given = _learning_rate(report)
    held_out: dict[float, tuple[int, float]] = {}
    trained: dict[float, tuple[int, float]] = {}
    for experiment in report.experiments:
        for arm in experiment.arms:
            rate = _swept_rate(arm, given)
            if rate is None:
                continue
            for found, name in (
                (held_out, "balanced_accuracy"),
                (trained, "train_accuracy"),
            ):
                value = figure_of(arm.metrics.get(name))
                if value is not None:
                    _keep_most_seeds(found, rate, len(arm.seeds), value)
    if len(held_out) < 3:  # noqa: PLR2004 - two points are no sweep
        return Markup("")
    lines = [
        _sweep_line("held-out balanced accuracy", held_out, tone="s0"),
        _sweep_line("training accuracy", trained, tone="s1"),
    ]
    return line_chart(
        Axes(
            title="Score over the learning rate",
            x_label="learning rate",
            y_label="score",
            is_log_x=True,
            mark_x=given if given in held_out else None,
            mark_label="as given",
        ),
        lines,
    )


def _keep_most_seeds(
    found: dict[float, tuple[int, float]], rate: float, seeds: int, value: float
) -> None:
    if rate not in found or found[rate][0] < seeds:
        found[rate] = (seeds, value)


def _sweep_line(name: str, found: dict[float, tuple[int, float]], *, tone: str) -> Line:
    rates = sorted(found)
    return Line(
        name=name, x=rates, y=[found[r][1] for r in rates], tone=tone, has_dots=True
    )


def _learning_rate(report: Report) -> float | None:
    optimizer = report.recipe.given.optimizer
    if optimizer is not None and optimizer.lr is not None:
        return optimizer.lr
    return figure_of(report.recipe.assumed.get("optimizer.lr"))


def _swept_rate(arm: ReportArm, given: float | None) -> float | None:
    if not arm.changes:
        return given
    if len(arm.changes) != 1:
        return None
    patch = arm.changes[0].get("patch")
    if not isinstance(patch, dict) or set(patch) != {"optimizer"}:
        return None
    optimizer = patch["optimizer"]
    if not isinstance(optimizer, dict) or set(optimizer) != {"lr"}:
        return None
    return figure_of(optimizer["lr"])


def learning_curve_chart(report: Report) -> Markup:
    """Draw the score over the number of training rows, relative to all of them.

    Reads the evidence `learning_curve`: `rows` and `against_all` of the subsets,
    `predicted_at_double` and `predicted_at_fourfold` as value, low, high.
    """
    for finding in report.findings:
        for evidence in finding.evidence:
            if (
                finding.cause is Cause.INSUFFICIENT_DATA
                and evidence.kind == "learning_curve"
            ):
                return _learning_curve(evidence.values)
    return Markup("")


def _learning_curve(values: Mapping[str, JsonValue]) -> Markup:
    rows = _figures(values.get("rows"))
    measured = _figures(values.get("against_all"))
    double = _figures(values.get("predicted_at_double"))
    fourfold = _figures(values.get("predicted_at_fourfold"))
    if len(rows) < 2 or len(rows) != len(measured):  # noqa: PLR2004 - no curve
        return Markup("")
    lines = [Line("measured", rows, [100 * m for m in measured], has_dots=True)]
    known = [
        (factor * rows[-1], *(100 * part for part in predicted))
        for factor, predicted in ((2, double), (4, fourfold))
        if len(predicted) == 3  # noqa: PLR2004 - value, low, high
    ]
    if known:
        lines.append(
            Line(
                "extrapolated",
                [rows[-1], *(point[0] for point in known)],
                [100 * measured[-1], *(point[1] for point in known)],
                tone="s2",
                is_dashed=True,
                band=[
                    (100 * measured[-1], 100 * measured[-1]),
                    *((point[2], point[3]) for point in known),
                ],
            )
        )
    return line_chart(
        Axes(
            title="Learning curve: score over the number of training rows",
            x_label="training rows",
            y_label="points against all of today's rows",
            mark_x=rows[-1],
            mark_label="today",
        ),
        lines,
    )


def _figures(value: JsonValue | None) -> list[float]:
    if not isinstance(value, list):
        return []
    found = [figure_of(item) for item in value]
    return [item for item in found if item is not None]


def training_charts(report: Report) -> list[tuple[str, Markup]]:
    """Draw loss and score along the training, as it was and mended."""
    found = _curves_to_show(report)
    charts = []
    for key, words in (
        ("train_loss", "training loss"),
        ("eval_loss", "held-out loss, nats"),
        ("train_accuracy", "training accuracy"),
        ("eval_balanced_accuracy", "held-out balanced accuracy"),
    ):
        lines = []
        for index, (name, arm) in enumerate(found):
            y = arm.curves.get(key)
            if not y or all(value is None for value in y):
                continue
            x = arm.curves.get("epoch") or list(range(1, len(y) + 1))
            shown = _thin([v if v is not None else 0.0 for v in x], y)
            lines.append(Line(name, *shown, tone=f"s{index}"))
        if lines:
            title = words[0].upper() + words[1:]
            axes = Axes(title=f"{title} by epoch", x_label="epoch", y_label=words)
            charts.append((title, line_chart(axes, lines)))
    return charts


def _thin(
    x: Sequence[float], y: Sequence[float | None]
) -> tuple[list[float], list[float | None]]:
    count = min(len(x), len(y))
    step = -(-count // MOST_CURVE_POINTS)
    return list(x[:count:step]), list(y[:count:step])


def _curves_to_show(report: Report) -> list[tuple[str, ReportArm]]:
    """Pick an experiment that has the baseline and the primary cause's mend."""
    finding = primary_finding(report)
    wanted = set(finding.experiments) if finding else set()
    patch = (
        finding.recommendation.recipe_patch
        if finding and finding.recommendation
        else None
    )
    with_curves = [e for e in report.experiments if any(a.curves for a in e.arms)]
    named = [e for e in with_curves if e.id in wanted]
    for experiment in reversed(named or with_curves):
        arms = [arm for arm in experiment.arms if arm.curves]
        baseline = next((arm for arm in arms if not arm.changes), None)
        if baseline is None:
            continue
        mended = _mended_arm(arms, patch)
        found = [("as it was", baseline)]
        if mended is not None and finding is not None:
            found.append((f"mended: {arm_words(mended.name)}", mended))
        return found
    return []


def _mended_arm(
    arms: Sequence[ReportArm], patch: dict[str, object] | None
) -> ReportArm | None:
    changed = [arm for arm in arms if arm.changes]
    for arm in changed:
        if patch and any(change.get("patch") == patch for change in arm.changes):
            return arm
    scored = [
        (value, arm)
        for arm in changed
        if (value := figure_of(arm.metrics.get("balanced_accuracy"))) is not None
    ]
    return max(scored, key=lambda pair: pair[0])[1] if scored else None


def recall_chart(scores: Scores) -> Markup:
    """Draw the recall of each class, the worst first where there are many."""
    known = [entry for entry in scores.per_class if entry.recall.value is not None]
    if len(known) > MOST_CLASSES:
        known = sorted(known, key=lambda entry: entry.recall.value or 0.0)
    bars = [
        Bar(
            label=f"{plain(entry.name)} (n={entry.n})",
            value=entry.recall.value or 0.0,
            low=entry.recall.low,
            high=entry.recall.high,
            tone="s0",
            note=share(entry.recall.value),
        )
        for entry in known[:MOST_CLASSES]
    ]
    return interval_chart(
        "Recall of each class", bars, show=share, from_zero=True, is_narrow=True
    )


def calibration_chart(scores: Scores) -> Markup:
    """Draw accuracy over confidence, beside the diagonal of a calibrated model."""
    bins = [entry for entry in scores.calibration if entry.n > 0]
    if not bins:
        return Markup("")
    return line_chart(
        Axes(
            title="Calibration: how often the model is right when it is this sure",
            x_label="confidence of the model",
            y_label="share that is right",
            y_range=(0.0, 1.0),
        ),
        [
            Line("calibrated", [0, 1], [0, 1], tone="muted", is_dashed=True),
            Line(
                "this model",
                [entry.confidence for entry in bins],
                [entry.accuracy for entry in bins],
                has_dots=True,
            ),
        ],
    )


def experiment_line(experiment: ReportExperiment) -> str:
    """Say in one line what an experiment was and what it took."""
    arms = len(experiment.arms)
    if not arms:
        return f"{plain(experiment.question)} ({duration(experiment.seconds)})"
    seeds = max((len(arm.seeds) for arm in experiment.arms), default=0)
    return (
        f"{plain(experiment.question)} ({arms} arms, up to {number(seeds)} seeds, "
        f"{duration(experiment.seconds)})"
    )


def figure_of(value: object) -> float | None:
    """Read a number, or the `value` of an interval, or the mean of a list."""
    if isinstance(value, dict):
        value = value.get("value", value.get("mean"))
    if isinstance(value, list):
        numbers = [v for v in value if isinstance(v, int | float)]
        return sum(numbers) / len(numbers) if numbers else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)
