"""Whether the delivered model does better on inputs in another form.

Every applicable transformation is tried on inputs prepared by the recipe, then the best
few together with every other, then the scale and shift that suit training rows best
(`affine_form.py`). The choice is made on one half of `decide` and judged on
the other, both ways. Of forms that it cannot tell apart, the one is chosen in which
training rows are told apart better, too, as these were learned in the right one; unless
they are best as given, so that only held-out rows came in another form.

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
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from service.contract.errors import UnusableModel
from worker.engine.data import Split
from worker.engine.network.own_code import own_code
from worker.engine.probes import affine_form
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
from worker.engine.probes.transforms import Figures, applicable, figures, transform
from worker.engine.stats.intervals import paired_balanced_accuracy

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
    names = applicable(known)
    affordable = max(FEWEST, LOOKS * material.look_rows // max(1, len(split)))
    untried = max(0, len(names) - affordable)
    values["untried"] = untried
    if untried:
        note(
            values,
            f"{untried} of {len(names)} forms of the inputs were not tried, to keep "
            "the budget",
        )
    hits = _try_all(material, split, prepare, known, names[:affordable])
    train = choose(material.train, sample_places(material.train.y, most))

    @cache
    def said_of_train(name: str) -> Tensor | None:
        return _outputs(material, train, prepare, name, known)

    def on_train(name: str) -> Flags | None:
        raw = said_of_train(name)
        return None if raw is None else correct(material.head, raw, train.y)

    if not untried:
        hits |= _pairs(material, split, prepare, known, hits)
        plain = on_train("identity")
        if plain is not None and balanced(plain, train.y) < GOOD:
            hits |= _fitted(material, split, train, prepare, known, hits)
    y = split.y

    def on_train_told(name: str) -> float:
        hit = on_train(name)
        return 0.0 if hit is None else balanced(hit, train.y)

    def best(rows: Flags) -> str:
        scores = {name: balanced(hit[rows], y[rows]) for name, hit in hits.items()}
        return _best(scores, NEAR / float(np.sqrt(rows.sum())), on_train_told)

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
    if values["best"] != "identity":
        raw = said_of_train(str(values["best"]))
        _on_training_rows(values, material, train.y, raw, on_train("identity"))
    _norms(values, material, prepare(split.x[:NORM_ROWS]), known)
    return values


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


def _try_all(
    material: Material,
    split: Split,
    prepare: AsTrained,
    known: Figures,
    names: Sequence[str],
) -> dict[str, Flags]:
    tried = {name: _hits(material, split, prepare, name, known) for name in names}
    return {name: hit for name, hit in tried.items() if hit is not None}


def _pairs(
    material: Material,
    split: Split,
    prepare: AsTrained,
    known: Figures,
    found: Mapping[str, Flags],
) -> dict[str, Flags]:
    """Try the best few together with every other; returns what adds to them."""
    better: dict[str, Flags] = {}
    few = sorted(found, key=lambda n: -balanced(found[n], split.y))[:BEST_FEW]
    plain = balanced(found["identity"], split.y)
    for first in few:
        if balanced(found[first], split.y) < plain + LEAST_STEP:
            continue
        for second in applicable(known):
            if second in ("identity", first):
                continue
            both = _hits(material, split, prepare, f"{first}+{second}", known)
            needed = balanced(found[first], split.y) + LEAST_STEP
            if both is not None and balanced(both, split.y) >= needed:
                better[f"{first}+{second}"] = both
    return better


def _hits(
    material: Material, split: Split, prepare: AsTrained, name: str, known: Figures
) -> Flags | None:
    raw = _outputs(material, split, prepare, name, known)
    return None if raw is None else correct(material.head, raw, split.y)


def _fitted(
    material: Material,
    split: Split,
    train: Split,
    prepare: AsTrained,
    known: Figures,
    found: Mapping[str, Flags],
) -> dict[str, Flags]:
    """Try the scale and shift that suit training rows best."""
    affordable = material.look_rows // affine_form.passes(known)
    if affordable < FEWEST_FITTED:
        return {}
    most = min(FITTED_ROWS, affordable)
    rows = choose(train, sample_places(train.y, most))
    form = affine_form.fitted_form(material, rows, prepare, known)
    if form is None:
        return {}
    hit = _hits(material, split, prepare, form, known)
    needed = max(balanced(known_hit, split.y) for known_hit in found.values())
    if hit is None or balanced(hit, split.y) < needed + LEAST_STEP:
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
