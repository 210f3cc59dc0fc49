"""Figures of merit over rows; each returns counts, so that a table can say of how many.

A planted cause is *covered, with equivalents,* where it is found, or an accepted
equivalent is found, or the report itself calls it equivalent to or explained by what
it found. A named cause is *right, with equivalents,* where it was planted, or is an
accepted equivalent, or the report calls it equivalent to or explained by a planted one.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from scipy.stats import beta

Row = dict[str, Any]
NEARLY_ALL = 0.9
SMALLEST_POSSIBLE_GAIN = 0.03


@dataclass(frozen=True)
class Share:
    """So many of so many."""

    hits: int
    of: int

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Exact interval. Source: Clopper and Pearson 1934, Biometrika 26:404."""
        if self.of == 0:
            return 0.0, 1.0
        tail = (1 - level) / 2
        hits, misses = self.hits, self.of - self.hits
        low = float(beta.ppf(tail, hits, misses + 1)) if hits else 0.0
        high = float(beta.ppf(1 - tail, hits + 1, misses)) if misses else 1.0
        return low, high

    def __str__(self) -> str:
        if self.of == 0:
            return "-"
        low, high = self.interval()
        return (
            f"{self.hits / self.of:.3f} ({self.hits}/{self.of}; "
            f"95 % {low:.3f} to {high:.3f})"
        )


def _count(rows: Iterable[Row], right: Callable[[Row], bool]) -> Share:
    answers = [right(row) for row in rows]
    return Share(sum(answers), len(answers))


def accepted(row: Row) -> set[str]:
    """Causes that may be named on this program."""
    return {*row["causes"], *row["equivalents"]}


def _excused(row: Row) -> set[str]:
    """Causes that the report ties to one that is accepted."""
    tied = {
        cause for cause, other in row["explained_by"].items() if other in accepted(row)
    }
    if row["primary"] in accepted(row):
        tied |= set(row["equivalent"])
    return tied


def detection(rows: Sequence[Row]) -> Share:
    """Faulty programs with anything found."""
    return _count(rows, lambda row: bool(row["found"]))


def primary(rows: Sequence[Row]) -> Share:
    """Faulty programs whose primary cause was planted."""
    return _count(rows, lambda row: row["primary"] in row["causes"])


def primary_with_equivalents(rows: Sequence[Row]) -> Share:
    """The same, accepting equivalents of the truth and those the report lists."""
    return _count(
        rows,
        lambda row: (
            row["primary"] in accepted(row)
            or bool(set(row["equivalent"]) & set(row["causes"]))
        ),
    )


def recall(rows: Sequence[Row]) -> Share:
    """Planted causes that are found."""
    pairs = [(row, cause) for row in rows for cause in row["causes"]]
    return Share(sum(cause in row["found"] for row, cause in pairs), len(pairs))


def recall_with_equivalents(rows: Sequence[Row]) -> Share:
    """Planted causes that are covered."""

    def covered(row: Row, cause: str) -> bool:
        tied = {*row["equivalent"], *row["explained_by"]}
        return (
            cause in row["found"]
            or (cause in tied)
            or bool(set(row["found"]) & set(row["equivalents"]))
        )

    pairs = [(row, cause) for row in rows for cause in row["causes"]]
    return Share(sum(covered(row, cause) for row, cause in pairs), len(pairs))


def precision(rows: Sequence[Row]) -> Share:
    """Found causes that were planted."""
    pairs = [(row, cause) for row in rows for cause in row["found"]]
    return Share(sum(cause in row["causes"] for row, cause in pairs), len(pairs))


def precision_with_equivalents(rows: Sequence[Row]) -> Share:
    """Found causes that are right."""
    return precision_confirmed(rows, {})


def precision_confirmed(rows: Sequence[Row], confirmed: dict[str, list[str]]) -> Share:
    """The same, accepting what the referee confirmed on the mended program.

    A program drawn by chance may lack rows, say, beside what was planted.
    """
    pairs = [(row, cause) for row in rows for cause in row["found"]]
    return Share(
        sum(
            cause in accepted(row) | _excused(row) | set(confirmed.get(row["case"], []))
            for row, cause in pairs
        ),
        len(pairs),
    )


def false_alarms(rows: Sequence[Row]) -> Share:
    """Healthy programs with anything found."""
    return _count(rows, lambda row: bool(row["found"]))


def unconfirmed_alarms(rows: Sequence[Row], confirmed: dict[str, list[str]]) -> Share:
    """Healthy programs with anything found that the referee did not confirm.

    A control may have room for a little more; see `CONFIRMED` in `verify.py`.
    """
    return _count(
        rows, lambda row: bool(set(row["found"]) - set(confirmed.get(row["case"], [])))
    )


def recovered_share(row: Row, best: float) -> float | None:
    """Share of the best known gain that the repaired model recovers, hidden rows."""
    before, after = row.get("hidden_before"), row.get("hidden_after")
    if not isinstance(before, float | int) or best - before < SMALLEST_POSSIBLE_GAIN:
        return None
    if not isinstance(after, float | int):
        return 0.0
    return (after - before) / (best - before)


def recovery(rows: Sequence[Row], best: dict[str, float]) -> Share:
    """Faulty programs where the remedy recovers ≥ 90 % of the best known gain."""
    shares = [
        share
        for row in rows
        if row["case"] in best
        for share in [recovered_share(row, best[row["case"]])]
        if share is not None
    ]
    return Share(sum(share >= NEARLY_ALL for share in shares), len(shares))


BINS = {  # of confidence; nothing is found with less than .9
    "found": (0.0, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999, 0.9999, 1.0),
    "not_found": (0.0, 0.6, 0.8, 0.9, 0.95, 0.99, 1.0),
}


@dataclass(frozen=True)
class Bin:
    """Verdicts whose confidence lies from `low` to just below `high`.

    Attributes:
        right: how many of them were right.
        mean: of the confidence.
    """

    low: float
    high: float
    right: Share
    mean: float


def calibration(rows: Sequence[Row], verdict: str) -> list[Bin]:
    """Bins of reported confidence: how often verdicts were right in each.

    A fault that is found is right where it was planted, is an accepted equivalent, or
    the report ties it to one; one that is not found is right where it was not planted.

    Args:
        rows: of audits.
        verdict: `found` or `not_found`.
    """
    judged: list[tuple[float, bool]] = []
    for row in rows:
        for cause, finding in row["findings"].items():
            if finding["verdict"] != verdict:
                continue
            if verdict == "found":
                right = cause in accepted(row) | _excused(row)
            else:
                right = cause not in row["causes"]
            judged.append((float(finding["confidence"]), right))
    bins = []
    for low, high in pairwise(BINS[verdict]):
        is_last = high == BINS[verdict][-1]
        inside = [
            (confidence, right)
            for confidence, right in judged
            if low <= confidence and (confidence < high or is_last)
        ]
        if inside:
            share = Share(sum(right for _, right in inside), len(inside))
            mean = sum(confidence for confidence, _ in inside) / len(inside)
            bins.append(Bin(low, high, share, mean))
    return bins
