"""Members: one arm trained from one seed, ready to be put into a stack."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import cast

import numpy as np
from torch import Tensor

from worker.engine.head import Head, head_after
from worker.engine.lab.batches import Flags, Rows, Stream
from worker.engine.lab.experiment import (
    Arm,
    DataChange,
    NetworkChange,
    RecipeChange,
    borrows,
)
from worker.engine.lab.inputs import InputStep, Pipe
from worker.engine.lab.losses import Form
from worker.engine.lab.materials import Material
from worker.engine.lab.schedules import depends_on_length
from worker.engine.lab.views import View, changed_view, lent_to, normalized
from worker.engine.network.initialization import Scheme
from worker.engine.network.network import Network
from worker.engine.recipe import CompleteRecipe
from worker.engine.splits import lent_rows, spared_rows

_STACK_BYTES = 1 << 30  # of weights, gradients and optimiser state of a stack
_SEEDED = {"subset", "permute_labels", "lend"}  # changes that hang on the seed
_COPIES = 7  # of a member's row: weights, gradient, state, scratch, last finite ones


@dataclass
class End:
    """Where one trial ends: arms that differ only in epochs share a trajectory.

    Attributes:
        shows_weights: whether it is looked at which layers were hardly moved.
    """

    arm: int
    seed: int
    step: int
    shows_weights: bool = False


@dataclass
class Member:
    """One trajectory.

    Attributes:
        network: changed as the arm says.
        recipe: of the longest of its trials.
        view: the data as the arm sees it.
        stream: its batches.
        form: of its loss.
        head: how its outputs become classes.
        seed: of initial weights, order and noise.
        scheme: of the initial weights, or `delivered`.
        pace: optimiser steps that count as one epoch.
        spared: int64, places in the training split that are left out, and scored.
        given: optimiser steps that the recipe as given makes.
        ends: its trials, in any order.
    """

    network: Network
    recipe: CompleteRecipe
    view: View
    stream: Stream
    form: Form
    head: Head
    seed: int
    scheme: str
    pace: int
    spared: Rows
    given: int
    ends: list[End] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Optimiser steps until its last trial ends."""
        return max(end.step for end in self.ends)

    @property
    def pipe(self) -> Pipe:
        """What happens to its inputs."""
        return self.view.pipe

    @property
    def scoring_pipe(self) -> Pipe:
        """What happens to inputs that it is scored on."""
        return self.view.scoring_pipe

    def start(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return initial parameters and buffers."""
        if self.scheme == "delivered":
            return dict(self.network.parameters), dict(self.network.buffers)
        return self.network.initial(self.seed, cast(Scheme, self.scheme))

    @property
    def trajectory(self) -> tuple[object, ...]:
        """Equal keys mean equal trajectories, as far as both go."""
        recipe = self.recipe
        if not depends_on_length(recipe.schedule):
            recipe = recipe.model_copy(update={"epochs": 0})
        return (
            id(self.network),
            recipe.model_dump_json(exclude={"seed"}),
            self.view.key,
            self.seed,
            self.scheme,
        )

    @property
    def stack(self) -> tuple[object, ...]:
        """Equal keys mean that they can share a stack."""
        has_norm = bool(self.network.buffers)
        return (
            self.network.structure,
            self.recipe.optimizer.name,
            self.form,
            self.stream.batch,
            # Batch statistics must not see padding, so short batches must coincide.
            self.stream.rows_an_epoch if has_norm else None,
        )


@dataclass(frozen=True)
class _Built:
    network: Network
    recipe: CompleteRecipe
    scheme: str
    data: tuple[DataChange, ...]
    reheaded: bool
    is_trained: bool


class Builder:
    """Turns arms into members, sharing networks and views between them."""

    def __init__(
        self,
        material: Material,
        base: Rows,
        sample: Tensor,
        networks: dict[str, Network],
        steps: dict[str, InputStep],
        folds: int | None = None,
    ) -> None:
        """Start.

        Args:
            material: the subject.
            base: int64, places of the experiment's rows in the training split.
            sample: float, (few rows, *sample shape), for surgery.
            networks: changed networks so far, by their changes; it is added to.
            steps: what happens to inputs, likewise.
            folds: parts of the training rows that seeds leave out in turn.
        """
        self._spared = spared_rows(material.train.y, folds) if folds else ()
        self._material, self._base, self._sample = material, base, sample
        self._networks, self._steps = networks, steps
        self._views: dict[str, View] = {}

    def members(self, index: int, arm: Arm, seeds: Sequence[int]) -> list[Member]:
        """Build the members of an arm.

        Raises:
            SurgeryImpossible: the network does not admit a change.
            ChangeImpossible: the data does not.
            LossImpossible: the network's outputs do not.
            ValidationError: a patch makes no recipe.
        """
        built = self._built(arm)
        members = [self._member(index, built, seed) for seed in seeds]
        members[0].ends[0].shows_weights = all(
            isinstance(change, NetworkChange) and change.name == "initialization"
            for change in arm.changes
        )
        return members

    def _built(self, arm: Arm) -> _Built:
        recipe, scheme, is_trained = self._material.recipe, "default", True
        data: list[DataChange] = []
        surgery: list[NetworkChange] = []
        for change in arm.changes:
            if isinstance(change, RecipeChange):
                recipe = recipe.patched(change.patch)
            elif isinstance(change, DataChange):
                data.append(change)
            elif change.name == "initialization":
                scheme = change.to or "default"
            elif change.name == "as_delivered":
                scheme, is_trained = "delivered", False
            else:
                surgery.append(change)
        return _Built(
            self._network(surgery),
            recipe,
            scheme,
            tuple(data),
            is_trained
            and (bool(surgery) or recipe.loss.name != self._material.recipe.loss.name),
            is_trained,
        )

    def _network(self, surgery: Sequence[NetworkChange]) -> Network:
        key, network = "", self._material.network
        for change in surgery:
            key += change.model_dump_json()
            if key not in self._networks:
                self._networks[key] = network.changed(
                    change, classes=self._material.classes, sample=self._sample
                )
            network = self._networks[key]
        return network

    def _view(self, built: _Built, seed: int) -> View:
        key = "".join(change.model_dump_json() for change in built.data)
        seeded = any(one.name in _SEEDED for one in built.data)
        key += f"/{seed if seeded else ''}/{built.recipe.normalization}"
        if self._spared:
            key += f"/{seed % len(self._spared)}"
        if key not in self._views:
            train = self._material.train
            kept = np.ones(len(train), dtype=np.bool_)
            kept[self._left_out(seed)] = False
            view = View(kept=kept, labels=train.y)
            for change in built.data:
                if change.name == "lend":
                    continue
                view = changed_view(
                    view,
                    change,
                    material=self._material,
                    base=self._base,
                    seed=seed,
                    steps=self._steps,
                )
            view = normalized(view, built.recipe, self._material)
            if borrows(built.data):
                way = self._lent[seed % len(self._lent)]
                view = lent_to(view, self._material.decide.y, way)
            self._views[key] = view
        return self._views[key]

    def _member(self, index: int, built: _Built, seed: int) -> Member:
        network, recipe, classes = built.network, built.recipe, self._material.classes
        view = self._view(built, seed)
        spared, base = self._left_out(seed), self._base
        if view.scored is not None:
            train = len(self._material.train)
            base = np.concatenate([base, np.arange(train, len(view.kept))])
        count = int(view.kept[base].sum())
        epochs = recipe.epochs if built.is_trained else 0
        share = 1 - len(spared) / max(1, len(base))
        whole = round(count / share)  # rows an epoch were none left out in turn
        # The whole set at once stays one batch of what is there.
        all_at_once = recipe.batch_size >= whole
        stream = Stream(
            seed=seed,
            base=base,
            kept=view.kept,
            labels=view.labels,
            batch=count if all_at_once else recipe.batch_size,
            sampler=recipe.sampler,
            drop_single=bool(network.buffers),
            whole=whole if len(spared) and not all_at_once else None,
        )
        form = Form(
            recipe.loss.name,
            network.facts.outputs,
            classes,
            network.facts.output_activation,
            recipe.loss.probabilities,
            recipe.loss.transition_matrix,
        )
        head = self._material.head
        if built.reheaded:
            head = head_after(network, recipe.loss.name, classes)
        return Member(
            network=network,
            recipe=recipe,
            view=view,
            stream=stream,
            form=form,
            head=head,
            seed=seed,
            scheme=built.scheme,
            pace=stream.steps_an_epoch,
            spared=spared,
            given=self._material.recipe.epochs * stream.steps_an_epoch,
            ends=[End(index, seed, epochs * stream.steps_an_epoch)],
        )

    @cached_property
    def _lent(self) -> tuple[tuple[Rows, Flags], ...]:
        """Ways to lend held-out rows, which seeds take in turn."""
        return lent_rows(self._material.decide.y, len(self._material.train))

    def _left_out(self, seed: int) -> Rows:
        if not self._spared:
            return np.empty(0, np.int64)
        return self._spared[seed % len(self._spared)]


def merged(members: Sequence[Member]) -> list[Member]:
    """Join members whose trajectories are the same as far as both go."""
    found: dict[tuple[object, ...], Member] = {}
    for member in members:
        same = found.get(member.trajectory)
        if same is None:
            found[member.trajectory] = replace(member, ends=list(member.ends))
            continue
        same.ends.extend(member.ends)
        if member.recipe.epochs > same.recipe.epochs:
            same.recipe = member.recipe
    return list(found.values())


def stacks(members: Sequence[Member]) -> list[list[Member]]:
    """Sort members into groups that can be trained together and fit in memory."""
    groups: dict[tuple[object, ...], list[Member]] = {}
    for member in members:
        groups.setdefault(member.stack, []).append(member)
    found: list[list[Member]] = []
    for group in groups.values():
        parameters = group[0].network.parameters.values()
        size = sum(one.numel() * one.element_size() for one in parameters)
        most = max(1, _STACK_BYTES // (_COPIES * max(1, size)))
        count = -(-len(group) // most)
        found.extend(group[part::count] for part in range(count))
    return found


def by_arm(group: Sequence[Member]) -> list[list[Member]]:
    """Take a group apart, so that what fails in one arm fails in that alone."""
    found: dict[frozenset[int], list[Member]] = {}
    for member in group:
        arms = frozenset(end.arm for end in member.ends)
        found.setdefault(arms, []).append(member)
    return list(found.values())
