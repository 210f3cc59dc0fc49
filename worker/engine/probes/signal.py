"""Whether anything in the features predicts the labels, for any reference learner.

Learners are fitted on training rows and predict held-out rows; training rows are
predicted out of fold, which adds power where the held-out split is small. The labels
of all predicted rows are then permuted, for all learners at once, so that the largest
of their scores has its own null distribution. Cheap learners come first, and the rest
are left out once the answer is beyond doubt.
Source: Ojala & Garriga 2010, Permutation tests for studying classifier performance,
JMLR 11:1833 (test 1); maximum over learners: Westfall & Young 1993.

Values:
    p_value: chance of a score as high without any signal.
    balanced_accuracy: of the best learner on held-out rows, with interval.
    chance: 1 over the classes that occur in the held-out rows.
    best: its name; learners: by name `balanced_accuracy` (held-out), `out_of_fold`,
        `z`.
    out_of_fold: `balanced_accuracy`, with interval, and `chance` of the learner that
        predicts training rows best, out of fold.
    delivered: `p_value` and `balanced_accuracy` of the delivered model, held out.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.engine.probes.features import edges
from worker.engine.probes.inputs_as_trained import held_out_answers, predictions
from worker.engine.probes.learners import learners, out_of_fold, probabilities
from worker.engine.probes.material import (
    Array,
    Flags,
    Floats,
    Labels,
    Material,
    Values,
    choose,
    held_out,
    integer,
    note,
    sample_places,
)
from worker.engine.probes.phrases import described_by
from worker.engine.probes.selection import balanced
from worker.engine.stats.intervals import balanced_accuracy

MOST_ROWS = 4_000
PERMUTATIONS = 999
BEYOND_DOUBT = 8.0  # standard deviations of the null


@dataclass(frozen=True)
class Predicted:
    """What one learner said of held-out rows, then of training rows out of fold."""

    name: str
    probabilities: Floats
    held_out: int


def measure(material: Material, settings: Values) -> Values:
    """Test for signal; settings: `rows`, `permutations`."""
    values: Values = {"notes": []}
    most = integer(settings, "rows", MOST_ROWS)
    train = choose(material.train, sample_places(material.train.y, most))
    whole = held_out(material)
    places = sample_places(whole.y, most)
    held = choose(whole, places)
    if len(train) < len(material.train) or len(held) < len(whole):
        note(
            values,
            f"signal was looked for in {len(train)} training and {len(held)} held-out "
            "rows",
        )
    classes = len(material.dataset.class_names)
    y = np.concatenate([held.y, train.y])
    rounds = integer(settings, "permutations", PERMUTATIONS)
    found: list[Predicted] = []
    for name, make, x_train, x_held in _wanted(material, train.x, held.x):
        found.append(
            Predicted(
                name,
                np.concatenate(
                    [
                        probabilities(make, (x_train, train.y), x_held, classes),
                        out_of_fold(make, x_train, train.y, classes),
                    ]
                ),
                len(held),
            )
        )
        if largest_z(found[-1:], y)[0] > BEYOND_DOUBT:
            break
    p_value, scores = permutation_test(found, y, rounds)
    _report(values, found, scores, held.y, train.y)
    values["p_value"] = p_value
    values["rows"] = {"train": len(train), "held_out": len(held)}
    values["delivered"] = _delivered(material, places, held.y, rounds)
    return values


def _wanted(
    material: Material, x_train: Array, x_held: Array
) -> list[tuple[str, Any, Floats, Floats]]:
    features = described_by(material.dataset, x_train)
    reduced = features.reduced(x_train), features.reduced(x_held)
    classes = len(material.dataset.class_names)
    wanted = [(name, make, *reduced) for name, make in learners(classes).items()]
    if material.dataset.kind == "image":
        energy = edges(material.dataset, x_train), edges(material.dataset, x_held)
        wanted += [
            (f"{name} on gradients", make, *energy)
            for name, make in list(learners(classes).items())[:1]
        ]
    return wanted


def _weights(y: Labels) -> Floats:
    """Give each class the same weight in total: float64, (rows,), summing to 1."""
    counts = np.bincount(y)
    result: Floats = 1.0 / counts[y] / np.count_nonzero(counts)
    return result


def _statistics(found: list[Predicted], y: Labels) -> tuple[Floats, Floats]:
    """Return observed scores and, for permutation, the tables they are read from.

    Two scores a learner: balanced hits, and the mean probability of the true label.

    Returns:
        float64, (scores,) and (scores, rows, classes).
    """
    tables = []
    for one in found:
        hard = np.zeros_like(one.probabilities)
        hard[np.arange(len(y)), one.probabilities.argmax(1)] = 1.0
        tables += [hard, one.probabilities]
    stack = np.stack(tables)
    observed = (stack[:, np.arange(len(y)), y] * _weights(y)).sum(1)
    return observed, stack


def _null_moments(stack: Floats, y: Labels) -> tuple[Floats, Floats]:
    """Mean and deviation of each score under permuted labels, in closed form.

    The score is the mean over classes of the mean of a column over the rows that carry
    the label; a permutation draws those rows without replacement.
    """
    counts = np.bincount(y, minlength=stack.shape[2]).astype(np.float64)
    present = counts > 0
    table = stack[:, :, present] / np.count_nonzero(present)
    mean = table.mean(1).sum(1)
    # Hoeffding 1951: variance of sum_i a(i, label of i), a centred by rows and columns.
    a = table / counts[present]
    n = len(y)
    share = counts[present] / n
    rows = (a * share).sum(2, keepdims=True)
    columns = a.mean(1, keepdims=True)
    whole = (columns * share).sum(2, keepdims=True)
    centred = a - rows - columns + whole
    variance = (centred**2 * share).sum((1, 2)) * n / max(1, n - 1)
    return mean, np.sqrt(np.maximum(variance, 1e-18))


def largest_z(found: list[Predicted], y: Labels) -> tuple[float, Floats]:
    """Standardise the scores by their null; return the largest and all."""
    observed, stack = _statistics(found, y)
    mean, deviation = _null_moments(stack, y)
    z = (observed - mean) / deviation
    return float(z.max()), z


def permutation_test(
    found: list[Predicted], y: Labels, rounds: int
) -> tuple[float, Floats]:
    """Permute the labels for all learners at once.

    Held-out and training rows are permuted apart, since the classes' shares may differ.

    Returns:
        p-value of the largest standardised score, and the scores.
    """
    observed, stack = _statistics(found, y)
    rng = np.random.default_rng(0)
    weights, held = _weights(y), found[0].held_out
    rows = np.arange(len(y))
    null = np.empty((rounds, len(observed)))
    for draw in range(rounds):
        order = np.concatenate(
            [rng.permutation(held), held + rng.permutation(len(y) - held)]
        )
        labels = y[order]
        null[draw] = (stack[:, rows, labels] * weights[order]).sum(1)
    centre, spread = null.mean(0), np.maximum(null.std(0), 1e-9)
    z = (observed - centre) / spread
    at_least = int((((null - centre) / spread).max(1) >= z.max()).sum())
    return (1 + at_least) / (1 + rounds), z


def _report(
    values: Values, found: list[Predicted], z: Floats, held_y: Labels, train_y: Labels
) -> None:
    n = len(held_y)
    shown: dict[str, Values] = {}
    outside: dict[str, Flags] = {}
    inside: dict[str, Flags] = {}
    for place, one in enumerate(found):
        answers = one.probabilities.argmax(1)
        outside[one.name] = np.asarray(answers[:n] == held_y)
        inside[one.name] = np.asarray(answers[n:] == train_y)
        shown[one.name] = {
            "balanced_accuracy": balanced(outside[one.name], held_y),
            "out_of_fold": balanced(inside[one.name], train_y),
            "z": float(z[2 * place : 2 * place + 2].max()),
        }
    values["learners"] = dict(shown.items())
    best = max(outside, key=lambda name: balanced(outside[name], held_y))
    values["best"] = best
    values |= _beside_chance(outside[best], held_y)
    best = max(inside, key=lambda name: balanced(inside[name], train_y))
    values["out_of_fold"] = _beside_chance(inside[best], train_y)


def _beside_chance(hits: Flags, y: Labels) -> Values:
    return {
        "balanced_accuracy": balanced_accuracy(hits, y).model_dump(),
        "chance": 1.0 / max(1, len(np.unique(y))),
    }


def _delivered(material: Material, places: Labels, y: Labels, rounds: int) -> Values:
    predicted = predictions(material, held_out_answers(material)[places])
    table = np.zeros((len(y), len(material.dataset.class_names)))
    table[np.arange(len(y)), predicted] = 1.0
    p_value, _ = permutation_test([Predicted("delivered", table, len(y))], y, rounds)
    return {"p_value": p_value, "balanced_accuracy": balanced(predicted == y, y)}
