"""A small reference network, trained on all folds at once and watched as it learns.

It looks twice. In the first look each member knows all folds but two, so that the
labels of one fold can be doubted by a member that saw neither that fold nor another
one. In the second look a member knows all folds but one, without the rows that were
doubted by members that did not see its own fold either: what it says of a row rests on
that row's label in no way, neither directly nor through the labels that were kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from worker.engine.lab.optimizers import StackedOptimizer
from worker.engine.probes.material import Flags, Floats, Labels
from worker.engine.recipe import default_optimizer

FOLDS = 5
WIDTH = 128
SPELL = 3  # epochs whose predictions are averaged
MOST_SPELLS = 20
LEAST_SPELLS = 3
MOST_LOOKS = 300_000  # rows times epochs, felt from 5,000 rows on
MOST_WORK = 15_000_000  # rows learned times inputs and outputs times epochs
PATIENCE = 2  # spells without a better one after which nothing better is expected
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-4
TWICE = 2  # members a fold in the second look
CHUNK = 512  # rows observed at a time, by all members: what the caches hold
MUCH = 1_000_000  # rows times inputs and outputs, from which looking costs a training
PAIRS = tuple(combinations(range(FOLDS), 2))

Said = np.ndarray[tuple[int, ...], np.dtype[np.floating]]  # (rows, classes)
Doubted = Callable[[Said, Labels], Flags]


@dataclass(frozen=True)
class Watched:
    """What the reference said of every row, averaged over the epochs watched.

    Attributes:
        out_of_fold: float64, (rows, classes), probabilities by members that never saw
            the row.
        margin: float64, (rows,), logit of the given label minus the largest other one,
            over all members.
        fold: int64, (rows,).
        apart: float32, (rows, folds, classes): by members that saw neither the row nor
            the fold; zero at the row's own. Empty after the second look.
        beside: float64, (rows beside these, classes), probabilities by as many members
            as have a say in one row.
    """

    out_of_fold: Floats
    margin: Floats
    fold: Labels
    apart: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    beside: Floats


def folds_of(y: Labels, folds: int = FOLDS, seed: int = 0) -> Labels:
    """Deal the rows of each class out to folds: int64, (rows,)."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y))
    by_class = order[np.argsort(y[order], kind="stable")]
    fold = np.empty(len(y), dtype=np.int64)
    fold[by_class] = np.arange(len(y)) % folds
    return fold


def watch(  # noqa: PLR0913 - all but three have usual values
    columns: Floats,
    y: Labels,
    classes: int,
    *,
    beside: Floats | None = None,
    most: int = 10_000,
    spells: int = MOST_SPELLS,
    seed: int = 0,
) -> Watched:
    """Look at all rows by members that know three of five folds each.

    The members are one stack of weights, so that a step serves all of them. They are
    watched for as long as they do better on the rows that they never saw: beyond, they
    learn wrong labels by heart, and before, they call right ones wrong.

    Args:
        columns: float64, (rows, columns), about standardised.
        y: int64, (rows,).
        classes: number of classes.
        beside: float64, (other rows, columns), which nobody learns; looked at, too.
        most: rows a member is trained on in one epoch, drawn anew for each.
        spells: of three epochs each, at most.
        seed: governs folds, initial weights and batches.
    """
    fold = folds_of(y, seed=seed)
    member = np.zeros((FOLDS, FOLDS), dtype=np.int64)
    for place, (one, other) in enumerate(PAIRS):
        member[one, other] = member[other, one] = place
    others = np.array([[k for k in range(FOLDS) if k != own] for own in range(FOLDS)])
    known = [np.flatnonzero((fold != a) & (fold != b)) for a, b in PAIRS]
    dealt = np.concatenate([fold, _dealt(beside)])
    asked = np.take_along_axis(member, others, 1)[dealt]
    stack = _Stack(columns, y, classes, beside=beside, known=known, seed=seed)
    said, margin = stack.watch(asked, most=most, spells=spells)
    apart = np.zeros((len(y), FOLDS, classes), dtype=np.float32)
    apart[np.arange(len(y))[:, None], others[fold]] = said[: len(y)]
    average = said.mean(1, dtype=np.float64)
    return Watched(average[: len(y)], margin, fold, apart, average[len(y) :])


def _dealt(beside: Floats | None) -> Labels:
    """Deal rows that nobody learns out to folds, as if they were learned."""
    return np.arange(0 if beside is None else len(beside)) % FOLDS


def watch_again(  # noqa: PLR0913 - all but four have usual values
    first: Watched,
    columns: Floats,
    y: Labels,
    classes: int,
    *,
    doubted: Doubted,
    beside: Floats | None = None,
    most: int = 10_000,
    spells: int = MOST_SPELLS,
    seed: int = 1,
) -> Watched | None:
    """Look again, by members that do not learn the labels doubted most.

    Args:
        first: the first look.
        columns: as then.
        y: as then.
        classes: as then.
        doubted: flags rows by what was said apart, and by their labels.
        beside: as then.
        most: as then.
        spells: as then.
        seed: governs initial weights and batches.

    Returns:
        None where no rows would be left to learn from.
    """
    known = []
    for own in range(FOLDS):
        rows = np.flatnonzero(first.fold != own)
        known.append(rows[~doubted(first.apart[rows, own], y[rows])])
    if min(len(rows) for rows in known) == 0:
        return None
    known = known * TWICE
    stack = _Stack(columns, y, classes, beside=beside, known=known, seed=seed)
    dealt = np.concatenate([first.fold, _dealt(beside)])
    asked = dealt[:, None] + FOLDS * np.arange(TWICE)
    said, margin = stack.watch(asked, most=most, spells=spells)
    nothing = np.zeros((len(y), 0, classes), dtype=np.float32)
    average = said.mean(1, dtype=np.float64)
    return Watched(average[: len(y)], margin, first.fold, nothing, average[len(y) :])


def most_doubted(probabilities: Said, y: Labels, count: int) -> Flags:
    """Flag so many contradicted rows, those of the least likely labels: bool, (rows,).

    Args:
        probabilities: (rows, classes), by members that never saw them.
        y: int64, (rows,).
        count: at most.
    """
    given = probabilities[np.arange(len(y)), y]
    highest = probabilities.max(1)
    contradicted = np.flatnonzero(probabilities.argmax(1) != y)
    ratio = (given / np.maximum(highest, 1e-30))[contradicted]
    flags = np.zeros(len(y), dtype=np.bool_)
    flags[contradicted[np.argsort(ratio, kind="stable")[:count]]] = True
    return flags


@dataclass
class _Spell:
    """Sums over some epochs: float32, (rows, asked, classes); float64, (rows,)."""

    said: Tensor
    margin: Tensor
    epochs: int = 0


class _Stack:
    """Dense networks with one hidden layer, one a list of rows that it may know."""

    def __init__(
        self,
        columns: Floats,
        y: Labels,
        classes: int,
        *,
        beside: Floats | None,
        known: Sequence[Labels],
        seed: int,
    ) -> None:
        self.learned = len(y)
        nothing = np.zeros(0 if beside is None else len(beside), dtype=np.int64)
        if beside is not None:
            columns = np.concatenate([columns, beside])
        self.x = torch.from_numpy(columns.astype(np.float32))
        self.labels = torch.from_numpy(np.concatenate([y, nothing]))
        self.classes = classes
        self.known = [torch.from_numpy(rows) for rows in known]
        self.generator = torch.Generator().manual_seed(seed)
        self.weights = self._initial()
        self.rows = [weight.detach().flatten(1) for weight in self.weights]
        setting = default_optimizer("adamw").model_copy(
            update={"lr": LEARNING_RATE, "weight_decay": WEIGHT_DECAY}
        )
        self.optimizers = [
            StackedOptimizer.fresh([setting] * len(rows), rows) for rows in self.rows
        ]
        self.wide = self.x.shape[1] + classes
        self.looks_often = len(y) * self.wide <= MUCH

    def _initial(self) -> list[Tensor]:
        members, features, classes = len(self.known), self.x.shape[1], self.classes

        def draw(*shape: int, fan_in: int) -> Tensor:
            noise = torch.randn(members, *shape, generator=self.generator)
            return (noise * float((2 / fan_in) ** 0.5)).requires_grad_()

        return [
            draw(features, WIDTH, fan_in=features),
            torch.zeros(members, 1, WIDTH, requires_grad=True),
            draw(WIDTH, classes, fan_in=WIDTH),
            torch.zeros(members, 1, classes, requires_grad=True),
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Run all members: (members, rows, columns) to (members, rows, classes)."""
        first, first_bias, second, second_bias = self.weights
        hidden = torch.relu(torch.baddbmm(first_bias, x, first))
        return torch.baddbmm(second_bias, hidden, second)

    def watch(self, asked: Labels, *, most: int, spells: int) -> tuple[Floats, Floats]:
        """Train, and return what was said in the best spell and the one before it.

        Args:
            asked: int64, (rows, askings): the members whose word counts on each row,
                those beside last.
            most: rows a member is trained on in one epoch.
            spells: at most.

        Returns:
            Probabilities, float32, (rows, askings, classes), and margins, (rows
            learned,).
        """
        least = min(most, *(len(rows) for rows in self.known))
        # Many rows make as many steps in fewer epochs, and take longer to look at.
        affordable = min(
            MOST_LOOKS // (SPELL * self.learned),
            MOST_WORK // (SPELL * least * self.wide),
        )
        spells = min(spells, max(LEAST_SPELLS, affordable))
        size = int(np.clip(least // 20, 16, 128))
        members = torch.from_numpy(asked)
        kept: list[_Spell] = []  # the best spell, and the one before it to steady it
        before: list[_Spell] = []
        highest, since = -1.0, 0
        for _ in range(spells):
            spell = self._empty(members)
            for epoch in range(SPELL):
                self._epoch(least, size)
                if self.looks_often or epoch == SPELL - 1:
                    self._observe(spell, members)
            level = self._agreement(spell)
            if level > highest:
                kept, highest, since = [*before, spell], level, 0
            else:
                since += 1
            if since == PATIENCE:
                break
            before = [spell]
        count = sum(spell.epochs for spell in kept)
        said = torch.stack([spell.said for spell in kept]).sum(0) / count
        margin = torch.stack([spell.margin for spell in kept]).sum(0) / count
        return said.numpy(), margin[: self.learned].numpy()

    def _empty(self, members: Tensor) -> _Spell:
        rows, askings = members.shape
        said = torch.zeros(rows, askings, self.classes)
        return _Spell(said, torch.zeros(rows, dtype=torch.float64))

    def _epoch(self, least: int, size: int) -> None:
        orders = [
            rows[torch.randperm(len(rows), generator=self.generator)][:least]
            for rows in self.known
        ]
        together = torch.stack(orders)
        for start in range(0, least, size):
            batch = together[:, start : start + size]
            raw = self.forward(self.x[batch])
            loss = torch.nn.functional.cross_entropy(
                raw.reshape(-1, self.classes), self.labels[batch].reshape(-1)
            )
            slopes = torch.autograd.grad(loss * len(orders), self.weights)
            for optimizer, own, slope in zip(
                self.optimizers, self.rows, slopes, strict=True
            ):
                optimizer.step(own, slope.flatten(1))

    @torch.no_grad()
    def _observe(self, spell: _Spell, members: Tensor) -> None:
        spell.epochs += 1
        for start in range(0, len(self.x), CHUNK):
            rows = slice(start, start + CHUNK)
            x = self.x[rows].expand(len(self.known), -1, -1)
            raw = self.forward(x)
            place = torch.arange(raw.shape[1])[:, None]
            spell.said[rows] += raw[members[rows], place].softmax(2)
            given = self.labels[rows].expand(len(self.known), -1)[..., None]
            own = raw.gather(2, given)[..., 0]
            other = raw.scatter(2, given, -torch.inf).amax(2)
            spell.margin[rows] += (own - other).mean(0)

    def _agreement(self, spell: _Spell) -> float:
        learned = slice(self.learned)
        hits = spell.said[learned].argmax(2) == self.labels[learned, None]
        return float(hits.double().mean())
