"""How numbers and names look: the same figure in page, terminal and Markdown."""

import math
import re

from service.contract.causes import Cause
from service.contract.report import Gain, Interval

UNKNOWN = "\N{EN DASH}"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

METRIC_WORDS: dict[str, str] = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "log_loss": "log loss",
    "ece": "calibration error",
}
VERDICT_WORDS: dict[str, str] = {
    "found": "found",
    "suspected": "suspected",
    "not_found": "not found",
    "inconclusive": "inconclusive",
    "not_applicable": "not applicable",
}


def plain(text: object) -> str:
    """Drop control and direction-changing characters from a caller's text."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(text))


def cause_words(cause: Cause) -> str:
    """Say a cause's name as people write it: `learning rate too high`."""
    return cause.value.replace("_", " ")


def cause_title(cause: Cause) -> str:
    """Say a cause's name at the start of a sentence."""
    words = cause_words(cause)
    return words[0].upper() + words[1:]


def arm_words(name: str) -> str:
    """Say an arm's name; one that others are compared with is called a control."""
    shown = plain(name).replace("|control", "")
    return f"control: {shown}" if "|control" in name else shown


def number(value: float | None, digits: int = 3) -> str:
    """Show any quantity with about `digits` significant digits."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value == 0:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-4:  # noqa: PLR2004
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{int(exponent)}"
    if float(value).is_integer():
        return f"{int(value):,}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def share(value: float | None) -> str:
    """Show a fraction, 0 to 1, in hundredths: `93.2 %`."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{100 * value:.1f} %"


def share_interval(interval: Interval | None) -> str:
    """Show a fraction with its interval: `93.2 % (91.8 to 94.5)`."""
    if interval is None or interval.value is None:
        return UNKNOWN
    return f"{share(interval.value)}{range_of(interval)}"


def range_of(interval: Interval) -> str:
    """Show only the interval of a fraction: ` (91.8 to 94.5)`, or nothing."""
    if interval.low is None or interval.high is None:
        return ""
    return f" ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def metric(name: str, interval: Interval | None) -> str:
    """Show a score in the unit of its metric."""
    if interval is None or interval.value is None:
        return UNKNOWN
    if name != "log_loss":
        return share_interval(interval)
    text = f"{interval.value:.3f}"
    if interval.low is None or interval.high is None:
        return text
    return f"{text} ({interval.low:.3f} to {interval.high:.3f})"


def points(value: float) -> str:
    """Show a difference of fractions in points: `+21.3`."""
    shown = 100 * value
    if abs(shown) < 0.05:  # noqa: PLR2004 - would be shown as -0.0
        shown = 0.0
    sign = "+" if shown > 0 else "\N{MINUS SIGN}" if shown < 0 else "±"
    return f"{sign}{abs(shown):.1f}"


def gain(measured: Gain | None) -> str:
    """Show a gain with its interval: `+21.3 points (+18.0 to +24.1)`."""
    if measured is None:
        return UNKNOWN
    if measured.metric == "log_loss":
        return (
            f"{measured.value:+.3f} nats ({measured.low:+.3f} to {measured.high:+.3f})"
        )
    return (
        f"{points(measured.value)} points "
        f"({points(measured.low)} to {points(measured.high)})"
    )


def duration(seconds: float | None) -> str:
    """Show a duration: `4.2 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return UNKNOWN
    if seconds < 60:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:  # noqa: PLR2004
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def size(count: float) -> str:
    """Show a size in bytes: `4.2 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:  # noqa: PLR2004
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
