"""A small reference network, trained on all folds at once and watched as it learns."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from worker.engine.probes.material import Floats, Labels

FOLDS = 5
WIDTH = 128
SPELL = 5  # epochs whose predictions are averaged; those of the first are too vague
MOST_SPELLS = 12
PATIENCE = 2  # spells without a better one after which nothing better is expected
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-4


@dataclass(frozen=True)
class Watched:
    """What the reference said of every row, averaged over the epochs watched.

    Attributes:
        out_of_fold: float64, (rows, classes), probabilities by the fold that never saw
            the row.
        margin: float64, (rows,), logit of the given label minus the largest other one,
            over all folds.
    """

    out_of_fold: Floats
    margin: Floats
    fold: Labels


def folds_of(y: Labels, folds: int = FOLDS, seed: int = 0) -> Labels:
    """Deal the rows of each class out to folds: int64, (rows,)."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y))
    by_class = order[np.argsort(y[order], kind="stable")]
    fold = np.empty(len(y), dtype=np.int64)
    fold[by_class] = np.arange(len(y)) % folds
    return fold


def watch(
    columns: Floats,
    y: Labels,
    classes: int,
    *,
    most: int = 10_000,
    spells: int = MOST_SPELLS,
    seed: int = 0,
) -> Watched:
    """Train a dense network with one hidden layer on each four of five folds.

    The folds are one stack of weights, so that a step serves all of them. It is watched
    for as long as it does better on the rows that a fold never saw: beyond, it learns
    wrong labels by heart, and before, it calls right ones wrong.

    Args:
        columns: float64, (rows, columns), about standardised.
        y: int64, (rows,).
        classes: number of classes.
        most: rows a fold is trained on in one epoch, drawn anew for each.
        spells: of five epochs each, at most, after the first.
        seed: governs folds, initial weights and batches.
    """
    fold = folds_of(y, seed=seed)
    x = torch.from_numpy(columns.astype(np.float32))
    labels = torch.from_numpy(y)
    generator = torch.Generator().manual_seed(seed)
    weights = _initial(x.shape[1], classes, generator)
    optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    known = [torch.from_numpy(np.flatnonzero(fold != k)) for k in range(FOLDS)]
    least = min(most, *(len(rows) for rows in known))
    size = int(np.clip(least // 20, 16, 128))
    kept: list[_Spell] = []  # the best spell, and the one before it to steady it
    before: list[_Spell] = []
    highest, since = -1.0, 0
    spell = _Spell.empty(len(y), classes)
    for epoch in range(SPELL * (1 + spells)):
        orders = [
            rows[torch.randperm(len(rows), generator=generator)][:least]
            for rows in known
        ]
        together = torch.stack(orders)
        for start in range(0, least, size):
            batch = together[:, start : start + size]
            optimizer.zero_grad()
            raw = _forward(weights, x[batch])
            loss = torch.nn.functional.cross_entropy(
                raw.reshape(-1, classes), labels[batch].reshape(-1)
            )
            (loss * FOLDS).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        if epoch < SPELL:
            continue
        with torch.no_grad():
            _observe(weights, x, labels, fold, spell.out_of_fold, spell.margin)
        if (epoch + 1) % SPELL:
            continue
        level = spell.accuracy(labels)
        if level > highest:
            kept, highest, since = [*before, spell], level, 0
        else:
            since += 1
        if since == PATIENCE:
            break
        before = [spell]
        spell = _Spell.empty(len(y), classes)
    count = SPELL * len(kept)
    out_of_fold = torch.stack([one.out_of_fold for one in kept]).sum(0) / count
    margin = torch.stack([one.margin for one in kept]).sum(0) / count
    return Watched(out_of_fold.numpy(), margin.numpy(), fold)


@dataclass(frozen=True)
class _Spell:
    """Sums over some epochs: float64, (rows, classes) and (rows,)."""

    out_of_fold: Tensor
    margin: Tensor

    @classmethod
    def empty(cls, rows: int, classes: int) -> "_Spell":
        return cls(
            torch.zeros(rows, classes, dtype=torch.float64),
            torch.zeros(rows, dtype=torch.float64),
        )

    def accuracy(self, labels: Tensor) -> float:
        return float((self.out_of_fold.argmax(1) == labels).double().mean())


def _initial(features: int, classes: int, generator: torch.Generator) -> list[Tensor]:
    def draw(*shape: int, fan_in: int) -> Tensor:
        noise = torch.randn(FOLDS, *shape, generator=generator)
        return (noise * float((2 / fan_in) ** 0.5)).requires_grad_()

    return [
        draw(features, WIDTH, fan_in=features),
        torch.zeros(FOLDS, 1, WIDTH, requires_grad=True),
        draw(WIDTH, classes, fan_in=WIDTH),
        torch.zeros(FOLDS, 1, classes, requires_grad=True),
    ]


def _forward(weights: list[Tensor], x: Tensor) -> Tensor:
    """Run all folds: (folds, rows, columns) to (folds, rows, classes)."""
    first, first_bias, second, second_bias = weights
    hidden = torch.relu(torch.baddbmm(first_bias, x, first))
    return torch.baddbmm(second_bias, hidden, second)


def _observe(
    weights: list[Tensor],
    x: Tensor,
    labels: Tensor,
    fold: Labels,
    out_of_fold: Tensor,
    margin: Tensor,
) -> None:
    own = torch.from_numpy(fold)
    for start in range(0, len(x), 4096):
        rows = slice(start, start + 4096)
        raw = _forward(weights, x[rows].expand(FOLDS, -1, -1)).double()
        count = raw.shape[1]
        unseen = raw[own[rows], torch.arange(count)]
        out_of_fold[rows] += unseen.softmax(1)
        given = labels[rows].expand(FOLDS, -1)[..., None]
        said = raw.gather(2, given)[..., 0]
        other = raw.scatter(2, given, -torch.inf).amax(2)
        margin[rows] += (said - other).mean(0)
