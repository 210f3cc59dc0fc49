"""The recipe: how a model was trained, as given and as completed by assumptions."""

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

OptimizerName = Literal[
    "sgd", "adam", "adamw", "nadam", "rmsprop", "adagrad", "adadelta"
]
LossName = Literal[
    "cross_entropy", "nll", "bce", "bce_with_logits", "mse", "mae", "hinge", "focal"
]
SamplerName = Literal["shuffle", "balanced", "sequential"]
ROUNDING = 1e-3  # of a probability that was written with a few digits


def _number(value: object) -> object:
    """Refuse what only can be read as a number: texts, and true and false."""
    if isinstance(value, str | bytes | bool):
        reason = "expected a number"
        raise ValueError(reason)  # noqa: TRY004 - what validators are to raise
    return value


def _any_above_zero(values: list[float]) -> list[float]:
    """Refuse weights under which no row counts."""
    if not any(values):
        reason = "expected at least one weight above 0"
        raise ValueError(reason)
    return values


def _transitions(rows: list[list[float]]) -> list[list[float]]:
    """Refuse what are not the chances of each label, given each true class."""
    if any(len(row) != len(rows) for row in rows):
        reason = f"expected {len(rows)} rows of {len(rows)} values, one a class"
        raise ValueError(reason)
    if any(abs(sum(row) - 1) > ROUNDING * len(row) for row in rows):
        reason = "expected rows that sum to 1"
        raise ValueError(reason)
    return rows


Finite = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Whole = Annotated[int, BeforeValidator(_number)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Optimizer(_Strict):
    """The optimiser and its settings."""

    name: OptimizerName | None = Field(default=None, description="Default: `adam`.")
    lr: Annotated[Finite, Field(gt=0, le=1e6)] | None = Field(
        default=None, description="Learning rate."
    )
    momentum: Annotated[Finite, Field(ge=0, lt=1)] | None = Field(
        default=None,
        description="Momentum of sgd and rmsprop; beta1 of adam, adamw and nadam.",
    )
    weight_decay: Annotated[Finite, Field(ge=0, le=1e3)] | None = Field(
        default=None, description="L2 penalty; decoupled for adamw."
    )
    eps: Annotated[Finite, Field(gt=0, le=1e3)] | None = None


class Loss(_Strict):
    """The loss, applied to what the model returns."""

    name: LossName | None = None
    label_smoothing: Annotated[Finite, Field(ge=0, lt=1)] | None = None
    class_weights: (
        Annotated[
            list[Annotated[Finite, Field(ge=0, le=1e6)]],
            Field(min_length=2, max_length=10_000),
            AfterValidator(_any_above_zero),
        ]
        | None
    ) = Field(default=None, description="One weight a class.")
    transition_matrix: (
        Annotated[
            list[list[Annotated[Finite, Field(ge=0, le=1)]]],
            Field(min_length=2, max_length=100),
            AfterValidator(_transitions),
        ]
        | None
    ) = Field(
        default=None,
        description="How labels are mistaken, known to the loss (forward correction; "
        "`cross_entropy` only): one row a true class, with the probability of each "
        "given label.",
    )

    @property
    def by_class(self) -> dict[str, list[float] | list[list[float]]]:
        """What was given with one entry a class, by field."""
        fields = {
            "class_weights": self.class_weights,
            "transition_matrix": self.transition_matrix,
        }
        return {field: values for field, values in fields.items() if values}

    @model_validator(mode="after")
    def _has_a_loss_that_can(self) -> "Loss":
        if self.transition_matrix and self.name not in (None, "cross_entropy"):
            reason = "transition_matrix goes with the loss cross_entropy only"
            raise ValueError(reason)
        return self


class LearningRateSchedule(_Strict):
    """How the learning rate changes over the epochs."""

    name: Literal["step", "cosine", "exponential", "linear"]
    step_epochs: Annotated[Whole, Field(ge=1, le=100_000)] | None = Field(
        default=None, description="Epochs between two drops of `step`."
    )
    gamma: Annotated[Finite, Field(gt=0, le=1)] | None = Field(
        default=None, description="Factor of `step` and `exponential`."
    )
    warmup_epochs: Annotated[Finite, Field(ge=0, le=100_000)] | None = None


class Standardization(_Strict):
    """Fixed shift and scale, applied as (x - mean) / std."""

    mean: Finite | list[Finite]
    std: Annotated[Finite, Field(gt=0)] | list[Annotated[Finite, Field(gt=0)]]


class Recipe(_Strict):
    """How the model was trained. Every field is optional."""

    optimizer: Optimizer | None = None
    loss: Loss | None = None
    epochs: Annotated[Whole, Field(ge=1, le=100_000)] | None = None
    batch_size: Annotated[Whole, Field(ge=1, le=1_000_000)] | None = None
    sampler: SamplerName | None = None
    schedule: LearningRateSchedule | None = None
    normalization: Literal["none", "standardize"] | Standardization | None = None
    seed: Annotated[Whole, Field(ge=0, lt=2**63)] | None = None
