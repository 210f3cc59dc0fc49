"""Reference learners: simple, different from each other, on cheap features."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from worker.engine.probes.material import Floats, Labels

FOLDS = 4
MANY_CLASSES = 100  # beyond, learners that train one model a class are left out


def linear() -> Any:  # noqa: ANN401 - scikit-learn has no types
    """Logistic regression on standardised columns, balanced."""
    return make_pipeline(
        StandardScaler(),
        LogisticRegression(C=0.1, max_iter=200, class_weight="balanced"),
    )


def trees() -> Any:  # noqa: ANN401
    """Randomised trees: interactions, thresholds, parities of few features."""
    return ExtraTreesClassifier(
        150,
        min_samples_leaf=3,
        max_features=0.5,
        class_weight="balanced",
        random_state=0,
    )


def out_of_bag(columns: Floats, y: Labels) -> Floats:
    """Score rows by those of 80 randomised trees that did not learn from them.

    Args:
        columns: float64, (rows, columns).
        y: int64, (rows,), zeros and ones, at least two of each.

    Returns:
        float64, (rows,): probability of a one.
    """
    forest = ExtraTreesClassifier(
        80,
        min_samples_leaf=5,
        class_weight="balanced",
        bootstrap=True,
        oob_score=True,
        random_state=0,
    )
    forest.fit(columns, y)
    scores: Floats = np.nan_to_num(forest.oob_decision_function_[:, 1], nan=0.5)
    return scores


def neighbours() -> Any:  # noqa: ANN401
    """Nearest neighbours on standardised columns."""
    return make_pipeline(StandardScaler(), KNeighborsClassifier(15, weights="distance"))


def centroids() -> Any:  # noqa: ANN401
    """Nearest class mean, for very many classes."""
    return make_pipeline(StandardScaler(), NearestCentroid())


def learners(classes: int) -> dict[str, Callable[[], Any]]:
    """List the learners for this many classes, cheapest first."""
    if classes > MANY_CLASSES:
        return {"nearest centroid": centroids, "nearest neighbours": neighbours}
    return {
        "logistic regression": linear,
        "nearest neighbours": neighbours,
        "randomised trees": trees,
    }


def probabilities(
    make: Callable[[], Any],
    train: tuple[Floats, Labels],
    x: Floats,
    classes: int,
) -> Floats:
    """Fit a learner and return its probabilities: float64, (rows, classes)."""
    columns, y = train
    result = np.zeros((len(x), classes))
    present = np.unique(y)
    if len(present) < 2:  # noqa: PLR2004 - nothing to learn
        result[:, present] = 1.0
        return result
    learner = make()
    with warnings.catch_warnings():
        # A reference need not converge fully to show that there is signal.
        warnings.simplefilter("ignore", ConvergenceWarning)
        least = min(15, len(columns))
        if "kneighborsclassifier" in getattr(learner, "named_steps", {}):
            learner.set_params(kneighborsclassifier__n_neighbors=least)
        learner.fit(columns, y)
    if hasattr(learner, "predict_proba"):
        result[:, learner.classes_] = learner.predict_proba(x)
    else:
        result[np.arange(len(x)), learner.predict(x)] = 1.0
    return result


def out_of_fold(make: Callable[[], Any], x: Floats, y: Labels, classes: int) -> Floats:
    """Score rows by a learner that did not learn from them: (rows, classes)."""
    smallest = int(np.bincount(y)[np.unique(y)].min())
    folds = max(2, min(FOLDS, smallest))
    result = np.zeros((len(y), classes))
    rng = np.random.default_rng(0)
    if smallest < 2:  # noqa: PLR2004 - a class of one row cannot be in two folds
        place = rng.permutation(len(y)) % folds
    else:
        place = np.zeros(len(y), dtype=np.int64)
        splitter = StratifiedKFold(folds, shuffle=True, random_state=0)
        for fold, (_, rows) in enumerate(splitter.split(x, y)):
            place[rows] = fold
    for fold in range(folds):
        here = place == fold
        result[here] = probabilities(make, (x[~here], y[~here]), x[here], classes)
    return result
