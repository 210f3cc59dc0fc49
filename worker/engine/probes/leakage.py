"""Whether held-out samples also stand in the training data.

Equal samples are found by digest. Near-equal ones lie much closer to a training sample
than that sample's own neighbours do: with D the intrinsic dimension of the data, a row
of the same distribution comes within r times the distance to the fifth neighbour with
probability of about 5 r^D, and r is chosen so that this is one in 2,000. They count
only where there are more of them than that. Where training samples stand in groups
(multiplied or augmented before they were split), a sample's own copies, which a gap
divides from all others, are none of its neighbours.
Source for D: Levina & Bickel 2004, Maximum likelihood estimation of intrinsic
dimension, NeurIPS; averaged as in MacKay & Ghahramani 2005.

Values:
    exact, near, turned: `count`, `share`, `low`, `high` of the held-out rows looked at;
        turned: pictures that equal a training picture once mirrored or turned, or
        nearly do.
    leaked: all together; same_label: of those with the label of their twin.
    expected_share: of training rows that have an equal one in the training data;
        expected_high: upper end of its interval.
    chance_share: of rows that would have an equal one, were columns independent.
    by_chance: samples are so coarse that equal ones are expected.
    grouped: share of training rows looked at that stand in groups of near copies;
        in_groups: whether these are too many for an accident.
    dimension: D; None where near-equal samples were not looked for.
    pairs: `row`, `train_row`, `label`, `train_label`, `kind`; at most 50.
    accuracy: balanced accuracy of the delivered model on `all`, `clean`, `leaked` rows,
        and `difference` (leaked minus clean, over classes in both) with interval.
    inflation: balanced accuracy on all minus that on clean rows.
    mask: held-out rows that leak (`decide` then `final`, `pack_mask`).
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.neighbors import NearestNeighbors

from worker.engine.data import Split
from worker.engine.lab.experiment import pack_mask
from worker.engine.probes.duplicates import Digests, digests, first_equals
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
from worker.engine.probes.turned import turned_forms, turned_twins
from worker.engine.stats.intervals import (
    balanced_accuracy,
    clopper_pearson,
    unpaired_balanced_accuracy,
)

MOST_TRAIN = 20_000
MOST_HELD = 4_000
MOST_TURNED = 20_000_000  # values of pictures that are mirrored and turned
NEARLY = (
    (5_000, 300),
    (MOST_TRAIN, MOST_HELD),
)  # training and held-out pictures, in turn
TURNS = 7  # in which a square may lie, beside its own
CLOSER = 0.5  # times the distance as it lies, within which a turned copy lies
NEIGHBOURS = 5
CHANCE = 1 / 2_000  # of a row being near-equal to an unrelated one
LEAST_P = 1e-3  # of as many near-equal rows by chance, above which they do not count
LARGEST_RATIO = 0.4  # of the distance to the fifth neighbour, in whatever dimension
LEAST_TRAIN = 50
LARGEST_GROUP = 16  # copies of a sample, beside itself
GAP = 4.0  # times the distance of a copy, at which the nearest other sample lies
FAR_OUT = 5.0  # times the quartiles' distance from the median
GROUPED = 0.15  # of the rows, from which on groups are no accident
LEAST_ALIKE = 0.25  # of the way from chance to equal labels, that twins go
CHANCE_SHARE = 1e-3  # expected share of equal rows from which they are no evidence
MOST_LISTED = 50


def measure(material: Material, settings: Values) -> Values:
    """Look for leaking samples; settings: `train_rows`, `rows` (near-equal search)."""
    values: Values = {"notes": []}
    train, held = material.train, held_out(material)
    known = digests(train.x), digests(held.x)
    first = first_equals(np.concatenate(known))
    twin = np.where(first[len(train) :] < len(train), first[len(train) :], -1)
    exact = twin >= 0
    near_twin, looked = _near(material, values, train, held, settings)
    near = (near_twin >= 0) & ~exact
    if stats.poisson.sf(int(near.sum()) - 1, CHANCE * looked) > LEAST_P:
        near[:] = False
    if not _share_labels(train.y[near_twin[near]], held.y[near]):
        near[:] = False  # what lies close by a common flaw, such as one huge value
    turned_twin, turned_of = _turned(material, *known, held)
    as_they_lie = exact | near
    turned_twin = np.where(as_they_lie, -1, turned_twin)
    others = turned_of[~as_they_lie[turned_of] & (turned_twin[turned_of] < 0)]
    turned_twin[others] = _nearly_turned(material, train, choose(held, others))
    turned = turned_twin >= 0
    twin = np.select([exact, near], [twin, near_twin], turned_twin)
    leaked = exact | near | turned

    values["exact"] = _share(exact, len(held))
    values["near"] = _share(near, looked)
    values["turned"] = _share(turned, len(turned_of))
    values["leaked"] = _share(leaked, len(held))
    found = np.flatnonzero(leaked)
    values["same_label"] = int((held.y[found] == train.y[twin[found]]).sum())
    counts = np.bincount(first[: len(train)], minlength=len(train))
    expected = clopper_pearson(int(counts[counts > 1].sum()), max(1, len(train)))
    values["expected_share"], values["expected_high"] = expected.value, expected.high
    coarseness = coarseness_of(train)
    values["chance_share"] = coarseness.share
    values["by_chance"] = coarseness.is_coarse
    values["pairs"] = [
        {
            "row": int(held.rows[k]),
            "train_row": int(train.rows[twin[k]]),
            "label": int(held.y[k]),
            "train_label": int(train.y[twin[k]]),
            "kind": "equal" if exact[k] else "near-equal" if near[k] else "turned",
        }
        for k in found[:MOST_LISTED]
    ]
    _accuracy(material, values, held, leaked)
    values["mask"] = pack_mask(leaked.tolist())
    return values


def _turned(
    material: Material, train: Digests, own: Digests, held: Split
) -> tuple[Labels, Labels]:
    """Look for mirrored or turned copies of training pictures among some rows.

    Returns:
        The twin of each, -1 where there is none; and which rows were looked at.
    """
    twin = np.full(len(held), -1, dtype=np.int64)
    most = max(1, MOST_TURNED // max(1, held.x[:1].size))
    places = sample_places(held.y, min(most, MOST_HELD))
    twin[places] = turned_twins(
        material.dataset, train, choose(held, places).x, own[places]
    )
    return twin, places


def _nearly_turned(material: Material, train: Split, held: Split) -> Labels:
    """Point to training pictures that are nearly equal once mirrored or turned.

    A few are looked at first; where these hold none, no others are.
    """
    found = np.full(len(held), -1, dtype=np.int64)
    if len(train) < LEAST_TRAIN or material.dataset.kind != "image" or not len(held):
        return found
    for most_train, most_held in NEARLY:
        in_train = sample_places(train.y, most_train)
        near = choose(train, in_train)
        places = sample_places(held.y, most_held)
        twin = _twins_once_turned(material, near, choose(held, places).x)
        seen = twin >= 0
        by_chance = CHANCE * TURNS * len(places)
        is_chance = stats.poisson.sf(int(seen.sum()) - 1, by_chance) > LEAST_P
        if is_chance or not _share_labels(near.y[twin[seen]], held.y[places[seen]]):
            return found
        found[places] = np.where(seen, in_train[twin], -1)
        if len(places) == len(held) and len(near) == len(train):
            break
    return found


def _twins_once_turned(
    material: Material, train: Split, pictures: npt.NDArray[np.generic]
) -> Labels:
    """Point each picture to what comes far closer to it once it is turned."""
    features = Features.fit(material.dataset, train.x)
    known = features.reduced(train.x)
    plain = near_twins(known, features.reduced(pictures)).distance
    best = CLOSER * plain
    found = np.full(len(pictures), -1, dtype=np.int64)
    for form in turned_forms(material.dataset, pictures):
        other = near_twins(known, features.reduced(form))
        closer = (other.twin >= 0) & (other.distance < best)
        found, best = (
            np.where(closer, other.twin, found),
            np.where(closer, other.distance, best),
        )
    return found


@dataclass(frozen=True)
class Coarseness:
    """How often unrelated samples are equal, were their columns independent.

    Attributes:
        share: of samples that have an equal one among the training rows.
        is_coarse: whether that happens at all. A table of few categories is called
            coarse too, since its columns are seldom independent.
    """

    share: float
    is_coarse: bool


def coarseness_of(train: Split) -> Coarseness:
    """Judge by the values of each column."""
    flat = train.x.reshape(len(train), -1)[:5000]
    log_match, most_distinct = 0.0, 0
    for column in flat.T[:2000]:
        _, counts = np.unique(column, return_counts=True)
        log_match += float(np.log(np.sum((counts / counts.sum()) ** 2)))
        most_distinct = max(most_distinct, len(counts))
    expected = len(train) * float(np.exp(log_match))
    few = most_distinct <= 12 and flat.shape[1] <= 40  # noqa: PLR2004 - a code book
    return Coarseness(-math.expm1(-expected), expected > CHANCE_SHARE or few)


def _share_labels(ours: Labels, theirs: Labels) -> bool:
    """Whether rows and their twins have the same label more often than by chance."""
    if not len(ours):
        return True
    shares = np.bincount(np.concatenate([ours, theirs])) / (2 * len(ours))
    chance = float((shares**2).sum())
    same = float((ours == theirs).mean())
    return same >= chance + LEAST_ALIKE * (1 - chance)


def _near(
    material: Material, values: Values, train: Split, held: Split, settings: Values
) -> tuple[Labels, int]:
    values["dimension"] = values["grouped"] = None
    nothing = np.full(len(held), -1, dtype=np.int64)
    if len(train) < LEAST_TRAIN or material.dataset.kind == "tokens":
        return nothing, len(held)
    in_train = sample_places(train.y, integer(settings, "train_rows", MOST_TRAIN))
    in_held = sample_places(held.y, integer(settings, "rows", MOST_HELD))
    if len(in_train) < len(train) or len(in_held) < len(held):
        note(
            values,
            f"near-equal samples were looked for among {len(in_train)} training and "
            f"{len(in_held)} held-out rows",
        )
    parts = choose(train, in_train).x, choose(held, in_held).x
    found = near_twins(*_described(material, *parts))
    if found.grouped >= GROUPED:
        # Beside codes for missing values rows that share them look like groups, too.
        found = near_twins(*_described(material, *_without_far_out(*parts)))
    values["dimension"] = finite(found.dimension)
    values["grouped"] = found.grouped
    values["in_groups"] = found.grouped >= GROUPED
    nothing[in_held] = np.where(found.twin >= 0, in_train[found.twin], -1)
    return nothing, len(in_held)


def _described(
    material: Material, train: npt.NDArray[np.generic], held: npt.NDArray[np.generic]
) -> tuple[Floats, Floats]:
    features = Features.fit(material.dataset, train)
    return features.reduced(train), features.reduced(held)


def _without_far_out(
    train: npt.NDArray[np.generic], held: npt.NDArray[np.generic]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Draw values in to five times the quartiles' distance from the median.

    Columns of which half of the values are the same say too little, and become that.
    """
    flat = train.reshape(len(train), -1).astype(np.float32)
    low, middle, high = np.nanquantile(flat[:MOST_HELD], [0.25, 0.5, 0.75], axis=0)
    reach = FAR_OUT * (high - low)
    near = [
        np.clip(
            part.reshape(len(part), -1),
            middle - reach,
            middle + reach,
            dtype=np.float32,
        ).reshape(part.shape)
        for part in (train, held)
    ]
    return near[0], near[1]


@dataclass(frozen=True)
class NearTwins:
    """Training rows that are suspiciously close.

    Attributes:
        twin: int64, (held-out rows,), -1 where there is none.
        distance: float64, (held-out rows,), to the nearest training row.
        dimension: of the data, None where it cannot be told.
        grouped: share of the rows looked at whose neighbours are copies of theirs.
    """

    twin: Labels
    distance: Floats
    dimension: float | None
    grouped: float


def near_twins(train: Floats, held: Floats) -> NearTwins:
    """Point each held-out row to a training row that is suspiciously close.

    Args:
        train: float64, (rows, columns).
        held: float64, (rows, columns).
    """
    search = NearestNeighbors(algorithm="brute").fit(train)
    distance, nearest = search.kneighbors(held, n_neighbors=1)
    distance, nearest = distance[:, 0], nearest[:, 0]
    around, _ = search.kneighbors(
        train[nearest], n_neighbors=min(len(train), 1 + LARGEST_GROUP + NEIGHBOURS)
    )
    around = around[:, 1:]  # the first is the row itself
    copies = copies_of(around)
    grouped = float((copies > 0).mean())
    if grouped < GROUPED:
        copies[:] = 0
    places = copies[:, None] + np.arange(NEIGHBOURS)
    own = np.take_along_axis(around, places, 1)
    furthest = own[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.log(furthest[:, None] / own[:, :-1])
    good = np.isfinite(ratios).all(1) & (own[:, 0] > 0)
    if not bool(good.any()) or float(ratios[good].mean()) <= 0:
        none = np.full(len(held), -1, dtype=np.int64)
        return NearTwins(none, distance, None, grouped)
    # Averaging the inverses and k - 2 in place of k - 1 take out the bias.
    dimension = (NEIGHBOURS - 2) / ((NEIGHBOURS - 1) * float(ratios[good].mean()))
    ratio = min(LARGEST_RATIO, float((CHANCE / NEIGHBOURS) ** (1 / dimension)))
    close = distance < ratio * furthest
    twin = np.where(close, nearest, -1).astype(np.int64)
    return NearTwins(twin, distance, dimension, grouped)


def copies_of(around: Floats) -> Labels:
    """Count the neighbours that a gap divides from all others: int64, (rows,).

    Args:
        around: float64, (rows, neighbours), ascending distances.
    """
    inside = around[:, :-NEIGHBOURS]
    outside = around[:, 1 : 1 + inside.shape[1]]
    with np.errstate(divide="ignore", invalid="ignore"):
        gaps = np.where(outside > 0, outside / inside, 1.0)
    if not gaps.shape[1]:
        return np.zeros(len(around), dtype=np.int64)
    widest = gaps.argmax(1)
    return np.where(gaps.max(1) >= GAP, widest + 1, 0).astype(np.int64)


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
