"""The recipe completed: what was not given is assumed, and every assumption listed."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from service.contract.recipe import (
    LearningRateSchedule,
    LossName,
    OptimizerName,
    Recipe,
    SamplerName,
    Standardization,
)


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CompleteOptimizer(_Value):
    """Optimiser with every setting; `momentum` is beta1 for the adam family."""

    name: OptimizerName
    lr: float
    momentum: float
    weight_decay: float
    eps: float


class CompleteLoss(_Value):
    """Loss with every setting.

    Attributes:
        targets: what several outputs are compared with in an elementwise loss:
            `classes` (one-hot), or `index`: the label's number with every output, as
            happens where integer labels are broadcast.
        probabilities: what `nll` takes of outputs that are probabilities: their `log`,
            as Keras does, or themselves, `plain`, as torch's nll_loss does.
        transition_matrix: of `cross_entropy`: for each true class the probability of
            each given label.
    """

    name: LossName
    targets: Literal["classes", "index"] = "classes"
    probabilities: Literal["log", "plain"] = "log"
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None
    transition_matrix: tuple[tuple[float, ...], ...] | None = None


class CompleteRecipe(_Value):
    """Everything the lab needs to reproduce a training."""

    optimizer: CompleteOptimizer
    loss: CompleteLoss
    epochs: int
    batch_size: int
    sampler: SamplerName
    schedule: LearningRateSchedule | None
    normalization: Literal["none", "standardize"] | Standardization
    seed: int

    def patched(self, patch: dict[str, Any]) -> "CompleteRecipe":
        """Apply a JSON merge patch (RFC 7396).

        A patch that names another optimiser resets the settings it does not name to
        that optimiser's defaults; one that names a loss takes it in its usual way.

        Raises:
            ValidationError: the result is no recipe.
        """
        patch = dict(patch)
        given = patch.get("optimizer") or {}
        name = given.get("name")
        if name is not None and name != self.optimizer.name:
            fresh = default_optimizer(name)
            keep = {"weight_decay": self.optimizer.weight_decay}
            patch["optimizer"] = {**fresh.model_dump(), **keep, **given}
        if (patch.get("loss") or {}).get("name") is not None:
            usual: dict[str, Any] = {"targets": "classes", "probabilities": "log"}
            if patch["loss"]["name"] != "cross_entropy":
                usual["transition_matrix"] = None
            patch["loss"] = {**usual, **patch["loss"]}
        return CompleteRecipe.model_validate(
            merge_patch(self.model_dump(mode="json"), patch)
        )


_NONE = ("schedule", "class_weights", "transition_matrix")  # null: "none", not "absent"


def merge_patch(target: Any, patch: Any) -> Any:  # noqa: ANN401 - JSON is any
    """Apply a JSON merge patch. Source: RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    for key in _NONE:
        if key in patch and patch[key] is None:
            result[key] = None
    return result


_DEFAULTS: dict[str, tuple[float, float, float]] = {  # lr, momentum, eps
    "sgd": (0.1, 0.0, 1e-8),
    "adam": (1e-3, 0.9, 1e-8),
    "adamw": (1e-3, 0.9, 1e-8),
    "nadam": (2e-3, 0.9, 1e-8),
    "rmsprop": (1e-3, 0.0, 1e-8),
    "adagrad": (1e-2, 0.0, 1e-10),
    "adadelta": (1.0, 0.0, 1e-6),
}


def default_optimizer(name: OptimizerName) -> CompleteOptimizer:
    """Return the customary settings of an optimiser.

    RMSprop starts at 1e-3, as practice has it, where torch's own default is 1e-2.
    """
    lr, momentum, eps = _DEFAULTS[name]
    return CompleteOptimizer(
        name=name,
        lr=lr,
        momentum=momentum,
        weight_decay=1e-2 if name == "adamw" else 0.0,
        eps=eps,
    )


def complete(
    given: Recipe, *, fitting_loss: LossName, train_rows: int
) -> tuple[CompleteRecipe, dict[str, JsonValue]]:
    """Fill what was not given.

    Args:
        given: what the caller sent.
        fitting_loss: the loss that fits the network's outputs (see `head.py`).
        train_rows: number of training rows, which bounds the batch and sets epochs.

    Returns:
        The complete recipe, and `{dotted field: assumed value}` for what was assumed.
    """
    assumed: dict[str, JsonValue] = {}

    def pick(field: str, value: Any, otherwise: Any) -> Any:  # noqa: ANN401
        if value is not None:
            return value
        assumed[field] = otherwise
        return otherwise

    optimizer = given.optimizer
    name = pick("optimizer.name", optimizer and optimizer.name, "adam")
    default = default_optimizer(name)
    loss = given.loss
    batch = pick("batch_size", given.batch_size, max(1, min(32, train_rows // 4)))
    batch = min(batch, train_rows)
    steps_an_epoch = -(-train_rows // batch)
    sensible_epochs = max(3, min(100, -(-3000 // steps_an_epoch)))
    weights = loss.class_weights if loss else None
    matrix = loss.transition_matrix if loss else None
    if matrix:
        fitting_loss = "cross_entropy"  # the one that can use it
    return (
        CompleteRecipe(
            optimizer=CompleteOptimizer(
                name=name,
                lr=pick("optimizer.lr", optimizer and optimizer.lr, default.lr),
                momentum=pick(
                    "optimizer.momentum",
                    optimizer and optimizer.momentum,
                    default.momentum,
                ),
                weight_decay=pick(
                    "optimizer.weight_decay",
                    optimizer and optimizer.weight_decay,
                    default.weight_decay,
                ),
                eps=pick("optimizer.eps", optimizer and optimizer.eps, default.eps),
            ),
            loss=CompleteLoss(
                name=pick("loss.name", loss and loss.name, fitting_loss),
                label_smoothing=pick(
                    "loss.label_smoothing", loss and loss.label_smoothing, 0.0
                ),
                class_weights=tuple(weights) if weights else None,
                transition_matrix=tuple(map(tuple, matrix)) if matrix else None,
            ),
            epochs=pick("epochs", given.epochs, sensible_epochs),
            batch_size=batch,
            sampler=pick("sampler", given.sampler, "shuffle"),
            schedule=given.schedule,
            normalization=pick("normalization", given.normalization, "none"),
            seed=pick("seed", given.seed, 0),
        ),
        assumed,
    )
