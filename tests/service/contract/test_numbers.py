from typing import Any

import pytest
from pydantic import ValidationError

from service.contract.recipe import Recipe
from service.contract.request import AuditRequest, DatasetSpec, ScheduleRequest

AUDIT: dict[str, Any] = {"model_id": "mdl_1", "dataset_id": "dst_1"}
SCHEDULE: dict[str, Any] = {"name": "nightly", "cron": "0 3 * * *", "audit": AUDIT}


@pytest.mark.parametrize(
    "recipe",
    [
        {"optimizer": {"lr": "0.1"}},
        {"optimizer": {"lr": True}},
        {"optimizer": {"momentum": "0.9"}},
        {"loss": {"class_weights": ["1", "2"]}},
        {"epochs": "10"},
        {"epochs": True},
        {"batch_size": "32"},
        {"seed": "0"},
        {"normalization": {"mean": "0", "std": 1}},
        {"schedule": {"name": "step", "step_epochs": "5"}},
    ],
)
def test_text_is_refused_where_a_recipe_needs_numbers(recipe: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="expected a number"):
        Recipe.model_validate(recipe)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": "1"},
        {"budget": {"seconds": "60"}},
        {"policy": {"min_accuracy": "0.5"}},
        {"policy": {"max_ece": True}},
    ],
)
def test_text_is_refused_where_a_request_needs_numbers(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="expected a number"):
        AuditRequest.model_validate({**AUDIT, **changes})


@pytest.mark.parametrize(
    ("loss", "reason"),
    [
        ({"transition_matrix": [[1, 0], [0]]}, "2 rows of 2 values"),
        ({"transition_matrix": [[0.5, 0.4], [0, 1]]}, "sum to 1"),
        ({"transition_matrix": [[1.5, -0.5], [0, 1]]}, "less than or equal to 1"),
        ({"name": "mse", "transition_matrix": [[1, 0], [0, 1]]}, "cross_entropy only"),
    ],
)
def test_what_are_no_chances_of_mistakes_is_refused(
    loss: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValidationError, match=reason):
        Recipe.model_validate({"loss": loss})


def test_numbers_are_taken_as_json_has_them() -> None:
    recipe = Recipe.model_validate(
        {"optimizer": {"lr": 1, "eps": 1e-8}, "epochs": 10.0, "seed": 2**62}
    )

    assert (recipe.epochs, recipe.seed) == (10, 2**62)
    assert recipe.optimizer is not None
    assert recipe.optimizer.lr == 1.0


def test_a_switch_is_true_or_false() -> None:
    with pytest.raises(ValidationError, match="boolean"):
        ScheduleRequest.model_validate({**SCHEDULE, "enabled": "yes"})


@pytest.mark.parametrize(
    "spec",
    [
        {"image": {"std": 0}},
        {"image": {"std": [1, -1]}},
        {"image": {"size": [0, 32]}},
        {"image": {"size": [1_000_000, 1_000_000]}},
        {"class_names": ["cat", "dog", "cat"]},
        {"class_names": ["cat", "dog", "cat "]},
        {"class_names": ["cat", " "]},
    ],
)
def test_a_spec_that_no_file_can_fulfil_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DatasetSpec.model_validate(spec)


def test_names_of_classes_are_stripped_as_labels_are() -> None:
    spec = DatasetSpec.model_validate({"class_names": [" cat", "dog\u00a0"]})

    assert spec.class_names == ["cat", "dog"]
