"""Which two arms stand behind a gain of a report.

A report says what was gained and which arms were trained, by round, with the score of
every seed. The two arms are those named after the finding's mend (alone, or within a
combination) whose difference is the gain.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import mean
from typing import Any

from service.contract.report import ON_A_PART

BASELINE = "baseline"
PLUS = " + "  # joins the names of mends in the name of a combination
ALONE = "paired retraining"
WITHIN = "paired retraining within the best combination"
EXACT = 1e-5  # balanced accuracy; figures of a report are rounded
ABOUT = 0.03  # the same where rows left out in turn decide too, which no figure shows
SHARED_CONTROLS = ("full length|control",)

Report = dict[str, Any]
Arms = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class ReportedGain:
    """A gain with the arms that it compares.

    Attributes:
        after, before: as they stand in the report.
        is_confirmed: measured on fresh seeds, by which nothing was chosen.
        rows, folds: settings of the experiment.
    """

    cause: str
    verdict: str
    kind: str
    after: dict[str, Any]
    before: dict[str, Any]
    low: float
    value: float
    high: float
    seeds: int
    is_confirmed: bool
    rows: int | None
    folds: int | None


@dataclass(frozen=True)
class _Round:
    arms: Arms
    settings: dict[str, Any]
    is_confirmed: bool

    def difference(self, after: str, before: str) -> float:
        first, second = (
            self.arms[name]["metrics"]["balanced_accuracy_by_seed"]
            for name in (after, before)
        )
        if len(first) != len(second) or not first:
            return float("nan")
        return float(mean(a - b for a, b in zip(first, second, strict=True)))


def reported_gains(report: Report) -> Iterator[ReportedGain]:
    """List the gains of a report that paired retraining measured."""
    rounds = [
        _gathered(report, {"confirm"}, is_confirmed=True),
        _gathered(report, {"screen", "interact"}, is_confirmed=False),
    ]
    for finding in report["findings"]:
        gain = finding["gain"]
        if not gain or not gain["seeds"] or _kind(gain) is None:
            continue
        found = _arms_behind(finding, rounds)
        if found is None:
            continue
        trained, after, before = found
        yield ReportedGain(
            cause=finding["cause"],
            verdict=finding["verdict"],
            kind=_kind(gain) or "",
            after=trained.arms[after],
            before=trained.arms[before],
            low=gain["low"],
            value=gain["value"],
            high=gain["high"],
            seeds=gain["seeds"],
            is_confirmed=trained.is_confirmed,
            rows=trained.settings.get("rows_asked"),
            folds=trained.settings.get("folds"),
        )


def _kind(gain: dict[str, Any]) -> str | None:
    """Tell by its method how a gain was measured; a part of the rows may follow."""
    method = gain["method"].partition(ON_A_PART)[0]
    return {ALONE: "alone", WITHIN: "within"}.get(method)


def uses_rows_left_out(report: Report) -> bool:
    """Whether training rows that seeds left out decided beside held-out ones."""
    return any("left out in turn" in limit for limit in report["limits"])


def _gathered(report: Report, names: set[str], *, is_confirmed: bool) -> _Round:
    """Join the experiments of a round; further seeds of an arm are appended."""
    arms: Arms = {}
    settings: dict[str, Any] = {}
    for experiment in report["experiments"]:
        if experiment["round"] not in names or not experiment["arms"]:
            continue
        settings = experiment["settings"]
        for arm in experiment["arms"]:
            if "balanced_accuracy_by_seed" not in arm["metrics"]:
                continue
            known = arms.get(arm["name"])
            if known is None or known["seeds"] == arm["seeds"]:
                arms[arm["name"]] = arm
                continue
            key = "balanced_accuracy_by_seed"
            scores = [*known["metrics"][key], *arm["metrics"][key]]
            arms[arm["name"]] = {
                **known,
                "seeds": [*known["seeds"], *arm["seeds"]],
                "metrics": {**known["metrics"], key: scores},
            }
    return _Round(arms, settings, is_confirmed)


def _arms_behind(
    finding: dict[str, Any], rounds: list[_Round]
) -> tuple[_Round, str, str] | None:
    tried: dict[str, Any] = {}
    for evidence in finding["evidence"]:
        if evidence["kind"] == "paired_gain":
            tried = evidence["values"].get("tried", {})
    gain = finding["gain"]
    pairs_of = _alone if _kind(gain) == "alone" else _within
    best: tuple[float, _Round, str, str] | None = None
    for trained in rounds:
        is_exact = not trained.settings.get("folds")
        for after, before in pairs_of(tried, trained.arms, is_exact=is_exact):
            # Rounded, so that of arms that tie the likeliest, which comes first, stays.
            off = round(abs(trained.difference(after, before) - gain["value"]), 6)
            seeds = len(trained.arms[after]["seeds"])
            if seeds == gain["seeds"] and (best is None or off < best[0]):
                best = off, trained, after, before
    if best is None:
        return None
    allowed = ABOUT if best[1].settings.get("folds") else EXACT
    return best[1:] if best[0] <= allowed else None


def _alone(
    tried: Iterable[str], arms: Arms, *, is_exact: bool
) -> Iterator[tuple[str, str]]:
    """Pair a mend with the baseline, its controls, and rivals that stand alone.

    Rivals only where the figures are exact: else chance alone would match one.
    """
    for key in tried:
        first = (BASELINE, f"{key}|control", *SHARED_CONTROLS)
        rivals = (name for name in arms if PLUS not in name and name not in first)
        for before in (*first, *(rivals if is_exact else ())):
            if key in arms and before in arms and before != key:
                yield key, before


def _within(
    tried: Iterable[str], arms: Arms, *, is_exact: bool
) -> Iterator[tuple[str, str]]:
    """Pair combinations that differ in a mend, or in one in the place of another."""
    most_else = 1 if is_exact else 0
    parts = {name: frozenset(name.split(PLUS)) - {BASELINE} for name in arms}
    for key in tried:
        for after, whole in parts.items():
            if key not in whole:
                continue
            for before, rest in parts.items():
                if whole - rest == {key} and len(rest - whole) <= most_else:
                    yield after, before
