"""Whether a model, a dataset and a recipe can belong together, by what is known.

Only what cannot fit is refused here, before an audit is accepted; what is uncertain is
decided where the model runs.
"""

from typing import Any

from service.contract.errors import (
    Conflict,
    FieldError,
    InvalidFields,
    Mismatch,
    UnusableDataset,
    UnusableModel,
    problem_from,
)
from service.contract.jobs import Inspection
from service.contract.recipe import Standardization
from service.contract.request import AuditRequest
from service.upload_bodies import may_be_repeated

_TABLE_RANK = 2
_ENTRY = {"class_weights": "weight", "transition_matrix": "row"}  # one a class


def check_fit(request: AuditRequest, model: Inspection, dataset: Inspection) -> None:
    """Refuse what cannot be audited.

    Raises:
        UnusableModel, UnusableDataset: the inspection of the upload failed.
        Conflict: it failed, but perhaps for no fault of the file.
        Mismatch: their shapes or classes cannot fit.
        InvalidFields: the recipe does not fit the dataset.
    """
    _check_inspected("/model_id", model)
    _check_inspected("/dataset_id", dataset)
    if model.status == "failed":
        raise UnusableModel(detail=_reason(model), errors=_errors("/model_id", model))
    if dataset.status == "failed":
        raise UnusableDataset(
            detail=_reason(dataset), errors=_errors("/dataset_id", dataset)
        )
    if dataset.status != "ok":
        return
    classes = count_classes(dataset.facts)
    wrong = [
        *_wrong_lengths(request, classes),
        *_wrong_figures(request, dataset.facts),
    ]
    if wrong:
        raise InvalidFields(detail="The recipe does not fit the dataset.", errors=wrong)
    if model.status == "ok":
        _check_outputs(model.facts, classes)
        _check_features(model.facts, dataset.facts)


def count_classes(facts: dict[str, Any]) -> int | None:
    """Read the number of classes from what the inspection of a dataset found."""
    for name in ("classes", "class_names"):
        found = facts.get(name)
        if isinstance(found, int):
            return found
        if isinstance(found, list):
            return len(found)
    return None


def _check_inspected(pointer: str, upload: Inspection) -> None:
    if may_be_repeated(upload):
        raise Conflict(
            detail="The file could not be inspected; upload it again to have that "
            "repeated.",
            errors=_errors(pointer, upload),
        )


def _wrong_lengths(request: AuditRequest, classes: int | None) -> list[FieldError]:
    loss = request.recipe.loss
    if loss is None or classes is None:
        return []
    return [
        FieldError(
            pointer=f"/recipe/loss/{field}",
            detail=f"expected one {_ENTRY[field]} for each of the {classes} classes, "
            f"got {len(values)}",
        )
        for field, values in loss.by_class.items()
        if len(values) != classes
    ]


def _wrong_figures(request: AuditRequest, dataset: dict[str, Any]) -> list[FieldError]:
    """Figures of a normalisation that no axis of a sample has a place for each of."""
    given, shape = request.recipe.normalization, dataset.get("sample_shape")
    if not isinstance(given, Standardization) or not isinstance(shape, list):
        return []
    return [
        FieldError(
            pointer=f"/recipe/normalization/{name}",
            detail="expected one number, or one for each channel or feature of samples "
            f"of the shape {shape}, got {len(values)}",
        )
        for name, values in (("mean", given.mean), ("std", given.std))
        if isinstance(values, list) and len(values) not in {1, *shape}
    ]


def _check_outputs(model: dict[str, Any], classes: int | None) -> None:
    outputs = model.get("outputs")
    layers = model.get("layers")
    # Only a last linear layer says for sure how many outputs there are.
    if (
        not isinstance(outputs, int)
        or outputs < 1
        or classes is None
        or not isinstance(layers, list)
        or not layers
        or _last_weighted(layers) != "linear"
    ):
        return
    enough = outputs >= classes or (outputs == 1 and classes == 2)  # noqa: PLR2004
    if not enough:
        raise Mismatch(
            detail=f"The model has {outputs} outputs, the dataset {classes} classes.",
            errors=[
                FieldError(pointer="/model_id", detail=f"{outputs} outputs"),
                FieldError(pointer="/dataset_id", detail=f"{classes} classes"),
            ],
        )


def _check_features(model: dict[str, Any], dataset: dict[str, Any]) -> None:
    takes = model.get("input_shape")
    gives = dataset.get("sample_shape")
    if not isinstance(takes, list) or not isinstance(gives, list):
        return
    if len(takes) != _TABLE_RANK or len(gives) != 1:
        return
    if isinstance(takes[1], int) and takes[1] != gives[0]:
        raise Mismatch(
            detail=f"The model takes {takes[1]} features, the dataset has {gives[0]}.",
            errors=[
                FieldError(pointer="/model_id", detail=f"takes {takes[1]} features"),
                FieldError(pointer="/dataset_id", detail=f"has {gives[0]} features"),
            ],
        )


def _last_weighted(layers: list[Any]) -> str | None:
    kinds = [layer.get("kind") for layer in layers if isinstance(layer, dict)]
    weighted = [kind for kind in kinds if kind in {"linear", "conv", "recurrent"}]
    return weighted[-1] if weighted else None


def _reason(failed: Inspection) -> str:
    if failed.problem is None:
        return "Its inspection failed."
    return problem_from(failed.problem.model_dump()).detail


def _errors(pointer: str, failed: Inspection) -> list[FieldError]:
    known = failed.problem.errors if failed.problem is not None else []
    return [FieldError(pointer=pointer, detail=_reason(failed)), *known]
