"""One clean and one spoiled program for each cause, from the benchmark's cases.

All stand on data that scikit-learn ships or that is generated, so that nothing has to
be installed first.
"""

from benchmarks.faults.case_list import every_case
from benchmarks.faults.program import Case
from service.contract.causes import Cause

# Chosen for being quick to audit and plain to see.
SPOILED: dict[Cause, str] = {
    Cause.INSUFFICIENT_DATA: "seeded/insufficient_data/digit_table_60",
    Cause.CLASS_IMBALANCE: "seeded/class_imbalance/breast_cancer_50",
    Cause.LABEL_NOISE: "seeded/label_noise/breast_cancer_noise_20",
    Cause.CORRUPTED_INPUTS: "seeded/corrupted_inputs/breast_cancer_missing_10",
    Cause.UNSCALED_INPUTS: "seeded/unscaled_inputs/wine_raw",
    Cause.INSUFFICIENT_CAPACITY: "seeded/insufficient_capacity/digit_table_2",
    Cause.EXCESS_CAPACITY: "seeded/excess_capacity/breast_cancer_2_layers",
    Cause.UNSUITABLE_ACTIVATION: "open/so_66407123",
    Cause.UNSUITABLE_LAYERS: "seeded/unsuitable_layers/motifs_dense",
    Cause.LEARNING_RATE_TOO_HIGH: (
        "seeded/learning_rate_too_high/digits_conv_adam_tenth"
    ),
    Cause.LEARNING_RATE_TOO_LOW: "seeded/learning_rate_too_low/digit_table_adam",
    Cause.INSUFFICIENT_TRAINING: "seeded/insufficient_training/digit_table_1",
    Cause.UNSUITABLE_LOSS: "open/so_68101077",
    Cause.UNSUITABLE_OPTIMIZER: "seeded/unsuitable_optimizer/digit_table_eps",
    Cause.INSUFFICIENT_REGULARIZATION: (
        "seeded/insufficient_regularization/breast_cancer_noisy"
    ),
    Cause.EXCESS_REGULARIZATION: "seeded/excess_regularization/digit_table_dropout",
    Cause.NO_LEARNABLE_SIGNAL: "seeded/no_learnable_signal/wine_noise_features",
    Cause.LABEL_ORDER_MISMATCH: "seeded/label_order_mismatch/wine_swap",
    Cause.PREPROCESSING_MISMATCH: (
        "seeded/preprocessing_mismatch/digit_table_times_0.01"
    ),
    Cause.TRAINING_MODE_LEFT_ON: "seeded/training_mode_left_on/digit_table_0.6",
    Cause.SPLIT_LEAKAGE: "seeded/split_leakage/breast_cancer_60",
    Cause.DISTRIBUTION_SHIFT: "seeded/distribution_shift/digit_table_drift_0.7",
    Cause.DEGENERATE_WEIGHTS: "seeded/degenerate_weights/breast_cancer_forgotten_all",
}
# Learning few wrong labels by heart takes the labels, too much capacity and too little
# regularisation; mending any of them is enough, and the labels come first.
ANY_OF_SEVERAL = {Cause.EXCESS_CAPACITY, Cause.INSUFFICIENT_REGULARIZATION}
CLEAN = (
    "controls/breast_cancer_plain",
    "controls/digit_table_plain",
    "controls/digits_dense",
    "controls/iris_plain",
    "controls/wine_plain",
    "controls/wine_linear",
)
_CASES = {case.name: case for case in every_case()}


def case_named(name: str) -> Case:
    """Find a case."""
    return _CASES[name]
