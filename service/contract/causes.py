"""The catalogue of causes: what an audit can name, and what it says of each."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class Group(StrEnum):
    """The four places where a fault can sit."""

    DATA = "data"
    ARCHITECTURE = "architecture"
    TRAINING = "training"
    DEPLOYMENT = "deployment"


class Cause(StrEnum):
    """Every cause of the catalogue; the value is its name in URLs and JSON."""

    INSUFFICIENT_DATA = "insufficient_data"
    CLASS_IMBALANCE = "class_imbalance"
    LABEL_NOISE = "label_noise"
    CORRUPTED_INPUTS = "corrupted_inputs"
    UNSCALED_INPUTS = "unscaled_inputs"
    INSUFFICIENT_CAPACITY = "insufficient_capacity"
    EXCESS_CAPACITY = "excess_capacity"
    UNSUITABLE_ACTIVATION = "unsuitable_activation"
    UNSUITABLE_LAYERS = "unsuitable_layers"
    LEARNING_RATE_TOO_HIGH = "learning_rate_too_high"
    LEARNING_RATE_TOO_LOW = "learning_rate_too_low"
    INSUFFICIENT_TRAINING = "insufficient_training"
    UNSUITABLE_LOSS = "unsuitable_loss"
    UNSUITABLE_OPTIMIZER = "unsuitable_optimizer"
    INSUFFICIENT_REGULARIZATION = "insufficient_regularization"
    EXCESS_REGULARIZATION = "excess_regularization"
    NO_LEARNABLE_SIGNAL = "no_learnable_signal"
    LABEL_ORDER_MISMATCH = "label_order_mismatch"
    PREPROCESSING_MISMATCH = "preprocessing_mismatch"
    TRAINING_MODE_LEFT_ON = "training_mode_left_on"
    SPLIT_LEAKAGE = "split_leakage"
    DISTRIBUTION_SHIFT = "distribution_shift"
    DEGENERATE_WEIGHTS = "degenerate_weights"


class CatalogueEntry(BaseModel):
    """One row of the catalogue, as `GET /v1/causes` returns it."""

    model_config = ConfigDict(frozen=True)

    cause: Cause
    group: Group
    says: str = Field(description="What a `found` verdict means, in one sentence.")
    needs: tuple[str, ...] = Field(
        default=(), description="Recipe fields without which it is not applicable."
    )
    tested_by: str = Field(description="The experiment that decides.")
    recommends: str = Field(description="What to do about it.")
    docs: str = Field(description="Where its page of documentation is served.")


def _entry(
    cause: Cause,
    group: Group,
    says: str,
    tested_by: str,
    recommends: str,
    *needs: str,
) -> CatalogueEntry:
    return CatalogueEntry(
        cause=cause,
        group=group,
        says=says,
        needs=needs,
        tested_by=tested_by,
        recommends=recommends,
        docs=f"/docs/causes/{cause.value}",
    )


CATALOGUE: tuple[CatalogueEntry, ...] = (
    _entry(
        Cause.INSUFFICIENT_DATA,
        Group.DATA,
        "More samples like these would still lower the error.",
        "Retraining on nested subsets and extrapolating the learning curve to twice "
        "the data.",
        "Collect more labelled samples, first of the classes with the lowest recall.",
    ),
    _entry(
        Cause.CLASS_IMBALANCE,
        Group.DATA,
        "Minority classes are given up for the majority.",
        "Retraining with a balanced sampler and with class weights.",
        "Draw balanced batches or weight the loss by class.",
    ),
    _entry(
        Cause.LABEL_NOISE,
        Group.DATA,
        "A measurable share of the labels is wrong.",
        "Out-of-fold estimate of the wrong labels, then retraining without the "
        "suspects against retraining without as many random rows.",
        "Review the listed suspects, correct or drop them.",
    ),
    _entry(
        Cause.CORRUPTED_INPUTS,
        Group.DATA,
        "Artifacts, erroneous or missing values stand in the features.",
        "Retraining on imputed and clipped inputs, and without the affected rows.",
        "Repair or drop the listed values at their source.",
    ),
    _entry(
        Cause.UNSCALED_INPUTS,
        Group.DATA,
        "The features are not on the scale that the training needs.",
        "Retraining on standardised inputs.",
        "Standardise each feature with the training data's mean and deviation.",
    ),
    _entry(
        Cause.INSUFFICIENT_CAPACITY,
        Group.ARCHITECTURE,
        "The model cannot represent the relation, however it is trained.",
        "Retraining two to eight times wider, the widest also at a third of the "
        "learning rate; without hidden layers, a dense reference.",
        "Widen or deepen the network.",
    ),
    _entry(
        Cause.EXCESS_CAPACITY,
        Group.ARCHITECTURE,
        "A smaller model generalises better; this one memorises.",
        "Retraining at a quarter, a half and a sixteenth of the width.",
        "Shrink the network.",
    ),
    _entry(
        Cause.UNSUITABLE_ACTIVATION,
        Group.ARCHITECTURE,
        "Saturating, dying or missing activations hold the training back.",
        "Swapping the activations in the graph and retraining.",
        "Use the activation that the experiment names.",
    ),
    _entry(
        Cause.UNSUITABLE_LAYERS,
        Group.ARCHITECTURE,
        "The types of the layers do not fit the data.",
        "Training a convolutional reference of about equal size, for token ids a "
        "recurrent one, with and without the order of the inputs destroyed.",
        "Use layers that see the structure of the data.",
    ),
    _entry(
        Cause.LEARNING_RATE_TOO_HIGH,
        Group.TRAINING,
        "The learning rate makes the training oscillate or diverge.",
        "One sweep over learning rates from a thousandth to a thousandfold, within "
        "what the optimiser bears and the budget allows.",
        "Lower the learning rate to the value that the sweep names.",
        "optimizer.lr",
    ),
    _entry(
        Cause.LEARNING_RATE_TOO_LOW,
        Group.TRAINING,
        "The learning rate moves the weights too little in the time given.",
        "One sweep over learning rates from a thousandth to a thousandfold, within "
        "what the optimiser bears and the budget allows.",
        "Raise the learning rate to the value that the sweep names.",
        "optimizer.lr",
    ),
    _entry(
        Cause.INSUFFICIENT_TRAINING,
        Group.TRAINING,
        "The training was stopped while the model was still improving.",
        "Retraining two and four times longer, and longer still where these make few "
        "optimiser steps.",
        "Train for more epochs.",
        "epochs",
    ),
    _entry(
        Cause.UNSUITABLE_LOSS,
        Group.TRAINING,
        "The loss does not fit the task or the outputs.",
        "Retraining with the loss that fits the outputs, and without very uneven "
        "class weights.",
        "Use the loss that the experiment names.",
        "loss.name",
    ),
    _entry(
        Cause.UNSUITABLE_OPTIMIZER,
        Group.TRAINING,
        "Another optimiser does better than the given one at its best rate, or another "
        "batch size or order of the rows does.",
        "Retraining with other optimisers at customary rates against the given one at "
        "its best, and with other batch sizes and a random order of the rows.",
        "Use the optimiser that the experiment names.",
        "optimizer.name",
    ),
    _entry(
        Cause.INSUFFICIENT_REGULARIZATION,
        Group.TRAINING,
        "The model overfits, and regularisation would hold that down.",
        "Retraining with weight decay, dropout, augmented pictures and fewer epochs.",
        "Add the regularisation that the experiment names.",
    ),
    _entry(
        Cause.EXCESS_REGULARIZATION,
        Group.TRAINING,
        "Regularisation is so strong that the model underfits.",
        "Retraining without weight decay, dropout and label smoothing: each, then all.",
        "Remove the regularisation that the experiment names, or weaken it.",
    ),
    _entry(
        Cause.NO_LEARNABLE_SIGNAL,
        Group.DEPLOYMENT,
        "The features do not predict the labels better than chance.",
        "A label-permutation test over reference learners.",
        "Check how the features and the labels were joined; collect features that "
        "carry information on the label.",
    ),
    _entry(
        Cause.LABEL_ORDER_MISMATCH,
        Group.DEPLOYMENT,
        "The model's outputs are in another order than the dataset's labels.",
        "The best assignment of outputs to labels, scored on held-out data.",
        "Reorder the outputs or the class list as the finding says.",
    ),
    _entry(
        Cause.PREPROCESSING_MISMATCH,
        Group.DEPLOYMENT,
        "The data reaches the model in another form than it was trained on.",
        "Scoring the delivered model on rescaled, reordered and transposed inputs.",
        "Apply the named transformation before the model.",
    ),
    _entry(
        Cause.TRAINING_MODE_LEFT_ON,
        Group.DEPLOYMENT,
        "Dropout or batch statistics are active at inference.",
        "The same inputs twice and in other batches; the graph read for baked-in "
        "training flags.",
        "Call `model.eval()` before exporting.",
    ),
    _entry(
        Cause.SPLIT_LEAKAGE,
        Group.DEPLOYMENT,
        "Held-out samples also stand in the training data.",
        "Counting equal and near-equal samples; scoring with and without them.",
        "Remove the listed samples from one of the splits.",
    ),
    _entry(
        Cause.DISTRIBUTION_SHIFT,
        Group.DEPLOYMENT,
        "The held-out data is drawn from elsewhere than the training data.",
        "A classifier two-sample test between training and held-out data.",
        "Train on data like those that the model meets.",
    ),
    _entry(
        Cause.DEGENERATE_WEIGHTS,
        Group.DEPLOYMENT,
        "Parameters are non-finite, dead or were never trained.",
        "Reading the weights; the delivered model against a retrained one.",
        "Retrain, and export the trained weights.",
    ),
)

BY_CAUSE: dict[Cause, CatalogueEntry] = {entry.cause: entry for entry in CATALOGUE}
