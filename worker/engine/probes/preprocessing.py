"""Whether the delivered model does better on inputs in another form.

Every applicable transformation is tried on inputs prepared by the recipe, then the best
few together with every other, then the scale and shift that suit training rows best
(`affine_form.py`). The choice is made on one half of `decide` and judged on
the other, both ways. Of forms that it cannot tell apart, the one is chosen in which
training rows are told apart better, too, as these were learned in the right one; unless
they are best as given, so that only held-out rows came in another form. What makes them
look like training rows is tried as well (`moved_forms.py`), and whether the best form
does so is told as in `shift.py`.

Values:
    best: name of the transformation (see `transforms`); `identity`: none is better.
    chosen: what the two halves chose.
    gain: paired difference of balanced accuracy, with `low`, `high`, `standard_error`.
    before, after: balanced accuracy as given, and of the halves' choices.
    tried: balanced accuracy by transformation; untried: how many there was no time for.
    train_after: balanced accuracy on training rows in the best form; None where that
        is the form given.
    train_gain: the best form against the one given on training rows, as `gain`; None
        where the best is the form given.
    sure: `accuracy` on training rows in the best form, and the mean `confidence` in
        the answers there; None where the best is the form given.
    first_norm: stored statistics of the first batch norm against those of the data:
        `shift` (median of |stored - actual| mean in stored deviations), `ratio` (median
        of actual over stored deviation), `features`; None where there is none.
    best_norm: the same for the inputs in the best form; None likewise, or where
        that is the form given.
    told_apart: areas under the curve of a classifier that tells held-out inputs
        `as_given`, and `in_form`, from training inputs as given; None where the best is
        the form given, or there are too few rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from pydantic import JsonValue
from torch import Tensor

from service.contract.errors import UnusableModel
from worker.engine.data import Split
from worker.engine.network.own_code import own_code
from worker.engine.probes import affine_form, moved_forms
from worker.engine.probes.inputs_as_trained import AsTrained, outputs, recipe_affine
from worker.engine.probes.material import (
    Flags,
    Labels,
    Material,
    Values,
    choose,
    few,
    integer,
    note,
    on_device,
    sample_places,
)
from worker.engine.probes.scores import correct, sureness
from worker.engine.probes.selection import (
    as_values,
    balanced,
    chosen_gain,
    cross_fitted,
)
from worker.engine.probes.shift import area_between
from worker.engine.probes.transforms import Figures, applicable, figures, transform
from worker.engine.stats.intervals import paired_balanced_accuracy
from worker.engine.told_apart import have_moved, is_undone

MOST_ROWS = 2_000
PASSES = 16  # at least, one a transformation
LOOKS = 5  # times what a probe may send through the network, that all of them may take
FEWEST = 4  # transformations that are tried, however long they take
BEST_FEW = 2
TIE = 0.005  # balanced accuracy within which the likelier transformation is chosen
NEAR = 1.0  # over the root of the rows: within that of the best, training rows decide
NORM_ROWS = 1_000  # rows that the first norm is held against
GOOD = 0.9  # balanced accuracy on training rows, from which no scale is looked for
FITTED_ROWS, FEWEST_FITTED = 400, 64  # on which it is
MOST_TOLD_APART = 1_000  # rows of either split
GRAINS = 500  # a deviation, less than which is rounding: a plain ground shows all of it
LEAST_STEP = 0.02  # balanced accuracy that a step must add for another to be tried


def measure(material: Material, settings: Values) -> Values:
    """Try every transformation; settings: `rows`."""
    values: Values = {"notes": []}
    most = min(integer(settings, "rows", MOST_ROWS), few(material, PASSES))
    split = choose(material.decide, sample_places(material.decide.y, most))
    if len(split) < len(material.decide):
        note(values, f"transformations were tried on {len(split)} held-out rows")
    prepare = AsTrained(material)
    known = figures(
        _prepared_sample(material, prepare),
        material.dataset,
        undo=recipe_affine(material),
    )
    train = choose(material.train, sample_places(material.train.y, most))
    forms = _Forms(material, split, train, prepare, known)
    hits = _hits_of(forms, values)
    y = split.y

    def best(rows: Flags) -> str:
        scores = {name: balanced(hit[rows], y[rows]) for name, hit in hits.items()}
        return _best(scores, NEAR / float(np.sqrt(rows.sum())), forms.on_train_told)

    after, chosen = cross_fitted(y, best, lambda name, rows: hits[name][rows])
    values["best"] = best(np.ones(len(y), dtype=np.bool_))
    values["chosen"] = list(chosen)
    values["gain"] = as_values(
        chosen_gain(hits["identity"], after, y, agreed=chosen[0] == chosen[1])
    )
    values["before"] = balanced(hits["identity"], y)
    values["after"] = balanced(after, y)
    values["tried"] = {name: balanced(hit, y) for name, hit in hits.items()}
    values["sure"] = values["train_after"] = values["train_gain"] = None
    values["told_apart"] = None
    if (form := str(values["best"])) != "identity":
        _on_training_rows(
            values,
            material,
            train.y,
            forms.said_of_train(form),
            forms.on_train("identity"),
        )
        values["told_apart"] = forms.told_apart(form) or None
    _norms(values, material, prepare(split.x[:NORM_ROWS]), known)
    return values


class _Forms:
    """What the delivered model does in each form; worked out once."""

    def __init__(
        self,
        material: Material,
        split: Split,
        train: Split,
        prepare: AsTrained,
        known: Figures,
    ) -> None:
        self.material, self.split, self.train = material, split, train
        self.prepare, self.known = prepare, known
        self.said_of_train = cache(self._said_of_train)
        self.told_apart = cache(self._told_apart)

    def hits(self, name: str) -> Flags | None:
        """Which held-out rows it hits; None where it cannot take the form."""
        raw = _outputs(self.material, self.split, self.prepare, name, self.known)
        return None if raw is None else correct(self.material.head, raw, self.split.y)

    def _said_of_train(self, name: str) -> Tensor | None:
        return _outputs(self.material, self.train, self.prepare, name, self.known)

    def on_train(self, name: str) -> Flags | None:
        """Which training rows it hits."""
        raw = self.said_of_train(name)
        return None if raw is None else correct(self.material.head, raw, self.train.y)

    def on_train_told(self, name: str) -> float:
        """Balanced accuracy on training rows, 0 where that cannot be told."""
        hit = self.on_train(name)
        return 0.0 if hit is None else balanced(hit, self.train.y)

    def moved(self) -> list[str]:
        """Forms in which held-out inputs may look like training inputs."""
        held, train = (
            self.prepare(part.x).cpu().numpy() for part in (self.split, self.train)
        )
        return moved_forms.forms(held, train, self.known)

    def _told_apart(self, name: str) -> dict[str, JsonValue]:
        """Tell held-out inputs, as given and in a form, from training inputs."""
        train, held = (
            choose(part, sample_places(part.y, MOST_TOLD_APART))
            for part in (self.train, self.split)
        )
        as_given = [self.prepare(part.x) for part in (train, held)]
        changed = transform(name, as_given[1], self.known)
        if changed.shape != as_given[1].shape:
            return {}
        step = _deviation(as_given[0]) / GRAINS
        parts = [
            replace(part, x=((x / step).round() * step).cpu().numpy())
            for part, x in zip((train, held, held), (*as_given, changed), strict=True)
        ]
        areas = [area_between(self.material, parts[0], part) for part in parts[1:]]
        if None in areas:
            return {}
        return dict(zip(("as_given", "in_form"), areas, strict=True))


def _deviation(x: Tensor) -> float:
    """Deviation of all finite values together, 1 where there is none."""
    values = x.double()[torch.isfinite(x)]
    return float(values.std()) if len(values) > 1 and values.std() > 0 else 1.0


def _hits_of(forms: _Forms, values: Values) -> dict[str, Flags]:
    """Try every form that there is time for; says in `values` what was left out."""
    material, split, known = forms.material, forms.split, forms.known
    moved = forms.moved()
    names = [name for name in applicable(known) if name not in moved]
    names[1:1] = moved
    affordable = max(FEWEST, LOOKS * material.look_rows // max(1, len(split)))
    untried = max(0, len(names) - affordable)
    values["untried"] = untried
    if untried:
        note(
            values,
            f"{untried} of {len(names)} forms of the inputs were not tried, to keep "
            "the budget",
        )
    tried = {name: forms.hits(name) for name in names[:affordable]}
    hits = {name: hit for name, hit in tried.items() if hit is not None}
    plain = balanced(hits["identity"], split.y)
    for name in moved:
        if name not in hits or balanced(hits[name], split.y) < plain + LEAST_STEP:
            continue
        if is_undone(forms.told_apart(name)):
            # Told without a label, so that there is nothing to choose from.
            return {one: hits[one] for one in ("identity", name)}
        if not have_moved(forms.told_apart(name)):
            del hits[name]
    if not untried:
        hits |= _pairs(forms, hits)
        if forms.on_train_told("identity") < GOOD:
            hits |= _fitted(forms, hits)
    return hits


def _best(
    scores: Mapping[str, float], near: float, on_train: Callable[[str], float]
) -> str:
    """Choose a form, the likelier one of those that do alike.

    Args:
        scores: balanced accuracy on held-out rows, the likeliest form first.
        near: within which these cannot tell one form from another.
        on_train: a form's balanced accuracy on training rows.
    """
    equal = [name for name, score in scores.items() if score >= _top(scores) - near]
    if "identity" not in equal:
        learned = {name: on_train(name) for name in equal}
        if _top(learned) > on_train("identity") + TIE:  # these came in that form, too
            scores = {name: scores[name] + learned[name] for name in equal}
    enough = _top(scores) - TIE
    return next(name for name, score in scores.items() if score >= enough)


def _top(scores: Mapping[str, float]) -> float:
    return max(scores.values())


def _norms(values: Values, material: Material, x: Tensor, known: Figures) -> None:
    """Hold the first norm against the inputs as given, and in the best form."""
    values["first_norm"] = values["best_norm"] = None
    try:
        values["first_norm"] = first_norm(material, x)
        if values["best"] != "identity":
            other = transform(str(values["best"]), x, known)
            values["best_norm"] = first_norm(material, other)
    except UnusableModel as problem:
        note(values, f"The first norm was not held against the data. {problem.detail}")


def _prepared_sample(material: Material, prepare: AsTrained) -> Split:
    places = sample_places(material.train.y, MOST_ROWS)
    train = choose(material.train, places)
    x = prepare(train.x).cpu().numpy()
    return Split(x=x, y=train.y, rows=train.rows, source=train.source)


def _pairs(forms: _Forms, found: Mapping[str, Flags]) -> dict[str, Flags]:
    """Try the best few together with every other; returns what adds to them."""
    better: dict[str, Flags] = {}
    y = forms.split.y
    few = sorted(found, key=lambda n: -balanced(found[n], y))[:BEST_FEW]
    plain = balanced(found["identity"], y)
    for first in few:
        if balanced(found[first], y) < plain + LEAST_STEP:
            continue
        for second in applicable(forms.known):
            if second in ("identity", first):
                continue
            both = forms.hits(f"{first}+{second}")
            needed = balanced(found[first], y) + LEAST_STEP
            if both is not None and balanced(both, y) >= needed:
                better[f"{first}+{second}"] = both
    return better


def _fitted(forms: _Forms, found: Mapping[str, Flags]) -> dict[str, Flags]:
    """Try the scale and shift that suit training rows best."""
    material, train, y = forms.material, forms.train, forms.split.y
    affordable = material.look_rows // affine_form.passes(forms.known)
    if affordable < FEWEST_FITTED:
        return {}
    most = min(FITTED_ROWS, affordable)
    rows = choose(train, sample_places(train.y, most))
    form = affine_form.fitted_form(material, rows, forms.prepare, forms.known)
    if form is None:
        return {}
    hit = forms.hits(form)
    needed = max(balanced(known_hit, y) for known_hit in found.values())
    if hit is None or balanced(hit, y) < needed + LEAST_STEP:
        return {}
    return {form: hit}


def _on_training_rows(
    values: Values,
    material: Material,
    y: Labels,
    raw: Tensor | None,
    before: Flags | None,
) -> None:
    """Say how the best form does on training rows, and against the form given."""
    if raw is None:
        return
    hits = correct(material.head, raw, y)
    values["sure"] = sureness(material.head, raw, hits)
    values["train_after"] = balanced(hits, y)
    if before is not None:
        values["train_gain"] = as_values(paired_balanced_accuracy(before, hits, y))


def _outputs(
    material: Material, split: Split, prepare: AsTrained, name: str, known: Figures
) -> Tensor | None:
    try:
        return outputs(material, split.x, lambda x: transform(name, prepare(x), known))
    except UnusableModel:
        if name == "identity":
            raise
        return None  # the network cannot take this form (other sizes, say)


def first_norm(material: Material, x: Tensor) -> Values | None:
    """Compare what the first batch norm has stored with what reaches it.

    A forward pass in training mode updates each running figure r to (1-m) r + m b, b
    being the batch's. Run from r = 0 and r = 1, it gives m and b without any hook.

    Args:
        material: the subject.
        x: prepared inputs, (rows, *sample shape).

    Raises:
        UnusableModel: the network fails in training mode.
    """
    network = material.network
    means = [name for name in network.buffers if name.endswith("running_mean")]
    if not means or len(x) < 2:  # noqa: PLR2004 - a deviation needs two
        return None
    mean_name = means[0]
    std_name = mean_name.removesuffix("mean") + "var"
    if std_name not in network.buffers:
        return None

    parameters = on_device(material, network.parameters)
    stored_buffers = on_device(material, network.buffers)

    def updated(start: float) -> tuple[Tensor, Tensor]:
        buffers = dict(stored_buffers)
        for name in (mean_name, std_name):
            buffers[name] = torch.full_like(buffers[name], start)
        with torch.no_grad(), own_code("in training mode"):
            _, new = network.forward(parameters, buffers, x, training=True)
        return new[mean_name].double().cpu(), new[std_name].double().cpu()

    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        zero_mean, zero_var = updated(0.0)
        torch.random.manual_seed(0)
        one_mean, _ = updated(1.0)
    weight = 1 - (one_mean - zero_mean).mean()
    if float(weight) <= 1e-6:  # noqa: PLR2004 - nothing is updated: flag baked in
        return None
    mean, variance = zero_mean / weight, zero_var / weight
    stored = network.buffers[mean_name].double()
    stored_std = network.buffers[std_name].double().clamp(min=1e-12).sqrt()
    return {
        "layer": mean_name.removesuffix(".running_mean"),
        "features": len(stored),
        "shift": float(((mean - stored).abs() / stored_std).median()),
        "ratio": float((variance.clamp(min=0).sqrt() / stored_std).median()),
    }
