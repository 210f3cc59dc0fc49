"""Scores of one set of weights on one split, with intervals."""

import numpy as np
import torch
from torch import Tensor

from service.contract.report import ClassScore, Interval, Scores
from worker.engine.probes.material import (
    AnyHead,
    Flags,
    Floats,
    Labels,
    Values,
    finite,
)
from worker.engine.stats.calibration import calibration, macro_f1
from worker.engine.stats.intervals import (
    balanced_accuracy,
    mean_loss,
    wilson,
)

MOST_CONFUSED = 30
MOST_CLASSES = 1000  # classes with a line of their own in `per_class`


def losses(head: AnyHead, raw: Tensor, y: Labels) -> Floats:
    """Return the negative log-likelihood of each label: float64, (rows,), nats."""
    log_probabilities = head.log_probabilities(raw).double().cpu()
    picked = log_probabilities.gather(1, torch.from_numpy(y.copy())[:, None])[:, 0]
    return np.asarray(-picked.numpy(), dtype=np.float64)


def correct(head: AnyHead, raw: Tensor, y: Labels) -> Flags:
    """Return which rows are hit: bool, (rows,)."""
    predicted = np.asarray(head.predict(raw).cpu().numpy(), dtype=np.int64)
    return np.asarray(predicted == y, dtype=np.bool_)


def sureness(head: AnyHead, raw: Tensor, hits: Flags) -> Values:
    """How often outputs are right, and how sure: `accuracy`, mean `confidence`."""
    confidence = head.log_probabilities(raw).double().exp().amax(1)
    return {
        "accuracy": float(hits.mean()),
        "confidence": finite(float(confidence.mean())),
    }


def score(
    head: AnyHead,
    raw: Tensor,
    y: Labels,
    *,
    class_names: tuple[str, ...],
    split: str,
    seed: int = 0,
) -> Scores:
    """Score outputs against labels.

    Args:
        head: how outputs become classes.
        raw: what the network returned, (rows, …).
        y: int64, (rows,).
        class_names: one a class.
        split: name of the split, for the report.
        seed: governs the resampling of macro F1 and calibration error.
    """
    if len(y) == 0:
        return _nothing(split)
    predicted = np.asarray(head.predict(raw).cpu().numpy(), dtype=np.int64)
    hit = np.asarray(predicted == y, dtype=np.bool_)
    probabilities = head.log_probabilities(raw).double().exp().cpu().numpy()
    confidence = probabilities[np.arange(len(y)), predicted]
    reliability = calibration(
        np.clip(np.nan_to_num(confidence), 0.0, 1.0), hit, seed=seed
    )
    matrix, names = confusion(predicted, y, class_names)
    return Scores(
        split=split,
        n=len(y),
        accuracy=wilson(int(hit.sum()), len(y)),
        balanced_accuracy=balanced_accuracy(hit, y),
        macro_f1=macro_f1(predicted, y, seed=seed),
        log_loss=mean_loss(losses(head, raw, y)),
        ece=reliability.error,
        per_class=per_class(predicted, y, class_names),
        confusion=matrix,
        confusion_classes=names,
        calibration=reliability.bins,
    )


def per_class(
    predicted: Labels, y: Labels, class_names: tuple[str, ...]
) -> list[ClassScore]:
    """Give recall and precision of each class, at most `MOST_CLASSES` of them."""
    classes = len(class_names)
    rows = np.bincount(y, minlength=classes)
    answers = np.bincount(predicted, minlength=classes)
    hits = np.bincount(y[predicted == y], minlength=classes)
    return [
        ClassScore(
            name=name,
            n=int(rows[k]),
            recall=wilson(int(hits[k]), int(rows[k])),
            precision=wilson(int(hits[k]), int(answers[k])),
        )
        for k, name in enumerate(class_names[:MOST_CLASSES])
    ]


def confusion(
    predicted: Labels, y: Labels, class_names: tuple[str, ...]
) -> tuple[list[list[int]], list[str]]:
    """Count answers by label; beyond 30 classes the least confused are pooled.

    Returns:
        Rows by given label and columns by answer, and the names of both.
    """
    classes = len(class_names)
    group = np.arange(classes)
    names = list(class_names)
    if classes > MOST_CONFUSED:
        wrong = predicted != y
        errors = np.bincount(y[wrong], minlength=classes)
        errors += np.bincount(predicted[wrong], minlength=classes)
        shown = np.sort(np.argsort(-errors, kind="stable")[:MOST_CONFUSED])
        group = np.full(classes, MOST_CONFUSED)
        group[shown] = np.arange(MOST_CONFUSED)
        names = [class_names[k] for k in shown] + ["other"]
    size = len(names)
    cells = np.bincount(group[y] * size + group[predicted], minlength=size * size)
    return cells.reshape(size, size).tolist(), names


def recalls(predicted: Labels, y: Labels, classes: int) -> list[float | None]:
    """Return the recall of each class, None where it does not occur."""
    rows = np.bincount(y, minlength=classes)
    hits = np.bincount(y[predicted == y], minlength=classes)
    return [float(hits[k] / rows[k]) if rows[k] else None for k in range(classes)]


def _nothing(split: str) -> Scores:
    unknown = Interval(value=None, low=None, high=None)
    return Scores(
        split=split,
        n=0,
        accuracy=unknown,
        balanced_accuracy=unknown,
        macro_f1=unknown,
        log_loss=unknown,
        ece=unknown,
    )
