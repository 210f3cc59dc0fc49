"""What is odd in the inputs: missing, impossible, far out, blank, contradictory; scale.

Rows are given by their index in the uploaded split.

Values:
    columns: for tables, by feature with anything odd: `nan`, `inf`, `sentinels`
        (value, kind, count), `outliers` (count), `extreme` (value), example `rows`.
        For images and series the columns are properties of a whole sample: its mean,
        deviation, least, greatest and share of the greatest value; and `value`, where
        some value stands apart from all others (counted in samples: one that repeats
        as a sentinel, those far from all others of their channel as outliers).
    non_finite, sentinels, filled, outliers: numbers of training values; `filled` are
        those of a table that repeat too often at the end of a feature.
    constant_features: names.
    squeezed: names of features that were scaled with their erroneous values, beside
        which the sound ones have hardly any deviation left.
    blank: samples in which all values are equal (not for tables).
    duplicates: training rows equal to an earlier one; conflicting: of those with
        another label; each with `count`, `share` and example `rows`.
    affected: share of training rows with a defect; `mask` flags them (`pack_mask`).
    held_out_affected: share of held-out rows with a non-finite value or sentinel or, in
        tables, one that lies farther out than all of a feature's sound values are wide.
    plainly_affected: share of training rows of which that is so.
    scale: of the inputs as the network sees them, normalised by the recipe:
        `smallest_std`, `median_std`, `largest_std`, `spread` (largest over the lowest
        decile), `largest_magnitude` (largest |mean| or deviation), `low`, `high`.
    pre_activation: deviation of the first layer's output under fresh initialisation.
"""

import numpy as np
from pydantic import JsonValue

from worker.engine.data import Split, channel_axis
from worker.engine.lab.experiment import pack_mask
from worker.engine.probes.columns import (
    Spike,
    code_table,
    isolated,
    pooled_far,
    pooled_spikes,
    second_mode,
    spikes,
    values_of,
)
from worker.engine.probes.duplicates import repeated
from worker.engine.probes.input_scale import first_pre_activation, input_scale
from worker.engine.probes.material import (
    Flags,
    Floats,
    Labels,
    Material,
    Values,
    choose,
    held_out,
    integer,
    note,
)

MOST_ROWS = 100_000
MOST_VALUES = 50_000_000
MOST_COLUMNS = 2_000
MOST_LISTED = 50
EXAMPLES = 20
SQUEEZED = 0.1  # deviation of a feature's sound values, in that of all
NEARLY = 0.25  # from 0 and 1, of a mean and deviation or the ends of a range


def measure(material: Material, settings: Values) -> Values:
    """Look at the inputs; settings: `rows`."""
    values: Values = {"notes": []}
    places = _bounded(material.train, integer(settings, "rows", MOST_ROWS))
    train = choose(material.train, places)
    if len(train) < len(material.train):
        note(
            values,
            f"inputs were looked at in {len(train)} of {len(material.train)} rows",
        )
    bad = np.zeros(len(train), dtype=np.bool_)
    if material.dataset.kind != "tokens":
        columns, names = _columns(material, train)
        is_table = material.dataset.kind == "table"
        odd, by_column, sound = _odd_columns(
            values, columns, names, train, is_table=is_table
        )
        bad |= odd
        apart = [] if is_table else pooled_spikes(train.x)
        if not is_table:
            bad |= _odd_values(values, material, train, apart)
        bad |= _blank(values, train, is_table=is_table)
        values["scale"] = input_scale(material)
        values["pre_activation"] = first_pre_activation(material)
        held = held_out(material)
        held = choose(held, _bounded(held, MOST_ROWS))
        known = code_table(by_column if is_table else [values_of(apart)])
        for name, split in (("held_out_affected", held), ("plainly_affected", train)):
            affected = _missing(split, known)
            if is_table:
                affected |= _far_out(split, sound)
            values[name] = float(affected.mean())
    bad |= _repeats(values, train)
    values["rows"] = len(train)
    values["affected"] = float(bad.mean())
    flags = np.zeros(len(material.train), dtype=np.bool_)
    flags[places] = bad
    values["mask"] = pack_mask(flags.tolist())
    return values


def _bounded(split: Split, most: int) -> Labels:
    """Place evenly spaced rows so that neither rows nor values exceed their limit."""
    most = min(most, max(1, MOST_VALUES // max(1, split.x[:1].size)))
    return np.linspace(0, len(split) - 1, min(most, len(split))).astype(np.int64)


def _columns(material: Material, train: Split) -> tuple[Floats, list[str]]:
    if material.dataset.kind == "table":
        x = train.x.reshape(len(train), -1)[:, :MOST_COLUMNS].astype(np.float64)
        names = list(material.dataset.feature_names)
        names += [f"feature {k}" for k in range(len(names), x.shape[1])]
        return x, names[: x.shape[1]]
    return properties(train)


def properties(split: Split) -> tuple[Floats, list[str]]:
    """Describe each sample by its mean, deviation, extremes and saturated share."""
    parts = []
    step = max(1, 4_000_000 // max(1, split.x[:1].size))
    for start in range(0, len(split), step):
        x = split.x[start : start + step].reshape(
            len(split.x[start : start + step]), -1
        )
        x = x.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            high, low = x.max(1), x.min(1)
            at_high = (x == high[:, None]).mean(1)
            parts.append(np.stack([x.mean(1), x.std(1), low, high, at_high], 1))
    names = ["mean", "deviation", "least", "greatest", "share at greatest"]
    return np.concatenate(parts), names


def _odd_columns(
    values: Values,
    columns: Floats,
    names: list[str],
    train: Split,
    *,
    is_table: bool,
) -> tuple[Flags, list[list[float]], Floats]:
    """Note what is odd; values that missing ones were filled with only in a table.

    Returns:
        The rows, the codes of each column, and the least and greatest sound value of
        each, (2, columns).
    """
    sound = np.empty((2, len(names)))
    by_column: list[list[float]] = []
    bad = np.zeros(len(columns), dtype=np.bool_)
    found: list[tuple[int, Values]] = []
    constant: list[str] = []
    squeezed: list[str] = []
    totals = {"non_finite": 0, "sentinels": 0, "filled": 0, "outliers": 0}
    for place, name in enumerate(names):
        column = columns[:, place]
        nan, inf = np.isnan(column), np.isinf(column)
        good = column[np.isfinite(column)]
        is_constant = len(good) > 0 and bool((good == good[0]).all())
        if is_constant:
            constant.append(name)
        odd = spikes(column, filled=is_table)
        by_column.append(values_of(odd))
        coded = np.zeros(len(column), dtype=np.bool_)
        for spike in odd:
            coded |= spike.where
            total = "filled" if spike.kind == "filled" else "sentinels"
            totals[total] += int(spike.where.sum())
        uncoded = np.where(coded, np.nan, column)
        far = isolated(uncoded) | second_mode(uncoded)
        wrong = nan | inf | coded | far
        rest = column[~wrong]
        sound[:, place] = (rest.min(), rest.max()) if len(rest) else (-np.inf, np.inf)
        if (far | coded).any() and _is_squeezed(rest, good):
            squeezed.append(name)
        totals["non_finite"] += int((nan | inf).sum())
        totals["outliers"] += int(far.sum())
        bad |= wrong
        if bool(wrong.any()):
            entry: Values = {
                "name": name,
                "nan": int(nan.sum()),
                "inf": int(inf.sum()),
                "sentinels": _spikes_listed(odd),
                "outliers": int(far.sum()),
                "extreme": _extreme(column, far),
                "rows": train.rows[wrong][:EXAMPLES].tolist(),
            }
            found.append((int(wrong.sum()), entry))
    found.sort(key=lambda pair: -pair[0])
    values["columns"] = [entry for _, entry in found[:MOST_LISTED]]
    values["constant_features"] = list(constant[:MOST_LISTED])
    values["squeezed"] = list(squeezed[:MOST_LISTED])
    values.update(totals)
    return bad, by_column, sound


def _odd_values(
    values: Values, material: Material, train: Split, apart: list[Spike]
) -> Flags:
    """Add what is odd among the values of all samples together: the rows."""
    data = material.dataset
    axis = channel_axis(data.kind, data.layout, train.x.ndim - 1)
    stray = pooled_far(train.x, axis)
    coded = np.zeros(len(train), dtype=np.bool_)
    for spike in apart:
        coded |= spike.where
        stray &= train.x != spike.value
    far = np.asarray(stray.reshape(len(train), -1).any(1))
    if not bool((coded | far).any()):
        return coded
    listed, extreme = values["columns"], None
    if bool(far.any()):
        strays = train.x[stray].astype(np.float64)
        extreme = float(strays[np.argmax(np.abs(strays))])
    if isinstance(listed, list):
        listed.insert(
            0,
            {
                "name": "value",
                "nan": 0,
                "inf": 0,
                "sentinels": _spikes_listed(apart),
                "outliers": int(far.sum()),
                "extreme": extreme,
                "rows": train.rows[coded | far][:EXAMPLES].tolist(),
            },
        )
    for name, flags in (("sentinels", coded), ("outliers", far)):
        values[name] = integer(values, name, 0) + int(flags.sum())
    return np.asarray(coded | far)


def _is_squeezed(sound: Floats, every: Floats) -> bool:
    """Whether erroneous values took part in scaling a feature."""
    if not len(sound) or sound.std() >= SQUEEZED * every.std():
        return False
    is_standardised = abs(every.mean()) < NEARLY > abs(every.std() - 1)
    is_ranged = abs(every.min()) < NEARLY > abs(every.max() - 1)
    return bool(is_standardised or is_ranged)


def _extreme(column: Floats, far: Flags) -> float | None:
    if not bool(far.any()):
        return None
    middle = float(np.median(column[np.isfinite(column)]))
    values = column[far]
    return float(values[np.argmax(np.abs(values - middle))])


def _blank(values: Values, train: Split, *, is_table: bool) -> Flags:
    nothing = np.zeros(len(train), dtype=np.bool_)
    if is_table:
        values["blank"] = {"count": 0, "rows": []}
        return nothing
    flat = train.x.reshape(len(train), -1)
    blank: Flags = np.asarray((flat == flat[:, :1]).all(1), dtype=np.bool_)
    values["blank"] = {
        "count": int(blank.sum()),
        "rows": train.rows[blank][:EXAMPLES].tolist(),
    }
    return blank


def _spikes_listed(spikes_found: list[Spike]) -> list[JsonValue]:
    return [
        {"value": s.value, "kind": s.kind, "count": int(s.where.sum())}
        for s in spikes_found
    ]


def _missing(split: Split, known: Floats) -> Flags:
    """Flag rows with a non-finite value or a code found in training.

    Args:
        split: the rows.
        known: codes of the columns that were looked at, or of all values together.
    """
    flat = split.x.reshape(len(split), -1)
    bad: Flags = np.asarray(
        ~np.isfinite(flat.astype(np.float64)).all(1), dtype=np.bool_
    )
    looked_at = flat if known.shape[1] == 1 else flat[:, : known.shape[1]]
    for values in known:
        bad |= np.asarray((looked_at == values).any(1), dtype=np.bool_)
    return bad


def _far_out(split: Split, sound: Floats) -> Flags:
    """Flag rows with a value a whole range beyond the sound ones."""
    low, high = sound
    x = split.x.reshape(len(split), -1)[:, : len(low)].astype(np.float64)
    with np.errstate(invalid="ignore"):
        width = np.nan_to_num(high - low)
        far = (x < low - width) | (x > high + width)
    return np.asarray((far & (width > 0)).any(1), dtype=np.bool_)


def _repeats(values: Values, train: Split) -> Flags:
    first = repeated(train.x)
    copies = first >= 0
    pairs = np.flatnonzero(copies)
    differs = train.y[pairs] != train.y[first[pairs]]
    clashing = pairs[differs]
    values["duplicates"] = _listed(pairs, train)
    values["conflicting"] = _listed(clashing, train)
    entry = values["conflicting"]
    if isinstance(entry, dict):
        entry["pairs"] = [
            {
                "row": int(train.rows[k]),
                "label": int(train.y[k]),
                "other_row": int(train.rows[first[k]]),
                "other_label": int(train.y[first[k]]),
            }
            for k in clashing[:MOST_LISTED]
        ]
    bad = np.zeros(len(train), dtype=np.bool_)
    bad[clashing] = True
    return bad


def _listed(places: Labels, train: Split) -> Values:
    return {
        "count": len(places),
        "share": len(places) / max(1, len(train)),
        "rows": train.rows[places[:MOST_LISTED]].tolist(),
    }
