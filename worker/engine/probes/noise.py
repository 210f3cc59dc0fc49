"""Which training labels a reference that never saw them contradicts.

The reference looks once or twice (`doubts.py`). Labels of the held-out rows that
decide may tell of mistakes, too; those that judge the remedy are never looked at.

Values:
    rate: share of wrong labels, `value`, `low`, `high`; absent where the reference
        predicts no better than chance. `low` and `high` tell how well these rows know
        it, not how far the reference errs.
    counts: shares of labels: `mistakes`, by what explains the labels best;
        `contradicted` by the first look, for whatever reason; `surest`, those among the
        rows that it is surest of. looks: 1 or 2.
    held_out: share of wrong labels among the held-out rows, `value`, `low`, `high`,
        by how often the first look contradicts these, and `shown`: the share of a gain
        that rows with as many wrong labels show; None where mistakes that go to one
        other class were read from held-out labels.
        by_held_out: whether held-out labels told of the mistakes.
    reference: its balanced accuracy out of fold.
    suspects: `row` (in the uploaded split), `given`, `suggested` (names), `score` (the
        probability of the given label, out of fold), `sure` (whether the suggestion
        can be believed); at most 100, the worst first.
    suspected: how many are suspect, as many contradicted labels as are thought wrong;
        doubtful: how many others are not likely enough to be right.
    transition_matrix: for each true class the probability of each given label, rows
        that sum to 1, of at most 50 classes; aimed: how far mistakes of a class go to
        one other class (1) rather than to any (0).
    mask: training rows better left out (`pack_mask`), the suspect and, where there are
        many of them, the doubtful; random_mask: as many random rows of each given
        class.
    run: rows that stand together in the upload and are contradicted far more often
        than others, where there are any: `first` and `last` row, `rows`, shares
        `contradicted` and `elsewhere`, and `moved_by`, where the label of the row so
        many further on fits. run_mask, run_random_mask: these, and as many random
        ones; moved_mask, moved_labels, unmoved_mask: those with such a neighbour, its
        labels in row order, and the others of the run.
    sure_mask: suspects whose suggestion can be believed; corrections: the class that
        is suggested for each of these, in row order; unsure_mask: the other rows that
        are better left out.
"""

import numpy as np
from pydantic import JsonValue

from service.contract.report import Interval
from worker.engine.data import Split
from worker.engine.lab.experiment import pack_mask, unpack_flags
from worker.engine.probes.doubts import Doubts, contradicted_among_surest, doubt
from worker.engine.probes.held_out_labels import HeldOut
from worker.engine.probes.label_runs import flags_of, neighbours, worst_run
from worker.engine.probes.material import (
    Flags,
    Floats,
    Labels,
    Material,
    Values,
    choose,
    integer,
    note,
    sample_places,
)
from worker.engine.probes.noise_transition import MOST_CLASSES, fit
from worker.engine.probes.phrases import described_by
from worker.engine.splits import base_rows
from worker.engine.stats.intervals import balanced_accuracy, wilson

MOST_CHECKED = 40_000  # rows; of more, a stratified part is checked
MOST_ROWS = 5_000  # a member is trained on an epoch
MOST_COLUMNS = 300
MOST_HELD_OUT = 2_000  # rows whose labels may tell of mistakes
MOST_LISTED = 100
LEAST_ROWS = 40
MOST_CELLS = 4_000_000  # rows times classes; of more, fewer rows are checked
LITTLE = 0.005  # rate below which its error is that of counting rows
LIKELY = 0.8  # probability of being right, below which a label is doubtful
MANY = 0.1  # doubtful labels for each suspect, from which they are left out, too
DIGITS = 4  # of a probability
FEWEST = 10.0  # rows that any estimate is worth
FAR = 0.1  # of what labels can tell, the least that is divided by


def measure(material: Material, settings: Values) -> Values:
    """Cross-check the training labels; settings: `rows`."""
    values: Values = {"notes": []}
    classes = len(material.dataset.class_names)
    # The rows that experiments train on come first in this order, should they be fewer.
    places = base_rows(material.train, min(MOST_CHECKED, MOST_CELLS // classes))
    train = choose(material.train, places)
    if len(train) < len(material.train):
        note(
            values,
            f"the labels of {len(train)} of {len(material.train)} training rows were "
            "cross-checked",
        )
    y = train.y
    if len(y) < LEAST_ROWS:
        note(values, "labels were not cross-checked: too few rows")
        return values
    most = integer(settings, "rows", MOST_ROWS)
    columns, held_out = columns_of(material, train)
    doubts = doubt(columns, y, classes, held_out=held_out, most=most)
    values["reference"] = reference_of(doubts, y).model_dump()
    if not is_known(doubts, y):
        note(
            values,
            "labels were not cross-checked: the learner that doubts them does no "
            "better than chance",
        )
        return values
    values["rate"] = rate_of(doubts, len(y)).model_dump()
    values["counts"] = {
        "mistakes": doubts.mistakes.rate,
        "contradicted": float((doubts.first.argmax(1) != y).mean()),
        "surest": doubts.surest,
    }
    values["held_out"] = _in_held_out(doubts, y, held_out.y)
    values["looks"] = doubts.looks
    values["by_held_out"] = doubts.by_held_out
    values["aimed"] = doubts.mistakes.aimed
    if classes <= MOST_CLASSES:
        values["transition_matrix"] = rounded(doubts.mistakes.matrix)
    _name(values, doubts, train, material.dataset.class_names)
    _mask(values, doubts, y, places=places, rows=len(material.train))
    _run(values, doubts, train, places=places, rows=len(material.train))
    return values


def second_look(material: Material, said: Floats, mask: str | None) -> Values:
    """Doubt the labels by what a network says that learned without these rows.

    Args:
        material: the subject.
        said: float64, (training rows, classes), probabilities; NaN where the network
            always learned from the row.
        mask: of rows that the first look would leave out, which counts for those.

    Returns:
        `rate`, `suspects`, `suspected`, `doubtful` and the masks, as `measure` does;
        nothing where the network predicts no better than chance.
    """
    values: Values = {"notes": []}
    places = np.flatnonzero(np.isfinite(said).all(1))
    train, said = choose(material.train, places), said[places]
    if len(train) < LEAST_ROWS:
        return values
    own = said[np.arange(len(train)), train.y]
    mistakes = fit(said, train.y)
    doubts = Doubts(
        probabilities=said,
        margin=own / said.max(1),
        mistakes=mistakes,
        rate=mistakes.rate,
        surest=contradicted_among_surest(said, train.y),
        looks=1,
        first=said,
    )
    if not is_known(doubts, train.y):
        return values
    values["rate"] = rate_of(doubts, len(train)).model_dump()
    _name(values, doubts, train, material.dataset.class_names)
    rest = None
    if mask is not None:
        rest = unpack_flags(mask, len(material.train))
        rest[places] = False
    _mask(values, doubts, train.y, places=places, rest=rest, rows=len(material.train))
    return values


def _in_held_out(doubts: Doubts, y: Labels, held_out: Labels) -> Values | None:
    """Count wrong held-out labels, if mistakes there go to any class alike.

    The reference errs on right labels as often as it does in training rows out of fold.
    """
    if doubts.beside is None or not len(held_out):
        return None
    classes, rate = doubts.beside.shape[1], doubts.mistakes.rate
    spread = classes / max(1, classes - 1)
    contradicted = float((doubts.first.argmax(1) != y).mean())
    errs = max(0.0, contradicted - rate) / max(FAR, 1 - spread * rate)
    found = wilson(float((doubts.beside.argmax(1) != held_out).sum()), len(held_out))
    value, low, high = (
        float(np.clip((share - errs) / max(FAR, 1 - spread * errs), 0.0, 1.0))
        for share in (found.value or 0.0, found.low or 0.0, found.high or 1.0)
    )
    shown = max(0.0, 1 - spread * min(value, rate))
    return {"value": value, "low": low, "high": high, "shown": shown}


def reference_of(doubts: Doubts, y: Labels) -> Interval:
    """Balanced accuracy of the first look, out of fold, by the given labels."""
    hit = np.asarray(doubts.first.argmax(1) == y, dtype=np.bool_)
    return balanced_accuracy(hit, y)


def is_known(doubts: Doubts, y: Labels) -> bool:
    """Whether the reference predicts better than chance, so that it may doubt."""
    if doubts.by_held_out:  # which it predicts well enough to tell
        return True
    low = reference_of(doubts, y).low
    return low is not None and low > 1 / max(1, len(np.unique(y)))


def columns_of(material: Material, train: Split) -> tuple[Floats, HeldOut]:
    """Describe training rows, and held-out ones, by at most 300 columns."""
    features = described_by(material.dataset, train.x)
    decide = material.decide
    decide = choose(decide, sample_places(decide.y, MOST_HELD_OUT))
    columns = features.columns(train.x)
    describe = features.columns
    if columns.shape[1] > MOST_COLUMNS:
        describe = features.reduced
        columns = describe(train.x)
    return columns, HeldOut(describe(decide.x), decide.y)


def rate_of(doubts: Doubts, rows: int) -> Interval:
    """Put an interval around the rate: that of as many rows as know it as well."""
    rate, error = doubts.rate, doubts.mistakes.error
    worth = float(rows)
    if rate > LITTLE:
        worth = float(np.clip(rate * (1 - rate) / error**2, FEWEST, rows))
    return wilson(rate * worth, worth)


def rounded(matrix: Floats) -> list[JsonValue]:
    """Write probabilities with four digits, in rows that still sum to 1."""
    short = np.round(matrix, DIGITS)
    np.fill_diagonal(short, 0.0)
    # Of a class that is nearly always mistaken hardly anything may be left.
    np.fill_diagonal(short, np.round(np.maximum(0.0, 1 - short.sum(1)), DIGITS))
    return [list(map(float, row)) for row in short]


def _name(values: Values, doubts: Doubts, train: Split, names: tuple[str, ...]) -> None:
    """List the suspects, the worst first."""
    y, suggested, sure = train.y, doubts.suggested, doubts.sure
    worst = np.flatnonzero(doubts.suspects(y))
    worst = worst[np.argsort(doubts.margin[worst], kind="stable")][:MOST_LISTED]
    values["suspects"] = [
        {
            "row": int(train.rows[k]),
            "given": names[y[k]],
            "suggested": names[suggested[k]],
            "score": float(doubts.probabilities[k, y[k]]),
            "sure": bool(sure[k]),
        }
        for k in worst
    ]


def _mask(
    values: Values,
    doubts: Doubts,
    y: Labels,
    *,
    places: Labels,
    rows: int,
    rest: Flags | None = None,
) -> None:
    """Flag among all training rows those that may be left out, or corrected.

    Args:
        values: where to put them.
        doubts: about the rows at `places`.
        y: their labels.
        places: int64, in the training rows.
        rows: how many there are.
        rest: bool, (rows,), others to leave out.
    """
    flags, sure = doubts.suspects(y), doubts.sure
    doubtful = (doubts.mistakes.right < LIKELY) & ~flags
    is_much = doubtful.sum() >= MANY * flags.sum()
    left_out = flags | doubtful if is_much else flags
    values["suspected"] = int(flags.sum())
    values["doubtful"] = int(doubtful.sum())
    values["corrections"] = [int(k) for k in doubts.suggested[flags & sure]]
    for name, flagged in (
        ("mask", left_out),
        ("random_mask", as_many(left_out, y)),
        ("sure_mask", flags & sure),
        ("unsure_mask", left_out & ~(flags & sure)),
    ):
        everywhere = flags_of(places[flagged], rows)
        if rest is not None and name in {"mask", "unsure_mask"}:
            everywhere |= rest
        values[name] = pack_mask(everywhere)


def _run(
    values: Values, doubts: Doubts, train: Split, *, places: Labels, rows: int
) -> None:
    """Say which rows that stand together are contradicted most, if any stand out."""
    run = worst_run(doubts.first, train.y, train.rows)
    if run is None:
        return
    own = train.rows[run.places]
    values["run"] = {
        "first": int(own[0]),
        "last": int(own[-1]),
        "rows": len(own),
        "contradicted": run.contradicted,
        "elsewhere": run.elsewhere,
        "moved_by": run.moved_by,
    }
    inside = flags_of(run.places, len(train))
    masks = {"run_mask": inside, "run_random_mask": as_many(inside, train.y)}
    if run.moved_by:
        here, there = neighbours(train.rows, run.places, run.moved_by)
        moved = flags_of(here, len(train))
        new = np.zeros(len(train), dtype=np.int64)
        new[here] = train.y[there]
        masks |= {"moved_mask": moved, "unmoved_mask": inside & ~moved}
        values["moved_labels"] = [int(k) for k in new[moved]]
    for name, flags in masks.items():
        values[name] = pack_mask(flags_of(places[flags], rows))


def as_many(flags: Flags, y: Labels, seed: int = 0) -> Flags:
    """Flag as many random rows of each class."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(y), dtype=np.bool_)
    for k in np.unique(y[flags]):
        rows = np.flatnonzero(y == k)
        count = int(flags[rows].sum())
        chosen[rng.choice(rows, count, replace=False)] = True
    return chosen
