"""Runs in an environment of its own, where deepchecks can be imported.

Reads an `.npz` file (`x_train`, `y_train`, `x_val`, `y_val`), prints one JSON object:
for each check with a condition that is not met, the condition's text.
"""

import json
import sys
import warnings
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-not-found, import-untyped, unused-ignore]

warnings.simplefilter("ignore")

from deepchecks.tabular import Dataset  # type: ignore[import-not-found] # noqa: E402
from deepchecks.tabular.checks import (  # type: ignore[import-not-found] # noqa: E402
    ClassImbalance,
    OutlierSampleDetection,
    PercentOfNulls,
)
from deepchecks.tabular.suites import (  # type: ignore[import-not-found] # noqa: E402
    data_integrity,
    train_test_validation,
)

# Checks without a condition of their own get the one their documentation shows.
NULLS = 0.05  # share of a column
OUTLIERS = 0.05  # share of samples
# Its condition on class imbalance warns where classes are balanced, so that the ratio
# that its documentation names is applied to what the check reports.
IMBALANCE = 0.1  # rows of the rarest class over those of the largest
# Those that look at how well features predict, or compare features, speak of no fault.
LEFT_OUT = ("FeatureLabelCorrelation", "FeatureFeatureCorrelation")


def _frame(x: np.ndarray, y: np.ndarray) -> object:
    flat = x.reshape(len(x), -1).astype(np.float64)
    frame = pd.DataFrame(flat, columns=[f"f{k}" for k in range(flat.shape[1])])
    frame["label"] = y
    return Dataset(frame, label="label", cat_features=[], label_type="multiclass")


def _suites() -> tuple[Any, Any]:
    alone, against = data_integrity(), train_test_validation()
    for suite in (alone, against):
        for index, check in [*suite.checks.items()]:
            if type(check).__name__.startswith(LEFT_OUT):
                suite.remove(index)
    alone.add(PercentOfNulls().add_condition_percent_of_nulls_not_greater_than(NULLS))
    outliers = OutlierSampleDetection(n_samples=1000)
    alone.add(outliers.add_condition_outlier_ratio_less_or_equal(OUTLIERS))
    return alone, against


def main(path: str) -> None:
    """Run what deepchecks offers for data alone."""
    with np.load(path) as arrays:
        train = _frame(arrays["x_train"], arrays["y_train"])
        val = _frame(arrays["x_val"], arrays["y_val"])
    alone, against = _suites()
    failed: dict[str, str] = {}
    crashed: dict[str, str] = {}
    for result in (*alone.run(train).results, *against.run(train, val).results):
        name = type(result.check).__name__
        if hasattr(result, "exception"):
            crashed[name] = str(result.exception)[:200]
            continue
        for condition in result.conditions_results:
            if not condition.is_pass():
                failed[name] = f"{condition.category.value}: {condition.details}"[:300]
    shares = ClassImbalance().run(train).value.values()
    if min(shares) < IMBALANCE * max(shares):
        failed["ClassImbalance"] = f"ratio {min(shares) / max(shares):.3f}"
    sys.stdout.write(json.dumps({"failed": failed, "crashed": crashed}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
