"""Slices of the held-out data in which the delivered model does worse than elsewhere.

Slices by class, by quantiles of one described quantity, by cluster and by missing
values are laid down without looking at the errors, so all held-out rows estimate them.
Slices that combine two quantities come from shallow trees, which do look at the errors:
they are grown on one half and estimated on the other. Every slice that was tried counts
in the correction of p-values (Holm) and of the intervals (Bonferroni).
Source: Chung et al. 2019, Slice Finder, arXiv:1807.06068.

Values:
    segments: `where`, `n`, `accuracy` (interval, corrected), `elsewhere`; at most 8,
        the clearest first.
    p_values: adjusted, in the same order.
    tried: number of slices.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats
from sklearn.cluster import KMeans
from sklearn.tree import DecisionTreeRegressor

from worker.engine.data import Split
from worker.engine.probes.descriptions import describe
from worker.engine.probes.features import Features
from worker.engine.probes.inputs_as_trained import held_out_answers, predictions
from worker.engine.probes.material import (
    Flags,
    Floats,
    Material,
    Values,
    choose,
    held_out,
    integer,
    note,
    sample_places,
)
from worker.engine.probes.selection import halves
from worker.engine.stats.decisions import holm
from worker.engine.stats.intervals import wilson

MOST_ROWS = 20_000
LEAST_ROWS = 20
MATERIAL = 0.05  # accuracy below elsewhere
ERROR_RATE = 0.05
MOST_SEGMENTS = 8
CLUSTERS = 8
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
MOST_CLASSES = 200
MOST_PAIRED = 40  # columns that trees may combine
SAME = 0.5  # overlap (Jaccard) from which two slices are one


@dataclass(frozen=True)
class Slice:
    """Rows that share something; `usable` are those that may estimate its accuracy."""

    where: str
    rows: Flags
    usable: Flags | None = None


def measure(material: Material, settings: Values) -> Values:
    """Find weak slices; settings: `rows`."""
    values: Values = {"notes": [], "segments": [], "p_values": [], "tried": 0}
    whole = held_out(material)
    places = sample_places(whole.y, integer(settings, "rows", MOST_ROWS))
    held = choose(whole, places)
    if len(held) < len(whole):
        note(values, f"segments were looked for in {len(held)} held-out rows")
    hit = np.asarray(
        predictions(material, held_out_answers(material)[places]) == held.y
    )
    if len(held) < 2 * LEAST_ROWS or bool(hit.all()):
        return values
    slices = [one for one in candidates(material, held, hit) if _large(one, len(held))]
    values["tried"] = len(slices)
    found = weak(slices, hit)
    values["segments"] = [entry for entry, _ in found]
    values["p_values"] = [p_value for _, p_value in found]
    return values


def _large(one: Slice, rows: int) -> bool:
    usable = np.ones(rows, dtype=np.bool_) if one.usable is None else one.usable
    count = int((one.rows & usable).sum())
    return LEAST_ROWS <= count <= int(usable.sum()) - LEAST_ROWS


def candidates(material: Material, held: Split, hit: Flags) -> Iterator[Slice]:
    """List all slices to try."""
    yield from _classes(material, held)
    columns, names = describe(material.dataset, held.x)
    for place, name in enumerate(names):
        yield from _quantiles(columns[:, place], name)
    missing = np.isnan(columns)
    if bool(missing.any()):
        yield Slice("any value missing", np.asarray(missing.any(1)))
    yield from _clusters(material, held)
    yield from _combined(columns, names, hit, held)


def _classes(material: Material, held: Split) -> Iterator[Slice]:
    for k, name in enumerate(material.dataset.class_names[:MOST_CLASSES]):
        yield Slice(f"class = {name}", np.asarray(held.y == k))


def _quantiles(column: Floats, name: str) -> Iterator[Slice]:
    good = column[np.isfinite(column)]
    if len(good) == 0:
        return
    distinct = np.unique(good)
    if len(distinct) <= 6:  # noqa: PLR2004 - a category rather than a quantity
        for value in distinct:
            yield Slice(f"{name} = {number(value)}", np.asarray(column == value))
        return
    for cut in np.unique(np.quantile(good, QUANTILES)):
        if cut > distinct[0]:
            yield Slice(f"{name} < {number(cut)}", np.asarray(column < cut))
        yield Slice(f"{name} >= {number(cut)}", np.asarray(column >= cut))
    if bool(np.isnan(column).any()):
        yield Slice(f"{name} missing", np.isnan(column))


def _clusters(material: Material, held: Split) -> Iterator[Slice]:
    features = Features.fit(material.dataset, held.x)
    reduced = features.reduced(held.x)
    count = min(CLUSTERS, len(held) // (2 * LEAST_ROWS))
    if count < 2:  # noqa: PLR2004
        return
    model = KMeans(count, n_init=1, random_state=0).fit(reduced[:5000])
    place = model.predict(reduced)
    for k in range(count):
        rows = np.asarray(place == k)
        if not bool(rows.any()):
            continue
        shares = np.bincount(held.y[rows], minlength=len(material.dataset.class_names))
        most = int(shares.argmax())
        mostly = material.dataset.class_names[most]
        share = 100 * shares[most] / rows.sum()
        yield Slice(f"cluster {k + 1} ({share:.0f} % {mostly})", rows)


def _combined(
    columns: Floats, names: list[str], hit: Flags, held: Split
) -> Iterator[Slice]:
    """Grow a tree of depth 2 on one half; its leaves are slices on the other."""
    known = np.where(np.isfinite(columns), columns, np.nan)
    known[:, np.isnan(known).all(0)] = 0.0
    filled = np.where(np.isnan(known), np.nanmedian(known, 0), known)[:, :MOST_PAIRED]
    first = halves(held.y)
    for grown_on in (first, ~first):
        tree = DecisionTreeRegressor(
            max_depth=2, min_samples_leaf=LEAST_ROWS, random_state=0
        ).fit(filled[grown_on], ~hit[grown_on])
        leaf = tree.apply(filled)
        for node, conditions in paths(tree, names):
            if len(conditions) > 1:
                yield Slice(
                    " and ".join(conditions), np.asarray(leaf == node), ~grown_on
                )


def paths(
    tree: DecisionTreeRegressor, names: list[str]
) -> Iterator[tuple[int, list[str]]]:
    """List the leaves of a tree with the conditions that lead there."""
    inner = tree.tree_
    stack: list[tuple[int, list[str]]] = [(0, [])]
    while stack:
        node, conditions = stack.pop()
        left, right = inner.children_left[node], inner.children_right[node]
        if left < 0:
            yield node, conditions
            continue
        name, cut = names[inner.feature[node]], number(float(inner.threshold[node]))
        stack.append((int(left), [*conditions, f"{name} <= {cut}"]))
        stack.append((int(right), [*conditions, f"{name} > {cut}"]))


def number(value: float) -> str:
    """Write a number as a person would, with four digits that matter."""
    return f"{value:.4g}"


def weak(slices: list[Slice], hit: Flags) -> list[tuple[Values, float]]:
    """Keep slices that are significantly and materially worse than elsewhere."""
    if not slices:
        return []
    everywhere = np.ones(len(hit), dtype=np.bool_)
    facts: dict[int, tuple[Flags, int, int, float]] = {}
    p_values: dict[int, float] = {}
    for place, one in enumerate(slices):
        usable = everywhere if one.usable is None else one.usable
        inside, outside = one.rows & usable, ~one.rows & usable
        n, hits = int(inside.sum()), int(hit[inside].sum())
        others, other_hits = int(outside.sum()), int(hit[outside].sum())
        table = [[hits, n - hits], [other_hits, others - other_hits]]
        p_values[place] = float(stats.fisher_exact(table, alternative="less").pvalue)
        facts[place] = inside, n, hits, other_hits / others
    adjusted = holm(p_values)

    kept: list[int] = []
    for place in sorted(facts, key=p_values.__getitem__):
        _, n, hits, elsewhere = facts[place]
        if adjusted[place] > ERROR_RATE or elsewhere - hits / n < MATERIAL:
            continue
        if all(_overlap(slices[place], slices[other]) < SAME for other in kept):
            kept.append(place)
        if len(kept) == MOST_SEGMENTS:
            break
    level = 1 - ERROR_RATE / len(slices)
    return [
        (
            {
                "where": slices[place].where,
                "n": facts[place][1],
                "accuracy": wilson(
                    facts[place][2], facts[place][1], level
                ).model_dump(),
                "elsewhere": facts[place][3],
            },
            adjusted[place],
        )
        for place in kept
    ]


def _overlap(one: Slice, other: Slice) -> float:
    either = int((one.rows | other.rows).sum())
    return int((one.rows & other.rows).sum()) / max(1, either)
