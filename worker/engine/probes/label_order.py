"""Whether another assignment of outputs to labels fits better.

The assignment is found on one half of `decide` and judged on the other, both ways.
Source: Kuhn 1955 (assignment problem), as scipy's `linear_sum_assignment`.

Values:
    permutation: class that each output stands for, found on all rows; None where the
        given order is the best.
    moved: number of outputs that stand for another class.
    gain: paired difference of balanced accuracy, with `low`, `high`, `standard_error`.
    stable: whether both halves found the same assignment.
    before, after: balanced accuracy.
    train_before, train_after: on training rows, as given and in the order found on
        held-out ones; None where that is the order given.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

from worker.engine.probes.inputs_as_trained import (
    answers,
    predictions,
    training_answers,
    training_sample,
)
from worker.engine.probes.material import (
    Flags,
    Labels,
    Material,
    Values,
    choose,
    integer,
    note,
    sample_places,
)
from worker.engine.probes.scores import sureness
from worker.engine.probes.selection import (
    as_values,
    balanced,
    chosen_gain,
    cross_fitted,
)

MOST_ROWS = 20_000
MOST_CLASSES = 2_000


def measure(material: Material, settings: Values) -> Values:
    """Find the best assignment; settings: `rows`."""
    classes = len(material.dataset.class_names)
    values: Values = {"notes": [], "permutation": None, "moved": 0, "gain": None}
    if classes > MOST_CLASSES:
        note(values, f"label order not looked at beyond {MOST_CLASSES} classes")
        return values
    most = integer(settings, "rows", MOST_ROWS)
    places = sample_places(material.decide.y, most)
    split = choose(material.decide, places)
    predicted = predictions(material, answers(material, "decide")[places])
    y = split.y

    def assign(rows: Flags) -> Labels:
        return assignment(predicted[rows], y[rows], classes)

    def judge(order: Labels, rows: Flags) -> Flags:
        return np.asarray(order[predicted[rows]] == y[rows], dtype=np.bool_)

    after, (first, second) = cross_fitted(y, assign, judge)
    before = np.asarray(predicted == y, dtype=np.bool_)
    whole = assignment(predicted, y, classes)
    moved = int((whole != np.arange(classes)).sum())
    values["permutation"] = whole.tolist() if moved else None
    values["moved"] = moved
    stable = bool((first == second).all())
    values["gain"] = as_values(chosen_gain(before, after, y, agreed=stable))
    values["stable"] = stable
    values["before"] = balanced(before, y)
    values["after"] = balanced(after, y)
    values["train_before"] = values["train_after"] = values["sure"] = None
    if moved:
        y_train = training_sample(material).y
        raw = training_answers(material)
        seen = predictions(material, raw)
        hits = whole[seen] == y_train
        values["sure"] = sureness(material.head, raw, hits)
        values["train_before"] = balanced(seen == y_train, y_train)
        values["train_after"] = balanced(hits, y_train)
    return values


def assignment(predicted: Labels, y: Labels, classes: int) -> Labels:
    """Assign a class to each output so that balanced accuracy is highest.

    Outputs that no row speaks for keep their place where they can.

    Returns:
        int64, (classes,): class of each output.
    """
    cells = np.bincount(predicted * classes + y, minlength=classes * classes)
    matrix = cells.reshape(classes, classes).astype(np.float64)
    matrix /= np.maximum(np.bincount(y, minlength=classes), 1)
    # Ties go to the given order; far below what one row of one class can weigh.
    matrix += np.eye(classes) * 1e-9
    _, order = linear_sum_assignment(matrix, maximize=True)
    return np.asarray(order, dtype=np.int64)
