"""Whether held-out data is drawn from elsewhere than the training data.

A classifier is trained to tell training from held-out rows, out of fold or out of bag;
where the two are alike its area under the curve is one half. Rows are matched by class
first, so that another mix of classes (reported apart) does not count as another kind of
input.
Source: Lopez-Paz & Oquab 2017, Revisiting classifier two-sample tests,
arXiv:1610.06545; label shift: Rabanser et al. 2019, Failing loudly, arXiv:1810.11953.

Where labels are wrong on one side only, the rows of a class differ although the inputs
as a whole do not. So what looks moved is compared once more, whatever its class.

Values:
    auc: of the better classifier (`by`), with `low`, `high` at a level that allows for
        the choice; p_value: one-sided, corrected for the choice. The parts of a fold
        scheme are not independent, so from few rows the area varies more than its error
        says: where that decides, it is averaged over other draws of the rows, and held
        against those of shuffled rows.
    any_class: the same of rows that were not matched by class, with its `p_value`; None
        where neither the inputs nor the mix of classes seem to have moved.
    label_shift: `p_value` (chi-square), `distance` (total variation), `shares`.
    features: by column `name`, `statistic` (Kolmogorov-Smirnov), `p_value` (Holm),
        `train`, `held_out` (medians); at most 20, the largest first.
    impact: accuracy that the delivered model would have on held-out rows weighted to
        look like training rows, minus that it has: `value`, `low`, `high`,
        `effective_rows`; None where the two hardly overlap.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats
from sklearn.model_selection import StratifiedKFold

from worker.engine.data import Split
from worker.engine.probes.features import Features, plain_columns
from worker.engine.probes.inputs import properties
from worker.engine.probes.inputs_as_trained import held_out_answers, predictions
from worker.engine.probes.learners import linear, out_of_bag, probabilities
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
from worker.engine.probes.selection import as_values
from worker.engine.stats.decisions import holm
from worker.engine.stats.intervals import Difference, area_under_curve, normal_quantile

MOST_ROWS = 2_500
FOLDS = 4
LEAST_ROWS = 40
MOST_LISTED = 20
LARGEST_WEIGHT = 10.0
SUSPICIOUS = 0.01  # p value from which a difference is looked at more closely
SHUFFLES = 24  # of the rows, whose areas tell how much of one is chance
OTHER_DRAWS = (1, 2)  # seeds, of training rows that are compared as well
BEYOND_DOUBT = 8.0  # standard errors; from many rows, where they hold
NO_OVERLAP = 0.95  # area from which weighting cannot make one sample like the other


def measure(material: Material, settings: Values) -> Values:
    """Compare training with held-out rows; settings: `rows`."""
    values: Values = {"notes": [], "features": []}
    for name in ("auc", "p_value", "impact", "any_class"):
        values[name] = None
    most = integer(settings, "rows", MOST_ROWS)
    whole = held_out(material)
    whole = replace(whole, rows=np.arange(len(whole)))  # as `held_out_answers` has them
    held = choose(whole, sample_places(whole.y, most, seed=1))
    classes = len(material.dataset.class_names)
    values["label_shift"] = label_shift(material.train.y, whole.y, classes)
    everything = material.train, held
    train, held = matched(*everything, classes)
    values["rows"] = {"train": len(train), "held_out": len(held)}
    if min(len(train), len(held)) < LEAST_ROWS:
        note(values, "too few rows to compare training with held-out inputs")
        return values
    pair = _Pair.of(material, train, held)
    scores, area, name = pair.told_apart()
    if len(train) < len(everything[0]) and pair.is_in_doubt(area):
        # Rows that were drawn by chance are told apart by chance; others are not.
        again = [
            _Pair.of(material, *matched(*everything, classes, seed=seed)).told_apart()
            for seed in OTHER_DRAWS
        ]
        area = _mean([area, *(found for _, found, _ in again)])
    p_value = pair.p_value(area)
    values["auc"], values["p_value"] = {**as_values(area), "by": name}, p_value
    if min(p_value, _mix_p_value(values)) <= SUSPICIOUS:
        pair = _Pair.of(material, *_as_many(material.train, whole, most))
        _, whatever, _ = pair.told_apart()
        values["any_class"] = {**as_values(whatever), "p_value": pair.p_value(whatever)}
    values["features"] = list(_moved(material, train, held))
    if area.value < NO_OVERLAP:
        values["impact"] = _impact(material, held, scores[len(train) :])
    return values


def area_between(material: Material, train: Split, held: Split) -> float | None:
    """Area under the curve by which two samples of equal classes are told apart.

    Args:
        material: the subject.
        train: rows of one.
        held: rows of the other.

    Returns:
        None where there are too few rows.
    """
    classes = len(material.dataset.class_names)
    train, held = matched(train, held, classes)
    if min(len(train), len(held)) < LEAST_ROWS:
        return None
    return _Pair.of(material, train, held).told_apart()[1].value


def _mix_p_value(values: Values) -> float:
    shift = values["label_shift"]
    p_value = shift.get("p_value") if isinstance(shift, dict) else None
    return float(p_value) if isinstance(p_value, int | float) else 1.0


def _as_many(train: Split, held: Split, most: int) -> tuple[Split, Split]:
    """Draw as many rows from either split, each with its own mix of classes."""
    count = min(len(train), len(held), most)
    drawn = [sample_places(part.y, count, seed=2) for part in (train, held)]
    return choose(train, drawn[0]), choose(held, drawn[1])


@dataclass(frozen=True)
class _Pair:
    """Two samples, described.

    Attributes:
        columns: float64, (rows of both, columns).
        is_held: bool, (rows of both,), which of the two.
    """

    columns: Floats
    is_held: Flags

    @classmethod
    def of(cls, material: Material, train: Split, held: Split) -> "_Pair":
        # Fitted on both: components of one alone would tell it from the other.
        features = Features.fit(material.dataset, np.concatenate([train.x, held.x]))
        columns = np.concatenate([features.reduced(train.x), features.reduced(held.x)])
        if material.dataset.kind == "image":
            described = [properties(part)[0] for part in (train, held)]
            columns = np.concatenate(
                [columns, np.nan_to_num(np.concatenate(described))], 1
            )
        return cls(columns, np.arange(len(columns)) >= len(train))

    def told_apart(self) -> tuple[Floats, Difference, str]:
        """Tell them apart; returns scores of the rows, the area, and by what."""
        return _classified(self.columns, self.is_held)

    def is_in_doubt(self, area: Difference) -> bool:
        """Whether an area looks like a difference, but may be chance."""
        is_sure = area.value - 0.5 >= BEYOND_DOUBT * area.standard_error
        return _plain_p_value(area) <= SUSPICIOUS and not is_sure

    def p_value(self, area: Difference) -> float:
        """How likely so large an area is where the two are alike."""
        plain = _plain_p_value(area)
        if not self.is_in_doubt(area):
            return plain
        rng = np.random.default_rng(0)
        by_chance = [
            _classified(self.columns, rng.permutation(self.is_held))[1].value
            for _ in range(SHUFFLES)
        ]
        spread = float(np.std(by_chance, ddof=1)) * math.sqrt(1 + 1 / SHUFFLES)
        t = (area.value - float(np.mean(by_chance))) / max(spread, 1e-9)
        return max(plain, float(stats.t.sf(t, SHUFFLES - 1)))


def _plain_p_value(area: Difference) -> float:
    """The same, as if the parts of the fold scheme were independent."""
    z = (area.value - 0.5) / area.standard_error
    return min(1.0, 2 * float(stats.norm.sf(z)))


def _mean(areas: Sequence[Difference]) -> Difference:
    """Average areas of several draws; their errors are as of one."""
    return Difference(
        **{
            name: float(np.mean([getattr(area, name) for area in areas]))
            for name in ("value", "low", "high", "standard_error")
        }
    )


def label_shift(train: Labels, held: Labels, classes: int) -> Values:
    """Compare the classes' shares."""
    counts = np.stack(
        [np.bincount(y, minlength=classes) for y in (train, held)]
    ).astype(np.float64)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    present = counts[:, counts.sum(0) > 0]
    p_value = 1.0
    if present.shape[1] > 1 and bool((counts.sum(1) > 0).all()):
        p_value = float(stats.chi2_contingency(present).pvalue)
    return {
        "p_value": finite(p_value),
        "distance": float(np.abs(shares[0] - shares[1]).sum() / 2),
        "shares": {
            "train": shares[0][:MOST_LISTED].tolist(),
            "held_out": shares[1][:MOST_LISTED].tolist(),
        },
    }


def matched(
    train: Split, held: Split, classes: int, *, seed: int = 0
) -> tuple[Split, Split]:
    """Draw as many rows of each class from either split."""
    rng = np.random.default_rng(seed)
    taken: tuple[list[Labels], list[Labels]] = ([], [])
    for k in range(classes):
        of_class = [np.flatnonzero(part.y == k) for part in (train, held)]
        count = min(len(rows) for rows in of_class)
        for rows, kept in zip(of_class, taken, strict=True):
            kept.append(rng.permutation(rows)[:count])
    places = [np.sort(np.concatenate(kept)) for kept in taken]
    return choose(train, places[0]), choose(held, places[1])


def _classified(columns: Floats, is_held: Flags) -> tuple[Floats, Difference, str]:
    """Score rows out of fold; return the better classifier's scores and area."""
    target = is_held.astype(np.int64)
    by_line = np.zeros(len(columns))
    splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    for known, rows in splitter.split(columns, target):
        found = probabilities(linear, (columns[known], target[known]), columns[rows], 2)
        by_line[rows] = found[:, 1]
    known_by = {
        "logistic regression": by_line,
        "randomised trees": out_of_bag(columns, target),
    }
    areas = {
        name: area_under_curve(scores, is_held, level=0.975)
        for name, scores in known_by.items()
    }
    name = max(areas, key=lambda one: areas[one].value)
    return known_by[name], areas[name], name


def _moved(material: Material, train: Split, held: Split) -> list[Values]:
    if material.dataset.kind == "table":
        columns = [plain_columns(material.dataset, part.x) for part in (train, held)]
        names = list(material.dataset.feature_names)
        names += [f"feature {k}" for k in range(len(names), columns[0].shape[1])]
    else:
        columns = [properties(part)[0] for part in (train, held)]
        names = properties(choose(train, np.arange(1)))[1]
    found: dict[int, Values] = {}
    p_values: dict[int, float] = {}
    for place in range(columns[0].shape[1]):
        a, b = (part[:, place][np.isfinite(part[:, place])] for part in columns)
        if len(a) == 0 or len(b) == 0:
            continue
        test = stats.ks_2samp(a, b, method="asymp")
        p_values[place] = float(test.pvalue)
        found[place] = {
            "name": names[place],
            "statistic": float(test.statistic),
            "train": finite(float(np.median(a))),
            "held_out": finite(float(np.median(b))),
        }
    adjusted = holm(p_values)
    for place, entry in found.items():
        entry["p_value"] = adjusted[place]
    order = sorted(found, key=lambda place: -float(str(found[place]["statistic"])))
    return [found[place] for place in order[:MOST_LISTED]]


def _impact(material: Material, held: Split, scores: Floats) -> Values:
    """Weight held-out rows by the odds that they are training rows."""
    answered = held_out_answers(material)[held.rows]
    hit = (predictions(material, answered) == held.y).astype(np.float64)
    likely = np.clip(scores, 0.02, 0.98)
    weights = np.minimum((1 - likely) / likely, LARGEST_WEIGHT)
    weights /= weights.mean()
    difference = weights * (hit - np.average(hit, weights=weights)) - (hit - hit.mean())
    error = float(difference.std()) / float(np.sqrt(len(hit)))
    value = float(np.average(hit, weights=weights) - hit.mean())
    half = normal_quantile() * error
    return {
        "value": value,
        "low": value - half,
        "high": value + half,
        "effective_rows": float(weights.sum() ** 2 / (weights**2).sum()),
    }
