"""Judges what a format's reader found, and makes the dataset of it."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from service.contract.request import DatasetSpec
from worker.engine.data import Dataset, Split
from worker.engine.intake.complaints import quoted, refuse
from worker.engine.intake.kinds import check_figures, kind_of, layout_of
from worker.engine.intake.labels import Labels, read_labels
from worker.engine.intake.limits import IntakeLimits
from worker.engine.intake.raw import AnyArray, Raw, convert, shown

_MOST_DIMENSIONS = 4  # rows, channels, height, width


def assemble(raw: Raw, spec: DatasetSpec, limits: IntakeLimits) -> Dataset:
    """Check samples against labels, rows against classes, and name everything.

    Raises:
        UnusableDataset: it cannot be audited; the detail says why.
    """
    if list(raw.x) == ["train"]:
        raw = replace(raw, x={"all": raw.x["train"]}, y={"all": raw.y["train"]})
        raw.notes.append("The file holds training rows only.")
    if "all" not in raw.x and "train" not in raw.x:
        refuse("there are no training rows")
    x = _samples(raw)
    _check_lengths(x, raw.y)
    given = tuple(spec.class_names) if spec.class_names else None
    labels = read_labels(raw.y, raw.class_names or given, limits)
    _check_rows(labels.y, limits)
    _check_classes(labels.y, labels.class_names, limits)
    first = next(iter(x.values()))
    kind = kind_of(first, spec, is_table=raw.is_table)
    layout = raw.layout or layout_of(first, spec, kind)
    check_figures(first, spec, kind, layout)
    return Dataset(
        splits={
            split: Split(
                x=values,
                y=labels.y[split],
                rows=np.arange(len(values), dtype=np.int64),
                source=split,
            )
            for split, values in x.items()
        },
        class_names=labels.class_names,
        feature_names=_feature_names(raw, spec, first),
        kind=kind,
        layout=layout,
        notes=(*raw.notes, *labels.notes, *_absent(labels.y, labels.class_names)),
    )


def _samples(raw: Raw) -> dict[str, AnyArray]:
    """Bring all splits to one type and check that a sample has one shape.

    Raises:
        UnusableDataset: shapes differ, or have no or too many dimensions.
    """
    x = dict(raw.x)
    for split, values in x.items():
        if values.ndim == 0:
            refuse(f"the samples of {shown(split)} are a single number")
        if values.ndim == 1:
            x[split] = values[:, None]
            raw.notes.append("Samples are single numbers: one feature.")
        if x[split].ndim > _MOST_DIMENSIONS:
            refuse(
                f"samples of {shown(split)} have shape "
                f"{list(values.shape[1:])}; at most three dimensions (channels, "
                "height, width) can be audited"
            )
        if 0 in x[split].shape[1:]:
            refuse(f"samples of {shown(split)} have shape {list(values.shape[1:])}")
    (first, reference), *others = x.items()
    for split, values in others:
        if values.shape[1:] != reference.shape[1:]:
            refuse(
                f"samples of {shown(split)} have shape "
                f"{list(values.shape[1:])}, those of {shown(first)} "
                f"{list(reference.shape[1:])}"
            )
    if len({values.dtype for values in x.values()}) > 1:
        x = {s: convert(values, np.dtype(np.float32)) for s, values in x.items()}
    return x


def _check_lengths(x: Mapping[str, AnyArray], y: Mapping[str, AnyArray]) -> None:
    for split, values in x.items():
        labels = len(y[split]) if y[split].ndim else 0
        if len(values) != labels:
            refuse(f"{shown(split)} has {len(values):,} samples and {labels:,} labels")
        if not labels:
            refuse(f"the split {split} is empty")


def _check_rows(y: Mapping[str, Labels], limits: IntakeLimits) -> None:
    if "all" in y:
        rows = len(y["all"])
        if rows < limits.rows_to_split:
            refuse(
                f"{rows} samples; at least {limits.rows_to_split} are needed where no "
                "held-out split is given"
            )
        return
    held_out = sum(len(values) for split, values in y.items() if split != "train")
    for what, rows in (("training", len(y["train"])), ("held-out", held_out)):
        if rows < limits.rows_a_split:
            refuse(f"{rows} {what} samples; at least {limits.rows_a_split} are needed")


def _check_classes(
    y: Mapping[str, Labels], class_names: tuple[str, ...], limits: IntakeLimits
) -> None:
    """Demand two classes in training and held-out data, and some rows of each.

    Raises:
        UnusableDataset: there are fewer.
    """
    training = y.get("all", y.get("train"))
    held_out = [values for split, values in y.items() if split not in {"all", "train"}]
    for what, parts in (("training data", [training]), ("held-out data", held_out)):
        labels = [part for part in parts if part is not None]
        if not labels:
            continue
        present = np.unique(np.concatenate(labels))
        if len(present) < 2:  # noqa: PLR2004 - a choice needs two
            name = quoted(class_names[int(present[0])])
            refuse(f"one class only in the {what} ({name}); at least two are needed")
    counts = _counts(y, len(class_names))
    present_classes = int((counts > 0).sum())
    if counts.sum() < limits.rows_a_class * present_classes:
        refuse(
            f"{present_classes:,} classes among {int(counts.sum()):,} samples; at "
            f"least {limits.rows_a_class} samples a class are needed"
        )


def _counts(y: Mapping[str, Labels], classes: int) -> Labels:
    counts = np.zeros(classes, np.int64)
    for values in y.values():
        counts += np.bincount(values, minlength=classes)
    return counts


def _absent(y: Mapping[str, Labels], class_names: tuple[str, ...]) -> list[str]:
    """Note classes without a sample, or with one."""
    counts = _counts(y, len(class_names))
    notes = []
    for what, chosen in (("no sample", counts == 0), ("one sample", counts == 1)):
        which = np.flatnonzero(chosen)
        if len(which):
            listed = ", ".join(quoted(class_names[index]) for index in which[:5])
            more = ", …" if len(which) > 5 else ""  # noqa: PLR2004 - as listed
            notes.append(f"Classes with {what}: {listed}{more} ({len(which)}).")
    return notes


def _feature_names(raw: Raw, spec: DatasetSpec, x: AnyArray) -> tuple[str, ...]:
    """Name the columns of a table.

    Raises:
        UnusableDataset: the spec names another number of features.
    """
    if raw.feature_names:
        return raw.feature_names
    if spec.features is None:
        return ()
    width = int(np.prod(x.shape[1:]))
    if x.ndim == 2 and len(spec.features) != width:  # noqa: PLR2004 - a table
        refuse(
            f"spec.features names {len(spec.features)} features, samples have {width}",
            at="/spec/features",
        )
    return tuple(spec.features)
