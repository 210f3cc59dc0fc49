"""Cleanlab alone on label noise: the rate it reports, and how it ranks the rows.

Probabilities are out of fold, from a standardised logistic regression, as its
documentation advises. Truth is the program before labels were replaced.
"""

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

TOLERATED = 0.05  # share of flagged labels from which a user would act


def cleanlab_row(case: Case) -> dict[str, Any]:
    """Run cleanlab on a case's training rows.

    Raises:
        SetMissingError: the package that carries its data is not installed.
    """
    clean, _ = made(replace(case.sketch, spoils=(), delivery=()))
    given, _ = made(case.sketch)
    x = np.nan_to_num(given.train.x.reshape(len(given.train.x), -1))
    y = given.train.y
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    folds = min(5, int(np.bincount(y).min()))
    probabilities = cross_val_predict(model, x, y, cv=folds, method="predict_proba")
    flagged = find_label_issues(y, probabilities, n_jobs=1)
    quality = get_label_quality_scores(y, probabilities)
    row: dict[str, Any] = {
        "case": case.name,
        "planted": "label_noise" in case.causes,
        "flagged": round(float(np.mean(flagged)), 4),
        "found": bool(np.mean(flagged) > TOLERATED),
    }
    if len(clean.train.y) == len(y):
        wrong = clean.train.y != y
        row["wrong"] = round(float(wrong.mean()), 4)
        if wrong.any():
            row["auroc"] = round(float(roc_auc_score(wrong, -quality)), 4)
    return row
