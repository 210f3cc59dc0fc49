"""Data changes: what an arm's data looks like, without copying any."""

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from worker.engine.data import Split
from worker.engine.lab.batches import Flags, Rows
from worker.engine.lab.experiment import DataChange, unpack_flags
from worker.engine.lab.inputs import (
    InputStep,
    Pipe,
    affine_step,
    augmentation,
    permutation_step,
    repair_step,
    written_out,
)
from worker.engine.lab.materials import Material
from worker.engine.probes.inputs_as_trained import recipe_affine
from worker.engine.probes.transforms import RANKED, figures, is_known, transform
from worker.engine.randomness import numpy_generator
from worker.engine.recipe import CompleteRecipe
from worker.engine.splits import stratified_order

_FEW = 5  # rows on which a transformation is tried
_SAMPLE = 50_000  # rows transformed to measure the figures of a normalisation


class ChangeImpossible(Exception):  # noqa: N818 - names what is the case
    """The data does not admit this change."""

    def __init__(self, *, reason: str) -> None:
        super().__init__(reason)


@dataclass(frozen=True)
class View:
    """The data as one arm sees it.

    Attributes:
        kept: bool, (training rows,): those it trains on.
        labels: int64, (training rows,).
        pipe: what happens to inputs, in training and scoring alike.
        shown: what happens to them besides before it is scored on them.
        scored: bool, (rows that decide,): those that may score it; None: all. Where
            others are lent to it, `kept` and `labels` go on over the rows that decide.
    """

    kept: Flags
    labels: Rows
    pipe: Pipe = field(default_factory=Pipe)
    shown: tuple[InputStep, ...] = ()
    scored: Flags | None = None

    @property
    def scoring_pipe(self) -> Pipe:
        """What happens to inputs that it is scored on."""
        return Pipe((*self.pipe.steps, *self.shown)) if self.shown else self.pipe

    @property
    def key(self) -> str:
        """Equal keys mean equal training data, and equal scores."""
        digest = hashlib.blake2b(self.kept.tobytes(), digest_size=16)
        digest.update(self.labels.tobytes())
        digest.update(self.pipe.key.encode())
        for step in self.shown:
            digest.update(step.key.encode())
        return digest.hexdigest()


def changed_view(
    view: View,
    change: DataChange,
    *,
    material: Material,
    base: Rows,
    seed: int,
    steps: dict[str, InputStep],
) -> View:
    """Apply a data change.

    Args:
        view: as earlier changes left it.
        change: to apply.
        material: the subject.
        base: int64, the experiment's rows.
        seed: of the member; governs subsets and permutations.
        steps: fitted to the training data so far, by their changes; it is added to.

    Raises:
        ChangeImpossible: the data does not admit it.
    """
    if change.name in {"subset", "drop", "relabel", "permute_labels"}:
        return _other_rows(view, change, base=base, seed=seed)
    if change.name == "augment":
        if material.dataset.kind == "tokens":
            raise ChangeImpossible(reason="token ids cannot be shifted or blurred")
        augment = augmentation(material.dataset, material.train)
        return replace(view, pipe=Pipe(view.pipe.steps, augment))
    key = change.model_dump_json()
    if key not in steps:
        steps[key] = _step(change, material)
    if change.name == "shown":
        return replace(view, shown=(*view.shown, steps[key]))
    return replace(view, pipe=view.pipe.then(steps[key]))


def lent_to(view: View, y: Rows, way: tuple[Rows, Flags]) -> View:
    """Let held-out rows be trained on as well; to be done after all other changes.

    Args:
        view: as these left it.
        y: int64, (rows that decide,).
        way: of `splits.lent_rows`.

    Raises:
        ChangeImpossible: too few to divide.
    """
    lent, scored = way
    if not len(lent) or not scored.any():
        raise ChangeImpossible(reason="too few held-out rows to lend any")
    borrowed = np.zeros(len(y), dtype=np.bool_)
    borrowed[lent] = True
    return replace(
        view,
        kept=np.concatenate([view.kept, borrowed]),
        labels=np.concatenate([view.labels, y]),
        scored=scored,
    )


def _other_rows(view: View, change: DataChange, *, base: Rows, seed: int) -> View:
    rows = base[view.kept[base]]
    if change.name == "subset":
        share = 1.0 if change.share is None else change.share
        order = stratified_order(view.labels, rows, seed=seed)
        kept = np.zeros_like(view.kept)
        kept[order[: max(1, round(share * len(rows)))]] = True
        return replace(view, kept=kept)
    if change.name == "permute_labels":
        labels = view.labels.copy()
        labels[rows] = numpy_generator(seed, "labels").permutation(labels[rows])
        return replace(view, labels=labels)
    if change.mask is None:
        raise ChangeImpossible(reason=f"{change.name} needs a mask")
    try:
        flags = unpack_flags(change.mask, len(view.kept))
    except ValueError as error:
        raise ChangeImpossible(reason=str(error)) from error
    if change.name == "drop":
        kept = view.kept & ~flags
        if not kept[base].any():
            raise ChangeImpossible(reason="no training row would be left")
        return replace(view, kept=kept)
    if change.labels is None or len(change.labels) != flags.sum():
        raise ChangeImpossible(reason="relabel needs one label a flagged row")
    labels = view.labels.copy()
    labels[flags] = change.labels
    return replace(view, labels=labels)


def _step(change: DataChange, material: Material) -> InputStep:
    if change.name in {"repair_inputs", "estimate_inputs"}:
        if material.dataset.kind == "tokens":
            raise ChangeImpossible(reason="token ids have no median")
        return repair_step(
            material.train,
            change.limit,
            is_table=material.dataset.kind == "table",
            estimate=change.name == "estimate_inputs",
        )
    if change.name == "permute_features":
        shape = material.train.x.shape[1:]
        # One order for all seeds of an arm: the members compare weights, not orders.
        order = numpy_generator("features").permutation(int(np.prod(shape)))
        return permutation_step(order)
    name = change.transform or "identity"
    named = name.split("+")
    unknown = [step for step in named if not is_known(step)]
    if unknown:
        raise ChangeImpossible(reason=f"no transformation is called {unknown[0]}")
    known = figures(material.train, material.dataset, ranked=RANKED in named)
    is_text = material.dataset.kind == "tokens"
    few = material.train.x[:_FEW]
    some = torch.from_numpy(np.array(few) if is_text else _floats(few))

    def apply(x: Tensor) -> Tensor:
        return transform(name, x, known)

    try:
        apply(some)
    except (RuntimeError, ValueError, IndexError) as error:
        raise ChangeImpossible(reason=f"{name} does not fit these inputs") from error
    layer = None
    if change.name == "transform":  # what is only shown goes into no file
        layer = written_out(apply, some, as_floats=not is_text)
    return InputStep(f"transform:{name}", apply, layer=layer)


def normalized(view: View, recipe: CompleteRecipe, material: Material) -> View:
    """Append the recipe's normalisation, measured on the inputs as changed so far."""
    if recipe.normalization == "none" or material.dataset.kind == "tokens":
        return view
    seen = replace(material, recipe=recipe)
    if recipe.normalization == "standardize" and view.pipe.steps:
        step = max(1, len(material.train) // _SAMPLE)
        some = material.train.x[::step]
        seen = replace(seen, train=_piped(material.train, some, view.pipe))
    affine = recipe_affine(seen)
    if affine is None:
        return view
    return replace(view, pipe=view.pipe.then(affine_step(affine)))


def _piped(train: Split, some: np.ndarray, pipe: Pipe) -> Split:
    x = pipe(torch.from_numpy(_floats(some))).numpy()
    count = len(x)
    return Split(x=x, y=train.y[:count], rows=train.rows[:count], source=train.source)


def _floats(x: np.ndarray) -> np.ndarray:
    return np.array(x, dtype=np.float32)
