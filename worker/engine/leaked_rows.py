"""Held-out rows that stand in the training data decide nothing.

A network that knows them by heart is scored on its memory: what helps it to forget
looks worse than it is, what helps it to remember better. Where `split_leakage` is
found, arms are compared, and the repaired model is judged, on the other rows alone.
The scores of the delivered model under `performance` stay those of all rows.
"""

from collections.abc import Mapping

import numpy as np

from worker.engine.check import Measures, delivered_hits, delivered_score
from worker.engine.checks.split_leakage import SplitLeakage
from worker.engine.lab.experiment import unpack_flags
from worker.engine.stats.pairs import Bits, Labels, balanced_accuracies
from worker.engine.subject import Subject

LEAST_LEFT = 0.25  # of the rows of a split, below which all of them count
LEAST_A_CLASS = 5  # rows, likewise; or all that it has


def rows_that_count(subject: Subject, measures: Measures) -> dict[str, Bits]:
    """Flag the rows that decide.

    Args:
        subject: of the audit.
        measures: of the probes; `leakage` tells which rows leak.

    Returns:
        bool, (rows,), by split; a split of which all rows count is left out.
    """
    values = measures.get("leakage", {})
    mask = values.get("mask")
    if not isinstance(mask, str) or not SplitLeakage().is_beyond_chance(values):
        return {}
    labels = {name: subject.labels[name] for name in ("decide", "final")}
    flags = unpack_flags(mask, sum(map(len, labels.values())))
    parts = np.split(~flags, [len(labels["decide"])])
    return {
        name: clean
        for (name, y), clean in zip(labels.items(), parts, strict=True)
        if not clean.all() and _are_enough(clean, y)
    }


def said_of(counted: Mapping[str, Bits]) -> str:
    """Say what is left out, and where it is not."""
    rows = sum(int((~clean).sum()) for clean in counted.values())
    return (
        f"{rows} held-out rows also stand in the training data: gains, and the "
        "repaired model's scores, are those on the others."
    )


def on_these_rows(
    subject: Subject, measures: Measures, counted: Mapping[str, Bits]
) -> Measures:
    """Have the delivered model's score, by which is decided, be that on such rows.

    Args:
        subject: of the audit.
        measures: of the probes.
        counted: which rows decide, by split, where not all of them do.

    Returns:
        Measures with another balanced accuracy, and gap to that on training data.
    """
    mask = delivered_hits(measures)
    level = delivered_score(measures, "balanced_accuracy")
    if mask is None or level is None or "decide" not in counted:
        return measures
    labels, counts = subject.labels["decide"], counted["decide"]
    hits = unpack_flags(mask, len(labels))[counts]
    clean = float(balanced_accuracies(hits[None], labels[counts])[0])
    delivered = {**measures["delivered"], "balanced_accuracy": clean}
    gap = delivered_score(measures, "gap")
    if gap is not None:
        delivered["gap"] = gap + level - clean
    return {**measures, "delivered": delivered}


def _are_enough(clean: Bits, labels: Labels) -> bool:
    """Whether so many are left, of every class, that they can decide."""
    if clean.mean() < LEAST_LEFT:
        return False
    had = np.bincount(labels)
    left = np.bincount(labels[clean], minlength=len(had))
    return bool((left >= np.minimum(had, LEAST_A_CLASS)).all())
