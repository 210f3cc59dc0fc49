"""Whether held-out samples also stand in the training data.

Equal samples are found by digest. Near-equal ones lie much closer to a training sample
than that sample's own neighbours do: with D the intrinsic dimension of the data, a row
of the same distribution comes within r times the distance to the fifth neighbour with
probability of about 5 r^D, and r is chosen so that this is one in 2,000. They count
only where there are more of them than that.
Source for D: Levina & Bickel 2004, Maximum likelihood estimation of intrinsic
dimension, NeurIPS; averaged as in MacKay & Ghahramani 2005.

Values:
    exact, near: `count`, `share`, `low`, `high` of the held-out rows looked at.
    leaked: both together; same_label: of those with the label of their twin.
    expected_share: of training rows that have an equal one in the training data.
    by_chance: samples are so coarse that equal ones are expected.
    dimension: D; None where near-equal samples were not looked for.
    pairs: `row`, `train_row`, `label`, `train_label`, `kind`; at most 50.
    accuracy: balanced accuracy of the delivered model on `all`, `clean`, `leaked` rows,
        and `difference` (leaked minus clean, over classes in both) with interval.
    inflation: balanced accuracy on all minus that on clean rows.
    mask: held-out rows that leak (`decide` then `final`, `pack_mask`).
"""

import numpy as np
from scipy import stats
from sklearn.neighbors import NearestNeighbors

from worker.engine.data import Split
from worker.engine.lab.experiment import pack_mask
from worker.engine.probes.duplicates import digests, first_equals
from worker.engine.probes.features import Features
from worker.engine.probes.inputs_as_trained import held_out_answers, predictions
from worker.engine.probes.material import (
    Flags,
    Floats,
    Labels,
    Material,
    Values,
    choose,
    finite,
    held_out,
    integer,
    note,
    sample_places,
)
from worker.engine.probes.selection import as_values, balanced
from worker.engine.stats.intervals import (
    balanced_accuracy,
    clopper_pearson,
    unpaired_balanced_accuracy,
)

MOST_TRAIN = 20_000
MOST_HELD = 4_000
NEIGHBOURS = 5
CHANCE = 1 / 2_000  # of a row being near-equal to an unrelated one
LEAST_P = 1e-3  # of as many near-equal rows by chance, above which they do not count
LARGEST_RATIO = 0.4  # of the distance to the fifth neighbour, in whatever dimension
LEAST_TRAIN = 50
CHANCE_SHARE = 1e-3  # expected share of equal rows from which they are no evidence
MOST_LISTED = 50


def measure(material: Material, settings: Values) -> Values:
    """Look for leaking samples; settings: `train_rows`, `rows` (near-equal search)."""
    values: Values = {"notes": []}
    train, held = material.train, held_out(material)
    first = first_equals(np.concatenate([digests(train.x), digests(held.x)]))
    twin = np.where(first[len(train) :] < len(train), first[len(train) :], -1)
    exact = twin >= 0
    near_twin, looked, dimension = _near(material, values, train, held, settings)
    near = (near_twin >= 0) & ~exact
    if stats.poisson.sf(int(near.sum()) - 1, CHANCE * looked) > LEAST_P:
        near[:] = False
    twin = np.where(exact, twin, near_twin)
    leaked = exact | near

    values["exact"] = _share(exact, len(held))
    values["near"] = _share(near, looked)
    values["leaked"] = _share(leaked, len(held))
    known = np.flatnonzero(leaked)
    values["same_label"] = int((held.y[known] == train.y[twin[known]]).sum())
    counts = np.bincount(first[: len(train)], minlength=len(train))
    values["expected_share"] = float(counts[counts > 1].sum() / max(1, len(train)))
    values["by_chance"] = is_coarse(train)
    values["dimension"] = finite(dimension)
    values["pairs"] = [
        {
            "row": int(held.rows[k]),
            "train_row": int(train.rows[twin[k]]),
            "label": int(held.y[k]),
            "train_label": int(train.y[twin[k]]),
            "kind": "equal" if exact[k] else "near-equal",
        }
        for k in known[:MOST_LISTED]
    ]
    _accuracy(material, values, held, leaked)
    values["mask"] = pack_mask(leaked.tolist())
    return values


def is_coarse(train: Split) -> bool:
    """Whether unrelated samples are often equal, by the values of each column.

    Columns count as independent; a table of few categories is called coarse too, since
    its columns seldom are.
    """
    flat = train.x.reshape(len(train), -1)[:5000]
    log_match, most_distinct = 0.0, 0
    for column in flat.T[:2000]:
        _, counts = np.unique(column, return_counts=True)
        log_match += float(np.log(np.sum((counts / counts.sum()) ** 2)))
        most_distinct = max(most_distinct, len(counts))
    expected = len(train) * float(np.exp(log_match))
    few = most_distinct <= 12 and flat.shape[1] <= 40  # noqa: PLR2004 - a code book
    return expected > CHANCE_SHARE or few


def _near(
    material: Material, values: Values, train: Split, held: Split, settings: Values
) -> tuple[Labels, int, float | None]:
    nothing = np.full(len(held), -1, dtype=np.int64)
    if len(train) < LEAST_TRAIN or material.dataset.kind == "tokens":
        return nothing, len(held), None
    in_train = sample_places(train.y, integer(settings, "train_rows", MOST_TRAIN))
    in_held = sample_places(held.y, integer(settings, "rows", MOST_HELD))
    if len(in_train) < len(train) or len(in_held) < len(held):
        note(
            values,
            f"near-equal samples were looked for among {len(in_train)} training and "
            f"{len(in_held)} held-out rows",
        )
    features = Features.fit(material.dataset, choose(train, in_train).x)
    x_train = features.reduced(choose(train, in_train).x)
    x_held = features.reduced(choose(held, in_held).x)
    close, dimension = near_twins(x_train, x_held)
    nothing[in_held] = np.where(close >= 0, in_train[close], -1)
    return nothing, len(in_held), dimension


def near_twins(train: Floats, held: Floats) -> tuple[Labels, float | None]:
    """Point each held-out row to a training row that is suspiciously close.

    Args:
        train: float64, (rows, columns).
        held: float64, (rows, columns).

    Returns:
        int64, (held-out rows,), -1 where there is none; and the intrinsic dimension.
    """
    search = NearestNeighbors(n_neighbors=NEIGHBOURS + 1, algorithm="brute").fit(train)
    distance, nearest = search.kneighbors(held, n_neighbors=1)
    distance, nearest = distance[:, 0], nearest[:, 0]
    own, _ = search.kneighbors(train[nearest])
    own = own[:, 1:]  # the first is the row itself
    furthest = own[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.log(furthest[:, None] / own[:, :-1])
    good = np.isfinite(ratios).all(1) & (own[:, 0] > 0)
    if not bool(good.any()) or float(ratios[good].mean()) <= 0:
        return np.full(len(held), -1, dtype=np.int64), None
    # Averaging the inverses and k - 2 in place of k - 1 take out the bias.
    dimension = (NEIGHBOURS - 2) / ((NEIGHBOURS - 1) * float(ratios[good].mean()))
    ratio = min(LARGEST_RATIO, float((CHANCE / NEIGHBOURS) ** (1 / dimension)))
    close = distance < ratio * furthest
    return np.where(close, nearest, -1).astype(np.int64), dimension


def _share(flags: Flags, trials: int) -> Values:
    interval = clopper_pearson(int(flags.sum()), trials)
    return {
        "count": int(flags.sum()),
        "share": interval.value,
        "low": interval.low,
        "high": interval.high,
    }


def _accuracy(material: Material, values: Values, held: Split, leaked: Flags) -> None:
    values["accuracy"] = values["inflation"] = None
    if not bool(leaked.any()):
        return
    hit = np.asarray(predictions(material, held_out_answers(material)) == held.y)
    shown: Values = {"all": balanced_accuracy(hit, held.y).model_dump()}
    for name, rows in (("clean", ~leaked), ("leaked", leaked)):
        shown[name] = balanced_accuracy(hit[rows], held.y[rows]).model_dump()
    if not bool(leaked.all()):
        shown["difference"] = as_values(
            unpaired_balanced_accuracy(
                (hit[~leaked], held.y[~leaked]), (hit[leaked], held.y[leaked])
            )
        )
        values["inflation"] = balanced(hit, held.y) - balanced(
            hit[~leaked], held.y[~leaked]
        )
    values["accuracy"] = shown
