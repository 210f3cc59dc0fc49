"""Cleanlab alone on label noise: the rate it reports, and how it ranks the rows.

Probabilities are out of fold, from a standardised logistic regression, as its
documentation advises. Truth is the program before labels were replaced.
"""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.faults.program import Case
from benchmarks.faults.referee import made
from benchmarks.faults.set_files import Floats, Labels

TOLERATED = 0.05  # share of flagged labels from which a user would act
LARGEST = 1e6  # what stands for an infinite input


Judged = tuple[np.ndarray, float]


def flagged_by_cleanlab(y: Labels, shown: np.ndarray) -> Judged:
    """Let cleanlab judge labels as it does by default.

    Args:
        y: (rows,).
        shown: (rows, classes), probabilities out of fold.

    Returns:
        Suspicion, float64, (rows,), and the share of labels that it flags.
    """
    flagged = find_label_issues(y, shown, n_jobs=1)
    return -get_label_quality_scores(y, shown), float(np.mean(flagged))


def judged_by_cleanlab(x: Floats, y: Labels) -> dict[str, Judged]:
    """Judge labels by cleanlab, and by the regression that it is given, alone.

    Args:
        x: (rows, *sample shape).
        y: (rows,).

    Returns:
        For `cleanlab` and `regression`: suspicion, float64, (rows,), and the share of
        labels that are flagged (by the regression: contradicted).
    """
    flat = x.reshape(len(x), -1)
    flat = np.nan_to_num(flat, posinf=LARGEST, neginf=-LARGEST)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    _, y = np.unique(y, return_inverse=True)  # a class may have no row left
    folds = min(5, int(np.bincount(y).min()))
    shown = cross_val_predict(model, flat, y, cv=folds, method="predict_proba")
    given = shown[np.arange(len(y)), y]
    return {
        "cleanlab": flagged_by_cleanlab(y, shown),
        "regression": (-given, float(np.mean(shown.argmax(1) != y))),
    }


def cleanlab_row(case: Case) -> dict[str, Any]:
    """Run cleanlab on a case's training rows.

    Raises:
        SetMissingError: the package that carries its data is not installed.
    """
    clean, _ = made(replace(case.sketch, spoils=(), delivery=()))
    given, _ = made(case.sketch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # regression that has not converged
        suspicion, rate = judged_by_cleanlab(given.train.x, given.train.y)["cleanlab"]
    row: dict[str, Any] = {
        "case": case.name,
        "half": case.half,
        "planted": "label_noise" in case.causes,
        "flagged": round(rate, 4),
        "found": rate > TOLERATED,
    }
    if len(clean.train.y) == len(given.train.y):
        wrong = clean.train.y != given.train.y
        row["wrong"] = round(float(wrong.mean()), 4)
        if wrong.any():
            row["auroc"] = round(float(roc_auc_score(wrong, suspicion)), 4)
    return row
