"""Small charts as inline SVG; colours come from the page's style sheet by class.

No chart carries a script, a style attribute or an outside reference, so that a page
with the strictest content policy shows them. Every text is escaped here.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from service.render.figures import number, plain

WIDTH = 820
NARROW = 480
LABEL_WIDTH = 210
NARROW_LABEL_WIDTH = 120
ROW_HEIGHT = 24
PLOT_HEIGHT = 230
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 14, 42


@dataclass(frozen=True)
class Bar:
    """One row of an interval chart.

    Attributes:
        tone: class of the mark: `bad`, `unsure`, `good`, `muted` or `plain`.
        note: shown right of the plot.
    """

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    tone: str = "plain"
    note: str = ""


@dataclass(frozen=True)
class Line:
    """One series of a line chart; `None` leaves a gap.

    Attributes:
        tone: class of the stroke: `s0` to `s5`, or a tone of `Bar`.
        band: lower and upper bound at each x.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    tone: str = "s0"
    is_dashed: bool = False
    has_dots: bool = False
    band: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Axes:
    """What a line chart's axes show."""

    title: str
    x_label: str
    y_label: str
    is_log_x: bool = False
    y_range: tuple[float, float] | None = None
    mark_x: float | None = None
    mark_label: str = ""


def interval_chart(
    title: str,
    bars: Sequence[Bar],
    *,
    show: Callable[[float], str] = number,
    from_zero: bool = False,
    unit: str = "",
    is_narrow: bool = False,
) -> Markup:
    """Draw one row a bar: a dot with its interval against a zero line."""
    if not bars:
        return Markup("")
    low, high = _span(
        [b.value for b in bars]
        + [v for b in bars for v in (b.low, b.high) if v is not None]
        + [0.0]
    )
    width = NARROW if is_narrow else WIDTH
    left = NARROW_LABEL_WIDTH if is_narrow else LABEL_WIDTH
    right = width - max(len(bar.note) for bar in bars) * 7 - 20
    height = TOP + ROW_HEIGHT * len(bars) + BOTTOM - 8

    def at(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    bottom = TOP + ROW_HEIGHT * len(bars)
    parts = []
    for tick in _ticks(low, high):
        x = at(tick)
        parts.append(
            f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}"/>'
            + _text(x, bottom + 15, show(tick), "tick", anchor="middle")
        )
    parts.append(
        f'<line class="zero" x1="{at(0):.1f}" y1="{TOP - 4}" x2="{at(0):.1f}" '
        f'y2="{bottom}"/>'
    )
    if unit:
        parts.append(
            _text((left + right) / 2, bottom + 30, unit, "label", anchor="middle")
        )
    for row, bar in enumerate(bars):
        y = TOP + ROW_HEIGHT * row + ROW_HEIGHT / 2
        parts.append(_row(bar, y, at, left=left, right=right, from_zero=from_zero))
    return _svg(title, height, parts, width=width)


def _row(
    bar: Bar,
    y: float,
    at: Callable[[float], float],
    *,
    left: float,
    right: float,
    from_zero: bool,
) -> str:
    drawn = [
        _text(left - 10, y + 4, _short(bar.label, int(left / 7)), "name", anchor="end")
    ]
    if from_zero:
        start, end = sorted((at(0), at(bar.value)))
        drawn.append(
            f'<rect class="bar {bar.tone}" x="{start:.1f}" y="{y - 7:.1f}" '
            f'width="{max(end - start, 0.5):.1f}" height="14" rx="2"/>'
        )
    if bar.low is not None and bar.high is not None:
        drawn.append(
            f'<line class="whisker {"ink" if from_zero else bar.tone}" '
            f'x1="{at(bar.low):.1f}" y1="{y:.1f}" x2="{at(bar.high):.1f}" '
            f'y2="{y:.1f}"/>'
        )
    if not from_zero:
        drawn.append(
            f'<circle class="dot {bar.tone}" cx="{at(bar.value):.1f}" cy="{y:.1f}" '
            'r="4.5"/>'
        )
    drawn.append(_text(right + 10, y + 4, bar.note, "note"))
    return "<g>" + "".join(drawn) + "</g>"


def line_chart(axes: Axes, lines: Sequence[Line]) -> Markup:
    """Draw series over one x axis, with a legend below."""
    points = [
        (x, y)
        for line in lines
        for x, y in zip(line.x, line.y, strict=True)
        if y is not None and math.isfinite(y)
    ]
    if not points:
        return Markup("")
    scale_x: Callable[[float], float] = math.log10 if axes.is_log_x else float
    xs = [scale_x(x) for x, _ in points]
    ys = [y for _, y in points] + [
        edge for line in lines for pair in line.band for edge in pair
    ]
    x_low, x_high = (min(xs), max(xs)) if max(xs) > min(xs) else (xs[0] - 1, xs[0] + 1)
    y_low, y_high = axes.y_range or _span(ys)
    bottom = TOP + PLOT_HEIGHT

    def at_x(value: float) -> float:
        part = (scale_x(value) - x_low) / (x_high - x_low)
        return LEFT + part * (NARROW - LEFT - RIGHT)

    def at_y(value: float) -> float:
        part = (min(max(value, y_low), y_high) - y_low) / (y_high - y_low)
        return bottom - part * PLOT_HEIGHT

    parts = [
        *_frame(axes, (x_low, x_high), (y_low, y_high), at_x, at_y),
        *(_series(line, at_x, at_y) for line in lines),
    ]
    return _svg(axes.title, bottom + BOTTOM, parts, width=NARROW) + _legend(lines)


def _frame(
    axes: Axes,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    at_x: Callable[[float], float],
    at_y: Callable[[float], float],
) -> list[str]:
    bottom, right = TOP + PLOT_HEIGHT, NARROW - RIGHT
    parts = []
    for tick in _ticks(*y_range):
        y = at_y(tick)
        parts.append(
            f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>'
            + _text(LEFT - 8, y + 4, number(tick), "tick", anchor="end")
        )
    exponents = range(math.ceil(x_range[0] - 1e-9), math.floor(x_range[1] + 1e-9) + 1)
    ticks = [10.0**e for e in exponents] if axes.is_log_x else _ticks(*x_range)
    for tick in ticks:
        x = at_x(tick)
        parts.append(
            f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}"/>'
            + _text(x, bottom + 16, number(tick), "tick", anchor="middle")
        )
    if axes.mark_x is not None:
        x = at_x(axes.mark_x)
        is_late = x > (LEFT + right) / 2
        parts.append(
            f'<line class="mark" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}"/>'
            + _text(
                x - 6 if is_late else x + 6,
                TOP + 12,
                axes.mark_label,
                "note",
                anchor="end" if is_late else "start",
            )
        )
    middle = (TOP + bottom) / 2
    parts.append(
        _text((LEFT + right) / 2, bottom + 34, axes.x_label, "label", anchor="middle")
    )
    parts.append(
        f'<text class="label" text-anchor="middle" '
        f'transform="translate(13 {middle:.0f}) rotate(-90)">{escape(axes.y_label)}'
        "</text>"
    )
    return parts


def _series(
    line: Line, at_x: Callable[[float], float], at_y: Callable[[float], float]
) -> str:
    drawn = []
    if line.band:
        upper = [(at_x(x), at_y(b[1])) for x, b in zip(line.x, line.band, strict=True)]
        lower = [(at_x(x), at_y(b[0])) for x, b in zip(line.x, line.band, strict=True)]
        around = " ".join(f"{x:.1f},{y:.1f}" for x, y in upper + lower[::-1])
        drawn.append(f'<polygon class="band {line.tone}" points="{around}"/>')
    strokes: list[list[str]] = [[]]
    for x, y in zip(line.x, line.y, strict=True):
        if y is None or not math.isfinite(y):
            strokes.append([])
            continue
        strokes[-1].append(f"{at_x(x):.1f},{at_y(y):.1f}")
        if line.has_dots:
            drawn.append(
                f'<circle class="dot {line.tone}" cx="{at_x(x):.1f}" '
                f'cy="{at_y(y):.1f}" r="3.5"/>'
            )
    dashes = ' stroke-dasharray="6 4"' if line.is_dashed else ""
    drawn += [
        f'<polyline class="line {line.tone}"{dashes} points="{" ".join(stroke)}"/>'
        for stroke in strokes
        if len(stroke) > 1
    ]
    return "".join(drawn)


def _legend(lines: Sequence[Line]) -> Markup:
    named = [line for line in lines if line.name]
    if not named:
        return Markup("")
    items = Markup("").join(
        Markup('<li class="{}{}">{}</li>').format(
            line.tone, " dashed" if line.is_dashed else "", plain(line.name)
        )
        for line in named
    )
    return Markup('<ul class="legend">{}</ul>').format(items)


def effect_chart(before: float, after: float, show: Callable[[float], str]) -> Markup:
    """Draw two bars, before and after mending, both shares from 0 to 1."""
    rows = []
    for index, (name, value, tone) in enumerate(
        (("as delivered", before, "bad"), ("repaired", after, "good"))
    ):
        y = 6 + 28 * index
        width = 190 * min(max(value, 0.0), 1.0)
        rows.append(
            _text(84, y + 14, name, "name", anchor="end")
            + f'<rect class="track" x="92" y="{y}" width="190" height="18" rx="3"/>'
            + f'<rect class="bar {tone}" x="92" y="{y}" width="{width:.1f}" '
            + 'height="18" rx="3"/>'
            + _text(290, y + 14, show(value), "note")
        )
    title = f"{show(before)} as delivered, {show(after)} repaired"
    return _svg(title, 62, rows, width=360)


def _svg(title: str, height: float, parts: Sequence[str], *, width: int) -> Markup:
    return Markup(  # noqa: S704 - every text in `parts` went through `escape`
        f'<svg class="chart" viewBox="0 0 {width} {height:.0f}" role="img" '
        f'aria-label="{escape(plain(title))}"><title>{escape(plain(title))}</title>'
        f"{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, text: str, kind: str, *, anchor: str = "start") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{escape(plain(text))}</text>"
    )


def _short(text: str, longest: int) -> str:
    text = plain(text)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _span(values: Sequence[float]) -> tuple[float, float]:
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    if high - low < 1e-9:  # noqa: PLR2004 - all equal
        return low - 0.5, high + 0.5
    margin = 0.06 * (high - low)
    return low - margin, high + margin


def _ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Choose round values between two ends: steps of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= raw)
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    return [round((first + i) * step, 12) for i in range(count)]
