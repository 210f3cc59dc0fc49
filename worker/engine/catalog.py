"""The explicit tuple of checks; a new check is one line here."""

from worker.engine.check import Check
from worker.engine.checks.class_imbalance import ClassImbalance
from worker.engine.checks.corrupted_inputs import CorruptedInputs
from worker.engine.checks.degenerate_weights import DegenerateWeights
from worker.engine.checks.distribution_shift import DistributionShift
from worker.engine.checks.excess_capacity import ExcessCapacity
from worker.engine.checks.excess_regularization import ExcessRegularization
from worker.engine.checks.insufficient_capacity import InsufficientCapacity
from worker.engine.checks.insufficient_data import InsufficientData
from worker.engine.checks.insufficient_regularization import (
    InsufficientRegularization,
)
from worker.engine.checks.insufficient_training import InsufficientTraining
from worker.engine.checks.label_noise import LabelNoise
from worker.engine.checks.label_order_mismatch import LabelOrderMismatch
from worker.engine.checks.learning_rate_too_high import LearningRateTooHigh
from worker.engine.checks.learning_rate_too_low import LearningRateTooLow
from worker.engine.checks.no_learnable_signal import NoLearnableSignal
from worker.engine.checks.preprocessing_mismatch import PreprocessingMismatch
from worker.engine.checks.split_leakage import SplitLeakage
from worker.engine.checks.training_mode_left_on import TrainingModeLeftOn
from worker.engine.checks.unscaled_inputs import UnscaledInputs
from worker.engine.checks.unsuitable_activation import UnsuitableActivation
from worker.engine.checks.unsuitable_layers import UnsuitableLayers
from worker.engine.checks.unsuitable_loss import UnsuitableLoss
from worker.engine.checks.unsuitable_optimizer import UnsuitableOptimizer

CATALOG: tuple[Check, ...] = (
    InsufficientData(),
    ClassImbalance(),
    LabelNoise(),
    CorruptedInputs(),
    UnscaledInputs(),
    InsufficientCapacity(),
    ExcessCapacity(),
    UnsuitableActivation(),
    UnsuitableLayers(),
    LearningRateTooHigh(),
    LearningRateTooLow(),
    InsufficientTraining(),
    UnsuitableLoss(),
    UnsuitableOptimizer(),
    InsufficientRegularization(),
    ExcessRegularization(),
    NoLearnableSignal(),
    LabelOrderMismatch(),
    PreprocessingMismatch(),
    TrainingModeLeftOn(),
    SplitLeakage(),
    DistributionShift(),
    DegenerateWeights(),
)
